"""What can be read in a file that git calls binary: text with a NUL in it, UTF-16, strings between other bytes. Pure.

One NUL byte makes a file binary to git, and an editor or a shell of Windows writes UTF-16 by itself; what stands in
them is as readable as elsewhere. What is compressed or encrypted is not taken apart.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence

AROUND = 6  # old lines on each side of a new one; the name of a block stands above its value
SHORTEST = 8  # letters: shorter ones come about by chance, and hold no name with a secret beside it
# More control characters and broken letters than this share, and it is no text with a slip in it.
BROKEN = 0.1
_PRINTED = rb"\t\n\r -~"
_RUN = re.compile(rb"[%b]{%d,}" % (_PRINTED, SHORTEST))
# The NULs beside the letters of UTF-32, then of UTF-16, whichever byte comes first and wherever the text begins. A NUL
# between two words of several letters is an end of a string, and stays.
_WIDE = tuple(
    # The NUL comes first, so that the search leaps from one to the next.
    re.compile(rb"%b(?:(?<=[%b]%b)(?=[%b]%b)|(?<=%b[%b]%b))" % (nul, _PRINTED, nul, _PRINTED, nul, nul, _PRINTED, nul))
    for nul in (rb"\0\0\0", rb"\0")
)
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\r\f\v\x1b") + b"\x7f"
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
# A line of the body of a key, as it stands in a PEM file, in YAML or between quotes.
_BODY = re.compile(r"[\s\"'`+,|>#*;-]{0,20}[A-Za-z0-9+/]{40,}={0,2}(?:\\n)?[\"'`,;)+\s\\]{0,8}")

Line = tuple[int, str]  # where it stands in the file, from one


def readable(raw: bytes) -> Iterator[list[Line]]:
    """The lines that can be read, in one list or several: the same bytes may be read in two ways.

    Between strings that do not stand beside each other is an empty line.
    """
    bare = raw
    for mark, encoding in _MARKS.items():
        if raw.startswith(mark):
            bare = raw[len(mark) :]
            yield _lines(bare.decode(encoding, "replace"))
    if b"\0" in raw:
        for wide in _WIDE:
            bare = wide.sub(b"", bare)
    controls, most = len(bare) - len(bare.translate(None, _CONTROLS)), BROKEN * len(bare)
    text = bare.decode(errors="replace") if controls <= most else ""
    is_text = controls + text.count("\ufffd") <= most
    yield _lines(text) if is_text else list(_strings(bare))


def only_new(lines: Sequence[Line], before: Iterable[list[Line]]) -> tuple[list[Line], list[int]]:
    """Those that none of the older files has and those around them, and which of these (from one) are old.

    What is apart then is separated by an empty line. Where a part of a key is new, all lines are kept: its head may
    stand far above. Nothing is kept when nothing is new.
    """
    known = {text for older in before for _, text in older}
    new = [at for at, (_, text) in enumerate(lines) if text not in known]
    if any(is_body(lines[at][1]) for at in new):
        return list(lines), [at for at, (_, text) in enumerate(lines, 1) if text in known]
    kept: list[Line] = []
    old: list[int] = []
    done = 0
    for at in new:
        start, end = max(done, at - AROUND), min(at + AROUND + 1, len(lines))
        if kept and start > done:
            kept.append((lines[start][0], ""))
            old.append(len(kept))
        for line in lines[start:end]:
            kept.append(line)
            if line[1] in known:
                old.append(len(kept))
        done = max(done, end)
    return kept, old


def is_body(line: str) -> bool:
    """Whether a line may be of the body of a key."""
    return len(line) >= 40 and _BODY.fullmatch(line) is not None


def _lines(text: str) -> list[Line]:
    return list(enumerate(text.split("\n"), 1))


def _strings(raw: bytes) -> Iterator[Line]:
    line, counted = 1, 0
    for run in _RUN.finditer(raw):
        line += raw.count(b"\n", counted, run.start())
        counted = run.start()
        yield from enumerate(run[0].decode("ascii").split("\n"), line)
        yield line, ""
