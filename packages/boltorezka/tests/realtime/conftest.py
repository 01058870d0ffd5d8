"""A real server for the sockets alone: uvicorn, picows and SQLite, on an ephemeral loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import secrets
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Self

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from boltorezka.adapters.realtime import Realtime, RealtimeSettings
from boltorezka.adapters.sqlite import SqliteStore, migrate
from boltorezka.adapters.sqlite.bus import SqliteBus
from boltorezka.adapters.websocket import websocket_protocol
from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.rooms.connection import DEFAULT_RATES
from boltorezka.rooms.limits import Rate

ORIGIN = "https://rooms.example"
# Nothing here takes longer than a fraction of this, except on a machine that is badly overloaded.
DEADLINE_S = 15.0


class RealClock:
    """The machine's clocks."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


class RandomIds:
    """Unguessable ids without an order."""

    def new_id(self) -> str:
        return secrets.token_hex(16)

    def new_secret(self) -> str:
        return secrets.token_urlsafe(32)


class CountedMetrics:
    """Counts what the sockets report (ports.RealtimeMetrics)."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.seats = (0, 0)

    def socket_opened(self) -> None:
        self.counts["opened"] += 1

    def socket_closed(self, reason: str) -> None:
        self.counts[f"closed {reason}"] += 1

    def acked(self, event_type: str) -> None:
        self.counts[f"ack {event_type}"] += 1

    def nacked(self, event_type: str, code: str) -> None:
        self.counts[f"nack {event_type} {code}"] += 1

    def refused(self, code: str) -> None:
        self.counts[f"refused {code}"] += 1

    def delivered(self, frames: int) -> None:
        self.counts["delivered"] += frames

    def delivery_seconds(self, seconds: float) -> None:
        assert seconds >= 0
        self.counts["delivery"] += 1

    def voice_setup(self, outcome: str, seconds: float | None) -> None:
        self.counts[f"setup {outcome}"] += 1
        self.seconds += [] if seconds is None else [seconds]

    def voice_relayed(self, event_type: str, seats: int) -> None:
        self.counts[f"relayed {event_type}"] += seats

    def voice_seats(self, connected: int, held: int) -> None:
        self.seats = (connected, held)

    def log_read(self, kind: str) -> None:
        self.counts[f"log {kind}"] += 1

    def dropped(self, kind: str, frames: int) -> None:
        self.counts[f"dropped {kind}"] += frames


class Talker:
    """A client that speaks the contract."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.in_voice: dict = {}
        self._ids = itertools.count(1)

    async def say(self, kind: str, payload: dict | None = None, key: str | None = None) -> str:
        """Send a request; answers its requestId."""
        request_id = f"r{next(self._ids)}"
        frame = {"type": kind, "requestId": request_id, "payload": payload or {}}
        if key is not None:
            frame["idempotencyKey"] = key
        await self.ws.send(json.dumps(frame))
        return request_id

    async def hear(self) -> dict:
        """The next frame."""
        async with asyncio.timeout(DEADLINE_S):
            return json.loads(await self.ws.recv())

    async def until(self, *kinds: str) -> list[dict]:
        """Frames up to and including the first of one of these types."""
        frames = []
        while True:
            frames.append(await self.hear())
            if frames[-1]["type"] in kinds:
                return frames

    async def join(self, slug: str = "general", after: dict | None = None) -> list[dict]:
        """Join and answer everything up to the ack."""
        await self.say("room.join", {"roomSlug": slug, **({"after": after} if after else {})})
        frames = await self.until("ack", "nack")
        if frames[-1]["type"] == "ack":
            # Follows at once; only tests of voice look at it.
            self.in_voice = await self.hear()
            assert self.in_voice["type"] == "call.initial_state"
        return frames

    async def messages(self, count: int) -> list[dict]:
        """The payloads of the next messages; other frames are passed over."""
        found = []
        while len(found) < count:
            frame = (await self.until("chat.message"))[-1]
            found.append(frame["payload"])
        return found

    async def closed(self) -> tuple[list[dict], int]:
        """Everything up to the close, and its code."""
        frames = []
        try:
            while True:
                frames.append(await self.hear())
        except ConnectionClosed:
            return frames, self.ws.close_code or 0


class Rooms:
    """One server process's worth of sockets, inside the test's loop."""

    def __init__(self, path: Path, settings: RealtimeSettings, instance: str, clock=None) -> None:
        self.clock = clock or RealClock()
        self.store = SqliteStore(path, self.clock)
        self.metrics = CountedMetrics()
        self.bus = SqliteBus(self.store, instance)
        self.realtime = Realtime(self.store, self.bus, self.clock, RandomIds(), self.metrics, settings, instance)
        self.port = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.store.open()
        self._stack.push_async_callback(self.store.close)
        await self.realtime.start()
        self._stack.push_async_callback(self.realtime.stop)
        config = uvicorn.Config(
            Starlette(), http="httptools", ws=websocket_protocol(self.realtime), lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listener])
        self._stack.push_async_callback(server.shutdown, sockets=[listener])
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def person(self, name: str) -> str:
        """A session of a user of this name; answers the session's id."""
        now = self.clock.now()
        identity = Identity("broker", "sso", name, f"{name}@example", name.title(), "user", True)
        user = await self.store.upsert_user(identity, f"user-{name}", None, now)
        session_id = f"session-{name}-{secrets.token_hex(4)}"
        await self.store.create_session(Session(session_id, user.id, 1, now, now, now + 3600 * 1_000_000))
        return session_id

    async def ticket(self, name: str, session_id: str = "", *, via_bearer: bool = True, ttl_s: float = 45) -> str:
        """A ticket, as the HTTP side would have stored it."""
        session_id = session_id or await self.person(name)
        ticket = secrets.token_urlsafe(32)
        grant = TicketGrant(session_id, f"user-{name}", via_bearer, self.clock.now() + int(ttl_s * 1_000_000))
        await self.store.put_ticket(hashlib.sha256(ticket.encode()).digest(), grant)
        return ticket

    async def dial(
        self, ticket: str | None = None, origin: str | None = ORIGIN, path: str = "/v1/realtime/ws"
    ) -> Talker:
        """A raw connection."""
        query = "" if ticket is None else f"?ticket={ticket}"
        ws = await connect(
            f"ws://127.0.0.1:{self.port}{path}{query}", origin=origin, compression=None, max_queue=None, proxy=None
        )
        self._stack.push_async_callback(ws.close)
        return Talker(ws)

    async def talker(self, name: str, room: str | None = "general") -> Talker:
        """Somebody who is in, and in the room."""
        talker = await self.dial(await self.ticket(name))
        assert (await talker.hear())["type"] == "server.ready"
        if room is not None:
            assert (await talker.join(room))[-1]["type"] == "ack"
        return talker


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A migrated database."""
    path = tmp_path / "rooms.db"
    migrate(path)
    return path


# Tests that flood on purpose are not about the limits; those that are set their own.
UNLIMITED = Rate(1e9, 1e9)
UNLIMITED_RATES = dict.fromkeys(DEFAULT_RATES, UNLIMITED)


@pytest.fixture
def settings() -> RealtimeSettings:
    """The defaults, with a short drain, short leases and no limits of pace."""
    return RealtimeSettings(
        allowed_origins=(ORIGIN,), drain_spread_s=0.05, lease_renew_s=0.1, lease_expires_s=0.6, close_grace_s=0.5,
        frames=UNLIMITED, rates=UNLIMITED_RATES,
    )  # fmt: skip


@pytest.fixture
def rooms_on(database: Path, settings: RealtimeSettings):
    """Makes servers on the test's database, to be entered with `async with`."""

    def make(instance: str = "one", clock=None, **changed) -> Rooms:
        return Rooms(database, msgspec.structs.replace(settings, **changed), instance, clock)

    return make


class Process:
    """A server in an OS process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, tickets: dict[str, str]) -> None:
        self.process = process
        self.tickets = tickets
        self._port = port

    async def talker(self, name: str) -> Talker:
        """Somebody in `general` of that process."""
        ws = await connect(
            f"ws://127.0.0.1:{self._port}/v1/realtime/ws?ticket={self.tickets[name]}",
            origin=ORIGIN, compression=None, max_queue=None, proxy=None,
        )  # fmt: skip
        talker = Talker(ws)
        assert (await talker.hear())["type"] == "server.ready"
        assert (await talker.join())[-1]["type"] == "ack"
        return talker


@pytest.fixture
async def process_on(database: Path):
    """Starts server processes on the test's database, with people of these names; they are killed at the end."""
    processes: list[Process] = []

    async def start(instance: str, *names: str, loop: str = "asyncio") -> Process:
        script = str(Path(__file__).with_name("serve_rooms.py"))
        child = await asyncio.create_subprocess_exec(
            sys.executable, script, loop, str(database), instance, *names,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(2 * DEADLINE_S):
            line = json.loads(await child.stdout.readline())
        processes.append(Process(child, line["port"], line["tickets"]))
        return processes[-1]

    yield start
    for started in processes:
        if started.process.returncode is None:
            started.process.kill()
        await started.process.communicate()


@pytest.fixture
async def rooms(rooms_on):
    """A running server."""
    async with rooms_on() as running:
        yield running


@pytest.fixture
async def two(rooms_on):
    """Two servers on one database."""
    async with rooms_on("one") as first, rooms_on("two") as second:
        yield first, second
