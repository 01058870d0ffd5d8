"""The hot path: a batch of events judged and stored in one transaction with a fixed number of statements.

Most batches never get to the judging: `plain` stores new messages of members with one statement.

The rooms of any other batch are locked first, always in the order of their ids, so that two batches never wait for each
other in a circle; whoever holds a room's lock is the only one who gives out its seqs, changes its messages and members.
The facts are read after that, in one query of each kind, and so are as new as the lock. The events are then judged one
after the other against these facts as the batch itself changes them, and what came of it is written in one go.

Only idempotency keys are shared between rooms. Two batches with one key in two rooms meet in the unique index: the
second waits there for the first, fails, and its whole batch is run again by the engine, which then finds the key. Rows
go in ordered by key, so two batches that share several keys meet at the first of them and do not deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from boltorezka.adapters.postgres.connect import Connection
from boltorezka.adapters.postgres.plain import is_plain, store_plain
from boltorezka.adapters.postgres.rows import EVENT, event_of
from boltorezka.errors import IdempotencyConflict, Refusal, RoomNotFound, UserNotFound, ValidationError
from boltorezka.ports import NewEvent
from boltorezka.rooms import access
from boltorezka.rooms.model import Appended, Event, EventKind, MemberRole, Stored, Unchanged

_CHANGES = frozenset({EventKind.EDIT, EventKind.DELETE})

_LOCK = "SELECT id, last_seq FROM rooms WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE"
_MEMBERSHIPS = (
    "SELECT a.room_id, a.user_id, coalesce(u.banned, false), m.user_id IS NOT NULL"
    " FROM unnest($1::text[], $2::text[]) AS a (room_id, user_id) LEFT JOIN users u ON u.id = a.user_id"
    " LEFT JOIN members m ON m.room_id = a.room_id AND m.user_id = a.user_id"
)
_KEYS = (
    f"SELECT {EVENT}, e.deleted_at FROM unnest($1::text[], $2::text[]) AS a (user_id, key)"
    " JOIN events e ON e.user_id = a.user_id AND e.idempotency_key = a.key LEFT JOIN users u ON u.id = e.user_id"
)
_MESSAGES = (
    "SELECT id, room_id, user_id, created_at, deleted_at FROM events WHERE id = ANY($1::text[]) AND kind = 'message'"
)
# One statement, because each is a round trip while the rooms are locked.
_STORE = (
    "WITH stored AS (INSERT INTO events"
    " (room_id, seq, kind, id, ref, user_id, text, request_id, idempotency_key, created_at)"
    " SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],"
    " $8::text[], $9::text[], $10::bigint[]))"
    " UPDATE rooms r SET last_seq = head.seq FROM unnest($11::text[], $12::bigint[]) AS head (room_id, seq)"
    " WHERE r.id = head.room_id"
)
_EDIT = (
    "UPDATE events e SET shown = a.shown, edited_at = a.at"
    " FROM unnest($1::text[], $2::text[], $3::bigint[]) AS a (id, shown, at) WHERE e.id = a.id"
)
# A message and its edits apart: together they would need a scan, apart each has its index.
_ERASE = tuple(
    "UPDATE events e SET text = '', shown = NULL, edited_at = NULL, deleted_at = a.at"
    f" FROM unnest($1::text[], $2::bigint[]) AS a (id, at) WHERE {which}"
    for which in ("e.id = a.id", "e.ref = a.id AND e.kind = 'edit'")
)
_LEAVE = tuple(
    f"DELETE FROM {table} t USING unnest($1::text[], $2::text[]) AS a (room_id, user_id)"
    " WHERE t.room_id = a.room_id AND t.user_id = a.user_id"
    for table in ("members", "seats")
)
_JOIN = (
    "INSERT INTO members (room_id, user_id, role, joined_at, read_seq)"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])"
    " ON CONFLICT (room_id, user_id) DO UPDATE"
    " SET role = excluded.role, joined_at = excluded.joined_at, read_seq = excluded.read_seq"
)


class _Membership(msgspec.Struct):
    """What the batch has to know of one user in one room."""

    banned: bool
    is_member: bool
    role: str = ""
    joined_at: int = 0
    read_seq: int = 0
    dirty: bool = False


class _Message(msgspec.Struct):
    """A message that the batch stores, edits or deletes."""

    room_id: str
    user_id: str
    created_at: int
    deleted_at: int | None = None
    shown: str | None = None
    edited_at: int | None = None


class Append:
    """Store a batch in order; see `ports.LogStore.append`. For `Engine.write`, which calls both methods in turn."""

    def __init__(self, batch: Sequence[NewEvent]) -> None:
        self._batch = batch
        self._is_plain = is_plain(batch) and not any(map(_has_nul, batch))
        self._was_busy = False

    async def alone(self, db: Connection) -> list[Appended] | None:
        """Store it with one statement, which is a transaction of its own; None when nothing could be stored so."""
        if not self._is_plain:
            return None
        answers, self._was_busy = await store_plain(db, self._batch)
        return answers

    async def in_transaction(self, db: Connection) -> list[Appended]:
        """Store it in the transaction that has begun."""
        batch = _Batch(db, self._batch)
        await batch.lock()
        # Now no room can be busy; only a ban or a key can have come in between.
        answers = (await store_plain(db, self._batch))[0] if self._was_busy else None
        return answers if answers is not None else await batch.run()


class _Batch:
    """A batch and the facts about it, as they are after the events judged so far."""

    def __init__(self, db: Connection, batch: Sequence[NewEvent]) -> None:
        self._db = db
        self._batch = batch
        self._heads: dict[str, int] = {}
        self._members: dict[tuple[str, str], _Membership] = {}
        # The first event of a key, and whether its text was erased since.
        self._keys: dict[tuple[str, str], tuple[Event, bool]] = {}
        self._messages: dict[str, _Message] = {}
        self._stored: list[Event] = []

    async def lock(self) -> None:
        """Lock the rooms; what is looked up from now on stays true until the commit."""
        locked = await self._db.fetch(_LOCK, list({new.room_id for new in self._batch}))
        self._heads = {row[0]: row[1] for row in locked}

    async def run(self) -> list[Appended]:
        """Look up, judge, write."""
        await self._look_up([new for new in self._batch if not _has_nul(new)])
        answers = [self._judge(new) for new in self._batch]
        if self._stored:
            await self._write()
        return answers

    async def _look_up(self, batch: Sequence[NewEvent]) -> None:
        pairs = {(new.room_id, new.user_id) for new in batch if new.room_id in self._heads}
        for room_id, user_id, banned, is_member in await self._db.fetch(_MEMBERSHIPS, *_columns(pairs, 2)):
            self._members[room_id, user_id] = _Membership(banned, is_member)
        keys = {(new.user_id, new.idempotency_key) for new in batch if new.idempotency_key is not None}
        if keys:
            for row in await self._db.fetch(_KEYS, *_columns(keys, 2)):
                event = event_of(row)
                self._keys[event.user_id, str(event.idempotency_key)] = (event, row[11] is not None)
        refs = {new.ref for new in batch if new.kind in _CHANGES and new.ref is not None}
        if refs:
            for message_id, *rest in await self._db.fetch(_MESSAGES, list(refs)):
                self._messages[message_id] = _Message(*rest)

    # judgement

    def _judge(self, new: NewEvent) -> Appended:
        if _has_nul(new):
            return ValidationError("Text must not contain the character NUL.")
        key = None if new.idempotency_key is None else (new.user_id, new.idempotency_key)
        if key in self._keys:
            return self._repeated(new, *self._keys[key])
        if new.kind is EventKind.JOINED or new.kind is EventKind.LEFT:
            refusal = self._membership_changed(new)
        else:
            refusal = self._written(new)
        if refusal is not None:
            return refusal
        seq = self._heads[new.room_id] = self._heads[new.room_id] + 1
        event = Event(
            new.room_id, seq, new.kind, new.id, new.user_id, new.user_name, new.text, new.created_at, new.request_id,
            new.idempotency_key, new.ref,
        )  # fmt: skip
        if key is not None:
            self._keys[key] = (event, False)
        self._stored.append(event)
        return Stored(event)

    def _repeated(self, new: NewEvent, first: Event, erased: bool) -> Appended:
        # A message and its edits may have been erased by this very batch.
        message = self._messages.get(first.id if first.kind is EventKind.MESSAGE else first.ref or "")
        if not erased and message is not None and message.deleted_at is not None:
            erased, first = True, msgspec.structs.replace(first, text="")
        same_place = (first.kind, first.room_id, first.ref) == (new.kind, new.room_id, new.ref)
        if same_place and (erased or first.text == new.text):
            return Stored(first, duplicate=True)
        return IdempotencyConflict("This idempotency key was used before with another body.")

    def _written(self, new: NewEvent) -> Refusal | None:
        """Messages, edits and deletes."""
        member = self._members.get((new.room_id, new.user_id))
        refusal = access.written(
            is_member=member is not None and member.is_member, banned=member is not None and member.banned
        )
        if refusal is not None:
            return refusal
        if new.kind is EventKind.MESSAGE:
            self._messages[new.id] = _Message(new.room_id, new.user_id, new.created_at)
            return None
        message = self._messages.get(new.ref or "")
        if message is None or message.room_id != new.room_id or message.deleted_at is not None:
            return access.changed(new.kind, None, 0, new.user_id, new.created_at)
        refusal = access.changed(new.kind, message.user_id, message.created_at, new.user_id, new.created_at)
        if refusal is None and new.kind is EventKind.EDIT:
            message.shown, message.edited_at = new.text, new.created_at
        elif refusal is None:
            message.deleted_at = new.created_at
        return refusal

    def _membership_changed(self, new: NewEvent) -> Refusal | Unchanged | None:
        member = self._members.get((new.room_id, new.user_id))
        if member is None:
            return RoomNotFound("There is no such room.")
        if new.kind is EventKind.LEFT:
            if not member.is_member:
                return UserNotFound("This user is no member of the room.")
            member.is_member, member.dirty = False, True
            return None
        if member.is_member:
            return Unchanged()
        member.is_member, member.dirty = True, True
        member.role, member.joined_at = MemberRole(new.text).value, new.created_at
        # The event itself is read too: there is nothing before it that the new member has missed.
        member.read_seq = self._heads[new.room_id] + 1
        return None

    # what came of it

    async def _write(self) -> None:
        rows = sorted(
            (event.user_id, event.idempotency_key or "", event.room_id, event.seq, event) for event in self._stored
        )
        events = [
            (each.room_id, each.seq, each.kind.value, each.id, each.ref, each.user_id, each.text, each.request_id,
             each.idempotency_key, each.created_at)
            for *_, each in rows
        ]  # fmt: skip
        rooms = {event.room_id for event in self._stored}
        heads = [(room_id, self._heads[room_id]) for room_id in rooms]
        await self._db.execute(_STORE, *_columns(events, 10), *_columns(heads, 2))
        changed = {event.ref for event in self._stored if event.kind in _CHANGES and event.ref is not None}
        if changed:
            await self._write_messages([(message_id, self._messages[message_id]) for message_id in changed])
        dirty = [(key, member) for key, member in self._members.items() if member.dirty]
        if dirty:
            await self._write_members(dirty)

    async def _write_messages(self, messages: list[tuple[str, _Message]]) -> None:
        edited = [(key, each.shown, each.edited_at) for key, each in messages if each.deleted_at is None]
        if edited:
            await self._db.execute(_EDIT, *_columns(edited, 3))
        deleted = [(key, each.deleted_at) for key, each in messages if each.deleted_at is not None]
        if deleted:
            for statement in _ERASE:
                await self._db.execute(statement, *_columns(deleted, 2))

    async def _write_members(self, dirty: list[tuple[tuple[str, str], _Membership]]) -> None:
        gone = [key for key, member in dirty if not member.is_member]
        for statement in _LEAVE if gone else ():
            await self._db.execute(statement, *_columns(gone, 2))
        here = [(*key, each.role, each.joined_at, each.read_seq) for key, each in dirty if each.is_member]
        if here:
            await self._db.execute(_JOIN, *_columns(here, 5))


def _has_nul(new: NewEvent) -> bool:
    """PostgreSQL's text cannot hold NUL; one such event must not take the batch with it."""
    return "\0" in new.text or any(
        part is not None and "\0" in part for part in (new.request_id, new.idempotency_key, new.ref)
    )


def _columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as the arrays of an `unnest`."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
