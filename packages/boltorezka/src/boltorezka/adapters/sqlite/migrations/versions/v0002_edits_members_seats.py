"""Edits, deletes and membership in the log, roles of members, changed users, voice seats, relayed hints.

It only adds: a server that knows 0001 runs on beside the new ones for the length of a rollout.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"

# `events.shown` is the newest text of an edited message; `text` stays what was sent, until `deleted_at`: then both are
# erased, and so is the text of every edit, which has the same `deleted_at`.
_STATEMENTS = (
    "ALTER TABLE events ADD COLUMN shown TEXT",
    "ALTER TABLE events ADD COLUMN edited_at INTEGER",
    "ALTER TABLE events ADD COLUMN deleted_at INTEGER",
    # The edits of a message that is deleted; nothing else is looked up by `ref`.
    "CREATE INDEX events_edits ON events (ref) WHERE kind = 'edit'",
    # The summary of a day must not read the log of a year.
    "CREATE INDEX events_time ON events (created_at)",
    "ALTER TABLE members ADD COLUMN role TEXT NOT NULL DEFAULT 'member'",
    # When role or ban were changed, for the processes that hold the user's sockets.
    "ALTER TABLE users ADD COLUMN changed_at INTEGER",
    "CREATE INDEX users_changed ON users (changed_at) WHERE changed_at IS NOT NULL",
    "CREATE INDEX sessions_user ON sessions (user_id)",
    """CREATE TABLE seats (
        id TEXT PRIMARY KEY, room_id TEXT NOT NULL, user_id TEXT NOT NULL UNIQUE, user_name TEXT NOT NULL,
        instance TEXT NOT NULL, taken_at INTEGER NOT NULL, held_until INTEGER, muted INTEGER NOT NULL,
        audio_muted INTEGER NOT NULL, moderated INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    "CREATE INDEX seats_room ON seats (room_id)",
    # Numbers are never used again (AUTOINCREMENT): a reader's position stays good when old rows go.
    """CREATE TABLE relays (
        id INTEGER PRIMARY KEY AUTOINCREMENT, instance TEXT NOT NULL, at INTEGER NOT NULL,
        body BLOB NOT NULL) STRICT""",
)


def upgrade() -> None:
    """Add columns with defaults, indexes and tables; no row is rewritten."""
    for statement in _STATEMENTS:
        op.execute(text(statement))
