"""What the rules of the lint share: the document, the policy's items, what is around the file, and what was found."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from sluice.runbook.facts import Facts
from sluice.runbook.items import Item
from sluice.runbook.prose import Block
from sluice.runbook.words import NOTHING, Lang, Words


class Level(StrEnum):
    """Whether prose and policy disagree, or nobody can tell."""

    DISAGREES = "disagrees"
    INFO = "info"


class Code(StrEnum):
    """Every kind of finding; told in docs/reference/runbook.md."""

    UNKNOWN_SCRIPT = "unknown-script"
    UNKNOWN_COMMAND = "unknown-command"
    UNKNOWN_OPTION = "unknown-option"
    UNKNOWN_ENVIRONMENT = "unknown-environment"
    UNKNOWN_SETTING = "unknown-setting"
    UNKNOWN_HOST = "unknown-host"
    REFUSED = "refused-command"
    MISSING_FILE = "missing-file"
    UNMENTIONED = "unmentioned"
    UNCHECKED = "unchecked"
    CHECKED = "checked-all-the-same"
    NOBODY = "nobody-may"
    DIFFERS = "differs"
    STALE = "stale"
    NOT_UNDERSTOOD = "not-understood"


class Disagreement(msgspec.Struct, frozen=True, order=True):
    """One finding. `sentence` says what is wrong, `fix` what to do."""

    line: int
    code: Code
    sentence: str
    fix: str = ""

    @property
    def level(self) -> Level:
        """Only what nobody understands is no disagreement."""
        return Level.INFO if self.code is Code.NOT_UNDERSTOOD else Level.DISAGREES


@dataclass(frozen=True)
class Around:
    """What lies beside the file: asked, never read here."""

    exists: Callable[[str], bool] = lambda _path: True  # relative to the file
    npm: Collection[str] | None = None  # scripts of package.json; None: there is none


# Said of what a person need not do, or the policy does not look at.
DISCLAIMER = re.compile(
    r"не обязател|правило не задано|не проверяется|не измеряется|не применимо|пропускается|без права вето"
    r"|not required|no rule is set|not checked|not measured|not applicable|is skipped|no veto",
    re.IGNORECASE,
)


@dataclass
class Page:
    """One document under the lint."""

    facts: Facts
    blocks: list[Block]
    items: list[Item]
    around: Around
    lang: Lang = Lang.EN  # of the findings; the prose may be in either
    own: frozenset[str] = frozenset()  # what `sluice runbook` itself would write today
    mentions: dict[tuple[str, str], list[Block]] = field(default_factory=dict)  # (kind, id) -> where
    understood: set[int] = field(default_factory=set)  # id() of a block that some rule read
    found: dict[Disagreement, None] = field(default_factory=dict)  # in the order of finding

    def say(self, line: int, code: Code, sentence: Words, fix: Words = NOTHING, **values: str | Words) -> None:
        """One more, once. A value that is itself words is said in the language of the findings."""
        told = {name: one.say(self.lang) if isinstance(one, Words) else one for name, one in values.items()}
        self.found[Disagreement(line, code, sentence.say(self.lang, told), fix.say(self.lang, told))] = None

    def read(self, block: Block) -> None:
        """Some rule understood this block."""
        self.understood.add(id(block))
