"""The SQL of leases and of who is present through each: functions of one connection, inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from boltorezka.ports import SEAT_HOLD_US, Presence


def renew_lease(db: sqlite3.Connection, instance: str, at: int, expires_at: int) -> list[str]:
    """Renew ours, drop what expired, answer the others."""
    db.execute("DELETE FROM leases WHERE expires_at <= ? AND instance != ?", (at, instance))
    db.execute(
        "INSERT INTO leases (instance, expires_at) VALUES (?, ?)"
        " ON CONFLICT (instance) DO UPDATE SET expires_at = excluded.expires_at",
        (instance, expires_at),
    )
    db.execute("DELETE FROM presence WHERE instance NOT IN (SELECT instance FROM leases)")
    db.execute("DELETE FROM seats WHERE held_until <= ?", (at,))
    # Not only those whose lease was dropped just now: an older server drops leases without holding seats.
    db.execute(
        "UPDATE seats SET held_until = ? WHERE held_until IS NULL AND instance NOT IN (SELECT instance FROM leases)",
        (at + SEAT_HOLD_US,),
    )
    return [row[0] for row in db.execute("SELECT instance FROM leases WHERE instance != ? ORDER BY 1", (instance,))]


def release_lease(db: sqlite3.Connection, instance: str, at: int) -> None:
    """Leave nothing but the seats of those who will come back through another process."""
    db.execute("DELETE FROM leases WHERE instance = ?", (instance,))
    db.execute("DELETE FROM presence WHERE instance = ?", (instance,))
    db.execute(
        "UPDATE seats SET held_until = ? WHERE instance = ? AND held_until IS NULL", (at + SEAT_HOLD_US, instance)
    )


def set_presence(
    db: sqlite3.Connection, instance: str, present: Sequence[Presence], absent: Sequence[Presence]
) -> None:
    """Write who came and who went through this instance."""
    db.executemany(
        "DELETE FROM presence WHERE room_id = ? AND user_id = ? AND instance = ?",
        [(gone.room_id, gone.user_id, instance) for gone in absent],
    )
    db.executemany(
        "INSERT INTO presence (room_id, user_id, instance, user_name) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(came.room_id, came.user_id, instance, came.user_name) for came in present],
    )


def presence(db: sqlite3.Connection) -> list[Presence]:
    """Everybody present through a lease that was not dropped."""
    rows = db.execute(
        "SELECT p.room_id, p.user_id, p.user_name, p.instance FROM presence p JOIN leases l ON l.instance = p.instance"
        " ORDER BY 1, 2, 4"
    )
    return [Presence(*row) for row in rows]
