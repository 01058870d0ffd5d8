"""A container engine that says what a test wants it to say, on a real unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sluice.model.secret import Redactor, Secret
from sluice.runtimes.engine import DockerEngine

SECRET = "hunter2-swordfish"


class FakeEngine:
    """Answers by method and path without the version; what is not scripted is 404. Remembers what was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version: dict[str, Any] = {"Version": "28.0", "ApiVersion": "1.48", "MinAPIVersion": "1.24"}
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.at_once = 0
        self.most_at_once = 0
        self.hold: asyncio.Event | None = None  # answers wait for it
        self.held: asyncio.Event = asyncio.Event()  # so many wait now
        self.wanted = 1
        self.cut = False  # end the connection in the middle of the body

    def says(self, call: str, status: int, document: Any = None, *, raw: bytes | None = None) -> None:
        """The next answer to this call; the last one stays."""
        body = raw if raw is not None else b"" if document is None else json.dumps(document).encode()
        self.answers.setdefault(call, []).append((status, body))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            self.bodies.append(await self._body(reader, head))
            method, target, _ = head.split("\r\n")[0].split(" ")
            self.asked.append(f"{method} {target}")
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            if self.hold is not None and target != "/version":
                if self.at_once == self.wanted:
                    self.held.set()
                await self.hold.wait()
            status, body = self._answer(method, target)
            length = len(body) + (10 if self.cut else 0)
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n".encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.at_once -= 1
            writer.close()

    def _answer(self, method: str, target: str) -> tuple[int, bytes]:
        if target == "/version":
            return 200, json.dumps(self.version).encode()
        path = "/" + target.partition("?")[0].split("/", 2)[2]
        scripted = self.answers.get(f"{method} {path}", [(404, b'{"message": "no such thing"}')])
        return scripted.pop(0) if len(scripted) > 1 else scripted[0]

    async def _body(self, reader: asyncio.StreamReader, head: str) -> bytes:
        fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.split("\r\n")[1:]}
        if "content-length" in fields:
            return await reader.readexactly(int(fields["content-length"]))
        body = b""
        while fields.get("transfer-encoding") == "chunked":
            size = int(await reader.readline(), 16)
            body += (await reader.readexactly(size + 2))[:-2]
            if not size:
                break
        return body


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    """An engine of this test's own."""
    engine = FakeEngine(tmp_path / "engine.sock")
    server = await asyncio.start_unix_server(engine.serve, engine.path)
    yield engine
    if engine.hold is not None:
        engine.hold.set()
    server.close()
    await server.wait_closed()


@pytest.fixture
def redactor() -> Redactor:
    """Knows one secret."""
    return Redactor([Secret(SECRET)])


@pytest.fixture
def client(fake: FakeEngine, redactor: Redactor) -> DockerEngine:
    """The client of the fake engine."""
    return DockerEngine(fake.path, redactor)
