"""Markdown as blocks: what was written, on which line, under which heading. No more of the syntax than rules need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from sluice.runbook.items import Part

FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
BULLET = re.compile(r"^(\s*)(?:>\s*)*([-*+]|\d+[.)])\s+(?:\[[ xX]\]\s+)?")
COMMENT = re.compile(r"^\s*<!--.*-->\s*$")
RULE = re.compile(r"^\s*([-*_])(\s*\1){2,}\s*$|^\s*\|?[\s:|-]+\|[\s:|-]*$")
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")

# The first that a heading matches. Smoke stands before deploy: "Post-deploy smoke" is both.
HEADINGS: tuple[tuple[Part, str], ...] = (
    (Part.AUDIT, r"audit|аудит"),
    (Part.SECURITY, r"securit|безопасност"),
    (Part.ROLLBACK, r"roll ?back|откат"),
    (Part.SMOKE, r"smoke|post-deploy|domain check|проверка домена|после деплоя"),
    (Part.PROMOTION, r"promotion|promot|pre-?prod|продвижен|\bprod\b|production"),
    (Part.GIT, r"\bgit\b|git-"),
    (Part.PRECONDITIONS, r"precondition|prerequisite|предварительн|предуслови|перед началом"),
    (Part.DEPLOY, r"deploy|rollout|деплой|выкатк|выкладк"),
)


class Shape(StrEnum):
    """What a block looks like."""

    HEADING = "heading"
    ITEM = "item"
    PARAGRAPH = "paragraph"
    CODE = "code"  # one line of a fenced block
    COMMENT = "comment"


# Letters of one block that rules read: some of their patterns take the square of a block's length.
MAX_BLOCK = 4000


@dataclass(eq=False)
class Block:
    """Some lines that belong together. `text` is one line long; `line_at` finds the way back."""

    shape: Shape
    line: int
    part: Part
    lines: list[str] = field(default_factory=list)
    indent: int = 0
    parent: Block | None = None
    lead: Block | None = None  # the paragraph, or the item, that a list stands under

    @cached_property
    def text(self) -> str:
        """Once everything is read; its first MAX_BLOCK letters."""
        return " ".join(self.lines)[:MAX_BLOCK]

    @property
    def cut(self) -> bool:
        """Whether there is more of it than `text` has."""
        return len(self.text) == MAX_BLOCK

    def line_at(self, offset: int) -> int:
        """The line of the file that this place of `text` is on."""
        for number, line in enumerate(self.lines):
            if offset <= len(line):
                return self.line + number
            offset -= len(line) + 1
        return self.line + max(len(self.lines) - 1, 0)

    @cached_property
    def spans(self) -> list[tuple[int, str]]:
        """Code in backticks, with its place; of a line of a code block the whole of it."""
        if self.shape is Shape.CODE:
            return [(0, self.text)]
        return [(match.start(1), match.group(1)) for match in SPAN.finditer(self.text)]


@dataclass
class _Reader:
    """The state of reading, line by line."""

    blocks: list[Block] = field(default_factory=list)
    headings: list[tuple[int, Part]] = field(default_factory=list)
    fence: str = ""
    open: Block | None = None  # takes the next plain line
    paragraph: Block | None = None  # the last one, while a list may still stand under it
    items: list[Block] = field(default_factory=list)

    @property
    def part(self) -> Part:
        return next((part for _, part in reversed(self.headings) if part is not Part.OTHER), Part.OTHER)

    def add(self, shape: Shape, number: int, text: str, **more: object) -> Block:
        block = Block(shape, number, self.part, [text], **more)  # type: ignore[arg-type] # indent, parent, lead
        self.blocks.append(block)
        return block

    def read(self, number: int, line: str) -> None:
        if self._fenced(number, line):
            return
        heading, bullet = HEADING.match(line), BULLET.match(line)
        if not line.strip():
            self.open = None
        elif heading:
            self._heading(number, len(heading.group(1)), heading.group(2))
        elif COMMENT.match(line):
            self.add(Shape.COMMENT, number, line.strip())
        elif RULE.match(line):
            self.open = None
        elif bullet:
            self._item(number, len(bullet.group(1)), line[bullet.end() :])
        elif self.open is not None:
            self.open.lines.append(line.strip())
        else:
            self._paragraph(number, line)

    def _fenced(self, number: int, line: str) -> bool:
        fence = FENCE.match(line)
        if self.fence:
            if fence and fence.group(1).startswith(self.fence):
                self.fence = ""
            elif line.strip():
                self.add(Shape.CODE, number, line.strip())
            return True
        if fence:
            self.fence, self.open = fence.group(1), None
        return bool(fence)

    def _heading(self, number: int, level: int, text: str) -> None:
        self.headings = [one for one in self.headings if one[0] < level]
        # The title of the whole document says nothing of a section.
        self.headings.append((level, part_of(text) if level > 1 else Part.OTHER))
        self.add(Shape.HEADING, number, text)
        self.open, self.paragraph, self.items = None, None, []

    def _item(self, number: int, indent: int, text: str) -> None:
        self.items = [one for one in self.items if one.indent < indent]
        parent = self.items[-1] if self.items else None
        block = self.add(Shape.ITEM, number, text.strip(), indent=indent, parent=parent, lead=parent or self.paragraph)
        self.items.append(block)
        self.open = block

    def _paragraph(self, number: int, line: str) -> None:
        indented = bool(self.items) and line[:1].isspace()
        text = re.sub(r"^\s*(>\s*)+", "", line).strip()
        block = self.add(Shape.PARAGRAPH, number, text)
        self.open = block
        if not indented:
            self.paragraph, self.items = block, []


def part_of(heading: str) -> Part:
    """What a heading speaks of."""
    return next((part for part, said in HEADINGS if re.search(said, heading, re.IGNORECASE)), Part.OTHER)


def blocks_of(text: str) -> list[Block]:
    """The blocks of a Markdown document, in order."""
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), 1):
        reader.read(number, line)
    return reader.blocks


def sentences(blocks: list[Block]) -> Iterator[str]:
    """What is said, to be compared: one line, blanks collapsed."""
    for block in blocks:
        yield " ".join(block.text.split())
