"""Stores on a PostgreSQL database of each test's own."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from boltorezka.adapters.postgres import PostgresStore
from boltorezka.adapters.postgres.connect import connect_arguments
from boltorezka.testing import VirtualClock


@pytest.fixture
async def make_store(postgres_database):
    """Makes one more open store on the database, as another process has it."""
    async with AsyncExitStack() as stack:

        async def make(address=postgres_database):
            store = PostgresStore(address, VirtualClock())
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield make


@pytest.fixture
async def store(make_store):
    """An open store."""
    return await make_store()


@pytest.fixture
def session(postgres_database):
    """Opens a plain connection to the database, as an operator or another program has it."""

    @asynccontextmanager
    async def connected(address=postgres_database):
        db = await asyncpg.connect(**connect_arguments(address))
        try:
            yield db
        finally:
            await db.close()

    return connected
