"""Users, sessions, tickets, rooms with their logs, leases and presence; the public room `general`."""

from __future__ import annotations

import time
import uuid

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision = None

# Times are integer microseconds since the Unix epoch, UTC. `events.ref` names the event an edit or a delete is about.
_TABLES = (
    """CREATE TABLE users (
        id TEXT PRIMARY KEY, driver TEXT NOT NULL, issuer TEXT NOT NULL, subject TEXT NOT NULL,
        email TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL, banned INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL, UNIQUE (driver, issuer, subject)) STRICT""",
    """CREATE TABLE sessions (
        id TEXT PRIMARY KEY, user_id TEXT NOT NULL, generation INTEGER NOT NULL, created_at INTEGER NOT NULL,
        rotated_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER) STRICT""",
    "CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL",
    """CREATE TABLE tickets (
        hash BLOB PRIMARY KEY, session_id TEXT NOT NULL, user_id TEXT NOT NULL, via_bearer INTEGER NOT NULL,
        expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    "CREATE INDEX tickets_expiry ON tickets (expires_at)",
    """CREATE TABLE rooms (
        id TEXT PRIMARY KEY, slug TEXT NOT NULL UNIQUE, title TEXT NOT NULL, is_public INTEGER NOT NULL,
        created_at INTEGER NOT NULL, epoch TEXT NOT NULL, last_seq INTEGER NOT NULL DEFAULT 0) STRICT""",
    """CREATE TABLE events (
        room_id TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, ref TEXT,
        user_id TEXT NOT NULL, text TEXT NOT NULL, request_id TEXT, idempotency_key TEXT,
        created_at INTEGER NOT NULL, PRIMARY KEY (room_id, seq)) STRICT, WITHOUT ROWID""",
    "CREATE UNIQUE INDEX events_id ON events (id)",
    """CREATE UNIQUE INDEX events_key ON events (user_id, idempotency_key)
        WHERE idempotency_key IS NOT NULL""",
    """CREATE TABLE members (
        room_id TEXT NOT NULL, user_id TEXT NOT NULL, joined_at INTEGER NOT NULL, read_seq INTEGER NOT NULL,
        PRIMARY KEY (room_id, user_id)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX members_user ON members (user_id)",
    "CREATE TABLE leases (instance TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE presence (
        room_id TEXT NOT NULL, user_id TEXT NOT NULL, instance TEXT NOT NULL, user_name TEXT NOT NULL,
        PRIMARY KEY (room_id, user_id, instance)) STRICT, WITHOUT ROWID""",
)


def upgrade() -> None:
    """Make the tables and the first room."""
    for statement in _TABLES:
        op.execute(text(statement))
    op.execute(
        text(
            "INSERT INTO rooms (id, slug, title, is_public, created_at, epoch)"
            " VALUES (:id, 'general', 'General', 1, :at, :epoch)"
        ).bindparams(id=uuid.uuid4().hex, at=time.time_ns() // 1000, epoch=uuid.uuid4().hex)
    )
