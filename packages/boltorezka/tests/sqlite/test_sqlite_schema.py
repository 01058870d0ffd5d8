"""The schema of the SQLite file: what is refused, how it is migrated, that nothing of an older file is lost."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from boltorezka.adapters.sqlite import SqliteStore, code_head, head, migrate
from boltorezka.adapters.sqlite.schema import _upgrade, require_current
from boltorezka.auth.model import TicketGrant
from boltorezka.errors import SchemaError, Unavailable
from boltorezka.ports import NewEvent, Presence
from boltorezka.rooms.model import EventKind, MemberRole, Role

NOW = 1_800_000_000_000_000


def run(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Execute statements in one transaction; the rows of the last one."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            rows = db.execute(statement).fetchall()
    return rows


def test_a_missing_old_or_foreign_database_is_refused(tmp_path):
    """Each kind of unusable file is named, with the command that helps, and nothing is created."""
    path = tmp_path / "x.db"
    with pytest.raises(SchemaError, match="boltorezka migrate"):
        require_current(path)
    assert not path.exists()
    path.write_text("this is not a database, it only looks like a file of some length")
    with pytest.raises(SchemaError, match="not a SQLite database"):
        head(path)
    path.unlink()
    for revision, match in (
        ("0000", "Run `boltorezka migrate`"),
        ("0001", "Run `boltorezka migrate`"),
        ("feedbeef", "foreign schema"),
    ):
        run(
            path,
            "CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)",
            "DELETE FROM alembic_version",
            f"INSERT INTO alembic_version VALUES ('{revision}')",  # noqa: S608 - our own constants
        )
        with pytest.raises(SchemaError, match=match):
            require_current(path)


def test_a_newer_database_is_accepted_and_left_alone(path):
    """During a rollback the older server runs on the newer schema; migrate() does not touch it."""
    run(path, "UPDATE alembic_version SET version_num = '9999'")
    require_current(path)
    assert migrate(path) == "9999"


def test_migrating_is_repeatable_and_knows_its_head(path):
    """The second migration changes nothing; the head in the code is the head of the scripts."""
    from alembic.script import ScriptDirectory

    import boltorezka.adapters.sqlite.migrations as scripts

    assert migrate(path) == head(path) == code_head()
    assert ScriptDirectory(Path(scripts.__file__).parent).get_current_head() == code_head()


def test_processes_that_migrate_at_once_agree(tmp_path):
    """Three processes started together all end well, and there is one room `general`."""
    path = tmp_path / "x.db"
    code = "import sys, pathlib, boltorezka.adapters.sqlite as s; s.migrate(pathlib.Path(sys.argv[1]))"
    children = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    assert run(path, "SELECT count(*) FROM rooms") == [(1,)]


def test_serving_does_not_load_the_migration_tools():
    """Importing the store must not import Alembic or SQLAlchemy: a server starts without them."""
    code = "import sys, boltorezka.adapters.sqlite; sys.exit(bool({'alembic', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# from 0001 to 0002

# What the code of 0001 writes, in its own words: to fill the file before, and to go on writing during a rollout.
ROOM = (
    "INSERT INTO rooms (id, slug, title, is_public, created_at, epoch, last_seq)"
    " VALUES ('r', 'old', 'Old', 0, 5, 'e', 2)"
)
USER = (
    "INSERT INTO users (id, driver, issuer, subject, email, name, role, created_at)"
    " VALUES ('{0}', 'broker', 'sso', '{0}', 'a@x', 'Ann', 'admin', 7)"
)
MEMBER = (
    "INSERT INTO members (room_id, user_id, joined_at, read_seq)"
    " SELECT id, '{}', 9, last_seq FROM rooms WHERE id = 'r' ON CONFLICT DO NOTHING"
)
EVENT = (
    "INSERT INTO events (room_id, seq, kind, id, user_id, text, request_id, idempotency_key, created_at)"
    " VALUES ('r', {0}, 'message', 'm{0}', 'u1', 'text {0}', 'q{0}', 'k{0}', 1800000000000000)"
)
HEAD = "UPDATE rooms SET last_seq = {} WHERE id = 'r'"
SESSION = (
    "INSERT INTO sessions (id, user_id, generation, created_at, rotated_at, expires_at, revoked_at)"
    " VALUES ('s1', 'u1', 3, 1, 2, 3, NULL)"
)
TICKET = "INSERT INTO tickets (hash, session_id, user_id, via_bearer, expires_at) VALUES (x'01', 's1', 'u1', 1, 4)"
LEASE = (
    "INSERT INTO leases (instance, expires_at) VALUES ('old', 99)"
    " ON CONFLICT (instance) DO UPDATE SET expires_at = excluded.expires_at"
)
PRESENCE = (
    "INSERT INTO presence (room_id, user_id, instance, user_name)"
    " VALUES ('r', 'u1', 'old', 'Ann') ON CONFLICT DO NOTHING"
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of revision 0001 with a row in each table."""
    path = tmp_path / "old.db"
    _upgrade(path, "0001")
    run(path, ROOM, USER.format("u1"), MEMBER.format("u1"), EVENT.format(1), EVENT.format(2), SESSION, TICKET, LEASE)
    run(path, PRESENCE)
    return path


async def test_everything_of_an_older_file_is_still_there(old, clock):
    """Rooms, members, messages, keys, users, sessions, tickets, leases: read by the new code after the migration."""
    assert migrate(old) == code_head()
    store = SqliteStore(old, clock)
    await store.open()
    try:
        page = await store.page("r", 10)
        assert [(event.text, event.edited_at, event.idempotency_key) for event in page.events] == [
            ("text 1", None, "k1"),
            ("text 2", None, "k2"),
        ]
        assert await store.delta("r", 0, 10) == list(page.events)
        found = await store.entrance("old", "u1")
        assert (found.room.epoch, found.room.last_seq, found.member.role) == ("e", 2, MemberRole.MEMBER)
        assert [view.room.slug for view in await store.rooms_for("u1")] == ["old", "general"]
        user = await store.user("u1")
        assert (user.name, user.role, user.banned) == ("Ann", Role.ADMIN, False)
        session, _ = await store.session("s1")
        assert (session.generation, session.revoked_at) == (3, None)
        assert await store.take_ticket(b"\x01") == TicketGrant("s1", "u1", True, 4)
        assert await store.presence() == [Presence("r", "u1", "Ann", "old")]
        assert await store.changed_users(0) == []
    finally:
        await store.close()


async def test_an_older_message_can_be_changed(old, clock):
    """A message of before the migration is edited, retried and deleted like any other."""
    migrate(old)
    store = SqliteStore(old, clock)
    await store.open()
    try:
        edit = NewEvent("r", EventKind.EDIT, "e1", "u1", "Ann", "new", NOW, ref="m1")
        delete = NewEvent("r", EventKind.DELETE, "d1", "u1", "Ann", "", NOW, ref="m2")
        retry = NewEvent("r", EventKind.MESSAGE, "m9", "u1", "Ann", "text 2", NOW, idempotency_key="k2")
        answers = await store.append([edit, retry, delete])
        assert [(answer.event.seq, answer.duplicate) for answer in answers] == [(3, False), (2, True), (4, False)]
        assert [event.text for event in (await store.page("r", 10)).events] == ["new"]
    finally:
        await store.close()


async def test_an_older_server_goes_on_beside_a_newer_one(old, clock):
    """The statements of 0001 work on the migrated file, for the length of a rollout, and the new code reads them."""
    migrate(old)
    store = SqliteStore(old, clock)
    await store.open()
    try:
        run(old, USER.format("u2"), MEMBER.format("u2"), EVENT.format(3), HEAD.format(3), LEASE, PRESENCE)
        assert (await store.entrance("old", "u2")).member.role is MemberRole.MEMBER
        (answer,) = await store.append([NewEvent("r", EventKind.MESSAGE, "m4", "u2", "Bob", "hi", NOW)])
        assert answer.event.seq == 4
        assert [event.id for event in await store.delta("r", 0, 10)] == ["m1", "m2", "m3", "m4"]
        assert run(old, "SELECT kind, text FROM events WHERE seq = 4") == [("message", "hi")]
    finally:
        await store.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(old):
    """The second revision is one transaction: a table in its way and nothing of it is there."""
    run(old, "CREATE TABLE relays (x)")
    before = run(old, "SELECT sql FROM sqlite_master ORDER BY name")
    with pytest.raises(Unavailable, match="as it was"):
        migrate(old)
    assert run(old, "SELECT sql FROM sqlite_master ORDER BY name") == before
    assert head(old) == "0001"
    run(old, "DROP TABLE relays")
    assert migrate(old) == code_head()
