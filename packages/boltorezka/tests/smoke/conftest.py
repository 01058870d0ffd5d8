"""The real server behind a proxy that can be told to misbehave: every way in which a release may be bad."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from boltorezka.adapters.authorities import authorities
from boltorezka.adapters.smoke_sessions import smoke_sessions
from boltorezka.smoke.report import Report
from boltorezka.smoke.target import Target
from boltorezka.testing import InProcess, dev_sso, in_process_server, loopback_listener

Frames = Callable[[dict], list[dict]]


@dataclass
class Proxy:
    """Passes everything on, except for what `answer`, `frames` and `close_code` make of it."""

    upstream: str
    url: str = ""
    answer: Callable[[str, str, httpx.Response], httpx.Response] = lambda _method, _path, answer: answer
    frames: Callable[[], Frames] = lambda: lambda frame: [frame]  # one per socket
    close_code: Callable[[int], int] = lambda code: code
    refuse_sockets: bool = False
    _http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(trust_env=False, verify=authorities()))

    async def http(self, request: Request) -> Response:
        """One request."""
        headers = {k: v for k, v in request.headers.items() if k in {"authorization", "cookie", "content-type"}}
        address = f"{self.upstream}{request.url.path}?{request.url.query}"
        answer = await self._http.request(
            request.method, address, headers=headers, content=await request.body(), follow_redirects=False
        )
        self._http.cookies.clear()  # cookies are the browsers', never the proxy's own
        answer = self.answer(request.method, request.url.path, answer)
        kept = {k: v for k, v in answer.headers.items() if k in {"content-type", "location", "set-cookie"}}
        return Response(answer.content, answer.status_code, kept)

    async def socket(self, browser: WebSocket) -> None:
        """One WebSocket."""
        if self.refuse_sockets:
            await browser.close(1008)
            return
        await browser.accept()
        make, address = self.frames(), self.upstream.replace("http", "ws", 1)
        async with websockets.connect(f"{address}{browser.url.path}?{browser.url.query}", proxy=None) as server:

            async def up() -> None:
                with contextlib.suppress(WebSocketDisconnect, websockets.ConnectionClosed):
                    while True:
                        await server.send(await browser.receive_text())
                await server.close()

            task = asyncio.create_task(up())
            with contextlib.suppress(WebSocketDisconnect, websockets.ConnectionClosed, RuntimeError):
                async for raw in server:
                    for frame in make(json.loads(raw)):
                        await browser.send_text(json.dumps(frame))
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the browser went first
                await browser.close(self.close_code(server.close_code or 1000))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()


@dataclass
class Place:
    """A server, its development SSO, and the proxy in front."""

    server: InProcess
    sso_host: str
    proxy: Proxy

    async def smoke(self, part, deadline_s: float = 30.0, **changes: object) -> dict[str, dict]:
        """Run a part of the smoke through the proxy; the newest line of every check."""
        target = Target(
            **{
                "url": self.proxy.url,
                "public_url": self.server.url,
                "old_url": "",
                "expect_sso_host": self.sso_host,
                "release": "r1",
                "deadline": time.monotonic() + deadline_s,
                "credentials": None,
            }
            | changes
        )
        out = io.StringIO()
        await part(target, Report(out))
        return {line["name"]: line for line in map(json.loads, out.getvalue().splitlines())}


@pytest.fixture
async def place(tmp_path: Path, migrated: Path) -> AsyncIterator[Place]:
    """Everything real and good, until the proxy is told otherwise."""
    shutil.copy(migrated, tmp_path)
    async with dev_sso() as sso, in_process_server(tmp_path, sso) as server:
        proxy = Proxy(server.url)
        application = Starlette(
            routes=[
                WebSocketRoute("/{path:path}", proxy.socket),
                Route("/{path:path}", proxy.http, methods=["GET", "HEAD", "POST"]),
            ]
        )
        listener, proxy.url = loopback_listener()
        config = uvicorn.Config(
            application, ws="websockets-sansio", lifespan="off", log_config=None, timeout_graceful_shutdown=1
        )
        runner = uvicorn.Server(config)
        listener.listen()
        task = asyncio.create_task(runner._serve(sockets=[listener]))
        try:
            yield Place(server, urlsplit(sso).netloc, proxy)
        finally:
            runner.should_exit = True
            await asyncio.wait_for(task, 10)
            await proxy.aclose()


@pytest.fixture
async def credentials(place: Place, tmp_path: Path) -> Path:
    """What the command `boltorezka smoke-session` prints, in a file."""
    path = tmp_path / "credentials.json"
    settings = place.server.settings
    made = await smoke_sessions(settings.database_url, settings.jwt_secret.reveal(), 300)
    path.write_text(json.dumps(made))
    return path
