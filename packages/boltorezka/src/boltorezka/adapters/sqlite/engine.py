"""The threads behind the store: one writer that commits everything waiting at once, and a few readers.

Calls travel as functions of a connection. The writer takes all that wait, runs them in one transaction, commits, and
answers the event loop once for the whole group: so the cost of a durable commit is shared, and never blocks the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from boltorezka.errors import RateLimited, Unavailable

T = TypeVar("T")
Call = Callable[[sqlite3.Connection], Any]
_Job = tuple[Call, "asyncio.Future[Any]"]
_Answer = tuple["asyncio.Future[Any]", Any, BaseException | None]

# A second process holds the write lock for one commit, milliseconds on a good disk; five seconds is a broken one.
_BUSY_S = 5.0
# At a few thousand commits' worth of calls a second, this many waiting means seconds of delay: better to say no.
_MAX_WAITING_WRITES = 4096
# One transaction stays short, so that a second process gets its turn.
_MAX_GROUP = 512
# Two threads keep both a slow page and a quick look-up going; more would only fight for the interpreter.
_READERS = 2
_MAX_WAITING_READS = 1024
# Nobody waits longer than this for a read: it covers the busy timeout and a slow disk.
_READ_DEADLINE_S = 15.0
# How soon another process's commit is seen. One pragma costs microseconds; people notice above 100 ms.
_WATCH_S = 0.02
# What close() gives transactions that have begun.
_CLOSE_DEADLINE_S = 15.0


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection with our settings; it never creates the file. Raises sqlite3.Error."""
    mode = "rw" if writable else "ro"
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    if writable:
        db.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit that was answered survives a power cut. NORMAL would survive only a crash of the process.
        db.execute("PRAGMA synchronous = FULL")
    return db


class Engine:
    """Runs reads and writes of one file away from the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._inode = path.stat().st_ino
        self._db = connect(path, writable=True)
        self._broken = False  # the connection is beyond repair; the next group begins with a new one
        self._lock = threading.Condition()
        self._waiting: list[_Job] = []
        self._closing = False
        self._watching = False
        self._on_foreign: Callable[[], None] | None = None
        self._data_version = -1
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._reads = 0
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-reader")
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def write(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Run the call in the next transaction; return when it is durable. Raises RateLimited, Unavailable."""
        future: asyncio.Future[T] = self._loop.create_future()
        with self._lock:
            if self._closing:
                raise Unavailable("The store is closed.")
            if len(self._waiting) >= _MAX_WAITING_WRITES:
                raise RateLimited(
                    "The server is writing as fast as it can; try again in a second.", retry_after_ms=1000
                )
            self._waiting.append((call, future))
            self._lock.notify()
        return await future

    async def read(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Run the call on one consistent snapshot. Raises RateLimited, Unavailable, and what the call raises."""
        if self._closing:
            raise Unavailable("The store is closed.")
        if self._reads >= _MAX_WAITING_READS:
            raise RateLimited("The server is reading as fast as it can; try again in a second.", retry_after_ms=1000)
        self._reads += 1
        try:
            async with asyncio.timeout(_READ_DEADLINE_S):
                return await self._loop.run_in_executor(self._readers, self._read, call)
        except TimeoutError as error:
            raise Unavailable("The database does not answer. Check the disk.") from error
        finally:
            self._reads -= 1

    def watch(self, on_foreign: Callable[[], None] | None) -> None:
        """Call this on the loop after another process's commit, while watching is on; None: nothing any more."""
        self._on_foreign = on_foreign

    def set_watching(self, watching: bool) -> None:
        """Turn the watch on or off. Turning it on calls back once: something may have been committed before."""
        with self._lock:
            if watching and not self._watching:
                self._data_version = -1
            self._watching = watching
            self._lock.notify()

    @property
    def running(self) -> bool:
        """Whether writes are done and other processes' commits are seen."""
        return self._thread.is_alive() and not self._closing

    async def close(self) -> None:
        """Finish what was accepted, then close every connection. Raises Unavailable when the disk hangs."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        await self._loop.run_in_executor(None, self._thread.join, _CLOSE_DEADLINE_S)
        self._readers.shutdown(wait=False, cancel_futures=True)
        if self._thread.is_alive():
            raise Unavailable("The database did not finish its last write in time. Check the disk.")
        await self._loop.run_in_executor(None, self._readers.shutdown)
        for db in self._connections:
            db.close()

    def check_present(self) -> None:
        """Raise Unavailable unless the file we opened is still the one at its path: SQLite itself would not notice."""
        try:
            same = self._path.stat().st_ino == self._inode
        except OSError:
            same = False
        if not same:
            raise Unavailable(f"The database {self._path} is gone or was replaced. Put it back, or restart the server.")

    # the reader threads

    def _read(self, call: Callable[[sqlite3.Connection], T]) -> T:
        self.check_present()
        with _translated(self._path):
            db: sqlite3.Connection | None = getattr(self._local, "db", None)
            if db is None:
                db = self._local.db = connect(self._path, writable=False)
                self._connections.append(db)
            db.execute("BEGIN")
            try:
                return call(db)
            finally:
                db.execute("ROLLBACK")

    # the writer thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting and not self._closing:
                    self._lock.wait(_WATCH_S if self._watching else None)
                group, self._waiting = self._waiting[:_MAX_GROUP], self._waiting[_MAX_GROUP:]
                done = self._closing and not group
            if done:
                break
            if group:
                answers = self._commit(group)
                self._loop.call_soon_threadsafe(_answer, answers)
            if self._watching:
                self._look()
        self._db.close()

    def _commit(self, group: list[_Job]) -> list[_Answer]:
        """All calls in one transaction. A call that is refused takes its own changes back and no one else's."""
        answers: list[_Answer] = []
        try:
            self.check_present()
            with _translated(self._path):
                if self._broken:
                    self._db, self._broken = connect(self._path, writable=True), False
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    for call, future in group:
                        answers.append((future, *self._attempt(call)))
                    self._db.execute("COMMIT")
                except BaseException:
                    self._take_back()
                    raise
        except BaseException as error:  # noqa: BLE001 - every waiting caller gets it; the thread must live on
            return [(future, None, error) for _, future in group]
        return answers

    def _attempt(self, call: Call) -> tuple[Any, BaseException | None]:
        self._db.execute("SAVEPOINT one")
        try:
            result = call(self._db)
        except Exception as error:
            # A sick disk or file ends the whole transaction; a refusal or a mistake in one call is its own affair.
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise
            self._db.execute("ROLLBACK TO one")
            self._db.execute("RELEASE one")
            return None, error
        self._db.execute("RELEASE one")
        return result, None

    def _take_back(self) -> None:
        """Roll back; a connection that cannot even do that is given up, which rolls back too."""
        if not self._db.in_transaction:
            return
        try:
            self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self._broken = True
            self._db.close()

    def _look(self) -> None:
        """Has somebody else committed? The pragma's number moves only for commits of other connections."""
        try:
            self.check_present()
            version = int(self._db.execute("PRAGMA data_version").fetchone()[0])
        except (sqlite3.Error, Unavailable):
            return  # the next write or ping reports it to somebody who can act
        if version != self._data_version:
            self._data_version = version
            if self._on_foreign is not None:
                self._loop.call_soon_threadsafe(self._on_foreign)


def _answer(answers: list[_Answer]) -> None:
    for future, result, error in answers:
        if future.done():
            continue  # the caller was cancelled; what was stored stays stored
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors in our words; constraint violations are bugs of ours and stay what they are."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise Unavailable(f"The database {path.name} refused ({name}). Check disk space and permissions.") from error
