"""The engine's streams: two outputs in one connection, told apart by a header of eight bytes before every piece."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

from sluice.model.secret import RedactedLines, Redactor

HEADER = 8  # stream number, three zero bytes, length (big endian)
MAX_BYTES = 1024 * 1024  # of one container's lines, and of one command's output; the end is kept
MAX_LINE = 64 * 1024  # a longer line is kept in pieces: no program may make us hold an endless one


async def demultiplexed(source: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """(stream, piece): 1 is stdout, 2 is stderr. A frame that is cut at the end of the connection gives what came."""
    header, left, stream = bytearray(), 0, 1
    async for chunk in source:
        rest = memoryview(chunk)
        while rest:
            if left:
                piece, rest = rest[:left], rest[left:]
                left -= len(piece)
                yield stream, bytes(piece)
                continue
            missing = HEADER - len(header)
            header += rest[:missing]
            rest = rest[missing:]
            if len(header) == HEADER:
                stream, left = header[0], int.from_bytes(header[4:], "big")
                header.clear()


class LogLines:
    """The newest lines of several streams, each line whole and redacted, in the order in which they ended."""

    def __init__(self, limit: int, redactor: Redactor) -> None:
        """At most `limit` lines and MAX_BYTES letters are held, and of each stream a line that has not ended."""
        self._lines: deque[str] = deque()
        self._limit = limit
        self._letters = 0
        self._redactor = redactor
        self._open: dict[int, RedactedLines] = {}

    def feed(self, stream: int, chunk: bytes) -> None:
        """The next piece of a stream."""
        if stream not in self._open:
            self._open[stream] = RedactedLines(self._redactor, self._add, MAX_LINE)
        self._open[stream].feed(chunk)

    def close(self) -> list[str]:
        """All lines that are held; a last line without an end too."""
        for lines in self._open.values():
            lines.close()
        self._open.clear()
        return list(self._lines)

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._letters += len(line)
        while self._lines and (len(self._lines) > self._limit or self._letters > MAX_BYTES):
            self._letters -= len(self._lines.popleft())
