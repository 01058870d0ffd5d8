"""What a runbook can speak of: gates, checks, criteria, rules, fields. Each with its texts, and how prose says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from sluice.runbook.words import NOTHING, Words


class Part(StrEnum):
    """A section of a runbook, by what its heading speaks of."""

    PRECONDITIONS = "preconditions"
    GIT = "git"
    DEPLOY = "deploy"
    SMOKE = "smoke"
    ROLLBACK = "rollback"
    PROMOTION = "promotion"
    AUDIT = "audit"
    SECURITY = "security"
    OTHER = "other"


class Kind(StrEnum):
    """Who looks."""

    GATE = "gate"
    CHECK = "check"  # built in
    PLUGIN = "plug-in"  # a check of the service's own program
    HOST = "host"  # of `sluice quick-check` alone
    CRITERION = "criterion"
    RULE = "rule"  # of a promotion, or of Sluice itself
    FIELD = "field"  # of the ledger


# How somebody looks again at what names no command of its own.
COMMANDS: dict[Kind, str] = {
    Kind.GATE: "{check}",
    Kind.CHECK: "{smoke}",
    Kind.PLUGIN: "{smoke}",
    Kind.HOST: "{quick}",
    Kind.CRITERION: "{log}",
    Kind.RULE: "{log}",
    Kind.FIELD: "{log}",
}


@dataclass(frozen=True)
class Item:
    """One thing that is asked for. `said` finds it in prose, in either language, within `parts` (empty: anywhere)."""

    kind: Kind
    id: str  # as findings and the policy name it
    text: Words
    criterion: Words = NOTHING
    said: str = ""
    parts: tuple[Part, ...] = ()
    command: str = ""
    rules: str = ""  # the setting without which a gate has nothing to judge
    good: Words = NOTHING  # the text where a tick stands beside it; of a criterion, which names what is bad
    wanted: bool = True  # whether a runbook that does not mention it says too little

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Compiled; the name itself is always understood in backticks."""
        name = rf"`{re.escape(self.id)}`"
        return re.compile(f"{name}|{self.said}" if self.said else name, re.IGNORECASE)


def plugin(name: str) -> Item:
    """A check of a plug-in that this project has no words for: its name is all that is known."""
    text = Words(f"The plug-in's check `{name}`.", f"Проверка плагина `{name}`.")
    criterion = Words("the plug-in says `pass`", "плагин отвечает `pass`")
    return Item(Kind.PLUGIN, name, text, criterion, rf"(?<![\w-]){re.escape(name)}(?![\w-])", (Part.SMOKE,))
