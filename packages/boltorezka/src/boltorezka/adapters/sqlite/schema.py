"""Which schema the file has, which one this code needs, and how to get from one to the other.

Only `migrate` imports Alembic: a server that is up to date starts without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from boltorezka.errors import SchemaError, Unavailable

# Revisions are zero-padded numbers, so that "older" and "newer" can be told without reading the migrations.
_CODE_HEAD = "0002"

# Another process migrates for milliseconds; a minute means that it hangs, and a person has to look.
_LOCK_DEADLINE_S = 60.0
_LOCK_RETRY_S = 0.05

# The schema page is read while another process may hold the file for a commit.
_BUSY_S = 5.0


def code_head() -> str:
    """The newest revision this code knows and needs."""
    return _CODE_HEAD


def head(path: Path) -> str | None:
    """The revision the file has; None when there is no file or it was never migrated. Raises SchemaError, Unavailable.

    Reads only: the file is neither created nor changed.
    """
    if not path.exists():
        return None
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        ) as db:
            known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            row = db.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    except sqlite3.OperationalError as error:
        raise Unavailable(
            f"The database {path} cannot be read ({error}). Check the disk and the permissions."
        ) from error
    except sqlite3.DatabaseError as error:
        raise SchemaError(f"{path} is not a SQLite database. Point the server at its own file.") from error
    return None if row is None else str(row[0])


def require_current(path: Path) -> None:
    """Raise SchemaError unless the file has this code's schema or a newer one (a newer server may be live too)."""
    found = head(path)
    if found is None:
        raise SchemaError(f"The database {path} has no schema yet. Run `boltorezka migrate`.", found=None)
    if not found.isdecimal():
        raise SchemaError(f"The database {path} has a foreign schema ({found}). Point the server at its own file.")
    if int(found) < int(_CODE_HEAD):
        raise SchemaError(
            f"The database {path} has schema {found} and this server needs {_CODE_HEAD}. Run `boltorezka migrate`.",
            found=found,
        )


def migrate(path: Path) -> str:
    """Bring the file to this code's schema, creating it when there is none; answer the revision it then has.

    Safe to repeat, and safe when several processes do it at once: one migrates, the others wait and find it done.
    A file with a newer schema is left as it is. Raises SchemaError and Unavailable; a migration is one transaction.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(path):
        found = head(path)
        if found is not None and found.isdecimal() and int(found) >= int(_CODE_HEAD):
            return found
        try:
            _upgrade(path)
        except sqlite3.Error as error:
            raise Unavailable(f"The database {path} could not be migrated ({error}); it is as it was.") from error
    return _CODE_HEAD


def _upgrade(path: Path, revision: str = "head") -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import URL, Connection, NullPool, create_engine, event
    from sqlalchemy.exc import SQLAlchemyError

    engine = create_engine(
        URL.create("sqlite", database=str(path)), poolclass=NullPool, connect_args={"timeout": _BUSY_S}
    )

    @event.listens_for(engine, "connect")
    def _explicit(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin transactions by itself, and not before DDL: a migration would not be one transaction.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except SQLAlchemyError as error:
        raise Unavailable(f"The database {path} could not be migrated ({error}); it is as it was.") from error
    finally:
        engine.dispose()


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold the migration lock: a file beside the database, because SQLite's own lock ends with each transaction."""
    deadline = time.monotonic() + _LOCK_DEADLINE_S
    with path.with_name(path.name + ".migrating").open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(f"Another process has been migrating {path} for a minute. Look at it.") from None
                time.sleep(_LOCK_RETRY_S)
        yield
