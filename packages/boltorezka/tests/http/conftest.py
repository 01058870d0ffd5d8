"""A real server and a real development SSO, on loopback, in this process."""

import asyncio
import contextlib
import json
import shutil
from dataclasses import dataclass
from types import SimpleNamespace

import httpx
import pytest
from websockets.asyncio.client import connect

from boltorezka.adapters.system import SystemIds
from boltorezka.adapters.tokens import Tokens
from boltorezka.auth.model import Identity
from boltorezka.auth.sessions import claims_for, new_session
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import EventKind, Room
from boltorezka.testing import DEADLINE_S, VirtualClock, dev_sso, in_process_server


@pytest.fixture
def clock():
    """The server's clock."""
    return VirtualClock()


@pytest.fixture
async def sso():
    """The address of a development SSO."""
    async with dev_sso() as url:
        yield url


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


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in."""

    id: str
    name: str
    session_id: str
    token: str

    @property
    def headers(self):
        """The header that says so."""
        return {"authorization": f"Bearer {self.token}"}


@pytest.fixture
def person(running, clock):
    """Makes people with a session, without asking an SSO."""

    async def make(name, role=None, *, secret=None):
        store, now = running.server.store, clock.now()
        identity = Identity("test", "tests", name, f"{name}@people.example", name.title(), "user", False)
        user = await store.upsert_user(identity, f"user-{name}", role, now)
        session = new_session(SystemIds().new_id(), user.id, now)
        await store.create_session(session)
        tokens = Tokens(secret or running.settings.jwt_secret.reveal())
        return Person(user.id, user.name, session.id, tokens.encode(claims_for(session, user.role, now)))

    return make


@pytest.fixture
def room(running, clock, join):
    """Makes rooms with an owner and members."""

    async def make(slug, owner, *members, public=False):
        new = Room(f"id-{slug}", slug, slug.title(), public, clock.now(), f"epoch-{slug}", 0)
        made = await running.server.store.create_room(new, owner.id, f"made-{slug}")
        for who in members:
            await join(made.id, who)
        return made

    return make


@pytest.fixture
def join(running, clock):
    """Makes somebody a member of a room, behind the server's back."""

    async def make(room_id, who):
        event = NewEvent(
            room_id, EventKind.JOINED, SystemIds().new_id(), who.id, who.name, "member", clock.now(), ref=who.id
        )
        await running.server.store.append([event])

    return make


@pytest.fixture
def say(running, clock):
    """Appends to a room's log, behind the server's back; answers the stored event."""

    async def make(room, who, text, kind=EventKind.MESSAGE, ref=None):
        new = NewEvent(room.id, kind, SystemIds().new_id(), who.id, who.name, text, clock.now(), ref=ref)
        (stored,) = await running.server.store.append([new])
        return stored.event

    return make


@pytest.fixture
async def enter(running, api):
    """Opens sockets of people in rooms; answers a reader of the next frame of a type."""
    async with contextlib.AsyncExitStack() as sockets:

        async def opened(who, slug):
            ticket = (await api.get("/v1/auth/ws-ticket", headers=who.headers)).json()["ticket"]
            address = f"{running.url.replace('http', 'ws', 1)}/v1/realtime/ws?ticket={ticket}"
            socket = await sockets.enter_async_context(connect(address, compression=None))

            async def heard(kind):
                async with asyncio.timeout(DEADLINE_S):
                    while True:
                        frame = json.loads(await socket.recv())
                        if frame["type"] == kind:
                            return frame["payload"]

            await socket.send(json.dumps({"type": "room.join", "requestId": "j", "payload": {"roomSlug": slug}}))
            await heard("ack")
            return SimpleNamespace(heard=heard, socket=socket, ticket=ticket)

        yield opened
