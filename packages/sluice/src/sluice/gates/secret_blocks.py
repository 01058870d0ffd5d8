"""Secrets of many lines: private keys, the default of a variable, and what is wrapped in base64. Pure."""

from __future__ import annotations

import bisect
import re
from collections.abc import Collection, Iterator

from sluice.gates.secret_rules import NAME, Found, Rule
from sluice.gates.secret_values import LONGEST, assigned, decoded, key_body, looks_random

RULES = (
    Rule(
        "private-key",
        ("PRIVATE KEY",),
        re.compile(
            r"(?P<value>-{4,5} ?BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
            r"(?:[^-]|-(?!---)){40,20000})"
        ),
        key_body,
    ),
    Rule(
        "private-key",
        ("Private-Lines: ",),
        re.compile(r"Private-Lines: \d+\s+(?P<value>[A-Za-z0-9+/=\s]{40,4000})"),
        key_body,
    ),
    # The private part of a JSON Web Key, and the whole of a shared one.
    Rule(
        "private-key",
        ("kty",),
        re.compile(r"(?<![\w.-])[\"']?[dk][\"']?\s{0,4}:\s{0,4}[\"'](?P<value>[\w-]{20,900})[\"']"),
        looks_random,
    ),
    Rule(
        "password",
        ('variable "',),
        re.compile(
            rf"variable\s+\"[\w-]{{0,60}}?{NAME}\"\s{{0,8}}\{{[^{{}}]{{0,600}}?\bdefault\s{{0,80}}=\s{{0,80}}"
            rf"\"(?P<value>[^\"\n]{{8,{LONGEST}}})\"",
            re.IGNORECASE,
        ),
        assigned,
    ),
)
SHORTEST, WIDTH = 24, 40  # letters of a run that is looked at, and of the lines of a longer one
_RUN = re.compile(rf"[A-Za-z0-9+/_-]{{{SHORTEST},}}={{0,2}}")
_FULL = re.compile(rf"[A-Za-z0-9+/]{{{WIDTH},}}")  # a line of `base64`, of PEM, of MIME; the last one may be shorter
_LAST = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def find_blocks(text: str, old: frozenset[int] = frozenset()) -> Iterator[Found]:
    """What takes more than a line. A find in `old` lines alone (from one) is none."""
    rules = [rule for rule in RULES if rule.words[0] in text]
    begins = [0, *(end.end() for end in re.finditer("\n", text))] if rules else []
    for rule in rules:
        for match in rule.pattern.finditer(text):
            first = bisect.bisect_right(begins, match.start())
            last = first + match[0].rstrip().count("\n")
            if not old.issuperset(range(first, last + 1)) and rule.accept(match["value"]):
                start = match.start("value")
                line = bisect.bisect_right(begins, start)
                yield Found(line, rule.name, match["value"], start - begins[line - 1])


def wrapped(text: str, old: Collection[int] = ()) -> Iterator[tuple[int, str]]:
    """(line, text) of every new run of base64 that holds text: what is wrapped is looked at as if it were not.

    Lines of one length that follow each other are one run, when together they hold text.
    """
    lines = text.split("\n")
    done, tried = 0, 0  # what was no text as a whole is not put together again from its second line on
    for at, line in enumerate(lines):
        if at < done or len(line) < SHORTEST:
            continue
        end = _end_of_block(lines, at) if len(line) >= WIDTH and at >= tried else at + 1
        inner = decoded("".join(one.strip() for one in lines[at:end])) if end - at > 1 else ""
        tried = max(tried, end)
        if inner:
            done = end
            if not all(number in old for number in range(at + 1, end + 1)):
                yield at + 1, inner
        elif at + 1 not in old:
            yield from ((at + 1, one) for match in _RUN.finditer(line) if (one := decoded(match[0])))


def _end_of_block(lines: list[str], at: int) -> int:
    end = at + 1
    if not _FULL.fullmatch(first := lines[at].strip()):
        return end
    while end < len(lines) and len(line := lines[end].strip()) <= len(first):
        if len(line) < len(first) or not _FULL.fullmatch(line):
            return end + 1 if _LAST.fullmatch(line) else end
        end += 1
    return end
