"""The SQL of users, sessions, tickets, leases and presence: functions of one connection, inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.ports import Presence
from boltorezka.rooms.model import Role, User

_USER = "id, name, email, role, created_at, banned"
_SESSION = "id, user_id, generation, created_at, rotated_at, expires_at, revoked_at"
_RANK = {Role.USER: 0, Role.ADMIN: 1, Role.SUPER_ADMIN: 2}

# A ticket lives 45 seconds. Rows this much older than a new one's end were never used and can go.
_STALE_TICKET_US = 600 * 1_000_000


def upsert_user(db: sqlite3.Connection, identity: Identity, user_id: str, role: Role | None, at: int) -> User:
    """Make or refresh the user of an identity; a role is only ever raised here."""
    who = (identity.driver, identity.issuer, identity.subject)
    db.execute(
        "INSERT INTO users (id, driver, issuer, subject, email, name, role, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (driver, issuer, subject) DO UPDATE SET email = excluded.email, name = excluded.name",
        (user_id, *who, identity.email, identity.name, Role.USER.value, at),
    )
    row = db.execute(f"SELECT {_USER} FROM users WHERE driver = ? AND issuer = ? AND subject = ?", who).fetchone()
    user = _user(row)
    if role is None or _RANK[role] <= _RANK[user.role]:
        return user
    db.execute("UPDATE users SET role = ? WHERE id = ?", (role.value, user.id))
    return User(user.id, user.name, user.email, role, user.created_at, user.banned)


def user(db: sqlite3.Connection, user_id: str) -> User | None:
    """The user, or None."""
    row = db.execute(f"SELECT {_USER} FROM users WHERE id = ?", (user_id,)).fetchone()
    return None if row is None else _user(row)


def create_session(db: sqlite3.Connection, session: Session) -> None:
    """Insert the session."""
    db.execute(
        f"INSERT INTO sessions ({_SESSION}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            session.id, session.user_id, session.generation, session.created_at, session.rotated_at,
            session.expires_at, session.revoked_at,
        ),
    )  # fmt: skip


def session(db: sqlite3.Connection, session_id: str) -> tuple[Session, User] | None:
    """The session with its user, whatever their state."""
    row = db.execute(f"SELECT {_SESSION} FROM sessions WHERE id = ?", (session_id,)).fetchone()
    owner = None if row is None else user(db, row[1])
    return None if owner is None else (Session(*row), owner)


def advance_session(db: sqlite3.Connection, session_id: str, from_generation: int, at: int) -> bool:
    """Compare and set of the generation."""
    changed = db.execute(
        "UPDATE sessions SET generation = generation + 1, rotated_at = ?"
        " WHERE id = ? AND generation = ? AND revoked_at IS NULL",
        (at, session_id, from_generation),
    )
    return changed.rowcount == 1


def revoke_session(db: sqlite3.Connection, session_id: str, at: int) -> None:
    """Revoke; the first time counts."""
    db.execute("UPDATE sessions SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (at, session_id))


def revoked_since(db: sqlite3.Connection, at: int) -> list[str]:
    """Sessions revoked at or after a time."""
    return [row[0] for row in db.execute("SELECT id FROM sessions WHERE revoked_at >= ?", (at,))]


def put_ticket(db: sqlite3.Connection, ticket_hash: bytes, grant: TicketGrant) -> None:
    """Store a ticket, and forget those nobody ever used."""
    db.execute("DELETE FROM tickets WHERE expires_at < ?", (grant.expires_at - _STALE_TICKET_US,))
    db.execute(
        "INSERT INTO tickets (hash, session_id, user_id, via_bearer, expires_at) VALUES (?, ?, ?, ?, ?)",
        (ticket_hash, grant.session_id, grant.user_id, grant.via_bearer, grant.expires_at),
    )


def take_ticket(db: sqlite3.Connection, ticket_hash: bytes) -> TicketGrant | None:
    """Consume a ticket."""
    row = db.execute(
        "DELETE FROM tickets WHERE hash = ? RETURNING session_id, user_id, via_bearer, expires_at", (ticket_hash,)
    ).fetchone()
    return None if row is None else TicketGrant(row[0], row[1], bool(row[2]), row[3])


def renew_lease(db: sqlite3.Connection, instance: str, at: int, expires_at: int) -> list[str]:
    """Renew ours, drop what expired, answer the others."""
    db.execute("DELETE FROM leases WHERE expires_at <= ? AND instance != ?", (at, instance))
    db.execute(
        "INSERT INTO leases (instance, expires_at) VALUES (?, ?)"
        " ON CONFLICT (instance) DO UPDATE SET expires_at = excluded.expires_at",
        (instance, expires_at),
    )
    db.execute("DELETE FROM presence WHERE instance NOT IN (SELECT instance FROM leases)")
    return [row[0] for row in db.execute("SELECT instance FROM leases WHERE instance != ? ORDER BY 1", (instance,))]


def release_lease(db: sqlite3.Connection, instance: str) -> None:
    """Leave without a trace."""
    db.execute("DELETE FROM leases WHERE instance = ?", (instance,))
    db.execute("DELETE FROM presence WHERE instance = ?", (instance,))


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


def _user(row: tuple[Any, ...]) -> User:
    return User(row[0], row[1], row[2], Role(row[3]), row[4], bool(row[5]))
