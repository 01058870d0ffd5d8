"""A real server and a real development SSO, on loopback, in this process."""

import shutil

import httpx
import pytest

from boltorezka.adapters.sqlite import migrate
from boltorezka.testing import VirtualClock, dev_sso, in_process_server


@pytest.fixture
def clock():
    """The server's clock."""
    return VirtualClock()


@pytest.fixture
async def sso():
    """The address of a development SSO."""
    async with dev_sso() as url:
        yield url


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """A migrated database to copy: migrating is slower than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "boltorezka.sqlite3"
    migrate(path)
    return path


@pytest.fixture
async def running(tmp_path, sso, clock, migrated):
    """The server itself, for what a client cannot see."""
    shutil.copy(migrated, tmp_path)
    root = tmp_path / "web"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text("<!doctype html>")
    (root / "assets" / "main-AB12CD34.js").write_text("1;")
    (root / "favicon.svg").write_text("<svg/>")
    async with in_process_server(
        tmp_path, sso, clock, SUPER_ADMIN_EMAIL="ann@people.example", WEB_ROOT=str(root), RELEASE_SHA="a" * 40
    ) as server:
        yield server


@pytest.fixture
async def api(running):
    """A client of the server; its cookies are kept as a browser keeps them."""
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        yield client


@pytest.fixture
async def stranger(running):
    """A client without cookies."""
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        yield client
