"""Which schema the database has, which one this code needs, and how to get from one to the other.

Only `migrate` imports Alembic: a server that is up to date starts without it. These functions block; they talk to the
server on an event loop of their own, so they may be called with or without one running elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from boltorezka.adapters.addresses import PostgresAddress
from boltorezka.adapters.postgres.connect import Connection, connect_arguments, starting
from boltorezka.errors import SchemaError, Unavailable

T = TypeVar("T")

# Revisions are zero-padded numbers, so that "older" and "newer" can be told without reading the migrations.
_CODE_HEAD = "0001"

# Any number, as long as nobody else on the database uses it: "boltorez" in ASCII.
_LOCK = int.from_bytes(b"boltorez", "big") >> 1
# Another process migrates for milliseconds; a minute means that it hangs, and a person has to look.
_LOCK_DEADLINE_S = 60


def code_head() -> str:
    """The newest revision this code knows and needs."""
    return _CODE_HEAD


def head(address: PostgresAddress) -> str | None:
    """The revision the database has; None when it was never migrated. Raises SchemaError, ConfigError, Unavailable."""
    return _alone(_head(address))


def require_current(address: PostgresAddress) -> None:
    """Raise SchemaError unless the database has this code's schema or a newer one; ConfigError, Unavailable."""
    judge(head(address), address)


def migrate(address: PostgresAddress) -> str:
    """Bring the database to this code's schema; answer the revision it then has.

    Safe to repeat, and safe when several processes do it at once: one migrates, the others wait and find it done.
    A database with a newer schema is left as it is. Raises SchemaError, ConfigError and Unavailable; a migration is one
    transaction.
    """
    return _alone(_migrate(address))


def judge(found: str | None, address: PostgresAddress) -> None:
    """Raise SchemaError unless `found` can be served by this code (a newer server may be live too)."""
    name = f"The database {address.name!r} at {address.place}"
    if found is None:
        raise SchemaError(f"{name} has no schema yet. Run `boltorezka migrate`.", found=None)
    if not found.isdecimal():
        raise SchemaError(f"{name} has a foreign schema ({found}). Give the server a database of its own.")
    if int(found) < int(_CODE_HEAD):
        raise SchemaError(
            f"{name} has schema {found} and this server needs {_CODE_HEAD}. Run `boltorezka migrate`.", found=found
        )


async def read_head(db: Connection) -> str | None:
    """The revision this connection sees. Raises what asyncpg raises."""
    if await db.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    found = await db.fetchval("SELECT version_num FROM alembic_version")
    return None if found is None else str(found)


def _alone(work: Coroutine[Any, Any, T]) -> T:
    """Run it on an event loop of its own, in a thread of its own: the caller's thread may have a loop already."""
    with ThreadPoolExecutor(1, thread_name_prefix="postgres-schema") as thread:
        return thread.submit(asyncio.run, work).result()


async def _head(address: PostgresAddress) -> str | None:
    with starting(address):
        db = await asyncpg.connect(**connect_arguments(address))
        try:
            found = await read_head(db)
        finally:
            await db.close()
    return found


async def _migrate(address: PostgresAddress) -> str:
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    async def connect() -> Connection:
        # A migration takes as long as it takes; only the wait for its lock has a deadline.
        return await asyncpg.connect(**{**connect_arguments(address), "command_timeout": None})

    with starting(address):
        found = await _head(address)
        if found is not None and not found.isdecimal():
            judge(found, address)
        if found is not None and int(found) >= int(_CODE_HEAD):
            return found
        # The address travels through `connect` only, so that nothing of SQLAlchemy's can print it.
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(_upgrade, address)
        except SQLAlchemyError as error:
            raise _refused(error, address) from error
        finally:
            await engine.dispose()


def _upgrade(connection: Any, address: PostgresAddress) -> str:
    from alembic import command
    from alembic.config import Config

    # Of this transaction only: with it the lock is given back, whatever happens.
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_DEADLINE_S}s'")
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    # Whoever had the lock before us may have been a newer server.
    if connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar_one() is not None:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
        if found is not None and int(found) >= int(_CODE_HEAD):
            return str(found)
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise SchemaError(
            f"The database {address.name!r} at {address.place} has the encoding {encoding} and cannot hold every"
            " language. Create it with ENCODING 'UTF8'."
        )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return _CODE_HEAD


def _refused(error: Exception, address: PostgresAddress) -> SchemaError | Unavailable:
    """Why a migration failed, told by PostgreSQL's own code."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    name = f"The database {address.name!r} at {address.place}"
    if state in {asyncpg.DuplicateTableError.sqlstate, asyncpg.DuplicateObjectError.sqlstate}:
        return SchemaError(f"{name} holds tables of something else. Give the server a database of its own.")
    if state == asyncpg.InsufficientPrivilegeError.sqlstate:
        return SchemaError(f"{name} does not let the user {address.user!r} make tables. Grant CREATE on its schema.")
    if state == asyncpg.LockNotAvailableError.sqlstate:
        return Unavailable(f"Another process has been migrating {address.name!r} for a minute. Look at it.")
    return Unavailable(f"{name} could not be migrated ({type(error).__name__}, SQLSTATE {state}); it is as it was.")
