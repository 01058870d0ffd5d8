"""`ports.Bus` through the database file itself: a commit of another process is the hint.

While another process is live the engine's writer thread looks at `PRAGMA data_version`. What commits cannot tell, the
ephemeral frames, travels as rows of `relays`, which every process reads after a foreign commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial

import msgspec

from boltorezka.adapters.sqlite.engine import Engine
from boltorezka.adapters.sqlite.store import SqliteStore
from boltorezka.errors import Refusal
from boltorezka.rooms import hints
from boltorezka.rooms.hints import AnyHint, Look, Relay

# A rollout's minute of signals and typing fits many times; beyond it the disk has stopped, and frames are droppable.
_MAX_WAITING = 1024
# Rows of one read; more are read at once in the next.
_READ_ROWS = 512
# Others read within some 20 ms. Who comes later has no use for a frame that is this old.
_KEEP_US = 10 * 1_000_000
# What stop() gives frames that are waiting.
_STOP_DEADLINE_S = 2.0


class SqliteBus:
    """The bus of the processes that have one file open. Start it on an open store, stop it before the store closes."""

    def __init__(self, store: SqliteStore, instance: str) -> None:
        self._store = store
        self._instance = instance
        self._engine: Engine | None = None
        self._on_hint: Callable[[AnyHint], None] = lambda _hint: None
        self._peers_live = False
        self._waiting: list[bytes] = []
        self._publishing: asyncio.Task[None] | None = None
        self._foreign = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._position = 0

    async def start(self, on_hint: Callable[[AnyHint], None]) -> None:
        engine = self._engine = self._store.engine
        self._on_hint = on_hint
        self._position = await engine.read(_last_relay)
        self._reading = asyncio.create_task(self._read_relays(engine), name="sqlite-relays")
        engine.watch(self._hear)
        engine.set_watching(self._peers_live)

    async def stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.watch(None)
            engine.set_watching(False)
        # From here on also for a second call, after a first that was cancelled.
        if self._publishing is not None:
            await asyncio.wait([self._publishing], timeout=_STOP_DEADLINE_S)
        tasks = [task for task in (self._publishing, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()  # neither ends by itself with an error, but for a mistake of ours

    def publish(self, hint: AnyHint) -> None:
        # Every other hint follows a commit, and the commit itself is heard.
        if not isinstance(hint, Relay) or not self._peers_live or self._engine is None:
            return
        if len(self._waiting) >= _MAX_WAITING:
            return
        self._waiting.append(hints.encode(hint))
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._write_relays(self._engine), name="sqlite-publish")

    def set_peers_live(self, live: bool) -> None:
        self._peers_live = live
        if self._engine is not None:
            self._engine.set_watching(live)

    @property
    def healthy(self) -> bool:
        reading = self._reading is not None and not self._reading.done()
        return reading and self._engine is not None and self._engine.running

    def _hear(self) -> None:
        if self._engine is None:
            return  # stopped while this call was on its way from the writer's thread
        self._foreign.set()
        self._on_hint(Look())

    async def _write_relays(self, engine: Engine) -> None:
        while self._waiting:
            bodies, self._waiting = self._waiting, []
            try:
                await engine.write(partial(_put, instance=self._instance, at=self._store.clock.now(), bodies=bodies))
            except Refusal:
                # Busy, or the disk is full: these frames are lost, and whoever stores something is told.
                return

    async def _read_relays(self, engine: Engine) -> None:
        while True:
            await self._foreign.wait()
            self._foreign.clear()
            try:
                rows = await engine.read(partial(_relays_after, position=self._position))
            except Refusal:
                continue  # busy, or the file is away: the position stands, and the next commit's read takes these along
            if len(rows) == _READ_ROWS:
                self._foreign.set()
            self._deliver(rows)

    def _deliver(self, rows: list[tuple[int, str, int, bytes]]) -> None:
        too_old = self._store.clock.now() - _KEEP_US
        for position, instance, at, body in rows:
            self._position = position
            if instance != self._instance and at > too_old:
                with contextlib.suppress(msgspec.DecodeError):  # a newer server's hint: not for us
                    self._on_hint(hints.decode(body))


def _last_relay(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'relays'").fetchone()
    return 0 if row is None else int(row[0])


def _relays_after(db: sqlite3.Connection, position: int) -> list[tuple[int, str, int, bytes]]:
    return db.execute(
        "SELECT id, instance, at, body FROM relays WHERE id > ? ORDER BY id LIMIT ?", (position, _READ_ROWS)
    ).fetchall()


def _put(db: sqlite3.Connection, instance: str, at: int, bodies: list[bytes]) -> None:
    # Rows are in the order of time but for the differences of clocks, so the old ones are found from the beginning.
    db.execute(
        "DELETE FROM relays WHERE id < coalesce((SELECT min(id) FROM relays WHERE at > ?),"
        " (SELECT max(id) + 1 FROM relays))",
        (at - _KEEP_US,),
    )
    db.executemany(
        "INSERT INTO relays (instance, at, body) VALUES (?, ?, ?)", [(instance, at, body) for body in bodies]
    )
