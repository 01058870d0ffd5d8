"""The SQL of users, sessions and tickets: functions of one connection."""

from __future__ import annotations

import msgspec

from boltorezka.adapters.postgres.connect import Connection
from boltorezka.adapters.postgres.rows import USER, user_of
from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.errors import UserNotFound
from boltorezka.rooms.model import Role, User

_SESSION = "id, user_id, generation, created_at, rotated_at, expires_at, revoked_at"
_RANK = {Role.USER: 0, Role.ADMIN: 1, Role.SUPER_ADMIN: 2}

# A ticket lives 45 seconds. Rows this much older than a new one's end were never used and can go.
_STALE_TICKET_US = 600 * 1_000_000


async def upsert_user(db: Connection, identity: Identity, user_id: str, role: Role | None, at: int) -> User:
    """Make or refresh the user of an identity; a role is only ever raised here. The row stays locked to the end."""
    row = await db.fetchrow(
        "INSERT INTO users (id, driver, issuer, subject, email, name, role, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        " ON CONFLICT (driver, issuer, subject) DO UPDATE SET email = excluded.email, name = excluded.name"
        f" RETURNING {USER}",
        user_id,
        identity.driver,
        identity.issuer,
        identity.subject,
        identity.email,
        identity.name,
        Role.USER.value,
        at,
    )
    user = user_of(row)
    if role is None or _RANK[role] <= _RANK[user.role]:
        return user
    await db.execute("UPDATE users SET role = $1, changed_at = $2 WHERE id = $3", role.value, at, user.id)
    return msgspec.structs.replace(user, role=role)


async def user(db: Connection, user_id: str) -> User | None:
    """The user, or None."""
    row = await db.fetchrow(f"SELECT {USER} FROM users WHERE id = $1", user_id)
    return None if row is None else user_of(row)


async def users(db: Connection, limit: int, after_id: str | None) -> list[User]:
    """Users by id."""
    rows = await db.fetch(f"SELECT {USER} FROM users WHERE id > $1 ORDER BY id LIMIT $2", after_id or "", limit)
    return [user_of(row) for row in rows]


async def set_role(db: Connection, user_id: str, role: Role, at: int) -> User:
    """Give a role."""
    return await _changed(db, user_id, "role", role.value, at)


async def set_banned(db: Connection, user_id: str, banned: bool, at: int) -> User:
    """Ban or unban; who is banned has no session, no ticket and no voice seat left."""
    changed = await _changed(db, user_id, "banned", banned, at)
    if banned:
        await db.execute("UPDATE sessions SET revoked_at = $1 WHERE user_id = $2 AND revoked_at IS NULL", at, user_id)
        await db.execute("DELETE FROM tickets WHERE user_id = $1", user_id)
        await db.execute("DELETE FROM seats WHERE user_id = $1", user_id)
    return changed


async def _changed(db: Connection, user_id: str, column: str, value: object, at: int) -> User:
    row = await db.fetchrow(
        f"UPDATE users SET {column} = $1, changed_at = $2 WHERE id = $3 RETURNING {USER}", value, at, user_id
    )
    if row is None:
        raise UserNotFound("There is no such user.")
    return user_of(row)


async def changed_users(db: Connection, at: int) -> list[User]:
    """Users whose role or ban was changed at or after a time."""
    return [user_of(row) for row in await db.fetch(f"SELECT {USER} FROM users WHERE changed_at >= $1 ORDER BY id", at)]


async def create_session(db: Connection, session: Session) -> None:
    """Insert the session."""
    await db.execute(
        f"INSERT INTO sessions ({_SESSION}) VALUES ($1, $2, $3, $4, $5, $6, $7)", *msgspec.structs.astuple(session)
    )


async def session(db: Connection, session_id: str) -> tuple[Session, User] | None:
    """The session with its user, whatever their state."""
    row = await db.fetchrow(
        "SELECT s.id, s.user_id, s.generation, s.created_at, s.rotated_at, s.expires_at, s.revoked_at,"
        " u.id, u.name, u.email, u.role, u.created_at, u.banned"
        " FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1",
        session_id,
    )
    return None if row is None else (Session(*row[:7]), user_of(row[7:]))


async def advance_session(db: Connection, session_id: str, from_generation: int, at: int) -> bool:
    """Compare and set of the generation."""
    changed = await db.fetchval(
        "UPDATE sessions SET generation = generation + 1, rotated_at = $1"
        " WHERE id = $2 AND generation = $3 AND revoked_at IS NULL RETURNING id",
        at,
        session_id,
        from_generation,
    )
    return changed is not None


async def revoke_session(db: Connection, session_id: str, at: int) -> None:
    """Revoke; the first time counts."""
    await db.execute("UPDATE sessions SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL", at, session_id)


async def revoked_since(db: Connection, at: int) -> list[str]:
    """Sessions revoked at or after a time."""
    return [row[0] for row in await db.fetch("SELECT id FROM sessions WHERE revoked_at >= $1 ORDER BY id", at)]


async def put_ticket(db: Connection, ticket_hash: bytes, grant: TicketGrant) -> None:
    """Store a ticket, and forget those nobody ever used."""
    # Rows that another process is forgetting right now are left to it.
    await db.execute(
        "DELETE FROM tickets WHERE hash IN (SELECT hash FROM tickets WHERE expires_at < $1 FOR UPDATE SKIP LOCKED)",
        grant.expires_at - _STALE_TICKET_US,
    )
    await db.execute(
        "INSERT INTO tickets (hash, session_id, user_id, via_bearer, expires_at) VALUES ($1, $2, $3, $4, $5)",
        ticket_hash,
        grant.session_id,
        grant.user_id,
        grant.via_bearer,
        grant.expires_at,
    )


async def take_ticket(db: Connection, ticket_hash: bytes) -> TicketGrant | None:
    """Consume a ticket."""
    row = await db.fetchrow(
        "DELETE FROM tickets WHERE hash = $1 RETURNING session_id, user_id, via_bearer, expires_at", ticket_hash
    )
    return None if row is None else TicketGrant(*row)
