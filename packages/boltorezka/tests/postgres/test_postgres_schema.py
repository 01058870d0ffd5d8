"""The schema of a PostgreSQL database: what is refused, in which words, and how it is migrated."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import boltorezka.adapters.postgres.migrations as scripts
from boltorezka.adapters.postgres import PostgresStore, code_head, head, migrate, schema
from boltorezka.adapters.postgres.schema import require_current
from boltorezka.errors import BoltorezkaError, ConfigError, SchemaError, Unavailable
from boltorezka.testing import VirtualClock

TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


@pytest.fixture
def empty(postgres_server):
    """The name of a database without a table."""
    name = postgres_server.new_database(migrated=False)
    yield name
    postgres_server.start()
    postgres_server.drop_database(name)


def _answers(address):
    """What each way to the database says: all of them must say the same."""

    async def opened():
        await PostgresStore(address, VirtualClock()).open()

    for attempt in (lambda: head(address), lambda: migrate(address), lambda: asyncio.run(opened())):
        with pytest.raises(BoltorezkaError) as caught:
            attempt()
        yield caught.value


def test_a_wrong_password_user_or_database_is_a_configuration_problem(postgres_server, postgres_database):
    """Each is named with the server, and the password is in no word of it."""
    wrong = {
        "does not let the user 'boltorezka' in": replace(postgres_database, password="s3ntinel"),
        "does not let the user 'nobody' in": replace(postgres_database, user="nobody"),
        "has no database 'nowhere'": replace(postgres_database, name="nowhere"),
    }
    for words, address in wrong.items():
        errors = list(_answers(address))
        assert [type(error) for error in errors] == [ConfigError] * 3
        for error in errors:
            (problem,) = error.data["problems"]
            assert words in problem
            assert f"127.0.0.1:{postgres_server.port}" in problem
            assert str(address.password) not in f"{error!r} {problem} {address!r} {address}"


def test_a_server_that_is_away_is_said_so(postgres_server, postgres_database):
    """Unavailable, with the place of the server and what to do."""
    postgres_server.stop()
    for error in _answers(postgres_database):
        assert isinstance(error, Unavailable)
        assert f"127.0.0.1:{postgres_server.port} cannot be used now" in error.message


def test_a_missing_old_or_foreign_schema_is_refused(postgres_server, empty):
    """Each kind of unusable database is named, with the command that helps."""
    address = postgres_server.address(empty)
    assert head(address) is None
    with pytest.raises(SchemaError, match="boltorezka migrate"):
        require_current(address)
    postgres_server.ask(empty, "CREATE TABLE alembic_version (version_num text)")
    assert head(address) is None
    for revision, match in (("0000", "Run `boltorezka migrate`"), ("feedbeef", "foreign schema")):
        postgres_server.ask(empty, "DELETE FROM alembic_version")
        postgres_server.ask(empty, f"INSERT INTO alembic_version VALUES ('{revision}')")  # noqa: S608 - from above
        with pytest.raises(SchemaError, match=match):
            require_current(address)
    with pytest.raises(SchemaError, match="foreign schema"):
        migrate(address)


def test_the_tables_of_something_else_are_left_alone(postgres_server, empty):
    """A database that another program uses is refused, and nothing was made in it."""
    postgres_server.ask(empty, "CREATE TABLE rooms (id text)")
    with pytest.raises(SchemaError, match="holds tables of something else"):
        migrate(postgres_server.address(empty))
    assert postgres_server.ask(empty, TABLES) == "1"


def test_a_database_that_cannot_hold_every_language_is_refused(postgres_server):
    """An encoding other than UTF-8 is found before people's messages are."""
    postgres_server.ask("postgres", "CREATE DATABASE old_letters TEMPLATE template0 ENCODING 'LATIN1'")
    try:
        with pytest.raises(SchemaError, match="LATIN1"):
            migrate(postgres_server.address("old_letters"))
    finally:
        postgres_server.drop_database("old_letters")


def test_a_user_who_may_not_make_tables_is_said_so(postgres_server, empty):
    """The sentence names the user and the right that is missing."""
    postgres_server.ask(empty, "CREATE ROLE guest LOGIN PASSWORD 'guest'")
    try:
        with pytest.raises(SchemaError, match="'guest' make tables"):
            migrate(replace(postgres_server.address(empty), user="guest", password="guest"))
    finally:
        postgres_server.ask(empty, "DROP ROLE guest")


def test_a_newer_schema_is_accepted_and_left_alone(postgres_server, postgres_database):
    """During a rollback the older server runs on the newer schema; migrate() does not touch it."""
    postgres_server.ask(postgres_database.name, "UPDATE alembic_version SET version_num = '9999'")
    require_current(postgres_database)
    assert migrate(postgres_database) == "9999"


def test_migrating_is_repeatable_and_knows_its_head(postgres_database):
    """The second migration changes nothing; the head in the code is the head of the scripts."""
    from alembic.script import ScriptDirectory

    assert migrate(postgres_database) == head(postgres_database) == code_head()
    assert ScriptDirectory(Path(scripts.__file__).parent).get_current_head() == code_head()


def test_processes_that_migrate_at_once_agree(postgres_server, empty):
    """Three processes started together all end well and print the head, and there is one room `general`."""
    env = {**os.environ, "BOLTOREZKA_DATABASE_URL": postgres_server.url(empty)}
    argv = [sys.executable, "-m", "boltorezka.cli", "migrate"]
    children = [subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [child.communicate(timeout=120)[0].strip() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert outputs == [code_head()] * 3
    assert postgres_server.ask(empty, "SELECT count(*) FROM rooms WHERE slug = 'general'") == "1"


async def test_a_migration_that_hangs_elsewhere_is_not_waited_for_forever(postgres_server, empty, session, monkeypatch):
    """When another process holds the lock past the deadline, the sentence says who to look at."""
    monkeypatch.setattr(schema, "_LOCK_DEADLINE_S", 1)
    address = postgres_server.address(empty)
    async with session(address) as other:
        await other.execute(f"SELECT pg_advisory_lock({schema._LOCK})")
        with pytest.raises(Unavailable, match="Another process"):
            await asyncio.to_thread(migrate, address)
    assert await asyncio.to_thread(migrate, address) == code_head()


def test_serving_on_postgresql_does_not_load_the_migration_tools():
    """Importing the store must not import Alembic or SQLAlchemy: a server starts without them."""
    code = "import sys, boltorezka.adapters.postgres; sys.exit(bool({'alembic', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
