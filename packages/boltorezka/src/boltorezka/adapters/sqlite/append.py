"""The hot path: a batch of events judged and stored in one transaction with a fixed number of statements.

All facts the batch needs are read first, in one query of each kind. The events are then judged one after the other
against these facts as the batch itself changes them, and what came of it is written in one go at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec

from boltorezka.adapters.sqlite.rows import EVENT, event_of
from boltorezka.errors import IdempotencyConflict, Refusal, RoomNotFound, UserNotFound
from boltorezka.ports import NewEvent
from boltorezka.rooms import access
from boltorezka.rooms.model import Appended, Event, EventKind, MemberRole, Stored, Unchanged

_CHANGES = frozenset({EventKind.EDIT, EventKind.DELETE})
# The numbers of rows a look-up is written for: few statements, so that SQLite's driver keeps them prepared, and at two
# values a row far below the limit of 32766 values.
_SIZES = (1, 8, 64, 512)

# CROSS JOIN keeps the order of the loops: for each row asked for, one step into an index.
_ROOMS = (
    "WITH asked (room_id, user_id) AS (VALUES {rows})"
    " SELECT a.room_id, a.user_id, r.last_seq, u.banned, m.role, m.joined_at, m.read_seq FROM asked a"
    " CROSS JOIN rooms r ON r.id = a.room_id LEFT JOIN users u ON u.id = a.user_id"
    " LEFT JOIN members m ON m.room_id = a.room_id AND m.user_id = a.user_id"
)
_KEYS = (
    f"WITH asked (user_id, key) AS (VALUES {{rows}}) SELECT {EVENT}, e.deleted_at FROM asked a"
    " CROSS JOIN events e ON e.user_id = a.user_id AND e.idempotency_key = a.key"
    " LEFT JOIN users u ON u.id = e.user_id"
)
_MESSAGES = (
    "WITH asked (id) AS (VALUES {rows}) SELECT e.id, e.room_id, e.user_id, e.created_at, e.deleted_at"
    " FROM asked a CROSS JOIN events e ON e.id = a.id WHERE e.kind = 'message'"
)


class _Membership(msgspec.Struct):
    """What the batch has to know of one user in one room."""

    banned: bool
    is_member: bool
    role: str = MemberRole.MEMBER.value
    joined_at: int = 0
    read_seq: int = 0
    dirty: bool = False


class _Message(msgspec.Struct):
    """A message that the batch edits or deletes."""

    room_id: str
    user_id: str
    created_at: int
    deleted_at: int | None
    shown: str | None = None
    edited_at: int | None = None


def append(db: sqlite3.Connection, batch: Sequence[NewEvent]) -> list[Appended]:
    """Store the batch in order; see `ports.LogStore.append`."""
    return _Batch(db, batch).run()


class _Batch:
    """One call of `append`: the facts, as they are after the events judged so far."""

    def __init__(self, db: sqlite3.Connection, batch: Sequence[NewEvent]) -> None:
        self._db = db
        self._batch = batch
        self._heads: dict[str, int] = {}
        self._members: dict[tuple[str, str], _Membership] = {}
        # The first event of a key, and whether its text was erased since.
        self._keys: dict[tuple[str, str], tuple[Event, bool]] = {}
        self._messages: dict[str, _Message] = {}
        self._stored: list[Event] = []

    def run(self) -> list[Appended]:
        """Look up, judge, write."""
        self._look_up_rooms()
        self._look_up_keys()
        self._look_up_messages()
        answers = [self._judge(new) for new in self._batch]
        self._write()
        return answers

    # facts

    def _look_up_rooms(self) -> None:
        pairs = {(new.room_id, new.user_id) for new in self._batch}
        for room_id, user_id, last_seq, banned, role, joined_at, read_seq in _look_up(self._db, _ROOMS, list(pairs)):
            self._heads[room_id] = last_seq
            found = _Membership(bool(banned), is_member=role is not None)
            if role is not None:
                found.role, found.joined_at, found.read_seq = role, joined_at, read_seq
            self._members[room_id, user_id] = found

    def _look_up_keys(self) -> None:
        keys = {(new.user_id, new.idempotency_key) for new in self._batch if new.idempotency_key is not None}
        for row in _look_up(self._db, _KEYS, list(keys)):
            event = event_of(row)
            self._keys[event.user_id, str(event.idempotency_key)] = (event, row[-1] is not None)

    def _look_up_messages(self) -> None:
        refs = {(new.ref,) for new in self._batch if new.kind in _CHANGES and new.ref is not None}
        for message_id, *rest in _look_up(self._db, _MESSAGES, list(refs)):
            self._messages[message_id] = _Message(*rest)

    # judgement

    def _judge(self, new: NewEvent) -> Appended:
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
            self._messages[new.id] = _Message(new.room_id, new.user_id, new.created_at, None)
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

    def _write(self) -> None:
        if not self._stored:
            return
        self._db.executemany(
            "INSERT INTO events (room_id, seq, kind, id, ref, user_id, text, request_id, idempotency_key, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (each.room_id, each.seq, each.kind.value, each.id, each.ref, each.user_id, each.text, each.request_id,
                 each.idempotency_key, each.created_at)
                for each in self._stored
            ],
        )  # fmt: skip
        rooms = {event.room_id for event in self._stored}
        self._db.executemany(
            "UPDATE rooms SET last_seq = ? WHERE id = ?", [(self._heads[room_id], room_id) for room_id in rooms]
        )
        # Most batches are messages only.
        if any(event.kind in _CHANGES for event in self._stored):
            self._write_messages()
        dirty = [(key, member) for key, member in self._members.items() if member.dirty]
        if dirty:
            self._write_members(dirty)

    def _write_messages(self) -> None:
        changed = {event.ref for event in self._stored if event.kind in _CHANGES and event.ref is not None}
        messages = [(message_id, self._messages[message_id]) for message_id in changed]
        self._db.executemany(
            "UPDATE events SET shown = ?, edited_at = ? WHERE id = ?",
            [(message.shown, message.edited_at, key) for key, message in messages if message.deleted_at is None],
        )
        deleted = [(message.deleted_at, key) for key, message in messages if message.deleted_at is not None]
        for which in ("id = ?", "ref = ? AND kind = 'edit'"):
            self._db.executemany(
                f"UPDATE events SET text = '', shown = NULL, edited_at = NULL, deleted_at = ? WHERE {which}", deleted
            )

    def _write_members(self, dirty: list[tuple[tuple[str, str], _Membership]]) -> None:
        gone = [key for key, member in dirty if not member.is_member]
        for table in ("members", "seats"):
            self._db.executemany(f"DELETE FROM {table} WHERE room_id = ? AND user_id = ?", gone)
        self._db.executemany(
            "INSERT INTO members (room_id, user_id, role, joined_at, read_seq) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (room_id, user_id) DO UPDATE"
            " SET role = excluded.role, joined_at = excluded.joined_at, read_seq = excluded.read_seq",
            [(*key, member.role, member.joined_at, member.read_seq) for key, member in dirty if member.is_member],
        )


def _look_up(db: sqlite3.Connection, sql: str, asked: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Rows for a list of keys of any length.

    The last key is repeated up to the statement's size, which only adds rows that are there already.
    """
    for start in range(0, len(asked), _SIZES[-1]):
        part = asked[start : start + _SIZES[-1]]
        size = next(each for each in _SIZES if each >= len(part))
        part += part[-1:] * (size - len(part))
        yield from db.execute(_statement(sql, len(part[0]), size), [value for row in part for value in row])


@cache
def _statement(sql: str, columns: int, size: int) -> str:
    marks = "(" + ", ".join("?" * columns) + ")"
    return sql.format(rows=", ".join([marks] * size))
