"""Server processes that are killed and started again, connections that are cut anywhere, clients that come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from boltorezka import config
from boltorezka.adapters.database import migrate, open_store
from boltorezka.adapters.system import SystemClock
from boltorezka.adapters.tokens import Tokens
from boltorezka.auth.model import Identity, Session
from boltorezka.auth.sessions import claims_for
from boltorezka.ports import NewEvent, Store
from boltorezka.rooms.model import EventKind, MemberRole, Role, Room
from boltorezka.testing import JWT_SECRET, environment

STAGES = ("insert", "commit", "publish", "ack")
# Nothing takes a tenth of this, except on a machine that is badly overloaded.
DEADLINE_S = 60.0
# How many messages of a process before it kills itself, at random up to this many.
LIFE = 40
# A connection's life in bytes, of both directions: from the middle of the handshake to a dozen of messages.
BYTES = (100, 8_000)
# What one client sends a second: resumes stay below 300 events while a process starts again.
PACE_S = 0.1


class Slot:
    """One server of the fleet: it is started again whenever it dies, on its own port."""

    def __init__(self, env: Mapping[str, str], fates: Iterator[str]) -> None:
        self._env = env
        self._fates = fates
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None
        self.up = asyncio.Event()
        self.kills: Counter[str] = Counter()

    @property
    def port(self) -> int:
        """Where it listens; 0 before its first start."""
        return self._port

    async def live(self) -> None:
        """Start it, and again after each death, until cancelled."""
        try:
            while True:
                fate = next(self._fates)
                await self._start(fate)
                assert self._process is not None
                code = await self._process.wait()
                self.up.clear()
                assert code == -signal.SIGKILL, f"the server ended by itself with {code}"
                self.kills[fate.partition(":")[0]] += 1
        finally:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
                await self._process.wait()

    async def _start(self, fate: str) -> None:
        script = str(Path(__file__).with_name("dying_server.py"))
        base = {name: value for name, value in os.environ.items() if not name.startswith(config.PREFIX)}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, script, fate, "serve", "--port", str(self._port),
            env={**base, **self._env}, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said = []
        assert self._process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            async for line in self._process.stderr:
                said.append(line.decode())
                record = json.loads(line) if line.startswith(b"{") else {}
                if record.get("event") == "listening":
                    self._port = record["port"]
                    self.up.set()
                    self._drain = asyncio.create_task(_read_on(self._process.stderr))
                    return
        raise AssertionError(f"the server did not start: {''.join(said)}")


async def _read_on(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        pass


class Wire:
    """A TCP relay in front of one slot that cuts each connection after a random number of bytes."""

    def __init__(self, slot: Slot, dice: random.Random) -> None:
        self.slot = slot
        self._dice = dice
        self.cuts = 0
        self.cutting = True
        self.port = 0
        self._live: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen until the end; then everything that is open is cut."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._live:
                task.cancel()
            await asyncio.gather(*self._live, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._live.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            there, far = await asyncio.open_connection("127.0.0.1", self.slot.port)
            budget = [self._dice.randint(*BYTES) if self.cutting else sys.maxsize]
            pumps = {
                asyncio.create_task(self._pump(reader, far, budget)),
                asyncio.create_task(self._pump(there, writer, budget)),
            }
            _, pending = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pending:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # the server is being started again: the client is cut, and comes back
        finally:
            for side in (writer, far):
                if side is not None:
                    side.transport.abort()
            self._live.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, budget: list[int]) -> None:
        """Pass bytes on until the budget of the connection is used up; the last piece may be half a frame."""
        with contextlib.suppress(OSError):
            while piece := await source.read(65536):
                sink.write(piece[: budget[0]])
                await sink.drain()
                budget[0] -= len(piece)
                if budget[0] <= 0:
                    self.cuts += 1
                    return


class Follower:
    """A client in one room over any number of connections: applies the log, resends what was not acked."""

    def __init__(self, name: str, token: str, slug: str, wires: list[Wire], dice: random.Random) -> None:
        self.name = name
        self.slug = slug
        self._token = token
        self._wires = wires
        self._dice = dice
        self.pending: dict[str, dict] = {}  # by key: frames that no ack has come for
        self.acked: dict[str, dict] = {}  # by key: the ack, with what was sent
        self.log: dict[int, tuple[str, str]] = {}  # by seq: type and id
        self.last = 0
        self.epoch: str | None = None
        self.resets = 0
        self.connections = 0
        self.sending = True
        self.inside = False
        self._made = 0
        self._mine: list[str] = []
        self._again: list[str] = []  # keys that were refused for a while
        self.moved = asyncio.Condition()

    async def run(self) -> None:
        """Connect, follow, and connect again, until cancelled."""
        async with httpx.AsyncClient(timeout=5) as http:
            while True:
                wire = self._dice.choice(self._wires)
                try:
                    async with asyncio.timeout(DEADLINE_S):
                        await wire.slot.up.wait()
                    ticket = await self._ticket(http, wire.slot.port)
                    url = f"ws://127.0.0.1:{wire.port}/v1/realtime/ws?ticket={ticket}"
                    async with connect(url, compression=None, proxy=None, open_timeout=5, close_timeout=0.1) as ws:
                        self.connections += 1
                        await self._follow(ws)
                except (OSError, TimeoutError, WebSocketException, httpx.HTTPError, EOFError):
                    self.inside = False

    async def _ticket(self, http: httpx.AsyncClient, port: int) -> str:
        headers = {"authorization": f"Bearer {self._token}"}
        answer = await http.get(f"http://127.0.0.1:{port}/v1/auth/ws-ticket", headers=headers)
        answer.raise_for_status()
        return str(answer.json()["ticket"])

    async def _follow(self, ws: ClientConnection) -> None:
        after = {} if self.epoch is None else {"after": {"epoch": self.epoch, "seq": self.last}}
        await ws.send(json.dumps({"type": "room.join", "requestId": "j", "payload": {"roomSlug": self.slug, **after}}))
        for frame in self.pending.values():
            await ws.send(json.dumps(frame))
        writer = asyncio.create_task(self._write(ws))
        try:
            async for text in ws:
                frame = json.loads(text)
                self._apply(frame["type"], frame["payload"])
                async with self.moved:
                    self.moved.notify_all()
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, ws: ClientConnection) -> None:
        """A frame of one's own about every tenth of a second, whatever has become of the others."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PACE_S), self.moved:
                    await self.moved.wait_for(lambda: False)
            again, self._again = self._again, []
            for frame in [self.pending[key] for key in again if key in self.pending]:
                await ws.send(json.dumps(frame))
            if self.sending and self.inside:
                await ws.send(json.dumps(self._new()))

    def _new(self) -> dict:
        self._made += 1
        key = f"{self.name}-{self._made}"
        kind = (
            self._dice.choices(["chat.send", "chat.edit", "chat.delete"], [8, 1, 1])[0] if self._mine else "chat.send"
        )
        payload = {} if kind == "chat.delete" else {"text": f"{key} {'x' * self._dice.randint(0, 300)}"}
        if kind != "chat.send":
            payload["messageId"] = self._dice.choice(self._mine)
        if kind == "chat.delete":
            self._mine.remove(payload["messageId"])
        self.pending[key] = {"type": kind, "requestId": key, "idempotencyKey": key, "payload": payload}
        return self.pending[key]

    def _apply(self, kind: str, payload: dict) -> None:
        if kind == "room.joined":
            self.inside = True
            if self.epoch is None:
                self.epoch, self.last = payload["epoch"], payload["lastSeq"]
        elif kind == "room.delta":
            for event in payload["events"]:
                self._event(event["type"], event["payload"])
            assert self.last == payload["toSeq"], (self.name, self.last, payload["toSeq"])
        elif kind == "room.reset":
            self.resets += 1
            self.last = payload["lastSeq"]
        elif kind in {"ack", "nack"}:
            if payload["requestId"] in self.pending:
                self._answered(kind, payload)
        elif "seq" in payload:
            self._event(kind, payload)

    def _answered(self, kind: str, payload: dict) -> None:
        key = payload["requestId"]
        if payload.get("retryable"):
            self._again.append(key)
            return
        frame = self.pending.pop(key)
        if kind == "ack":
            self.acked[key] = {**payload, "sent": frame}
            if frame["type"] == "chat.send":
                self._mine.append(payload["messageId"])
        else:
            # A change whose message was deleted by an earlier, also resent, frame of ours; never a message.
            assert frame["type"] in {"chat.edit", "chat.delete"}, payload
            assert payload["code"] == "MessageNotFound", payload

    def _event(self, kind: str, payload: dict) -> None:
        if payload["seq"] <= self.last:  # the first message of a repeated key, told once more
            assert payload["seq"] not in self.log or self.log[payload["seq"]] == (kind, _id(payload))
            return
        assert payload["seq"] == self.last + 1, (self.name, self.last, kind, payload["seq"])
        self.last = payload["seq"]
        self.log[self.last] = (kind, _id(payload))


def _id(payload: dict) -> str:
    return str(payload.get("id") or payload["userId"])


class Fleet:
    """Servers on one database, a relay in front of each, and people with sessions."""

    follower = Follower

    def __init__(self, env: Mapping[str, str], slots: int, seed: int) -> None:
        self.dice = random.Random(seed)
        self.settings = config.load(env)
        self.store: Store = open_store(self.settings.database_url, SystemClock())
        self._to_kill = 0
        self.slots = [Slot(env, self._fates()) for _ in range(slots)]
        self.wires = [Wire(slot, self.dice) for slot in self.slots]

    def kill(self, times: int) -> None:
        """Let this many of the servers that start from now on kill themselves, at each of the places in turn."""
        self._to_kill = times

    def _fates(self) -> Iterator[str]:
        while True:
            if self._to_kill:
                self._to_kill -= 1
                yield f"{STAGES[self._to_kill % len(STAGES)]}:{self.dice.randint(1, LIFE)}"
            else:
                yield "-"

    @property
    def cuts(self) -> int:
        """Connections cut so far."""
        return sum(wire.cuts for wire in self.wires)

    @property
    def kills(self) -> Counter[str]:
        """Servers killed so far, by place."""
        return sum((slot.kills for slot in self.slots), Counter())

    async def person(self, name: str, *slugs: str) -> str:
        """A user with a session, member of these rooms; answers the token."""
        now = SystemClock().now()
        identity = Identity("broker", "sso", name, f"{name}@example.org", name, "user", True)
        user = await self.store.upsert_user(identity, f"user-{name}", None, now)
        session = Session(f"session-{name}", user.id, 1, now, now, now + 3600 * 1_000_000)
        await self.store.create_session(session)
        for slug in slugs:
            entrance = await self.store.entrance(slug, user.id)
            assert entrance is not None
            role = MemberRole.MEMBER.value
            event = NewEvent(
                entrance.room.id, EventKind.JOINED, f"joined-{slug}-{name}", user.id, name, role, now, ref=user.id
            )
            await self.store.append([event])
        return Tokens(JWT_SECRET).encode(claims_for(session, Role.USER, now))

    async def private_room(self, slug: str) -> None:
        """A private room."""
        now = SystemClock().now()
        await self.store.ensure_room(Room(f"id-{slug}", slug, slug, False, now, f"epoch-{slug}", 0))

    async def events(self, slug: str) -> list:
        """The whole stored log of a room."""
        entrance = await self.store.entrance(slug, "")
        assert entrance is not None
        found: list = []
        while batch := await self.store.delta(entrance.room.id, len(found), 300):
            found += batch
        return found

    async def eventually(self, what: str, condition) -> None:
        """Wait for a condition that nothing announces, asking now and then."""
        deadline = time.monotonic() + 4 * DEADLINE_S
        asked = asyncio.Condition()
        while not condition():
            assert time.monotonic() < deadline, f"in vain: {what}"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PACE_S), asked:
                    await asked.wait_for(lambda: False)


@pytest.fixture(params=["sqlite", "postgres"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path):
    """Two processes on one SQLite file; three on PostgreSQL and NATS."""
    more = {"TICKETS_PER_MINUTE": "100000", "LOGINS_PER_MINUTE": "100000", "DRAIN_SPREAD_S": "0.1"}
    slots = 2
    if request.param == "postgres":
        postgres, nats = request.getfixturevalue("postgres_server"), request.getfixturevalue("nats_server")
        address = request.getfixturevalue("postgres_database")
        more |= {"DATABASE_URL": postgres.url(address.name), "NATS_URL": nats.url}
        slots = 3
    env = environment(tmp_path, "http://127.0.0.1:9", "http://127.0.0.1:9", **more)
    await asyncio.to_thread(migrate, config.load(env).database_url)
    made = Fleet(env, slots, seed=20261123)
    await made.store.open()
    try:
        async with contextlib.AsyncExitStack() as stack:
            for wire in made.wires:
                await stack.enter_async_context(wire.open())
            yield made
    finally:
        await made.store.close()


def check_log(stored, followers) -> None:
    """The stored log against what the clients of its room were told, and what they have."""
    assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
    keys = Counter((event.user_id, event.idempotency_key) for event in stored if event.idempotency_key)
    assert set(keys.values()) <= {1}, "a key was stored twice"
    kinds = {
        "message": "chat.message", "edit": "chat.edited", "delete": "chat.deleted", "joined": "member.joined",
        "left": "member.left",
    }  # fmt: skip
    for follower in followers:
        by_key = {event.idempotency_key: event for event in stored if event.user_id == f"user-{follower.name}"}
        for key, ack in follower.acked.items():
            event = by_key[key]
            assert (event.seq, event.ref or event.id) == (ack["seq"], ack["messageId"]), "acked, and not what is stored"
            if event.kind.value == "message":
                assert event.text in {"", ack["sent"]["payload"]["text"]}
        for seq, (kind, event_id) in follower.log.items():
            event = stored[seq - 1]
            about = event.ref if event.kind.value in {"edit", "delete"} else event.id
            shown = event.user_id if event.kind.value in {"joined", "left"} else about
            assert (kind, event_id) == (kinds[event.kind.value], shown)


@pytest.fixture
def checked_log():
    """Compares a stored log with what the clients of its room were told, and with what they have."""
    return check_log
