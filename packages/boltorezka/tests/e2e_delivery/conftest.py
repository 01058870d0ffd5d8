"""Two processes on one SQLite file, and three on PostgreSQL and NATS, with relays in front of them that cut."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from boltorezka import config
from boltorezka.adapters.database import migrate
from boltorezka.testing import environment

from .servers import Fleet


@pytest.fixture(params=["sqlite", "postgres"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path):
    """Two processes on one SQLite file; three on PostgreSQL and NATS."""
    more = {"TICKETS_PER_MINUTE": "100000", "LOGINS_PER_MINUTE": "100000", "DRAIN_SPREAD_S": "0.1"}
    slots = 2
    if request.param == "postgres":
        postgres, nats = request.getfixturevalue("postgres_server"), request.getfixturevalue("nats_server")
        address = request.getfixturevalue("postgres_database")
        more |= {"DATABASE_URL": postgres.url(address.name), "NATS_URL": nats.url}
        slots = 3
    env = environment(tmp_path, "http://127.0.0.1:9", "http://127.0.0.1:9", **more)
    await asyncio.to_thread(migrate, config.load(env).database_url)
    made = Fleet(env, slots, seed=20261123)
    await made.store.open()
    try:
        async with contextlib.AsyncExitStack() as stack:
            for wire in made.wires:
                await stack.enter_async_context(wire.open())
            yield made
    finally:
        await made.store.close()
