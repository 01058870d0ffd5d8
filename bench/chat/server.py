"""A chat of one room: every message has a number on disk, and whoever comes back gets what they missed.

As somebody writes it who expects to be replaced while people talk: messages are stored before they are told, a key
makes sending again harmless, SIGTERM closes sockets with 1012 (uvicorn does that), SIGUSR1 sends everybody over to
whoever serves by then. Two of them may run on one file: each looks for what the other has stored.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

# A branch of the bench changes these two lines: which release this is, and what goes wrong with it (dies, cuts).
RELEASE = 0
FAULT = ""

DATABASE = Path(os.environ.get("CHAT_DATABASE", "/data/chat.sqlite3"))
DEAD = Path("/var/tmp/dead")  # noqa: S108 - of the container: a release that died does not come back by a restart
LOOK_S = 0.02  # between looks at what another process has stored
MOVE_S = 1.0  # everybody is sent over within so long, one after the other, so that nobody is trampled
RESTART = 1012
TAIL = 2000  # the newest messages, in memory: who was away for less needs no query
CROWD, CALM_S = 50, 2.0  # a fault waits until so many people are here, and then so long
CUT_EVERY_S = 1.0
PAGE = 10


class Room:
    """The messages, and who listens."""

    def __init__(self) -> None:
        DATABASE.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(DATABASE, isolation_level=None, timeout=5)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, text TEXT)"
        )
        self.sockets: set[WebSocket] = set()
        self.mark: float | None = None
        self._changed = asyncio.Event()
        self._frame = ((0, 0), "")  # most sockets wait for the same rows: they are encoded once
        rows = self._db.execute("SELECT seq, key, text FROM messages ORDER BY seq DESC LIMIT ?", (TAIL,))
        self._tail: list[tuple[int, str, str]] = rows.fetchall()[::-1]

    def store(self, key: str, text: str) -> int:
        """Its number; on disk afterwards. The same key is the same message."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            found = self._db.execute("SELECT seq FROM messages WHERE key = ?", (key,)).fetchone()
            if found is None:
                self._db.execute("INSERT INTO messages (key, text) VALUES (?, ?)", (key, text))
                found = self._db.execute("SELECT last_insert_rowid()").fetchone()
        finally:
            self._db.execute("COMMIT")
        self.look()
        return int(found[0])

    def look(self) -> None:
        """Take in what was stored, by whomever, and wake everybody."""
        rows = self._db.execute("SELECT seq, key, text FROM messages WHERE seq > ? ORDER BY seq", (self.top,))
        fresh = rows.fetchall()
        if fresh:
            self._tail = [*self._tail, *fresh][-TAIL:]
            self.wake()

    def wake(self) -> None:
        """Whoever waits for news looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def top(self) -> int:
        """The newest number."""
        return self._tail[-1][0] if self._tail else 0

    def after(self, seq: int) -> list[tuple[int, str, str]]:
        """What somebody has not heard who has heard everything up to this number."""
        if self._tail and seq + 1 < self._tail[0][0]:
            rows = self._db.execute("SELECT seq, key, text FROM messages WHERE seq > ? ORDER BY seq", (seq,))
            return rows.fetchall()
        return self._tail[bisect_right(self._tail, seq, key=lambda row: row[0]) :]

    def frame(self, heard: int) -> str:
        """What they have not heard, as it is sent."""
        if self._frame[0] != (heard, self.top):
            self._frame = ((heard, self.top), json.dumps({"messages": self.after(heard)}))
        return self._frame[1]

    async def news(self, seq: int) -> None:
        """Until there is something after this number."""
        while self.top <= seq and self.mark is None:
            await self._changed.wait()


room: Room


async def health(_request: Request) -> Response:
    """Whether it answers and its store does."""
    room.look()
    return JSONResponse({"status": "ok"})


async def version(_request: Request) -> Response:
    """Which release this is."""
    return JSONResponse({"sha": os.environ.get("RELEASE_SHA", ""), "tree": os.environ.get("RELEASE_TREE", "")})


async def history(_request: Request) -> Response:
    """The newest messages."""
    return JSONResponse(room.after(room.top - PAGE))


async def typing(request: Request) -> Response:
    """Somebody types."""
    await request.body()
    return Response(status_code=204)


async def converse(socket: WebSocket) -> None:
    """First frame: the last number heard, -1 for whoever wants only what comes. Then messages both ways."""
    await socket.accept()
    with suppress(WebSocketDisconnect, RuntimeError):  # RuntimeError: closed from here while something was said
        heard = int(json.loads(await socket.receive_text())["resume"])
        room.sockets.add(socket)
        teller = asyncio.create_task(tell(socket, heard))
        try:
            while True:
                said = json.loads(await socket.receive_text())
                seq = room.store(said["key"], said["text"])
                await socket.send_text(json.dumps({"ack": said["key"], "seq": seq}))
        finally:
            teller.cancel()
            room.sockets.discard(socket)


async def tell(socket: WebSocket, heard: int) -> None:
    """Everything after `heard`, then what comes."""
    heard = room.top if heard < 0 else heard
    with suppress(WebSocketDisconnect, RuntimeError):
        await socket.send_text(json.dumps({"joined": room.top, "release": RELEASE}))
        while True:
            if room.top > heard:
                top, frame = room.top, room.frame(heard)
                await socket.send_text(frame)
                heard = top
            if room.mark is not None:
                await socket.send_text(json.dumps({"mark": room.mark, "fault": FAULT}))
                return
            await room.news(heard)


async def close_all(code: int, within_s: float) -> None:
    """Close every socket that is open now, spread over so long."""
    sockets = list(room.sockets)
    for socket in sockets:
        with suppress(RuntimeError):
            await socket.close(code)
        await asyncio.sleep(within_s / len(sockets))


async def go_wrong() -> None:
    """What a bad release does once many people are there: says when it begins, for who measures, and begins."""
    while len(room.sockets) < CROWD:  # noqa: ASYNC110 - nobody is told of every socket for a fault's sake
        await asyncio.sleep(LOOK_S)
    await asyncio.sleep(CALM_S)
    room.mark = time.time()
    room.wake()
    if FAULT == "dies":
        await asyncio.sleep(0.05)  # the mark goes out
        DEAD.touch()
        os._exit(1)
    while True:
        await close_all(1011, 0)
        await asyncio.sleep(CUT_EVERY_S)


async def keep_looking() -> None:
    """Another process on the same file tells us nothing: it is looked for."""
    while True:
        room.look()
        await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    """What runs beside the requests."""
    global room  # noqa: PLW0603 - one process, one room
    room = Room()
    tasks = [asyncio.create_task(keep_looking())]
    if FAULT:
        tasks.append(asyncio.create_task(go_wrong()))
    moving: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: moving.append(loop.create_task(close_all(RESTART, MOVE_S))))
    yield
    for task in (*tasks, *moving):
        task.cancel()


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/version", version),
        Route("/messages", history),
        Route("/typing", typing, methods=["POST"]),
        WebSocketRoute("/v1/realtime/ws", converse),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    if DEAD.exists():
        sys.exit("ended by a fault")
    uvicorn.run(
        app, host="0.0.0.0", port=8000, ws="websockets-sansio", log_level="warning", access_log=False,  # noqa: S104
        timeout_graceful_shutdown=3, ws_per_message_deflate=False, proxy_headers=False,
    )  # fmt: skip
