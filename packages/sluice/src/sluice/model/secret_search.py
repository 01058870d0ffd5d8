"""Finds many secrets in a text in one pass, however it was escaped on its way: percent, backslash, HTML, shell.

Escapes are undone again and again, as JSON within JSON needs it, and the text is searched as it was and after each
round. What is found is told in the places of the text as it came. No form is searched for by its beginning: each is
filed under a few letters out of it that begin with one seldom seen in output, so most of a text is only skipped.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from sluice.model.secret_forms import MIN_LENGTH, Form

Span = tuple[int, int]

ROUNDS = 4  # JSON in JSON in JSON, with an address in it: more layers than any log has
LONGEST_ESCAPE = 8  # bytes of a text for one of what they mean: \\u0041 in a JSON string, with some to spare
COMMON = b" etaoinsrhldcumfpgwybvk0123456789.:/-_\"'"  # letters of output, the commonest first
BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")

ESCAPE = re.compile(
    rb"%[0-9A-Fa-f]{2}|%u[0-9A-Fa-f]{4}"
    rb"|\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}"  # two halves of one letter
    rb"|\\u[0-9A-Fa-f]{4}|\\u\{[0-9A-Fa-f]{1,6}\}|\\U[0-9A-Fa-f]{8}|\\x[0-9A-Fa-f]{2}|\\[0-3][0-7]{2}"
    rb"|\\[^A-Za-z1-9]|\\[abfnrtv]"
    rb"|&(?:\#[0-9]{1,7}|\#[xX][0-9A-Fa-f]{1,6}|amp|lt|gt|quot|apos);"
    rb"""|'"'"'|'\\''"""
)
_NAMED = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"0": b"\0"}
_ENTITIES = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}


class Search:
    """Looks for these forms, and for what they mean if they look escaped themselves."""

    def __init__(self, forms: Iterable[Form] = ()) -> None:
        """Compiles; some milliseconds for a hundred forms."""
        every = {replace(form, raw=raw) for form in forms for raw in _rounds(form.raw) if len(raw) >= MIN_LENGTH}
        self.longest = max((len(form.raw) for form in every), default=0)
        wrapped = sorted(form.raw for form in every if b"\n" in form.raw[:-1])
        self._firsts = {secret[: secret.find(b"\n") + 1] for secret in wrapped}
        self._following = _following(wrapped)
        self._filed = _filed(every)
        self._needles = re.compile(_pattern(self._filed)) if self._filed else None

    def spans(self, raw: bytes) -> list[Span]:
        """Where in `raw` a secret stands, in order and apart; what overlaps is one."""
        found: list[Span] = []
        texts = _rounds(raw) if self._needles else []
        for number, text in enumerate(texts):
            spans = self._found(text)
            for source in reversed(texts[:number] if spans else []):
                spans = _in_source(source, spans)
            found += spans
        merged: list[Span] = []
        for start, end in sorted(found):
            if merged and start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def begun(self, raw: bytes) -> int:
        """Where in `raw` begins what may be a secret of several lines, of which not all have come; else its length."""
        end, found = raw.rfind(b"\n") + 1, len(raw)
        line, rest = raw[raw.rfind(b"\n", 0, max(0, end - 1)) + 1 : end], raw[end:]
        # Hardly a line of a log is one of a secret's, and only with these is anything compared. What stands before a
        # secret stands before its first line alone.
        for told in {line, *(first for first in self._firsts if line.endswith(first))}:
            for secret, at in self._following.get(told, ()):
                goes_on = at + len(rest) < len(secret) and secret.startswith(rest, at)
                if goes_on and at <= end and raw.endswith(secret[:at], 0, end):
                    found = min(found, end - at)
        return found

    def _found(self, text: bytes) -> list[Span]:
        found, hit = [], self._needles.search(text) if self._needles else None
        while hit is not None:
            for offset, form in self._filed[hit[0]]:
                start = hit.start() - offset
                if start >= 0 and text.startswith(form.raw, start):
                    found.append(_with_edges(text, start, form))
            hit = self._needles.search(text, hit.start() + 1) if self._needles else None  # secrets may overlap
        return found


def _following(wrapped: Iterable[bytes]) -> dict[bytes, list[tuple[bytes, int]]]:
    """Under each line, with its end: the secrets that have it, and where in them the next line begins."""
    found: dict[bytes, list[tuple[bytes, int]]] = {}
    for secret in wrapped:
        start = 0
        while 0 < (end := secret.find(b"\n", start) + 1) < len(secret):
            found.setdefault(secret[start:end], []).append((secret, end))
            start = end
    return found


def _rounds(raw: bytes) -> list[bytes]:
    """The text, and what it means after each round, while there is anything to undo."""
    texts = [raw]
    while len(texts) <= ROUNDS:
        text, count = ESCAPE.subn(lambda escape: _meaning(escape[0]), texts[-1])
        if not count:
            break
        texts.append(text)
    return texts


@functools.lru_cache(maxsize=4096)  # a text has few of them, again and again
def _meaning(told: bytes) -> bytes:
    kind, rest = told[:1], told[1:]
    if kind == b"'":
        return b"'"
    if kind == b"&":
        name = rest[:-1].lower()
        return _ENTITIES.get(name) or _letter(int(b"0" + name[1:], 16) if name[1:2] == b"x" else int(name[1:]))
    if rest[:1] in (b"u", b"U"):
        digits = rest[1:].strip(b"{}")
        if b"\\u" in digits:
            high, low = (int(half, 16) for half in digits.split(b"\\u"))
            return _letter(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        return _letter(int(digits, 16))
    if kind == b"%" or rest[:1] == b"x":
        return bytes([int(rest[-2:], 16)])
    return bytes([int(rest, 8)]) if len(rest) == 3 else _NAMED.get(rest, rest)


def _letter(number: int) -> bytes:
    return chr(number).encode(errors="surrogatepass") if number < 0x110000 else b"?"


def _in_source(source: bytes, spans: list[Span]) -> list[Span]:
    """The places in `source` of what stands at these in its meaning; an escape is covered whole."""
    meant, told, escapes = [0], [0], [False]  # where each piece begins in the meaning and in the source
    shift = 0
    for escape in ESCAPE.finditer(source):
        meaning = len(_meaning(escape[0]))
        meant += (escape.start() - shift, escape.start() - shift + meaning)
        told += escape.span()
        escapes += (True, False)
        shift += len(escape[0]) - meaning
    found = []
    for start, end in spans:
        first, last = bisect.bisect_right(meant, start) - 1, bisect.bisect_left(meant, end) - 1
        begin = told[first] if escapes[first] else told[first] + start - meant[first]
        found.append((begin, told[last + 1] if escapes[last] else told[last] + end - meant[last]))
    return found


def _with_edges(text: bytes, start: int, form: Form) -> Span:
    end = start + len(form.raw)
    for _ in range(form.before):
        if start and text[start - 1] in BASE64:
            start -= 1
    if form.after and end < len(text) and text[end] in BASE64:
        end += 1
        while text[end : end + 1] == b"=":
            end += 1
    return start, end


def _filed(forms: Iterable[Form]) -> dict[bytes, list[tuple[int, Form]]]:
    """Each form under MIN_LENGTH of its letters, and where in it they are; few and rare letters begin all of these."""
    price = {letter: len(COMMON) - place for place, letter in enumerate(COMMON)}
    left, filed = set(forms), dict[bytes, list[tuple[int, Form]]]()
    while left:
        begins = {form: form.raw[: len(form.raw) - MIN_LENGTH + 1] for form in left}
        held = Counter(letter for begin in begins.values() for letter in set(begin))
        best = max(held, key=lambda letter: (held[letter] / price.get(letter, 1), letter))
        for form, begin in begins.items():
            if (at := begin.find(best)) >= 0:
                filed.setdefault(form.raw[at : at + MIN_LENGTH], []).append((at, form))
                left.discard(form)
    return filed


def _pattern(needles: Iterable[bytes]) -> bytes:
    """One expression of all, by their common beginnings: it fails at the first letter that none has."""
    by: dict[bytes, set[bytes]] = {}
    for needle in needles:
        by.setdefault(needle[:1], set()).add(needle[1:])
    branches = [re.escape(first) + (_pattern(rest) if rest != {b""} else b"") for first, rest in sorted(by.items())]
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"
