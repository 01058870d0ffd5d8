"""`ports.Store` on PostgreSQL: each method names a call and where it runs; the SQL is in the modules beside.

When the connection is lost while a transaction commits, nobody can know whether it did: the call ends with Unavailable.
An append with an idempotency key can then simply be sent again and is stored once; every other call can be repeated
too, because it finds what the first one did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from boltorezka.adapters.addresses import PostgresAddress
from boltorezka.adapters.postgres import identity as people
from boltorezka.adapters.postgres import instances, log
from boltorezka.adapters.postgres.append import Append
from boltorezka.adapters.postgres.connect import Connection, starting
from boltorezka.adapters.postgres.engine import Engine
from boltorezka.adapters.postgres.schema import judge, read_head
from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.errors import MessageNotFound, Unavailable
from boltorezka.ports import Clock, NewEvent, Presence
from boltorezka.rooms.model import (
    Appended,
    DaySummary,
    Entrance,
    Event,
    Member,
    Page,
    Role,
    Room,
    RoomView,
    User,
)
from boltorezka.voice.model import Seat, Taken


class PostgresStore:
    """The store of one process on one database, which any number of processes may share."""

    def __init__(self, address: PostgresAddress, clock: Clock) -> None:
        self.clock = clock
        self._address = address
        self._engine: Engine | None = None
        self._namespace = ""

    async def open(self) -> None:
        with starting(self._address):
            engine = await Engine.start(self._address)
        try:
            with starting(self._address):
                judge(await engine.read(read_head), self._address)
                self._namespace = await engine.read(_namespace)
        except BaseException:
            await asyncio.shield(engine.close())
            raise
        self._engine = engine

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    async def ping(self) -> None:
        await self.engine.ping()

    @property
    def engine(self) -> Engine:
        """The running engine. Raises Unavailable before open() and after close()."""
        if self._engine is None:
            raise Unavailable("The store is closed.")
        return self._engine

    @property
    def namespace(self) -> str:
        """A name for this database and no other, the same for everybody who connects to it, by whatever address."""
        if not self._namespace:
            raise Unavailable("The store was never open.")
        return self._namespace

    # rooms and their logs

    async def append(self, batch: Sequence[NewEvent]) -> list[Appended]:
        work = Append(tuple(batch))
        return await self.engine.write(work.in_transaction, work.alone)

    async def delta(self, room_id: str, after_seq: int, limit: int) -> list[Event]:
        return await self.engine.read(partial(log.delta, room_id=room_id, after_seq=after_seq, limit=limit))

    async def page(self, room_id: str, limit: int, before_seq: int | None = None, before_id: str | None = None) -> Page:
        if before_id is not None and "\0" in before_id:
            raise MessageNotFound("There is no such message in this room.")
        call = partial(log.page, room_id=room_id, limit=limit, before_seq=before_seq, before_id=before_id)
        return await self.engine.read(call)

    async def entrance(self, slug: str, user_id: str) -> Entrance | None:
        if "\0" in slug:
            return None  # no text of PostgreSQL's holds it
        return await self.engine.read(partial(log.entrance, slug=slug, user_id=user_id))

    async def rooms_for(self, user_id: str) -> list[RoomView]:
        return await self.engine.read(partial(log.rooms_for, user_id=user_id))

    async def create_room(self, room: Room, owner_id: str, event_id: str) -> Room:
        return await self.engine.write(partial(log.create_room, room=room, owner_id=owner_id, event_id=event_id))

    async def ensure_room(self, room: Room) -> Room:
        return await self.engine.write(partial(log.ensure_room, room=room))

    async def members(self, room_id: str) -> list[Member]:
        return await self.engine.read(partial(log.members, room_id=room_id))

    async def set_read(self, room_id: str, user_id: str, seq: int) -> int:
        return await self.engine.write(partial(log.set_read, room_id=room_id, user_id=user_id, seq=seq))

    async def new_epochs(self, slugs: Sequence[str] | None = None) -> int:
        return await self.engine.write(partial(log.new_epochs, slugs=slugs))

    async def heads(self) -> dict[str, tuple[str, int]]:
        return await self.engine.read(log.heads)

    async def day_summary(self, since: int) -> DaySummary:
        return await self.engine.read(partial(log.day_summary, since=since))

    # users, sessions, tickets

    async def upsert_user(self, identity: Identity, user_id: str, role: Role | None, at: int) -> User:
        call = partial(people.upsert_user, identity=identity, user_id=user_id, role=role, at=at)
        return await self.engine.write(call)

    async def user(self, user_id: str) -> User | None:
        return await self.engine.read(partial(people.user, user_id=user_id))

    async def users(self, limit: int, after_id: str | None = None) -> list[User]:
        return await self.engine.read(partial(people.users, limit=limit, after_id=after_id))

    async def set_role(self, user_id: str, role: Role, at: int) -> User:
        return await self.engine.write(partial(people.set_role, user_id=user_id, role=role, at=at))

    async def set_banned(self, user_id: str, banned: bool, at: int) -> User:
        return await self.engine.write(partial(people.set_banned, user_id=user_id, banned=banned, at=at))

    async def changed_users(self, at: int) -> list[User]:
        return await self.engine.read(partial(people.changed_users, at=at))

    async def create_session(self, session: Session) -> None:
        await self.engine.write(partial(people.create_session, session=session))

    async def session(self, session_id: str) -> tuple[Session, User] | None:
        return await self.engine.read(partial(people.session, session_id=session_id))

    async def advance_session(self, session_id: str, from_generation: int, at: int) -> bool:
        call = partial(people.advance_session, session_id=session_id, from_generation=from_generation, at=at)
        return await self.engine.write(call)

    async def revoke_session(self, session_id: str, at: int) -> None:
        await self.engine.write(partial(people.revoke_session, session_id=session_id, at=at))

    async def revoked_since(self, at: int) -> list[str]:
        return await self.engine.read(partial(people.revoked_since, at=at))

    async def put_ticket(self, ticket_hash: bytes, grant: TicketGrant) -> None:
        await self.engine.write(partial(people.put_ticket, ticket_hash=ticket_hash, grant=grant))

    async def take_ticket(self, ticket_hash: bytes) -> TicketGrant | None:
        return await self.engine.write(partial(people.take_ticket, ticket_hash=ticket_hash))

    # leases and presence

    async def renew_lease(self, instance: str, at: int, expires_at: int) -> list[str]:
        call = partial(instances.renew_lease, instance=instance, at=at, expires_at=expires_at)
        return await self.engine.write(call)

    async def release_lease(self, instance: str, at: int) -> None:
        await self.engine.write(partial(instances.release_lease, instance=instance, at=at))

    async def set_presence(self, instance: str, present: Sequence[Presence], absent: Sequence[Presence]) -> None:
        call = partial(instances.set_presence, instance=instance, present=tuple(present), absent=tuple(absent))
        await self.engine.write(call)

    async def presence(self) -> list[Presence]:
        return await self.engine.read(instances.presence)

    # voice seats

    async def take_seat(self, seat: Seat, limit: int, *, move: bool) -> Taken:
        return await self.engine.write(partial(instances.take_seat, seat=seat, limit=limit, move=move))

    async def hold_seat(self, seat_id: str, instance: str, until: int) -> None:
        await self.engine.write(partial(instances.hold_seat, seat_id=seat_id, instance=instance, until=until))

    async def set_seat(
        self, seat_id: str, *, muted: bool | None = None, audio_muted: bool | None = None, moderated: bool | None = None
    ) -> None:
        call = partial(instances.set_seat, seat_id=seat_id, muted=muted, audio_muted=audio_muted, moderated=moderated)
        await self.engine.write(call)

    async def drop_seat(self, seat_id: str) -> bool:
        return await self.engine.write(partial(instances.drop_seat, seat_id=seat_id))

    async def seats(self, at: int) -> list[Seat]:
        return await self.engine.read(partial(instances.seats, at=at))


async def _namespace(db: Connection) -> str:
    # The cluster's own number and the database's in it; a dump restored elsewhere has others.
    row = await db.fetchrow(
        "SELECT system_identifier, d.oid FROM pg_control_system(), pg_database d WHERE d.datname = current_database()"
    )
    return f"{row[0]:x}-{row[1]:x}"
