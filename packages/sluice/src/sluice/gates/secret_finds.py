"""What `no-secrets` and its child say to each other: texts one way, finds the other. Never a value."""

from __future__ import annotations

import msgspec


class Text(msgspec.Struct, frozen=True):
    """One file's added lines, and those around them: `old` are the lines, from one, that were there before."""

    path: str
    text: str
    old: tuple[int, ...] = ()


class Hit(msgspec.Struct, frozen=True):
    """Which text, which line of it (from one), which rule, and the value's digest. Never the value.

    The same value by the same rule in one text is one hit: where it stands first, and how often.
    """

    text: int
    line: int
    rule: str
    digest: str
    times: int = 1


class Answer(msgspec.Struct, frozen=True):
    """`hits` of the first `read` texts. `truncated`: of the last of these are more hits than one answer holds."""

    hits: list[Hit]
    read: int
    truncated: bool = False
