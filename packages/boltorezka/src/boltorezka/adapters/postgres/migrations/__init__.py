"""Alembic's migrations of the PostgreSQL schema; they ship inside the package."""
