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

from boltorezka.adapters.judgement import CHANGES, Judgement, Membership, Message, has_nul
from boltorezka.adapters.postgres.connect import Connection
from boltorezka.adapters.postgres.plain import is_plain, store_plain
from boltorezka.adapters.postgres.rows import EVENT, event_of
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import Appended

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


class Append:
    """Store a batch in order; see `ports.LogStore.append`. For `Engine.write`, which calls both methods in turn."""

    def __init__(self, batch: Sequence[NewEvent]) -> None:
        self._batch = batch
        self._is_plain = is_plain(batch) and not any(map(has_nul, batch))
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
    """A batch on the general path."""

    def __init__(self, db: Connection, batch: Sequence[NewEvent]) -> None:
        self._db = db
        self._batch = batch
        self._facts = Judgement()

    async def lock(self) -> None:
        """Lock the rooms; what is looked up from now on stays true until the commit."""
        locked = await self._db.fetch(_LOCK, list({new.room_id for new in self._batch}))
        self._facts.heads = {row[0]: row[1] for row in locked}

    async def run(self) -> list[Appended]:
        """Look up, judge, write."""
        await self._look_up([new for new in self._batch if not has_nul(new)])
        answers = [self._facts.judge(new) for new in self._batch]
        if self._facts.stored:
            await self._write()
        return answers

    async def _look_up(self, batch: Sequence[NewEvent]) -> None:
        pairs = {(new.room_id, new.user_id) for new in batch if new.room_id in self._facts.heads}
        for room_id, user_id, banned, is_member in await self._db.fetch(_MEMBERSHIPS, *_columns(pairs, 2)):
            self._facts.members[room_id, user_id] = Membership(banned, is_member)
        keys = {(new.user_id, new.idempotency_key) for new in batch if new.idempotency_key is not None}
        if keys:
            for row in await self._db.fetch(_KEYS, *_columns(keys, 2)):
                event = event_of(row)
                self._facts.keys[event.user_id, str(event.idempotency_key)] = (event, row[11] is not None)
        refs = {new.ref for new in batch if new.kind in CHANGES and new.ref is not None}
        if refs:
            for message_id, *rest in await self._db.fetch(_MESSAGES, list(refs)):
                self._facts.messages[message_id] = Message(*rest)

    async def _write(self) -> None:
        stored = self._facts.stored
        rows = sorted((each.user_id, each.idempotency_key or "", each.room_id, each.seq, each) for each in stored)
        events = [
            (each.room_id, each.seq, each.kind.value, each.id, each.ref, each.user_id, each.text, each.request_id,
             each.idempotency_key, each.created_at)
            for *_, each in rows
        ]  # fmt: skip
        rooms = {event.room_id for event in stored}
        heads = [(room_id, self._facts.heads[room_id]) for room_id in rooms]
        await self._db.execute(_STORE, *_columns(events, 10), *_columns(heads, 2))
        if changed := self._facts.changed:
            await self._write_messages(changed)
        if dirty := self._facts.dirty:
            await self._write_members(dirty)

    async def _write_messages(self, messages: list[tuple[str, Message]]) -> None:
        edited = [(key, each.shown, each.edited_at) for key, each in messages if each.deleted_at is None]
        if edited:
            await self._db.execute(_EDIT, *_columns(edited, 3))
        deleted = [(key, each.deleted_at) for key, each in messages if each.deleted_at is not None]
        if deleted:
            for statement in _ERASE:
                await self._db.execute(statement, *_columns(deleted, 2))

    async def _write_members(self, dirty: list[tuple[tuple[str, str], Membership]]) -> None:
        gone = [key for key, member in dirty if not member.is_member]
        for statement in _LEAVE if gone else ():
            await self._db.execute(statement, *_columns(gone, 2))
        here = [(*key, each.role, each.joined_at, each.read_seq) for key, each in dirty if each.is_member]
        if here:
            await self._db.execute(_JOIN, *_columns(here, 5))


def _columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as the arrays of an `unnest`."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
