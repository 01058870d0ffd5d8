"""`ports.Store` on one SQLite file: each method names a call and where it runs; the SQL is in `log` and `identity`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from boltorezka.adapters.sqlite import identity as people
from boltorezka.adapters.sqlite import log
from boltorezka.adapters.sqlite.engine import Engine
from boltorezka.adapters.sqlite.schema import require_current
from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.errors import Unavailable
from boltorezka.ports import Clock, NewEvent, Presence
from boltorezka.rooms.model import Appended, Event, Page, Role, Room, RoomView, User


class SqliteStore:
    """The store of one process on one file. Several processes may have the same file open (`watch`, leases)."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._engine: Engine | None = None
        self._on_foreign: Callable[[], None] | None = None

    async def open(self) -> None:
        require_current(self._path)
        self._engine = Engine(self._path)
        if self._on_foreign is not None:
            self._engine.watch(self._on_foreign)

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    async def ping(self) -> None:
        await self._running.read(lambda db: db.execute("SELECT 1 FROM rooms LIMIT 1").fetchone())

    def watch(self, on_foreign_commit: Callable[[], None]) -> None:
        self._on_foreign = on_foreign_commit
        if self._engine is not None:
            self._engine.watch(on_foreign_commit)

    def set_peers_live(self, live: bool) -> None:
        self._running.set_watching(live)

    @property
    def _running(self) -> Engine:
        if self._engine is None:
            raise Unavailable("The store is closed.")
        return self._engine

    # rooms and their logs

    async def append(self, batch: Sequence[NewEvent]) -> list[Appended]:
        return await self._running.write(partial(log.append, batch=tuple(batch)))

    async def delta(self, room_id: str, after_seq: int, limit: int) -> list[Event]:
        return await self._running.read(partial(log.delta, room_id=room_id, after_seq=after_seq, limit=limit))

    async def page(self, room_id: str, limit: int, before_seq: int | None = None, before_id: str | None = None) -> Page:
        call = partial(log.page, room_id=room_id, limit=limit, before_seq=before_seq, before_id=before_id)
        return await self._running.read(call)

    async def room_by_slug(self, slug: str) -> Room | None:
        return await self._running.read(partial(log.room_by_slug, slug=slug))

    async def rooms_for(self, user_id: str) -> list[RoomView]:
        return await self._running.read(partial(log.rooms_for, user_id=user_id))

    async def ensure_room(self, room: Room) -> Room:
        return await self._running.write(partial(log.ensure_room, room=room))

    async def is_member(self, room_id: str, user_id: str) -> bool:
        return await self._running.read(partial(log.is_member, room_id=room_id, user_id=user_id))

    async def add_member(self, room_id: str, user_id: str, at: int) -> None:
        await self._running.write(partial(log.add_member, room_id=room_id, user_id=user_id, at=at))

    async def heads(self) -> dict[str, int]:
        return await self._running.read(log.heads)

    # users, sessions, tickets

    async def upsert_user(self, identity: Identity, user_id: str, role: Role | None, at: int) -> User:
        call = partial(people.upsert_user, identity=identity, user_id=user_id, role=role, at=at)
        return await self._running.write(call)

    async def user(self, user_id: str) -> User | None:
        return await self._running.read(partial(people.user, user_id=user_id))

    async def create_session(self, session: Session) -> None:
        await self._running.write(partial(people.create_session, session=session))

    async def session(self, session_id: str) -> tuple[Session, User] | None:
        return await self._running.read(partial(people.session, session_id=session_id))

    async def advance_session(self, session_id: str, from_generation: int, at: int) -> bool:
        call = partial(people.advance_session, session_id=session_id, from_generation=from_generation, at=at)
        return await self._running.write(call)

    async def revoke_session(self, session_id: str, at: int) -> None:
        await self._running.write(partial(people.revoke_session, session_id=session_id, at=at))

    async def revoked_since(self, at: int) -> list[str]:
        return await self._running.read(partial(people.revoked_since, at=at))

    async def put_ticket(self, ticket_hash: bytes, grant: TicketGrant) -> None:
        await self._running.write(partial(people.put_ticket, ticket_hash=ticket_hash, grant=grant))

    async def take_ticket(self, ticket_hash: bytes) -> TicketGrant | None:
        return await self._running.write(partial(people.take_ticket, ticket_hash=ticket_hash))

    # leases and presence

    async def renew_lease(self, instance: str, at: int, expires_at: int) -> list[str]:
        call = partial(people.renew_lease, instance=instance, at=at, expires_at=expires_at)
        return await self._running.write(call)

    async def release_lease(self, instance: str) -> None:
        await self._running.write(partial(people.release_lease, instance=instance))

    async def set_presence(self, instance: str, present: Sequence[Presence], absent: Sequence[Presence]) -> None:
        call = partial(people.set_presence, instance=instance, present=tuple(present), absent=tuple(absent))
        await self._running.write(call)

    async def presence(self) -> list[Presence]:
        return await self._running.read(people.presence)
