"""Property tests give the same answer every time, also on a slow machine: fixed seeds, no deadline per example.

And what tests of several parts share: servers, started when the first test asks for one and stopped at the end; a
database to copy; and an image, which the engine keeps.
"""

from __future__ import annotations

import runpy
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from boltorezka.adapters.addresses import PostgresAddress
    from boltorezka.testing_servers import NatsServer, PostgresServer

IMAGES = Path(__file__).resolve().parents[1] / "tests" / "e2e" / "images.py"

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database to copy: migrating is slower than most tests."""
    from boltorezka.adapters.sqlite import migrate

    path = tmp_path_factory.mktemp("migrated") / "boltorezka.sqlite3"
    migrate(path)
    return path


@pytest.fixture(scope="session")
def _postgres_cluster() -> Generator[PostgresServer]:
    from boltorezka.testing_servers import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_server(_postgres_cluster: PostgresServer) -> Generator[PostgresServer]:
    """A PostgreSQL server that runs, of all tests; a test may stop and start it, the next one finds it running."""
    _postgres_cluster.start()
    yield _postgres_cluster
    _postgres_cluster.start()


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Generator[PostgresAddress]:
    """The address of a database of this test alone, migrated and otherwise empty."""
    name = postgres_server.new_database()
    yield postgres_server.address(name)
    postgres_server.start()
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def _nats_process() -> Generator[NatsServer]:
    from boltorezka.testing_servers import running_nats

    with running_nats() as server:
        yield server


@pytest.fixture
def nats_server(_nats_process: NatsServer) -> Generator[NatsServer]:
    """A NATS server that runs, of all tests; a test may stop and start it, the next one finds it running."""
    _nats_process.start()
    yield _nats_process
    _nats_process.start()


@pytest.fixture(scope="session")
def python_image() -> str:
    """This machine's Python as an image."""
    return str(runpy.run_path(str(IMAGES))["make_python"]())
