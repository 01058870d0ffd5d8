"""The store in one SQLite file: WAL, one writer thread with group commit, a small pool of readers."""

from boltorezka.adapters.sqlite.bus import SqliteBus
from boltorezka.adapters.sqlite.schema import code_head, head, migrate
from boltorezka.adapters.sqlite.store import SqliteStore

__all__ = ["SqliteBus", "SqliteStore", "code_head", "head", "migrate"]
