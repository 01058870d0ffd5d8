"""The lines one commit adds, by file, out of its patch, with the lines around them. Pure.

A secret and its name often stand in two lines (the head of a key and its body, `name:` and `value:`), and a commit may
bring only one of them. So the old lines are kept beside the added ones, and marked: they explain a find, and are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from sluice.gates.opaque import Line, is_body

# `@@ -1,2 +3,4 @@`; a merge has one @ and one old range more per parent: `@@@ -1 -1 +1,2 @@@`.
_HUNK = re.compile(r"^(@@+) (?:-\S+ )+\+(\d+)(?:,(\d+))? @@+")
_HEADER = re.compile(r"^diff --(?:git|cc|combined) ")
# `index OLD..NEW`; of a merge `index OLD,OLD..NEW`. Whole names: the patch is made with --full-index.
_INDEX = re.compile(r"^index ([0-9a-f]{40,64}(?:,[0-9a-f]{40,64})*)\.\.([0-9a-f]{40,64})")
NAMED = "a file's name"  # in evidence, where the name itself is a find
MESSAGE = "message"  # the path of what stands in a commit's message
_ESCAPE = re.compile(r"\\([0-3][0-7]{2}|.)")
_ESCAPES = {"a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}
_HEADER_LINES = 12  # of one file, before what changed: modes, index, names


class Added(msgspec.Struct, frozen=True):
    """Added lines of one file of one commit and those around them. `lines[i]` is where line i of `text` stands in it.

    Of a new file the first line is its name, and stands in line 0. `old` are the lines of `text`, from one, that were
    there before. `whole` names the content of a changed file that has what looks like a part of a key, whose head may
    stand far above what the patch shows.
    """

    commit: str
    path: str
    text: str
    lines: tuple[int, ...]
    old: tuple[int, ...] = ()
    whole: str = ""

    def place(self, line: int, rule: str, digest: str) -> str:
        """Evidence: file, line, rule, commit, the value's digest; `line` counts from one within `text`."""
        # A path may hold what steers a terminal.
        path = self.path if self.path.isprintable() else ascii(self.path)
        where = f"{path}:{self.number(line)}" if self.number(line) else NAMED
        return f"{where} {rule} (commit {self.commit[:12]}, digest {digest})"

    def number(self, line: int) -> int:
        """Where line `line` of the text stands in the file; 0 is the file's name."""
        return self.lines[min(max(line, 1), len(self.lines)) - 1]


class Opaque(msgspec.Struct, frozen=True):
    """A file that the patch only names, because git calls it binary: which content it had, and which it has."""

    commit: str
    path: str
    old: tuple[str, ...]  # of each parent that has the file
    new: str


def parse_patch(sha: str, patch: str) -> tuple[list[Added], list[Opaque]]:
    """What the patch adds, and the files it only names. Of a merge: only what no parent had."""
    added: list[Added] = []
    opaque: list[Opaque] = []
    for lines in _files(patch):
        if any(line.startswith("Binary files ") for line in lines[:_HEADER_LINES]):
            opaque += _opaque(sha, lines)
            continue
        piece = _file(sha, lines)
        if piece.lines:
            added.append(piece)
    return added, opaque


def added_of(file: Opaque, lines: Sequence[Line], old: Sequence[int] = ()) -> Added:
    """What was read in such a file, as if the patch had said it."""
    text = "\n".join(text for _, text in lines)
    return Added(file.commit, file.path, text, tuple(number for number, _ in lines), tuple(old))


def name_of(file: Opaque) -> list[Added]:
    """The name of such a file, when it is new."""
    return [] if file.old else [added_of(file, _name(file.path))]


def message_of(sha: str, message: str) -> Added:
    """What a commit's message says; it is fetched and kept as its files are."""
    return Added(sha, MESSAGE, message, tuple(range(1, message.count("\n") + 2)))


def _name(path: str) -> list[Line]:
    return [(0, path.replace("\n", " ")), (0, "")]


def around(piece: Added, content: str) -> Added:
    """The same added lines within all of the file."""
    old = set(piece.old)
    new = {number for at, number in enumerate(piece.lines, 1) if at not in old}
    every = range(1, content.count("\n") + 2)
    return Added(piece.commit, piece.path, content, tuple(every), tuple(n for n in every if n not in new))


def _index(lines: list[str]) -> re.Match[str] | None:
    return next((match for line in lines[:_HEADER_LINES] if (match := _INDEX.match(line))), None)


def _opaque(sha: str, lines: list[str]) -> Iterator[Opaque]:
    found = _index(lines)
    if found is None:
        raise ValueError("a patch names a binary file without its contents")
    if found[2].strip("0"):  # all zeros: it was removed
        yield Opaque(sha, _named(lines[0]), tuple(one for one in found[1].split(",") if one.strip("0")), found[2])


def _named(header: str) -> str:
    """The path out of a file's first line; without renames the two names of `diff --git` are the same."""
    names = _HEADER.sub("", header)
    if not header.startswith("diff --git "):
        return _raw(names)
    return _raw(names[: len(names) // 2]).removeprefix("a/")


def _files(patch: str) -> Iterator[list[str]]:
    current: list[str] = []
    # Not splitlines(): a form feed or a Unicode separator inside a line must not hide the rest of it.
    for line in patch.split("\n"):
        if _HEADER.match(line):
            if current:
                yield current
            current = [line]
        elif current:
            current.append(line)
    if current:
        yield current


def _file(sha: str, lines: list[str]) -> Added:
    path, width, number, left = _named(lines[0]), 0, 0, 0
    kept = _Kept()
    for line in lines[1:]:
        if left <= 0 and (hunk := _HUNK.match(line)):
            width, number = len(hunk[1]) - 1, int(hunk[2])
            left = int(hunk[3]) if hunk[3] is not None else 1
            kept.end_hunk()
        elif left <= 0 and not width and line.startswith("+++ "):
            path = _unquoted(line[4:], path)
        elif width and line and not line.startswith("\\"):
            marks = line[:width]
            if "-" in marks:
                continue
            kept.line(number, line[width:], new=marks == "+" * width)
            number += 1
            left -= 1
    kept.end_hunk()
    if any(line.startswith("new file mode ") for line in lines[1:_HEADER_LINES]):
        kept.begin_with(_name(path))
    return Added(sha, path, "\n".join(kept.text), tuple(kept.numbers), tuple(kept.old), _whole(lines, kept))


def _whole(lines: list[str], kept: _Kept) -> str:
    if not kept.body:
        return ""
    index = _index(lines)
    # Of a new file the patch shows everything.
    return index[2] if index and any(name.strip("0") for name in index[1].split(",")) else ""


class _Kept:
    """The lines of one file's hunks. Between two is an empty one: what is apart in the file makes no find together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.numbers: list[int] = []
        self.old: list[int] = []  # counted from one
        self.body = False
        self._hunk: list[tuple[int, str, bool]] = []

    def line(self, number: int, text: str, *, new: bool) -> None:
        self._hunk.append((number, text, new))

    def begin_with(self, lines: list[Line]) -> None:
        """Put them before all others, none of which is old."""
        self.text[:0] = [text for _, text in lines]
        self.numbers[:0] = [number for number, _ in lines]

    def end_hunk(self) -> None:
        """Keep it, unless nothing in it is new."""
        hunk, self._hunk = self._hunk, []
        if not any(new for _, _, new in hunk):
            return
        if self.text:
            hunk.insert(0, (hunk[0][0], "", False))
        for number, text, new in hunk:
            self.text.append(text)
            self.numbers.append(number)
            if new:
                self.body = self.body or is_body(text)
            else:
                self.old.append(len(self.text))


def _unquoted(name: str, fallback: str) -> str:
    name = _raw(name.rstrip("\t"))
    return fallback if name == "/dev/null" else name.removeprefix("b/")


def _raw(name: str) -> str:
    """The path as it is: git quotes one with a quote, a backslash or a control character as C does."""
    if not (name.startswith('"') and name.endswith('"') and len(name) > 1):
        return name
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1]) or chr(int(found[1], 8)), name[1:-1])
