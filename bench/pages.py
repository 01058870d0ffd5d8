"""Readers of history: keep-alive connections that ask for the same page, each as soon as it has the answer.

Run as `python pages.py`; jobs come as JSON lines on stdin and each is answered by one JSON line on stdout:

    {"door": [port, token], "path": "/v1/…", "connections": 8, "seconds": 2.0, "messages": 50}

The first answer is read whole: so many messages, their seqs growing by one. Every other must be the same, byte for
byte; anything else ends the process with exit code 1. A process of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any, cast

import uvloop

from load import percentiles
from wire import Door, Wrong

STALL_S = 20.0
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


class Reader(asyncio.Protocol):
    """One connection."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._asked_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports keep the interface without the inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(Wrong(f"a connection was closed: {exc or 'by the server'}"))

    def _ask(self) -> None:
        assert self._transport is not None
        self._asked_at = time.perf_counter()
        self._transport.write(self._readers.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._data, 0, head + 2)
        if length is None or not self._data.startswith(b"HTTP/1.1 200 "):
            self._end(Wrong(f"the answer was {self._data[:200]!r}"))
            return
        if len(self._data) < head + 4 + int(length[1]):
            return
        body, self._data = self._data[head + 4 :], b""
        now = time.perf_counter()
        try:
            self._readers.answered(body, now - self._asked_at)
        except Wrong as error:
            self._end(error)
            return
        if now < self._readers.until:
            self._ask()
        else:
            self._end(None)

    def _end(self, error: Wrong | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        if self._transport is not None:
            self._transport.close()


class Readers:
    """All connections of one job, and what they found."""

    def __init__(self, door: Door, path: str, seconds: float, messages: int) -> None:
        self.request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {door.token}\r\n\r\n".encode()
        )  # fmt: skip
        self.until = time.perf_counter() + seconds
        self._messages = messages
        self._body: bytes | None = None
        self._times: list[float] = []
        self._door = door

    def answered(self, body: bytes, seconds: float) -> None:
        """An answer came. Raises Wrong unless it is the page that was asked for."""
        if self._body is None:
            self._check(body)
            self._body = body
        elif body != self._body:
            raise Wrong("the same page was answered in two ways")
        self._times.append(seconds)

    def _check(self, body: bytes) -> None:
        page = json.loads(body)
        seqs = [message["seq"] for message in page["messages"]]
        if len(seqs) != self._messages or seqs != list(range(seqs[0], seqs[0] + len(seqs))):
            raise Wrong(f"the page should have {self._messages} messages in a row and has {seqs}")

    async def read(self, connections: int) -> dict[str, Any]:
        """Read until the time is over. Raises Wrong."""
        loop = asyncio.get_running_loop()
        cpu, began = time.process_time(), time.perf_counter()
        opened = [
            await loop.create_connection(lambda: Reader(self), "127.0.0.1", self._door.port) for _ in range(connections)
        ]
        async with asyncio.timeout(self.until - began + STALL_S):
            await asyncio.gather(*(reader.done for _, reader in opened))
        return {
            "requests": len(self._times),
            "bytes": len(self._body or b""),
            "seconds": time.perf_counter() - began,
            "load_cpu_seconds": time.process_time() - cpu,
            "answer_ms": percentiles(self._times),
        }


async def main() -> None:
    """Do the jobs of stdin until it ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        job = json.loads(line)
        readers = Readers(Door(*job["door"]), job["path"], job["seconds"], job["messages"])
        print(json.dumps(await readers.read(job["connections"])), flush=True)


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except (Wrong, OSError, TimeoutError) as error:
        sys.exit(f"pages: {error!r}")
