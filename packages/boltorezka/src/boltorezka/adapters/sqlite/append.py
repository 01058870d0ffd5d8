"""The hot path: a batch of events judged and stored in one transaction with a fixed number of statements.

All facts the batch needs are read first, in one query of each kind. The events are then judged one after the other
against these facts as the batch itself changes them, and what came of it is written in one go at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from boltorezka.adapters.judgement import CHANGES, Judgement, Membership, Message
from boltorezka.adapters.sqlite.rows import EVENT, event_of
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import Appended

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


def append(db: sqlite3.Connection, batch: Sequence[NewEvent]) -> list[Appended]:
    """Store the batch in order; see `ports.LogStore.append`."""
    return _Batch(db, batch).run()


class _Batch:
    """One call of `append`."""

    def __init__(self, db: sqlite3.Connection, batch: Sequence[NewEvent]) -> None:
        self._db = db
        self._batch = batch
        self._facts = Judgement()

    def run(self) -> list[Appended]:
        """Look up, judge, write."""
        self._look_up_rooms()
        self._look_up_keys()
        self._look_up_messages()
        answers = [self._facts.judge(new) for new in self._batch]
        self._write()
        return answers

    # facts

    def _look_up_rooms(self) -> None:
        pairs = {(new.room_id, new.user_id) for new in self._batch}
        for room_id, user_id, last_seq, banned, role, joined_at, read_seq in _look_up(self._db, _ROOMS, list(pairs)):
            self._facts.heads[room_id] = last_seq
            found = Membership(bool(banned), is_member=role is not None)
            if role is not None:
                found.role, found.joined_at, found.read_seq = role, joined_at, read_seq
            self._facts.members[room_id, user_id] = found

    def _look_up_keys(self) -> None:
        keys = {(new.user_id, new.idempotency_key) for new in self._batch if new.idempotency_key is not None}
        for row in _look_up(self._db, _KEYS, list(keys)):
            event = event_of(row)
            self._facts.keys[event.user_id, str(event.idempotency_key)] = (event, row[-1] is not None)

    def _look_up_messages(self) -> None:
        refs = {(new.ref,) for new in self._batch if new.kind in CHANGES and new.ref is not None}
        for message_id, *rest in _look_up(self._db, _MESSAGES, list(refs)):
            self._facts.messages[message_id] = Message(*rest)

    # what came of it

    def _write(self) -> None:
        if not self._facts.stored:
            return
        self._db.executemany(
            "INSERT INTO events (room_id, seq, kind, id, ref, user_id, text, request_id, idempotency_key, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (each.room_id, each.seq, each.kind.value, each.id, each.ref, each.user_id, each.text, each.request_id,
                 each.idempotency_key, each.created_at)
                for each in self._facts.stored
            ],
        )  # fmt: skip
        rooms = {event.room_id for event in self._facts.stored}
        self._db.executemany(
            "UPDATE rooms SET last_seq = ? WHERE id = ?", [(self._facts.heads[room_id], room_id) for room_id in rooms]
        )
        # Most batches are messages only.
        if changed := self._facts.changed:
            self._write_messages(changed)
        if dirty := self._facts.dirty:
            self._write_members(dirty)

    def _write_messages(self, messages: list[tuple[str, Message]]) -> None:
        self._db.executemany(
            "UPDATE events SET shown = ?, edited_at = ? WHERE id = ?",
            [(message.shown, message.edited_at, key) for key, message in messages if message.deleted_at is None],
        )
        deleted = [(message.deleted_at, key) for key, message in messages if message.deleted_at is not None]
        for which in ("id = ?", "ref = ? AND kind = 'edit'"):
            self._db.executemany(
                f"UPDATE events SET text = '', shown = NULL, edited_at = NULL, deleted_at = ? WHERE {which}", deleted
            )

    def _write_members(self, dirty: list[tuple[tuple[str, str], Membership]]) -> None:
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
