"""Alembic's migrations of the SQLite schema; they ship inside the package."""
