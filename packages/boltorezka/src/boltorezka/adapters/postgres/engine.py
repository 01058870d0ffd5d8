"""The connections behind the store: a bounded pool, transactions with a bounded number of attempts, deadlines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import asyncpg

from boltorezka.adapters.addresses import PostgresAddress
from boltorezka.adapters.postgres.connect import Connection, connect_arguments, serving
from boltorezka.errors import RateLimited, Unavailable

T = TypeVar("T")
Call = Callable[[Connection], Awaitable[T]]

# Two stay open, so that neither an append nor a look-up after a quiet time waits for a handshake.
_MIN_CONNECTIONS = 2
# A process writes batch by batch and reads in milliseconds. PostgreSQL allows 100 by default: room for eight processes.
_MAX_CONNECTIONS = 12
# The rest are always there for writes: slow pages of history must not hold up an append.
_MAX_READING = 8
# This many waiting means seconds of delay: better to say no.
_MAX_WAITING = 1024
# One call from the wait for a connection to the commit: the statement's own deadline and a retry fit in.
_DEADLINE_S = 15.0
# Health is asked every second; a database that takes longer than this is not healthy.
_PING_S = 3.0
# Another process got there first: each attempt sees what the others have committed, so few are needed.
_ATTEMPTS = 6
# What close() gives transactions that have begun.
_CLOSE_S = 15.0

# A concurrent transaction won. A unique key was taken between our look and our insert: the next look finds it.
_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.UniqueViolationError)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


class _NothingDoneError(Exception):
    """The connection died before a commit was asked for: while it was idle, most often."""


class Engine:
    """Runs reads and writes on the pool."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._reading = asyncio.Semaphore(_MAX_READING)
        self._waiting = 0
        self._writes: set[asyncio.Task[Any]] = set()
        self._closing = False

    @classmethod
    async def start(cls, address: PostgresAddress) -> Engine:
        """Connect. Raises what asyncpg raises: `starting` has the words for it."""
        pool = asyncpg.create_pool(
            min_size=_MIN_CONNECTIONS,
            max_size=_MAX_CONNECTIONS,
            reset=_keep,
            **connect_arguments(address),
        )
        await pool
        return cls(pool)

    async def read(self, call: Call[T], deadline_s: float = _DEADLINE_S) -> T:
        """Run the call, again when its connection had died. Raises RateLimited, Unavailable."""
        self._admit(self._waiting)
        self._waiting += 1
        try:
            with serving():
                async with asyncio.timeout(deadline_s), self._reading:
                    return await self._retried(lambda: self._read(call))
        finally:
            self._waiting -= 1

    async def write(self, call: Call[T], alone: Call[T | None] | None = None) -> T:
        """Run the call in a transaction and commit; what it raises takes everything back.

        `alone` is asked first: one statement outside of a transaction that does the whole work, or nothing and answers
        None. Cancelling the caller does not cancel the transaction. Raises RateLimited, Unavailable.
        """
        self._admit(len(self._writes))
        task = asyncio.create_task(self._write(call, alone))
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    async def ping(self) -> None:
        """Raise Unavailable unless the tables can be read now."""
        await self.read(lambda db: db.fetchval("SELECT 1 FROM rooms LIMIT 1"), _PING_S)

    async def close(self) -> None:
        """Finish what has begun, then close every connection; after the deadline they are cut."""
        self._closing = True
        try:
            async with asyncio.timeout(_CLOSE_S):
                if self._writes:
                    await asyncio.wait(self._writes)
                await self._pool.close()
        except _LOST:
            self._pool.terminate()

    def _admit(self, waiting: int) -> None:
        if self._closing:
            raise Unavailable("The store is closed.")
        if waiting >= _MAX_WAITING:
            raise RateLimited("The database is as busy as it can be; try again in a second.", retry_after_ms=1000)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            # Its caller may have been cancelled; then nobody else asks for it.
            task.exception()

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Attempts that leave nothing behind when they fail in one of the ways that pass."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await attempt()
            except (_NothingDoneError, *_AGAIN):
                continue
        try:
            return await attempt()
        except _NothingDoneError as error:
            raise Unavailable("The database closes our connections. Try again in a moment.") from error

    async def _read(self, call: Call[T]) -> T:
        async with self._pool.acquire() as db:
            with _nothing_done():
                return await call(db)

    async def _write(self, call: Call[T], alone: Call[T | None] | None) -> T:
        with serving():
            async with asyncio.timeout(_DEADLINE_S):
                return await self._retried(lambda: self._transaction(call, alone))

    async def _transaction(self, call: Call[T], alone: Call[T | None] | None) -> T:
        async with self._pool.acquire() as db:
            # It commits at once: nobody knows what a connection lost here means, so it is not tried again.
            if alone is not None and (done := await alone(db)) is not None:
                return done
            transaction = db.transaction()
            with _nothing_done():
                await transaction.start()
                try:
                    result = await call(db)
                except BaseException:
                    if not db.is_closed():
                        await transaction.rollback()
                    raise
            # From here on nobody knows what a lost connection means: it is not tried again.
            await transaction.commit()
            return result


@contextlib.contextmanager
def _nothing_done() -> Iterator[None]:
    """What is lost before a commit was asked for is lost without a trace."""
    try:
        yield
    except ValueError:
        raise  # the driver's word for an argument of a wrong type: a bug, although it is an InterfaceError too
    except _LOST as error:
        raise _NothingDoneError from error


async def _keep(_: Connection) -> None:
    """Called when a connection goes back: our calls leave nothing in a session, so there is nothing to reset."""
