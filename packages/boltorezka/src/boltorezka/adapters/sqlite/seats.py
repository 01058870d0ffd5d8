"""The SQL of voice seats: functions of one connection, called inside a transaction of the caller."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from boltorezka.errors import Conflict, VoiceFull
from boltorezka.rooms import access
from boltorezka.voice.model import Seat, Taken

_SEAT = "id, room_id, user_id, user_name, instance, taken_at, held_until, muted, audio_muted, moderated"


def take_seat(db: sqlite3.Connection, seat: Seat, limit: int, *, move: bool) -> Taken:
    """Take, reclaim or move to a seat; see `ports.SeatStore.take_seat`."""
    _check_right(db, seat)
    db.execute("DELETE FROM seats WHERE held_until <= ?", (seat.taken_at,))
    row = db.execute(f"SELECT {_SEAT} FROM seats WHERE user_id = ?", (seat.user_id,)).fetchone()
    mine = None if row is None else _seat(row)
    if mine is not None and mine.held_until is None and not move:
        raise Conflict("This user is connected to voice already, from another tab or device.")
    if mine is not None and mine.held_until is not None and mine.room_id == seat.room_id:
        db.execute("UPDATE seats SET instance = ?, held_until = NULL WHERE id = ?", (seat.instance, mine.id))
        return Taken(msgspec.structs.replace(mine, instance=seat.instance, held_until=None), reclaimed=True)
    (taken,) = db.execute(
        "SELECT count(*) FROM seats WHERE room_id = ? AND user_id <> ?", (seat.room_id, seat.user_id)
    ).fetchone()
    if taken >= limit:
        raise VoiceFull("Every voice seat of this room is taken.", limit=limit)
    if mine is not None:
        db.execute("DELETE FROM seats WHERE id = ?", (mine.id,))
    db.execute(
        f"INSERT INTO seats ({_SEAT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (seat.id, seat.room_id, seat.user_id, seat.user_name, seat.instance, seat.taken_at, seat.held_until,
         seat.muted, seat.audio_muted, seat.moderated),
    )  # fmt: skip
    return Taken(seat, left=mine)


def _check_right(db: sqlite3.Connection, seat: Seat) -> None:
    is_member, banned = db.execute(
        "SELECT EXISTS (SELECT 1 FROM members WHERE room_id = ? AND user_id = ?),"
        " EXISTS (SELECT 1 FROM users WHERE id = ? AND banned)",
        (seat.room_id, seat.user_id, seat.user_id),
    ).fetchone()
    refusal = access.written(is_member=bool(is_member), banned=bool(banned))
    if refusal is not None:
        raise refusal


def hold_seat(db: sqlite3.Connection, seat_id: str, instance: str, until: int) -> None:
    """Keep a seat of this instance without its socket."""
    db.execute("UPDATE seats SET held_until = ? WHERE id = ? AND instance = ?", (until, seat_id, instance))


def set_seat(
    db: sqlite3.Connection,
    seat_id: str,
    *,
    muted: bool | None = None,
    audio_muted: bool | None = None,
    moderated: bool | None = None,
) -> None:
    """Write what is said of a seat."""
    db.execute(
        "UPDATE seats SET muted = coalesce(?, muted), audio_muted = coalesce(?, audio_muted),"
        " moderated = coalesce(?, moderated) WHERE id = ?",
        (muted, audio_muted, moderated, seat_id),
    )


def drop_seat(db: sqlite3.Connection, seat_id: str) -> bool:
    """Delete a seat."""
    return db.execute("DELETE FROM seats WHERE id = ?", (seat_id,)).rowcount == 1


def seats(db: sqlite3.Connection, at: int) -> list[Seat]:
    """Seats whose hold has not passed."""
    rows = db.execute(
        f"SELECT {_SEAT} FROM seats WHERE held_until IS NULL OR held_until > ? ORDER BY room_id, taken_at, id", (at,)
    )
    return [_seat(row) for row in rows]


def _seat(row: tuple[Any, ...]) -> Seat:
    return Seat(*row[:7], *map(bool, row[7:]))
