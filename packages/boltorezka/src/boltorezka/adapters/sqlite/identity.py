"""The SQL of users, sessions and tickets: functions of one connection, inside a transaction of the caller."""

from __future__ import annotations

import sqlite3

import msgspec

from boltorezka.adapters.sqlite.rows import USER, user_of
from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.errors import UserNotFound
from boltorezka.rooms.model import Role, User

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
    row = db.execute(f"SELECT {USER} FROM users WHERE driver = ? AND issuer = ? AND subject = ?", who).fetchone()
    user = user_of(row)
    if role is None or _RANK[role] <= _RANK[user.role]:
        return user
    db.execute("UPDATE users SET role = ?, changed_at = ? WHERE id = ?", (role.value, at, user.id))
    return msgspec.structs.replace(user, role=role)


def user(db: sqlite3.Connection, user_id: str) -> User | None:
    """The user, or None."""
    row = db.execute(f"SELECT {USER} FROM users WHERE id = ?", (user_id,)).fetchone()
    return None if row is None else user_of(row)


def users(db: sqlite3.Connection, limit: int, after_id: str | None) -> list[User]:
    """Users by id."""
    rows = db.execute(f"SELECT {USER} FROM users WHERE id > ? ORDER BY id LIMIT ?", (after_id or "", limit))
    return [user_of(row) for row in rows]


def set_role(db: sqlite3.Connection, user_id: str, role: Role, at: int) -> User:
    """Give a role."""
    return _changed(db, user_id, "role", role.value, at)


def set_banned(db: sqlite3.Connection, user_id: str, banned: bool, at: int) -> User:
    """Ban or unban; who is banned has no session, no ticket and no voice seat left."""
    changed = _changed(db, user_id, "banned", banned, at)
    if banned:
        db.execute("UPDATE sessions SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL", (at, user_id))
        db.execute("DELETE FROM tickets WHERE user_id = ?", (user_id,))
        db.execute("DELETE FROM seats WHERE user_id = ?", (user_id,))
    return changed


def _changed(db: sqlite3.Connection, user_id: str, column: str, value: object, at: int) -> User:
    row = db.execute(
        f"UPDATE users SET {column} = ?, changed_at = ? WHERE id = ? RETURNING {USER}", (value, at, user_id)
    ).fetchone()
    if row is None:
        raise UserNotFound("There is no such user.")
    return user_of(row)


def changed_users(db: sqlite3.Connection, at: int) -> list[User]:
    """Users whose role or ban was changed at or after a time."""
    return [user_of(row) for row in db.execute(f"SELECT {USER} FROM users WHERE changed_at >= ? ORDER BY id", (at,))]


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
