"""The store on PostgreSQL, for several processes on one database."""

from boltorezka.adapters.postgres.schema import code_head, head, migrate
from boltorezka.adapters.postgres.store import PostgresStore

__all__ = ["PostgresStore", "code_head", "head", "migrate"]
