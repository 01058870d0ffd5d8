"""The commands on PostgreSQL and NATS, as a supervisor runs them: real processes on one database."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import httpx
import pytest
from websockets.asyncio.client import connect

from boltorezka.testing import bearer, command, dev_sso, environment, server_process, sign_in

pytestmark = pytest.mark.drill

# Long enough for everything a frame may wait for on a busy machine.
FRAME_DEADLINE_S = 20


@pytest.fixture
async def env(tmp_path, postgres_server, postgres_database, nats_server):
    """A complete environment over a migrated database, with a development SSO."""
    async with dev_sso() as sso:
        settings = {"DATABASE_URL": postgres_server.url(postgres_database.name), "NATS_URL": nats_server.url}
        yield environment(tmp_path, sso, "http://127.0.0.1:1", **settings)


async def _answer(*argv, env):
    """Exit code, stdout and stderr of a command that ends by itself."""
    async with command(*argv, env=env) as running:
        out = await running.process.stdout.read()
        code = await running.ended()
    return code, out.decode(), "\n".join(running.lines)


async def _member(client, url, token):
    """A socket in `general`, and the top of the room's log."""
    ticket = (await client.get(f"{url}/v1/auth/ws-ticket", headers=bearer(token))).json()["ticket"]
    websocket = await connect(f"{url.replace('http', 'ws')}/v1/realtime/ws?ticket={ticket}")
    await websocket.send(json.dumps({"type": "room.join", "requestId": "j", "payload": {"roomSlug": "general"}}))
    await _frame(websocket, "ack")
    return websocket


async def _frame(websocket, kind):
    """The next frame of this type."""
    async with asyncio.timeout(FRAME_DEADLINE_S):
        while True:
            frame = json.loads(await websocket.recv())
            if frame["type"] == kind:
                return frame["payload"]


async def _say(websocket, text):
    key = {"idempotencyKey": text}
    await websocket.send(json.dumps({"type": "chat.send", "requestId": text, "payload": {"text": text}, **key}))


async def test_two_processes_on_one_database_share_sessions_and_messages(env, nats_server):
    """A session of one opens a socket of the other; what is said in one is heard in both, also after NATS came back."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(server_process(env)) for _ in range(2)]
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        token = (await sign_in(client, servers[0].url))["token"]
        for server in servers:
            await server.event("bus connected")
        sockets = [await stack.enter_async_context(await _member(client, each.url, token)) for each in servers]
        for round_, text in enumerate(("before", "after")):
            for index, speaker in enumerate(sockets):
                await _say(speaker, f"{text}-{index}")
                for websocket in sockets:
                    assert (await _frame(websocket, "chat.message"))["text"] == f"{text}-{index}"
            if round_ == 0:
                nats_server.stop()
                for server in servers:
                    await server.event("bus lost")
                nats_server.start()


async def test_the_commands_say_what_is_wrong_with_the_database(env, postgres_server):
    """No schema: 3. A wrong password or no bus: 2. No server: 1. No word of any shows the password."""
    password = postgres_server.address("x").password
    empty = postgres_server.new_database(migrated=False)
    url = env["BOLTOREZKA_DATABASE_URL"]
    cases = {
        3: {**env, "BOLTOREZKA_DATABASE_URL": postgres_server.url(empty)},
        2: {**env, "BOLTOREZKA_DATABASE_URL": url.replace(password, password[::-1])},
    }
    for expected, wrong in cases.items():
        for argv in (("serve", "--port", "0"), ("smoke-session", "--ttl", "60")):
            code, out, err = await _answer(*argv, env=wrong)
            assert code == expected, err
            assert password not in out + err
            assert password[::-1] not in out + err
    postgres_server.drop_database(empty)
    code, out, err = await _answer("check-config", env={**env, "BOLTOREZKA_NATS_URL": ""})
    assert (code, "BOLTOREZKA_NATS_URL: must be given" in err) == (2, True)
    assert "boltorezka:[redacted]@127.0.0.1" in out
    assert password not in out + err
    postgres_server.stop()
    code, _, err = await _answer("migrate", env=env)
    assert (code, "cannot be used now" in err) == (1, True)
