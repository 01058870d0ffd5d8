"""Users, sessions, tickets, rooms with their logs, leases, presence, voice seats; the public room `general`."""

from __future__ import annotations

import time
import uuid

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision = None

# Times are integer microseconds since the Unix epoch, UTC. Ids are compared byte by byte (COLLATE "C"): their order
# must not depend on the server's language, and it is faster.
# `events.ref` is the message of an edit or a delete. `events.shown` is the newest text of an edited message; `text`
# stays what was sent, until `deleted_at`: then both are erased, and so is every edit's text, with the same time.
_TABLES = (
    """CREATE TABLE users (
        id text COLLATE "C" PRIMARY KEY, driver text NOT NULL, issuer text NOT NULL, subject text NOT NULL,
        email text NOT NULL, name text NOT NULL, role text NOT NULL, banned boolean NOT NULL DEFAULT false,
        created_at bigint NOT NULL, changed_at bigint, UNIQUE (driver, issuer, subject))""",
    "CREATE INDEX users_changed ON users (changed_at) WHERE changed_at IS NOT NULL",
    """CREATE TABLE sessions (
        id text COLLATE "C" PRIMARY KEY, user_id text COLLATE "C" NOT NULL, generation integer NOT NULL,
        created_at bigint NOT NULL, rotated_at bigint NOT NULL, expires_at bigint NOT NULL, revoked_at bigint)""",
    "CREATE INDEX sessions_user ON sessions (user_id)",
    "CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL",
    """CREATE TABLE tickets (
        hash bytea PRIMARY KEY, session_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL,
        via_bearer boolean NOT NULL, expires_at bigint NOT NULL)""",
    "CREATE INDEX tickets_expiry ON tickets (expires_at)",
    # Free space in each page: the update of `last_seq`, one for each batch, then touches no index.
    """CREATE TABLE rooms (
        id text COLLATE "C" PRIMARY KEY, slug text COLLATE "C" NOT NULL UNIQUE, title text NOT NULL,
        is_public boolean NOT NULL, created_at bigint NOT NULL, epoch text NOT NULL,
        last_seq bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50)""",
    """CREATE TABLE events (
        room_id text COLLATE "C" NOT NULL, seq bigint NOT NULL, kind text NOT NULL, id text COLLATE "C" NOT NULL,
        ref text COLLATE "C", user_id text COLLATE "C" NOT NULL, text text NOT NULL, request_id text,
        idempotency_key text COLLATE "C", created_at bigint NOT NULL, shown text, edited_at bigint, deleted_at bigint,
        PRIMARY KEY (room_id, seq))""",
    "CREATE UNIQUE INDEX events_id ON events (id)",
    "CREATE UNIQUE INDEX events_key ON events (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL",
    # The edits of a message that is deleted; nothing else is looked up by `ref`.
    "CREATE INDEX events_edits ON events (ref) WHERE kind = 'edit'",
    # The summary of a day must not read the log of a year. It grows with time, so a summary of its pages is enough.
    "CREATE INDEX events_time ON events USING brin (created_at)",
    """CREATE TABLE members (
        room_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, role text NOT NULL,
        joined_at bigint NOT NULL, read_seq bigint NOT NULL, PRIMARY KEY (room_id, user_id))""",
    "CREATE INDEX members_user ON members (user_id)",
    """CREATE TABLE leases (instance text COLLATE "C" PRIMARY KEY, expires_at bigint NOT NULL)""",
    """CREATE TABLE presence (
        room_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, instance text COLLATE "C" NOT NULL,
        user_name text NOT NULL, PRIMARY KEY (room_id, user_id, instance))""",
    """CREATE TABLE seats (
        id text COLLATE "C" PRIMARY KEY, room_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL UNIQUE,
        user_name text NOT NULL, instance text COLLATE "C" NOT NULL, taken_at bigint NOT NULL, held_until bigint,
        muted boolean NOT NULL, audio_muted boolean NOT NULL, moderated boolean NOT NULL)""",
    "CREATE INDEX seats_room ON seats (room_id)",
)


def upgrade() -> None:
    """Make the tables and the first room."""
    for statement in _TABLES:
        op.execute(text(statement))
    op.execute(
        text(
            "INSERT INTO rooms (id, slug, title, is_public, created_at, epoch)"
            " VALUES (:id, 'general', 'General', true, :at, :epoch)"
        ).bindparams(id=uuid.uuid4().hex, at=time.time_ns() // 1000, epoch=uuid.uuid4().hex)
    )
