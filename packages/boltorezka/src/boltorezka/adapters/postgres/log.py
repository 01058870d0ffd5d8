"""The SQL of rooms and their logs, appending aside: functions of one connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from boltorezka.adapters.postgres.connect import Connection
from boltorezka.adapters.postgres.rows import EVENT, MEMBER, ROOM, event_of, member_of, room_of
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

# Unguessable and new for each row: the server draws it from its strong source of randomness.
_NEW_EPOCH = "replace(gen_random_uuid()::text, '-', '')"
# 2^53 is above every seq (contract.md), so it means "from the top".
_TOP = 1 << 53


async def delta(db: Connection, room_id: str, after_seq: int, limit: int) -> list[Event]:
    """Events after a position, oldest first."""
    rows = await db.fetch(
        f"SELECT {EVENT} FROM events e LEFT JOIN users u ON u.id = e.user_id"
        " WHERE e.room_id = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3",
        room_id,
        min(after_seq, _TOP),
        limit,
    )
    return [event_of(row) for row in rows]


async def page(db: Connection, room_id: str, limit: int, before_seq: int | None, before_id: str | None) -> Page:
    """The newest messages before a position. The room is read first: what is not in the page comes after it."""
    row = await db.fetchrow(f"SELECT {ROOM} FROM rooms r WHERE id = $1", room_id)
    if row is None:
        raise RoomNotFound("There is no such room.")
    if before_id is not None:
        before_seq = await db.fetchval(
            "SELECT seq FROM events WHERE id = $1 AND room_id = $2 AND kind = 'message'", before_id, room_id
        )
        if before_seq is None:
            raise MessageNotFound("There is no such message in this room.")
    rows = await db.fetch(
        f"SELECT {EVENT}, e.shown, e.edited_at FROM events e LEFT JOIN users u ON u.id = e.user_id"
        " WHERE e.room_id = $1 AND e.seq < $2 AND e.kind = 'message' AND e.deleted_at IS NULL"
        " ORDER BY e.seq DESC LIMIT $3",
        room_id,
        _TOP if before_seq is None else min(before_seq, _TOP),
        limit + 1,
    )
    events = tuple(_newest(each) for each in reversed(rows[:limit]))
    return Page(room_of(row), events, has_more=len(rows) > limit)


def _newest(row: Sequence[Any]) -> Event:
    event, shown, edited_at = event_of(row), row[11], row[12]
    return event if shown is None else msgspec.structs.replace(event, text=shown, edited_at=edited_at)


async def entrance(db: Connection, slug: str, user_id: str) -> Entrance | None:
    """The room of a slug and the membership of a user."""
    row = await db.fetchrow(
        f"SELECT {ROOM}, {MEMBER} FROM rooms r LEFT JOIN members m ON m.room_id = r.id AND m.user_id = $1"
        " LEFT JOIN users u ON u.id = m.user_id WHERE r.slug = $2",
        user_id,
        slug,
    )
    if row is None:
        return None
    return Entrance(room_of(row), None if row[7] is None else member_of(row[7:11]))


async def rooms_for(db: Connection, user_id: str) -> list[RoomView]:
    """Public rooms and this user's private ones, with what they have not read."""
    rows = await db.fetch(
        f"SELECT {ROOM}, m.user_id IS NOT NULL, CASE WHEN m.user_id IS NULL OR m.read_seq >= r.last_seq THEN 0 ELSE"
        " (SELECT count(*) FROM (SELECT 1 FROM events e WHERE e.room_id = r.id AND e.seq > m.read_seq"
        "  AND e.kind = 'message' AND e.deleted_at IS NULL AND e.user_id <> m.user_id LIMIT $2) unread) END"
        " FROM rooms r LEFT JOIN members m ON m.room_id = r.id AND m.user_id = $1"
        " WHERE r.is_public OR m.user_id IS NOT NULL ORDER BY r.created_at, r.id",
        user_id,
        MAX_UNREAD,
    )
    return [RoomView(room_of(row), row[7], row[8]) for row in rows]


async def create_room(db: Connection, room: Room, owner_id: str, event_id: str) -> Room:
    """Insert the room, its owner, and the event that says so."""
    if not await _insert(db, made := msgspec.structs.replace(room, last_seq=1)):
        raise Conflict("There is a room with this slug already.")
    owner = MemberRole.OWNER.value
    await db.execute(
        "INSERT INTO members (room_id, user_id, role, joined_at, read_seq) VALUES ($1, $2, $3, $4, 1)",
        room.id,
        owner_id,
        owner,
        room.created_at,
    )
    await db.execute(
        "INSERT INTO events (room_id, seq, kind, id, ref, user_id, text, created_at)"
        " VALUES ($1, 1, $2, $3, $4, $4, $5, $6)",
        room.id,
        EventKind.JOINED.value,
        event_id,
        owner_id,
        owner,
        room.created_at,
    )
    return made


async def ensure_room(db: Connection, room: Room) -> Room:
    """Insert unless the slug is taken."""
    await _insert(db, room)
    return room_of(await db.fetchrow(f"SELECT {ROOM} FROM rooms r WHERE slug = $1", room.slug))


async def _insert(db: Connection, room: Room) -> bool:
    inserted = await db.fetchval(
        "INSERT INTO rooms (id, slug, title, is_public, created_at, epoch, last_seq)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (slug) DO NOTHING RETURNING id",
        *msgspec.structs.astuple(room),
    )
    return inserted is not None


async def members(db: Connection, room_id: str) -> list[Member]:
    """Members by the time they joined."""
    rows = await db.fetch(
        f"SELECT {MEMBER} FROM members m LEFT JOIN users u ON u.id = m.user_id WHERE m.room_id = $1"
        " ORDER BY m.joined_at, m.user_id LIMIT $2",
        room_id,
        MAX_MEMBERS,
    )
    return [member_of(row) for row in rows]


async def set_read(db: Connection, room_id: str, user_id: str, seq: int) -> int:
    """Move the read pointer within the log, forward only."""
    moved = await db.fetchval(
        "UPDATE members m SET read_seq = greatest(m.read_seq, least($1, r.last_seq)) FROM rooms r"
        " WHERE r.id = m.room_id AND m.room_id = $2 AND m.user_id = $3 RETURNING m.read_seq",
        min(seq, _TOP),
        room_id,
        user_id,
    )
    if moved is None:
        raise RoomNotFound("There is no such room.")
    return int(moved)


async def new_epochs(db: Connection, slugs: Sequence[str] | None) -> int:
    """Draw a new epoch for each room."""
    done = await db.execute(
        f"UPDATE rooms SET epoch = {_NEW_EPOCH} WHERE $1::text[] IS NULL OR slug = ANY($1)",
        None if slugs is None else list(slugs),
    )
    # The answer to an UPDATE is "UPDATE <rows>".
    return int(done.split()[1])


async def heads(db: Connection) -> dict[str, tuple[str, int]]:
    """(epoch, last_seq) by room id."""
    return {row[0]: (row[1], row[2]) for row in await db.fetch("SELECT id, epoch, last_seq FROM rooms")}


async def day_summary(db: Connection, since: int) -> DaySummary:
    """Counters of the log, the users and the sessions since a moment."""
    messages, edits, deletes, authors, rooms = await db.fetchrow(
        "SELECT count(*) FILTER (WHERE kind = 'message'), count(*) FILTER (WHERE kind = 'edit'),"
        " count(*) FILTER (WHERE kind = 'delete'), count(DISTINCT user_id) FILTER (WHERE kind = 'message'),"
        " count(DISTINCT room_id) FILTER (WHERE kind = 'message') FROM events WHERE created_at >= $1",
        since,
    )
    new_users, logins = await db.fetchrow(
        "SELECT (SELECT count(*) FROM users WHERE created_at >= $1),"
        " (SELECT count(*) FROM sessions WHERE created_at >= $1)",
        since,
    )
    return DaySummary(messages, edits, deletes, authors, new_users, logins, rooms)
