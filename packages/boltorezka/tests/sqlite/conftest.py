"""A migrated SQLite file, and stores on it as two processes have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from boltorezka.adapters.sqlite import SqliteStore, migrate
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import EventKind, MemberRole, Room

NOW = 1_800_000_000_000_000


class Clock:
    """A clock that moves when told to (ports.Clock)."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return self.time / 1_000_000


@pytest.fixture
def clock() -> Clock:
    """The one clock of all stores of a test."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A migrated database; the odd name must not matter."""
    path = tmp_path / "a b%?#.db"
    migrate(path)
    return path


@pytest.fixture
async def open_store(path: Path, clock: Clock) -> AsyncIterator[Callable]:
    """Opens one more store on the file; all are closed in the end."""
    async with AsyncExitStack() as stack:

        async def open_one() -> SqliteStore:
            store = SqliteStore(path, clock)
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture
async def store(open_store) -> SqliteStore:
    """An open store."""
    return await open_store()


@pytest.fixture
async def other(open_store) -> SqliteStore:
    """A second store on the same file, as another process has it."""
    return await open_store()


@pytest.fixture
async def general(store: SqliteStore) -> Room:
    """The room that is there from the start, with u1 as its member."""
    found = await store.entrance("general", "u1")
    assert found is not None
    joined = NewEvent(found.room.id, EventKind.JOINED, "j1", "u1", "Ann", MemberRole.MEMBER.value, NOW, ref="u1")
    await store.append([joined])
    return found.room


@pytest.fixture
def message() -> Callable[..., NewEvent]:
    """Makes the numbered messages of u1."""

    def make(room: Room, number: int, text: str = "hi") -> NewEvent:
        return NewEvent(room.id, EventKind.MESSAGE, f"m{number}", "u1", "Ann", text, NOW + number)

    return make
