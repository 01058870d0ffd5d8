"""A real HTTP server whose answers a test chooses, and a release to look for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from sluice.model.release import Artifact, Commit, Release
from sluice.model.spec import RunSpec, ServiceSpec

COMMIT = Commit("a" * 40, "b" * 40, "feature/x", "v1", "Ann", "2026-01-01T00:00:00Z")


class Site:
    """Answers by (method, path); counts what it was asked. `answer` may be changed at any time."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.answer: Callable[[str, str], tuple[int, bytes]] = lambda _method, path: (
            (200, json.dumps({"sha": COMMIT.sha, "tree": COMMIT.tree}).encode()) if path == "/version" else (200, b"{}")
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
            self.asked.append(f"{method} {path}")
            status, body = self.answer(method, path)
            lines = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            writer.write(lines + (b"" if method == "HEAD" else body))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.asked.append("broken connection")
        finally:
            writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A healthy site that serves COMMIT."""
    made = Site()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


@pytest.fixture
def release() -> Release:
    """What should be served."""
    spec = ServiceSpec(name="svc", run=RunSpec(command=("serve",)))
    artifact = Artifact("key", "/artifact", COMMIT.tree)
    return Release("r1", "svc", "test", COMMIT, artifact, spec, "fingerprint")


class VirtualClock:
    """Time that passes only while somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> str:
        return "2026-01-01T00:00:00.000Z"

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> VirtualClock:
    """A clock of the test's own."""
    return VirtualClock()
