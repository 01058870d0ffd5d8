"""The child of the no-secrets gate: files' added lines on stdin (JSON), places and digests on stdout, never a value.

Run as `python -I -m sluice.gates.scanner`, with a minimal environment. Two look at every text: Betterleaks, kept
upstream, which knows several hundred providers' tokens by their shape, and our own rules, which know the rest by name.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator

import betterleaks
import msgspec

from sluice.gates.placeholder import is_stand_in
from sluice.gates.secret_blocks import find_blocks, wrapped
from sluice.gates.secret_finds import Answer, Hit, Text
from sluice.gates.secret_rules import BEFORE, Found, find, is_login, is_public
from sluice.gates.secret_values import assigned, digest_of, key_body

# A mark in the candidate's own text would let it judge itself: exceptions belong to the policy, so marks are broken.
_ALLOW_MARKS = re.compile(r"(betterleaks|gitleaks):(?=allow)", re.IGNORECASE)
# What Betterleaks takes by name and not by shape passes our own test too: its looser one raises alarms on words.
_BY_NAME = re.compile(r"generic|curl-auth|kubernetes-secret|hashicorp-tf-password")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
MAX_HITS = 5000  # in one answer: keeps it below what the parent keeps of an output; it asks again for the rest


def scan(texts: list[Text]) -> list[Hit]:
    """Where something that looks like a secret stands, in all of the texts."""
    return [hit for index, text in enumerate(texts) for hit in _hits(index, text)]


def answer(texts: list[Text]) -> Answer:
    """As `scan`, and it ends before the text with which the hits would be more than MAX_HITS; one text is read."""
    hits: list[Hit] = []
    for index, text in enumerate(texts):
        more = _hits(index, text)
        if index and len(hits) + len(more) > MAX_HITS:
            return Answer(hits, index)
        hits += more
        if len(hits) > MAX_HITS:
            return Answer(hits[:MAX_HITS], index + 1, truncated=True)
    return Answer(hits, len(texts))


def _hits(index: int, text: Text) -> list[Hit]:
    hits: dict[tuple[str, str], Hit] = {}
    for one in _all(text):
        key = (one.rule, digest_of(one.value))
        before = hits.get(key)
        hits[key] = Hit(index, before.line, *key, before.times + 1) if before else Hit(index, one.line, *key)
    return list(hits.values())


def _all(file: Text) -> Iterator[Found]:
    # NUL would end the text early for a C library: a secret behind it would never be seen.
    clean = file.text.replace("\0", " ")
    if "leaks:" in clean.lower():
        clean = _ALLOW_MARKS.sub(r"\1 ", clean)
    old = frozenset(file.old)
    yield from _distinct(_both(file.path, clean, old))
    # All runs as one text with empty lines between: a call of the scanner for each would cost more than the scan.
    inner, lines = [], []
    for line, text in wrapped(clean, old):
        inner.append(f"{text}\n")
        lines += [line] * (text.count("\n") + 2)
    for found in _distinct(_both(file.path, "\n".join(inner))) if inner else ():
        yield dataclasses.replace(found, line=lines[found.line - 1])


def _both(path: str, text: str, old: frozenset[int] = frozenset()) -> Iterator[Found]:
    yield from find_blocks(text, old)
    yield from find(path, text, old)
    begins = _Begins(text)
    for found in betterleaks.scan_string(text):
        if old.issuperset(range(found.location.start_line, found.location.end_line + 1)):
            continue
        value = found.secret
        if found.rule_id == "generic-credential-uri":
            parts = found.match.captures
            good = is_login(parts.get("username", ""), value, parts.get("host", ""))
        elif found.rule_id == "private-key":
            good = key_body(value)
        elif _BY_NAME.search(found.rule_id):
            good = assigned(value) and not _UUID.fullmatch(value) and not is_public(begins.before(found))
        else:
            good = not is_stand_in(value)
        if good:
            yield Found(found.location.start_line, found.rule_id, value, begins.column(found))


class _Begins:
    """Where the values of Betterleaks' finds begin: it tells only where what it looked for does."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: list[int] = []

    def before(self, found: betterleaks.Finding) -> str:
        """The letters before it."""
        at = self._at(found)
        return self._text[max(0, at - BEFORE) : at]

    def column(self, found: betterleaks.Finding) -> int:
        """Within the line in which the find begins."""
        return self._at(found) - self._lines[found.location.start_line - 1]

    def _at(self, found: betterleaks.Finding) -> int:
        self._lines = self._lines or [0, *(match.end() for match in re.finditer("\n", self._text))]
        start = self._lines[found.location.start_line - 1] + max(0, found.location.start_column - 1)
        at = self._text.find(found.secret, start)
        return at if at >= 0 else start


def _distinct(found: Iterator[Found]) -> Iterator[Found]:
    # Two rules often see one value, or one of them a part of it: the first says it. Another value that holds the same
    # letters elsewhere in the line is another find.
    seen: dict[int, list[tuple[int, int]]] = {}
    for one in found:
        before = seen.setdefault(one.line, [])
        start, end = one.column, one.column + len(one.value)
        if not any(start < other_end and other < end for other, other_end in before):
            before.append((start, end))
            yield one


def main() -> None:
    """Read everything, scan, print one Answer as JSON."""
    texts = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Text])
    sys.stdout.buffer.write(msgspec.json.encode(answer(texts)))


if __name__ == "__main__":
    main()
