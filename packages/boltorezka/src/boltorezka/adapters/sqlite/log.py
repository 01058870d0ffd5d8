"""The SQL of rooms and their logs, appending aside: functions of one connection, inside a transaction of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from boltorezka.adapters.sqlite.rows import EVENT, ROOM, event_of, member_of, room_of
from boltorezka.errors import Conflict, MessageNotFound, RoomNotFound
from boltorezka.ports import MAX_MEMBERS, MAX_UNREAD
from boltorezka.rooms.model import (
    DaySummary,
    Entrance,
    Event,
    EventKind,
    Member,
    MemberRole,
    Page,
    Room,
    RoomView,
)

_MEMBER = "m.user_id, coalesce(u.name, ''), m.role, m.joined_at"
# Unguessable and new for each room: the default of SQLite is a ChaCha20 stream seeded by the system.
_NEW_EPOCH = "lower(hex(randomblob(16)))"
# 2^53 is above every seq (contract.md), so it means "from the top".
_TOP = 1 << 53


def delta(db: sqlite3.Connection, room_id: str, after_seq: int, limit: int) -> list[Event]:
    """Events after a position, oldest first."""
    rows = db.execute(
        f"SELECT {EVENT} FROM events e LEFT JOIN users u ON u.id = e.user_id"
        " WHERE e.room_id = ? AND e.seq > ? ORDER BY e.seq LIMIT ?",
        (room_id, after_seq, limit),
    )
    return [event_of(row) for row in rows]


def page(db: sqlite3.Connection, room_id: str, limit: int, before_seq: int | None, before_id: str | None) -> Page:
    """The newest messages before a position; room and messages are of one snapshot."""
    row = db.execute(f"SELECT {ROOM} FROM rooms r WHERE id = ?", (room_id,)).fetchone()
    if row is None:
        raise RoomNotFound("There is no such room.")
    if before_id is not None:
        found = db.execute(
            "SELECT seq FROM events WHERE id = ? AND room_id = ? AND kind = 'message'", (before_id, room_id)
        ).fetchone()
        if found is None:
            raise MessageNotFound("There is no such message in this room.")
        before_seq = int(found[0])
    rows = db.execute(
        f"SELECT {EVENT}, e.shown, e.edited_at FROM events e LEFT JOIN users u ON u.id = e.user_id"
        " WHERE e.room_id = ? AND e.seq < ? AND e.kind = 'message' AND e.deleted_at IS NULL"
        " ORDER BY e.seq DESC LIMIT ?",
        (room_id, _TOP if before_seq is None else before_seq, limit + 1),
    ).fetchall()
    events = tuple(_newest(event_of(each), *each[-2:]) for each in reversed(rows[:limit]))
    return Page(room_of(row), events, has_more=len(rows) > limit)


def _newest(event: Event, shown: str | None, edited_at: int | None) -> Event:
    return event if shown is None else msgspec.structs.replace(event, text=shown, edited_at=edited_at)


def entrance(db: sqlite3.Connection, slug: str, user_id: str) -> Entrance | None:
    """The room of a slug and the membership of a user."""
    row = db.execute(
        f"SELECT {ROOM}, {_MEMBER} FROM rooms r LEFT JOIN members m ON m.room_id = r.id AND m.user_id = ?"
        " LEFT JOIN users u ON u.id = m.user_id WHERE r.slug = ?",
        (user_id, slug),
    ).fetchone()
    if row is None:
        return None
    return Entrance(room_of(row), None if row[7] is None else member_of(row[7:]))


def rooms_for(db: sqlite3.Connection, user_id: str) -> list[RoomView]:
    """Public rooms and this user's private ones, with what they have not read."""
    rows = db.execute(
        f"SELECT {ROOM}, m.user_id, CASE WHEN m.user_id IS NULL OR m.read_seq >= r.last_seq THEN 0 ELSE"
        " (SELECT count(*) FROM (SELECT 1 FROM events e WHERE e.room_id = r.id AND e.seq > m.read_seq"
        "  AND e.kind = 'message' AND e.deleted_at IS NULL AND e.user_id <> m.user_id LIMIT ?)) END"
        " FROM rooms r LEFT JOIN members m ON m.room_id = r.id AND m.user_id = ?"
        " WHERE r.is_public OR m.user_id IS NOT NULL ORDER BY r.created_at, r.id",
        (MAX_UNREAD, user_id),
    )
    return [RoomView(room_of(row), row[7] is not None, row[8]) for row in rows]


def create_room(db: sqlite3.Connection, room: Room, owner_id: str, event_id: str) -> Room:
    """Insert the room, its owner, and the event that says so."""
    if not _insert(db, made := msgspec.structs.replace(room, last_seq=1)):
        raise Conflict("There is a room with this slug already.")
    db.execute(
        "INSERT INTO members (room_id, user_id, role, joined_at, read_seq) VALUES (?, ?, ?, ?, 1)",
        (room.id, owner_id, MemberRole.OWNER.value, room.created_at),
    )
    db.execute(
        "INSERT INTO events (room_id, seq, kind, id, ref, user_id, text, created_at) VALUES (?, 1, ?, ?, ?, ?, ?, ?)",
        (room.id, EventKind.JOINED.value, event_id, owner_id, owner_id, MemberRole.OWNER.value, room.created_at),
    )
    return made


def ensure_room(db: sqlite3.Connection, room: Room) -> Room:
    """Insert unless the slug is taken."""
    _insert(db, room)
    return room_of(db.execute(f"SELECT {ROOM} FROM rooms r WHERE slug = ?", (room.slug,)).fetchone())


def _insert(db: sqlite3.Connection, room: Room) -> bool:
    inserted = db.execute(
        "INSERT INTO rooms (id, slug, title, is_public, created_at, epoch, last_seq) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (slug) DO NOTHING",
        (room.id, room.slug, room.title, room.is_public, room.created_at, room.epoch, room.last_seq),
    )
    return inserted.rowcount == 1


def members(db: sqlite3.Connection, room_id: str) -> list[Member]:
    """Members by the time they joined."""
    rows = db.execute(
        f"SELECT {_MEMBER} FROM members m LEFT JOIN users u ON u.id = m.user_id WHERE m.room_id = ?"
        " ORDER BY m.joined_at, m.user_id LIMIT ?",
        (room_id, MAX_MEMBERS),
    )
    return [member_of(row) for row in rows]


def set_read(db: sqlite3.Connection, room_id: str, user_id: str, seq: int) -> int:
    """Move the read pointer within the log, forward only."""
    row = db.execute(
        "UPDATE members SET read_seq = max(read_seq, min(?, (SELECT last_seq FROM rooms WHERE id = room_id)))"
        " WHERE room_id = ? AND user_id = ? RETURNING read_seq",
        (seq, room_id, user_id),
    ).fetchone()
    if row is None:
        raise RoomNotFound("There is no such room.")
    return int(row[0])


def new_epochs(db: sqlite3.Connection, slugs: Sequence[str] | None) -> int:
    """Draw a new epoch for each room."""
    if slugs is None:
        return db.execute(f"UPDATE rooms SET epoch = {_NEW_EPOCH}").rowcount
    changed = db.executemany(f"UPDATE rooms SET epoch = {_NEW_EPOCH} WHERE slug = ?", [(slug,) for slug in set(slugs)])
    return max(changed.rowcount, 0)  # -1 when there was nothing to execute


def heads(db: sqlite3.Connection) -> dict[str, tuple[str, int]]:
    """(epoch, last_seq) by room id."""
    return {row[0]: (row[1], row[2]) for row in db.execute("SELECT id, epoch, last_seq FROM rooms")}


def day_summary(db: sqlite3.Connection, since: int) -> DaySummary:
    """Counters of the log, the users and the sessions since a moment."""
    messages, edits, deletes, authors, rooms = db.execute(
        "SELECT count(*) FILTER (WHERE kind = 'message'), count(*) FILTER (WHERE kind = 'edit'),"
        " count(*) FILTER (WHERE kind = 'delete'), count(DISTINCT user_id) FILTER (WHERE kind = 'message'),"
        " count(DISTINCT room_id) FILTER (WHERE kind = 'message') FROM events WHERE created_at >= ?",
        (since,),
    ).fetchone()
    new_users, logins = db.execute(
        "SELECT (SELECT count(*) FROM users WHERE created_at >= ?1),"
        " (SELECT count(*) FROM sessions WHERE created_at >= ?1)",
        (since,),
    ).fetchone()
    return DaySummary(messages, edits, deletes, authors, new_users, logins, rooms)
