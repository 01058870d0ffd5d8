"""Server processes that are killed and started again, each behind a relay that cuts connections anywhere."""

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

from boltorezka import config
from boltorezka.adapters.database import open_store
from boltorezka.adapters.system import SystemClock
from boltorezka.adapters.tokens import Tokens
from boltorezka.auth.model import Identity, Session
from boltorezka.auth.sessions import claims_for
from boltorezka.ports import NewEvent, Store
from boltorezka.rooms.model import EventKind, MemberRole, Role, Room
from boltorezka.testing import JWT_SECRET

STAGES = ("insert", "commit", "publish", "ack")
# Nothing takes a tenth of this, except on a machine that is badly overloaded.
DEADLINE_S = 60.0
# Between two looks at something that nothing announces.
LOOK_S = 0.1
# How many messages of a process before it kills itself, at random up to this many.
LIFE = 40
# A connection's life in bytes, of both directions: from the middle of the handshake to a dozen of messages.
BYTES = (100, 8_000)


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


class Fleet:
    """Servers on one database, a relay in front of each, and people with sessions."""

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
                async with asyncio.timeout(LOOK_S), asked:
                    await asked.wait_for(lambda: False)
