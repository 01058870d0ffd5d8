"""The one place that knows which adapter serves which kind of database; each is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltorezka.adapters.addresses import Database, NatsAddress, SqliteFile

if TYPE_CHECKING:
    from boltorezka.ports import Bus, Clock, Store


def open_store(database: Database, clock: Clock) -> Store:
    """The store of this database, not yet open: `await store.open()` comes next."""
    if isinstance(database, SqliteFile):
        from boltorezka.adapters.sqlite import SqliteStore

        return SqliteStore(database.path, clock)
    from boltorezka.adapters.postgres import PostgresStore

    return PostgresStore(database, clock)


def open_bus(nats: NatsAddress | None, store: Store, instance: str) -> Bus:
    """The bus of an open store, not yet started. With PostgreSQL it is NATS; raises ValueError without its address."""
    from boltorezka.adapters.postgres import PostgresStore

    if isinstance(store, PostgresStore):
        from boltorezka.adapters.nats_bus import NatsBus

        if nats is None:
            raise ValueError("PostgreSQL needs a bus")
        return NatsBus(nats, store.namespace)
    from boltorezka.adapters.sqlite import SqliteStore
    from boltorezka.adapters.sqlite.bus import SqliteBus

    if not isinstance(store, SqliteStore):
        raise TypeError(f"no bus is known for {type(store).__name__}")
    return SqliteBus(store, instance)


def code_head(database: Database | None) -> str:
    """The newest schema this code knows of this kind of database; None is the default kind, SQLite."""
    if database is None or isinstance(database, SqliteFile):
        from boltorezka.adapters.sqlite import schema as sqlite

        return sqlite.code_head()
    from boltorezka.adapters.postgres import schema as postgres

    return postgres.code_head()


def require_current(database: Database) -> None:
    """Raise SchemaError unless the database has this code's schema or a newer one; ConfigError, Unavailable."""
    if isinstance(database, SqliteFile):
        from boltorezka.adapters.sqlite import schema as sqlite

        sqlite.require_current(database.path)
    else:
        from boltorezka.adapters.postgres import schema as postgres

        postgres.require_current(database)


def migrate(database: Database) -> str:
    """Bring the database to this code's schema; answer what it then has. Raises SchemaError, ConfigError, Unavailable.

    Blocks: call it away from an event loop.
    """
    if isinstance(database, SqliteFile):
        from boltorezka.adapters.sqlite import schema as sqlite

        return sqlite.migrate(database.path)
    from boltorezka.adapters.postgres import schema as postgres

    return postgres.migrate(database)
