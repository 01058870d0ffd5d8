"""The SQL of leases, of who is present through each, and of voice seats: functions of one connection.

What drops leases or takes seats does so one at a time (an advisory lock): both look at many rows before they change
some, both are rare, and so they need no cleverer way to agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from boltorezka.adapters.postgres.connect import Connection
from boltorezka.errors import Conflict, VoiceFull
from boltorezka.ports import SEAT_HOLD_US, Presence
from boltorezka.rooms import access
from boltorezka.voice.model import Seat, Taken

_SEAT = "id, room_id, user_id, user_name, instance, taken_at, held_until, muted, audio_muted, moderated"
# Any number, as long as nobody else on the database uses it: "seats" in ASCII.
_LOCK = f"SELECT pg_advisory_xact_lock({int.from_bytes(b'seats', 'big')})"


async def renew_lease(db: Connection, instance: str, at: int, expires_at: int) -> list[str]:
    """Renew ours, drop what expired, answer the others."""
    await db.execute(_LOCK)
    await db.execute("DELETE FROM leases WHERE expires_at <= $1 AND instance <> $2", at, instance)
    await db.execute(
        "INSERT INTO leases (instance, expires_at) VALUES ($1, $2)"
        " ON CONFLICT (instance) DO UPDATE SET expires_at = excluded.expires_at",
        instance,
        expires_at,
    )
    await db.execute("DELETE FROM presence WHERE instance NOT IN (SELECT instance FROM leases)")
    await db.execute("DELETE FROM seats WHERE held_until <= $1", at)
    await db.execute(
        "UPDATE seats SET held_until = $1 WHERE held_until IS NULL AND instance NOT IN (SELECT instance FROM leases)",
        at + SEAT_HOLD_US,
    )
    rows = await db.fetch("SELECT instance FROM leases WHERE instance <> $1 ORDER BY instance", instance)
    return [row[0] for row in rows]


async def release_lease(db: Connection, instance: str, at: int) -> None:
    """Leave nothing but the seats of those who will come back through another process."""
    await db.execute(_LOCK)
    await db.execute("DELETE FROM leases WHERE instance = $1", instance)
    await db.execute("DELETE FROM presence WHERE instance = $1", instance)
    await db.execute(
        "UPDATE seats SET held_until = $1 WHERE instance = $2 AND held_until IS NULL", at + SEAT_HOLD_US, instance
    )


async def set_presence(db: Connection, instance: str, present: Sequence[Presence], absent: Sequence[Presence]) -> None:
    """Write who came and who went through this instance."""
    if absent:
        await db.execute(
            "DELETE FROM presence p USING unnest($1::text[], $2::text[]) AS a (room_id, user_id)"
            " WHERE p.room_id = a.room_id AND p.user_id = a.user_id AND p.instance = $3",
            [gone.room_id for gone in absent],
            [gone.user_id for gone in absent],
            instance,
        )
    if present:
        await db.execute(
            "INSERT INTO presence (room_id, user_id, instance, user_name)"
            " SELECT a.room_id, a.user_id, $4, a.user_name"
            " FROM unnest($1::text[], $2::text[], $3::text[]) AS a (room_id, user_id, user_name)"
            " ON CONFLICT DO NOTHING",
            [came.room_id for came in present],
            [came.user_id for came in present],
            [came.user_name for came in present],
            instance,
        )


async def presence(db: Connection) -> list[Presence]:
    """Everybody present through a lease that was not dropped."""
    rows = await db.fetch(
        "SELECT p.room_id, p.user_id, p.user_name, p.instance FROM presence p JOIN leases l ON l.instance = p.instance"
        " ORDER BY p.room_id, p.user_id, p.instance"
    )
    return [Presence(*row) for row in rows]


async def take_seat(db: Connection, seat: Seat, limit: int, *, move: bool) -> Taken:
    """Take, reclaim or move to a seat; see `ports.SeatStore.take_seat`."""
    await db.execute(_LOCK)
    await _check_right(db, seat)
    await db.execute("DELETE FROM seats WHERE held_until <= $1", seat.taken_at)
    row = await db.fetchrow(f"SELECT {_SEAT} FROM seats WHERE user_id = $1 FOR UPDATE", seat.user_id)
    mine = None if row is None else Seat(*row)
    if mine is not None and mine.held_until is None and not move:
        raise Conflict("This user is connected to voice already, from another tab or device.")
    if mine is not None and mine.held_until is not None and mine.room_id == seat.room_id:
        await db.execute("UPDATE seats SET instance = $1, held_until = NULL WHERE id = $2", seat.instance, mine.id)
        return Taken(msgspec.structs.replace(mine, instance=seat.instance, held_until=None), reclaimed=True)
    taken = await db.fetchval(
        "SELECT count(*) FROM seats WHERE room_id = $1 AND user_id <> $2", seat.room_id, seat.user_id
    )
    if taken >= limit:
        raise VoiceFull("Every voice seat of this room is taken.", limit=limit)
    if mine is not None:
        await db.execute("DELETE FROM seats WHERE id = $1", mine.id)
    await db.execute(f"INSERT INTO seats ({_SEAT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", *_values(seat))
    return Taken(seat, left=mine)


async def _check_right(db: Connection, seat: Seat) -> None:
    is_member, banned = await db.fetchrow(
        "SELECT EXISTS (SELECT 1 FROM members WHERE room_id = $1 AND user_id = $2),"
        " EXISTS (SELECT 1 FROM users WHERE id = $2 AND banned)",
        seat.room_id,
        seat.user_id,
    )
    refusal = access.written(is_member=is_member, banned=banned)
    if refusal is not None:
        raise refusal


async def hold_seat(db: Connection, seat_id: str, instance: str, until: int) -> None:
    """Keep a seat of this instance without its socket."""
    await db.execute("UPDATE seats SET held_until = $1 WHERE id = $2 AND instance = $3", until, seat_id, instance)


async def set_seat(
    db: Connection,
    seat_id: str,
    *,
    muted: bool | None = None,
    audio_muted: bool | None = None,
    moderated: bool | None = None,
) -> None:
    """Write what is said of a seat."""
    await db.execute(
        "UPDATE seats SET muted = coalesce($1, muted), audio_muted = coalesce($2, audio_muted),"
        " moderated = coalesce($3, moderated) WHERE id = $4",
        muted,
        audio_muted,
        moderated,
        seat_id,
    )


async def drop_seat(db: Connection, seat_id: str) -> bool:
    """Delete a seat."""
    return await db.fetchval("DELETE FROM seats WHERE id = $1 RETURNING id", seat_id) is not None


async def seats(db: Connection, at: int) -> list[Seat]:
    """Seats whose hold has not passed."""
    rows = await db.fetch(
        f"SELECT {_SEAT} FROM seats WHERE held_until IS NULL OR held_until > $1 ORDER BY room_id, taken_at, id", at
    )
    return [Seat(*row) for row in rows]


def _values(seat: Seat) -> tuple[Any, ...]:
    return msgspec.structs.astuple(seat)
