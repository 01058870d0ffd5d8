"""The SQL of rooms and their logs: functions of one connection, called inside a transaction of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from boltorezka.errors import MessageNotFound, RoomNotFound
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import Appended, Conflicting, Event, EventKind, Missing, Page, Room, RoomView, Stored

_ROOM = "id, slug, title, is_public, created_at, epoch, last_seq"
_EVENT = (
    "e.room_id, e.seq, e.kind, e.id, e.user_id, coalesce(u.name, ''), e.text, e.created_at, e.request_id,"
    " e.idempotency_key FROM events e LEFT JOIN users u ON u.id = e.user_id"
)


def append(db: sqlite3.Connection, batch: Sequence[NewEvent]) -> list[Appended]:
    """Store the batch in order; see `ports.LogStore.append`."""
    heads: dict[str, int | None] = {}
    keys: dict[tuple[str, str], Event] = {}
    rows: list[tuple[object, ...]] = []
    answers: list[Appended] = []
    for new in batch:
        first = _first_with_key(db, new, keys)
        if first is not None:
            same = first.text == new.text and first.room_id == new.room_id
            answers.append(Stored(first, duplicate=True) if same else Conflicting(first))
            continue
        if new.room_id not in heads:
            row = db.execute("SELECT last_seq FROM rooms WHERE id = ?", (new.room_id,)).fetchone()
            heads[new.room_id] = None if row is None else int(row[0])
        head = heads[new.room_id]
        if head is None:
            answers.append(Missing(new.room_id))
            continue
        heads[new.room_id] = head + 1
        event = Event(
            new.room_id, head + 1, new.kind, new.id, new.user_id, new.user_name, new.text,
            new.created_at, new.request_id, new.idempotency_key,
        )  # fmt: skip
        if new.idempotency_key is not None:
            keys[new.user_id, new.idempotency_key] = event
        rows.append(
            (new.room_id, head + 1, new.kind.value, new.id, new.user_id, new.text, new.request_id,
             new.idempotency_key, new.created_at)
        )  # fmt: skip
        answers.append(Stored(event))
    db.executemany(
        "INSERT INTO events (room_id, seq, kind, id, user_id, text, request_id, idempotency_key, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    db.executemany(
        "UPDATE rooms SET last_seq = ? WHERE id = ?",
        [(head, room_id) for room_id, head in heads.items() if head is not None],
    )
    return answers


def _first_with_key(db: sqlite3.Connection, new: NewEvent, keys: dict[tuple[str, str], Event]) -> Event | None:
    if new.idempotency_key is None:
        return None
    first = keys.get((new.user_id, new.idempotency_key))
    if first is not None:
        return first
    row = db.execute(
        f"SELECT {_EVENT} WHERE e.user_id = ? AND e.idempotency_key = ?", (new.user_id, new.idempotency_key)
    ).fetchone()
    return None if row is None else _event(row)


def delta(db: sqlite3.Connection, room_id: str, after_seq: int, limit: int) -> list[Event]:
    """Events after a position, oldest first."""
    rows = db.execute(
        f"SELECT {_EVENT} WHERE e.room_id = ? AND e.seq > ? ORDER BY e.seq LIMIT ?", (room_id, after_seq, limit)
    )
    return [_event(row) for row in rows]


def page(db: sqlite3.Connection, room_id: str, limit: int, before_seq: int | None, before_id: str | None) -> Page:
    """The newest messages before a position; room and messages are of one snapshot."""
    row = db.execute(f"SELECT {_ROOM} FROM rooms WHERE id = ?", (room_id,)).fetchone()
    if row is None:
        raise RoomNotFound("There is no such room.")
    if before_id is not None:
        found = db.execute("SELECT seq FROM events WHERE id = ? AND room_id = ?", (before_id, room_id)).fetchone()
        if found is None:
            raise MessageNotFound("There is no such message in this room.")
        before_seq = int(found[0])
    # 2^53 is above every seq (contract.md), so it means "from the top".
    rows = db.execute(
        f"SELECT {_EVENT} WHERE e.room_id = ? AND e.seq < ? AND e.kind = ? ORDER BY e.seq DESC LIMIT ?",
        (room_id, 1 << 53 if before_seq is None else before_seq, EventKind.MESSAGE.value, limit + 1),
    ).fetchall()
    events = tuple(_event(each) for each in reversed(rows[:limit]))
    return Page(_room(row), events, has_more=len(rows) > limit)


def room_by_slug(db: sqlite3.Connection, slug: str) -> Room | None:
    """The room of a slug, or None."""
    row = db.execute(f"SELECT {_ROOM} FROM rooms WHERE slug = ?", (slug,)).fetchone()
    return None if row is None else _room(row)


def rooms_for(db: sqlite3.Connection, user_id: str) -> list[RoomView]:
    """Public rooms and this user's private ones."""
    rows = db.execute(
        f"SELECT {_ROOM}, m.read_seq FROM rooms LEFT JOIN members m ON m.room_id = id AND m.user_id = ?"
        " WHERE is_public OR m.user_id IS NOT NULL ORDER BY created_at, id",
        (user_id,),
    )
    return [RoomView(_room(row), row[7] is not None, 0 if row[7] is None else max(0, row[6] - row[7])) for row in rows]


def ensure_room(db: sqlite3.Connection, room: Room) -> Room:
    """Insert unless the slug is taken."""
    db.execute(
        f"INSERT INTO rooms ({_ROOM}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (slug) DO NOTHING",
        (room.id, room.slug, room.title, room.is_public, room.created_at, room.epoch, room.last_seq),
    )
    row = db.execute(f"SELECT {_ROOM} FROM rooms WHERE slug = ?", (room.slug,)).fetchone()
    return _room(row)


def is_member(db: sqlite3.Connection, room_id: str, user_id: str) -> bool:
    """Whether the membership row is there."""
    return (
        db.execute("SELECT 1 FROM members WHERE room_id = ? AND user_id = ?", (room_id, user_id)).fetchone() is not None
    )


def add_member(db: sqlite3.Connection, room_id: str, user_id: str, at: int) -> None:
    """A new member has read everything up to now: what was said before is history, not unread."""
    db.execute(
        "INSERT INTO members (room_id, user_id, joined_at, read_seq)"
        " SELECT id, ?, ?, last_seq FROM rooms WHERE id = ? ON CONFLICT DO NOTHING",
        (user_id, at, room_id),
    )


def heads(db: sqlite3.Connection) -> dict[str, int]:
    """last_seq by room id."""
    return dict(db.execute("SELECT id, last_seq FROM rooms").fetchall())


def _room(row: Sequence[object]) -> Room:
    room_id, slug, title, is_public, created_at, epoch, last_seq = row[:7]
    return Room(str(room_id), str(slug), str(title), bool(is_public), _int(created_at), str(epoch), _int(last_seq))


def _event(row: tuple[str, int, str, str, str, str, str, int, str | None, str | None]) -> Event:
    return Event(row[0], row[1], EventKind(row[2]), *row[3:])


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("the column is declared INTEGER in a STRICT table")
    return value
