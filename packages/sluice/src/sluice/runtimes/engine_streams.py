"""The engine's streams: two outputs in one connection, told apart by a header of eight bytes before every piece."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

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
    """The newest lines of several streams, each line whole, in the order in which they ended."""

    def __init__(self, limit: int) -> None:
        """At most `limit` lines and MAX_BYTES bytes are held."""
        self._lines: deque[bytes] = deque()
        self._limit = limit
        self._bytes = 0
        self._open: dict[int, bytearray] = {}

    def feed(self, stream: int, chunk: bytes) -> None:
        """The next piece of a stream."""
        line = self._open.setdefault(stream, bytearray())
        line += chunk
        begin = 0
        while (end := line.find(b"\n", begin)) >= 0:
            self._add(bytes(line[begin:end]))
            begin = end + 1
        del line[:begin]
        if len(line) > MAX_LINE:
            self._add(bytes(line))
            line.clear()

    def close(self) -> list[str]:
        """All lines that are held, decoded; a last line without an end too."""
        for line in self._open.values():
            if line:
                self._add(bytes(line))
        self._open.clear()
        return [line.decode(errors="replace").rstrip("\r") for line in self._lines]

    def _add(self, line: bytes) -> None:
        for begin in range(0, len(line) or 1, MAX_LINE):
            piece = line[begin : begin + MAX_LINE]
            self._lines.append(piece)
            self._bytes += len(piece)
        while self._lines and (len(self._lines) > self._limit or self._bytes > MAX_BYTES):
            self._bytes -= len(self._lines.popleft())
