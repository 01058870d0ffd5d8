"""The contract of `ports.Store`: every adapter runs this one suite.

A provider is an async context manager that makes a fresh, migrated database without rooms of the tests and yields a
function which makes one more (unopened) store on it, as another process would; it may ask the request for fixtures. To
add an adapter, add its provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from boltorezka.adapters.postgres import PostgresStore
from boltorezka.adapters.sqlite import SqliteStore, migrate
from boltorezka.auth.model import Identity
from boltorezka.ports import NewEvent, Store
from boltorezka.rooms.model import Appended, Event, EventKind, MemberRole, Role, Room, Stored, User

NOW = 1_800_000_000_000_000
SECOND = 1_000_000


class Still:
    """A clock that stands (ports.Clock): what the stores do is a matter of the times they are given."""

    def now(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@asynccontextmanager
async def sqlite_stores(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Store]]:
    """Stores on one SQLite file; its odd name must not matter."""
    path = request.getfixturevalue("tmp_path") / "a b%?#.db"
    migrate(path)
    yield lambda: SqliteStore(path, Still())


@asynccontextmanager
async def postgres_stores(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Store]]:
    """Stores on one PostgreSQL database."""
    address = request.getfixturevalue("postgres_database")
    yield lambda: PostgresStore(address, Still())


Provider = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Callable[[], Store]]]
PROVIDERS: dict[str, Provider] = {
    "sqlite": sqlite_stores,
    "postgres": postgres_stores,
}


class World:
    """Two open stores on one database, and short words for what the tests say to them."""

    NOW = NOW
    SECOND = SECOND

    def __init__(self, make: Callable[[], Store], store: Store, second: Store) -> None:
        self.make = make
        self.store = store
        self.second = second
        self._count = 0

    def fresh(self, prefix: str) -> str:
        """A name nobody has used in this database."""
        self._count += 1
        return f"{prefix}{self._count}"

    async def room(self, *members: str, public: bool = True, created_at: int = NOW) -> Room:
        """A new room with these members; its log begins with their joining."""
        name = self.fresh("room")
        room = await self.store.ensure_room(Room(f"id-{name}", name, name.title(), public, created_at, f"e-{name}", 0))
        await self.append(*(self.joined(room, member) for member in members))
        return room

    async def user(self, user_id: str, role: Role | None = None) -> User:
        """A user with this id."""
        identity = Identity("broker", "sso", user_id, f"{user_id}@x", user_id.title(), "user", True)
        return await self.store.upsert_user(identity, user_id, role, NOW)

    async def append(self, *batch: NewEvent) -> list[Appended]:
        """Store a batch through the first store."""
        return await self.store.append(batch)

    async def log(self, room: Room) -> list[Event]:
        """The whole log of a room."""
        return await self.store.delta(room.id, 0, 10_000)

    def message(self, room: Room, user: str, text: str = "hi", *, id: str | None = None, key: str | None = None,  # noqa: A002
                at: int = NOW) -> NewEvent:  # fmt: skip
        """A message to be stored."""
        return self._new(EventKind.MESSAGE, room, user, text, id, key=key, at=at)

    def edit(self, room: Room, user: str, ref: str, text: str, *, key: str | None = None, at: int = NOW) -> NewEvent:
        """An edit to be stored."""
        return self._new(EventKind.EDIT, room, user, text, ref=ref, key=key, at=at)

    def delete(self, room: Room, user: str, ref: str, *, key: str | None = None, at: int = NOW) -> NewEvent:
        """A delete to be stored."""
        return self._new(EventKind.DELETE, room, user, "", ref=ref, key=key, at=at)

    def joined(self, room: Room, user: str, role: MemberRole = MemberRole.MEMBER, *, at: int = NOW) -> NewEvent:
        """A user joins."""
        return self._new(EventKind.JOINED, room, user, role.value, ref=user, at=at)

    def left(self, room: Room, user: str) -> NewEvent:
        """A user leaves."""
        return self._new(EventKind.LEFT, room, user, "", ref=user)

    def _new(self, kind: EventKind, room: Room, user: str, text: str, new_id: str | None = None, *,
             ref: str | None = None, key: str | None = None, at: int = NOW) -> NewEvent:  # fmt: skip
        new_id = new_id or self.fresh("event")
        return NewEvent(room.id, kind, new_id, user, user.title(), text, at, f"r-{new_id}", key, ref)

    @staticmethod
    def outcomes(answers: Sequence[Appended]) -> list[str]:
        """What became of each, in one word: its seq, `again SEQ` for a duplicate, or the name of the answer."""
        return [
            (f"again {each.event.seq}" if each.duplicate else str(each.event.seq))
            if isinstance(each, Stored)
            else type(each).__name__
            for each in answers
        ]


@pytest.fixture(params=PROVIDERS)
async def world(request: pytest.FixtureRequest):
    """A fresh database of each kind with two open stores, as two processes have them."""
    async with AsyncExitStack() as stack:
        make = await stack.enter_async_context(PROVIDERS[request.param](request))
        stores = [make(), make()]
        for store in stores:
            await store.open()
            stack.push_async_callback(store.close)
        yield World(make, *stores)
