"""Every text of the runbook in both languages, and how one is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Lang(StrEnum):
    """A language the runbook is written in."""

    RU = "ru"
    EN = "en"


@dataclass(frozen=True, slots=True)
class Words:
    """One text in both. `{name}` is filled from the policy and the host."""

    en: str
    ru: str

    def say(self, lang: Lang, values: Mapping[str, str] | None = None) -> str:
        """In that language, filled. Raises KeyError for a placeholder nobody knows."""
        text = self.ru if lang is Lang.RU else self.en
        return text.format_map(values) if values is not None else text


NOTHING = Words("", "")
MINUTE, HOUR, DAY = 60, 3600, 86400


def lasting(seconds: float, lang: Lang) -> str:
    """`3 days`, `60 min`: in the largest unit that there are several of and that leaves no rest; else nothing."""
    for size, unit in ((DAY, Words("days", "суток")), (HOUR, Words("h", "ч")), (MINUTE, Words("min", "мин"))):
        count, rest = divmod(seconds, size)
        if count > 1 and not rest:
            return f"{count:.0f} {unit.say(lang)}"
    return ""
