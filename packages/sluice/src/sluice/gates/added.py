"""The lines one commit adds, by file, out of its patch. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

# `@@ -1,2 +3,4 @@`; a merge has one @ and one old range more per parent: `@@@ -1 -1 +1,2 @@@`.
_HUNK = re.compile(r"^(@@+) (?:-\S+ )+\+(\d+)(?:,(\d+))? @@+")
_HEADER = re.compile(r"^diff --(?:git|cc|combined) ")


class Added(msgspec.Struct, frozen=True):
    """Added lines of one file of one commit. `lines[i]` is where line i of `text` stands in the file."""

    commit: str
    path: str
    text: str
    lines: tuple[int, ...]

    def place(self, line: int, rule: str, digest: str) -> str:
        """Evidence: file, line, rule, commit, the value's digest; `line` counts from one within `text`."""
        index = min(max(line, 1), len(self.lines)) - 1
        return f"{self.path}:{self.lines[index]} {rule} (commit {self.commit[:12]}, digest {digest})"


def parse_patch(sha: str, patch: str) -> tuple[list[Added], int]:
    """What the patch adds, and how many binary files it names. Of a merge: only what no parent had."""
    added: list[Added] = []
    binary = 0
    for lines in _files(patch):
        binary += any(line.startswith(("Binary files ", "GIT binary patch")) for line in lines[:12])
        piece = _file(sha, lines)
        if piece.lines:
            added.append(piece)
    return added, binary


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
    path, width, number, left = _HEADER.sub("", lines[0]), 0, 0, 0
    text: list[str] = []
    numbers: list[int] = []
    for line in lines[1:]:
        if left <= 0 and (hunk := _HUNK.match(line)):
            width, number = len(hunk[1]) - 1, int(hunk[2])
            left = int(hunk[3]) if hunk[3] is not None else 1
            if text:  # an empty line between hunks: what is apart in the file is not joined into one find
                text.append("")
                numbers.append(number)
        elif left <= 0 and not width and line.startswith("+++ "):
            path = _unquoted(line[4:], path)
        elif width and line and not line.startswith("\\"):
            marks = line[:width]
            if "-" in marks:
                continue
            if marks == "+" * width:
                text.append(line[width:])
                numbers.append(number)
            number += 1
            left -= 1
    return Added(sha, path, "\n".join(text), tuple(numbers))


def _unquoted(name: str, fallback: str) -> str:
    name = name.rstrip("\t").strip('"')
    return fallback if name == "/dev/null" else name.removeprefix("b/")
