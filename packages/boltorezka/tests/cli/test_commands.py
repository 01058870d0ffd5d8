"""The commands as a supervisor runs them: real processes, real signals, real files."""

import asyncio
import json
import signal
import socket

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from boltorezka.testing import METRICS_TOKEN, bearer, command, dev_sso, environment, server_process, sign_in

pytestmark = pytest.mark.drill

# Long enough for everything a frame may wait for on a busy machine.
FRAME_DEADLINE_S = 10

SENTINEL = "s3ntinel-of-the-tests-0123456789-abcdef"


@pytest.fixture
async def sso():
    """The address of a development SSO."""
    async with dev_sso() as url:
        yield url


@pytest.fixture
def env(tmp_path, sso):
    """A complete environment over a database in a fresh directory."""
    return environment(tmp_path, sso, "http://127.0.0.1:1")


@pytest.fixture
async def client():
    """A browser-like client."""
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def _answer(*argv, env):
    """Exit code, stdout and stderr of a command that ends by itself."""
    async with command(*argv, env=env) as running:
        out = await running.process.stdout.read()
        code = await running.ended()
    return code, out.decode(), "\n".join(running.lines)


async def _socket(client, url, token):
    ticket = (await client.get(f"{url}/v1/auth/ws-ticket", headers=bearer(token))).json()["ticket"]
    websocket = await connect(f"{url.replace('http', 'ws')}/v1/realtime/ws?ticket={ticket}")
    await _frame(websocket, "server.ready")
    return websocket


async def _frame(websocket, kind):
    """The next frame of this type."""
    async with asyncio.timeout(FRAME_DEADLINE_S):
        while True:
            frame = json.loads(await websocket.recv())
            if frame["type"] == kind:
                return frame["payload"]


async def _all_frames(websocket):
    """Everything until the server closes."""
    frames = []
    async with asyncio.timeout(FRAME_DEADLINE_S):
        try:
            while True:
                frames.append(json.loads(await websocket.recv()))
        except ConnectionClosed:
            return frames


async def _join(websocket):
    await websocket.send(json.dumps({"type": "room.join", "requestId": "j", "payload": {"roomSlug": "general"}}))
    await _frame(websocket, "ack")


async def _say(websocket, text):
    await websocket.send(json.dumps({"type": "chat.send", "requestId": text, "payload": {"text": text}}))


async def test_a_wrong_configuration_is_refused_by_name(env):
    """Every problem is a line, the exit code is 2, and no value is shown."""
    wrong = {**env, "BOLTOREZKA_JWT_SECRET": "tooshort!", "BOLTOREZKA_HEARTBAET_S": "1"}
    for name in ("serve", "check-config"):
        code, out, err = await _answer(name, env=wrong)
        assert code == 2
        assert "BOLTOREZKA_JWT_SECRET: must be at least 32 bytes long" in err
        assert "did you mean BOLTOREZKA_HEARTBEAT_S?" in err
        assert "tooshort!" not in out + err


async def test_serving_needs_a_migrated_database(env):
    """Before `migrate` the exit code is 3 and the message names the command; it is idempotent and prints the head."""
    code, _, err = await _answer("serve", "--port", "0", env=env)
    assert code == 3
    assert "boltorezka migrate" in err
    code, _, err = await _answer("smoke-session", "--ttl", "60", env=env)
    assert code == 3
    heads = [await _answer("migrate", *flags, env=env) for flags in ([], [], ["--head"])]
    assert [code for code, _, _ in heads] == [0, 0, 0]
    assert len({out for _, out, _ in heads}) == 1
    assert heads[0][1].strip()


async def test_a_taken_port_is_a_clear_message(env):
    """Exit code 4, and the sentence names the address."""
    await _answer("migrate", env=env)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for argv in (("serve", "--port", port), ("dev-sso", "--port", port)):
            code, _, err = await _answer(*argv, env=env)
            assert code == 4
            assert f"127.0.0.1:{port}" in err


@pytest.mark.parametrize("argv", [["smoke-session"], ["smoke-session", "--ttl", "0"], ["serve", "--port", "x"], ["no"]])
async def test_a_wrong_command_line_is_refused(env, argv):
    """Argparse's exit code and a usage line."""
    code, _, err = await _answer(*argv, env=env)
    assert code == 2
    assert "usage:" in err


async def test_check_config_shows_a_good_configuration(env):
    """Every setting with its state, and exit code 0."""
    code, out, _ = await _answer("check-config", env=env)
    assert code == 0
    assert "[redacted]" in out
    assert "BOLTOREZKA_ENVIRONMENT" in out
    assert env["BOLTOREZKA_JWT_SECRET"] not in out


async def test_the_development_sso_refuses_prod_and_foreign_addresses(env):
    """It never runs where people could be fooled by it."""
    for argv, settings in ((["--host", "192.0.2.1"], env), ([], {"BOLTOREZKA_ENVIRONMENT": "prod"})):
        code, _, err = await _answer("dev-sso", *argv, "--port", "0", env=settings)
        assert code == 2
        assert "development SSO" in err


async def test_the_development_sso_serves_until_it_is_asked_to_stop(client):
    """It names its port and ends with 0 on SIGTERM."""
    async with command("dev-sso", "--port", "0", env={}) as running:
        port = (await running.event("listening"))["port"]
        assert "Boris" in (await client.get(f"http://127.0.0.1:{port}/auth/google")).text
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0


async def test_smoke_sessions_work_and_end(env, client):
    """Fixed users with tokens that work, in private rooms that nobody else learns about; a stranger is in none."""
    async with server_process(env) as server:
        code, out, _ = await _answer("smoke-session", "--ttl", "300", env=env)
        assert code == 0
        smoke = json.loads(out)
        assert set(smoke) == {"expiresAt", "canaryRoom", "users", "canary", "calls", "stranger"}
        stranger, calls = smoke["stranger"], smoke["calls"]
        private = [({smoke["canaryRoom"]}, user) for user in smoke["users"] + smoke["canary"]]
        private += [({calls[side]["room"]}, user) for side in ("new", "old") for user in calls[side]["users"]]
        assert len({user["userId"] for _, user in private} | {stranger["userId"]}) == len(private) + 1
        for theirs, user in [*private, (set(), stranger)]:
            rooms = (await client.get(f"{server.url}/v1/rooms", headers=bearer(user["token"]))).json()["rooms"]
            assert {room["slug"] for room in rooms} == {"general"} | theirs
            me = (await client.get(f"{server.url}/v1/auth/me", headers=bearer(user["token"]))).json()["user"]
            assert (me["id"], me["name"], me["role"]) == (user["userId"], user["name"], "user")
        expired = await client.get(f"{server.url}/v1/auth/me", headers=bearer(stranger["expiredToken"]))
        assert (expired.status_code, expired.json()["error"]) == (401, "Unauthorized")
        again = json.loads((await _answer("smoke-session", "--ttl", "1", env=env))[1])
        assert [user["userId"] for user in again["users"]] == [user["userId"] for user in smoke["users"]]
        ann = await sign_in(client, server.url, "ann")
        rooms = (await client.get(f"{server.url}/v1/rooms", headers=bearer(ann["token"]))).json()["rooms"]
        assert {room["slug"] for room in rooms} == {"general"}


async def test_sigusr1_drains_the_sockets_while_the_process_goes_on(env, client):
    """Sockets are told when to come back and closed; HTTP and new sockets go on; it can be done again."""
    async with server_process(env) as server:
        token = (await sign_in(client, server.url))["token"]
        for _ in range(2):
            websocket = await _socket(client, server.url, token)
            server.signal(signal.SIGUSR1)
            assert (await _frame(websocket, "server.draining"))["retryAfterMs"] >= 0
            with pytest.raises(ConnectionClosed):
                await _frame(websocket, "never")
            assert websocket.close_code == 4012
        assert (await client.get(f"{server.url}/health")).status_code == 200
        assert server.process.returncode is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_drains_finishes_writes_and_ends(env, client, number):
    """Messages acknowledged before the end are in the log of the next process, and the exit code is 0."""
    async with server_process(env) as server:
        token = (await sign_in(client, server.url))["token"]
        websocket = await _socket(client, server.url, token)
        await _join(websocket)
        for n in range(20):
            await _say(websocket, f"text {n}")
        server.signal(number)
        frames = await _all_frames(websocket)
        acked = {frame["payload"]["requestId"] for frame in frames if frame["type"] == "ack"}
        assert await server.ended() == 0
        await server.event("stopped")
        assert websocket.close_code == 4012
    async with server_process(env) as server:
        page = await client.get(f"{server.url}/v1/rooms/general/messages", headers=bearer(token))
    assert acked <= {row["text"] for row in page.json()["messages"]}


async def test_two_processes_on_one_file_share_sessions_and_messages(env, client):
    """Two slots of a rollout: what is said through one is heard through the other, and a logout reaches both."""
    async with server_process(env) as old, server_process(env) as new:
        token = (await sign_in(client, old.url))["token"]
        sockets = [await _socket(client, server.url, token) for server in (old, new)]
        for websocket in sockets:
            await _join(websocket)
        for speaker in sockets:
            await _say(speaker, "hello")
        heard = [[(await _frame(websocket, "chat.message"))["seq"] for _ in sockets] for websocket in sockets]
        assert heard == [[2, 3], [2, 3]]  # after the one who became a member
        await client.post(f"{old.url}/v1/auth/logout", headers=bearer(token))
        for websocket in sockets:
            with pytest.raises(ConnectionClosed):
                await _frame(websocket, "never")
            assert websocket.close_code == 4009


async def test_new_epochs_make_everybody_begin_anew(env, client):
    """After a restore: the serving process learns of it by itself and resets its sockets; typos change nothing."""
    async with server_process(env) as server:
        websocket = await _socket(client, server.url, (await sign_in(client, server.url))["token"])
        await _join(websocket)
        code, out, said = await _answer("new-epochs", "general", "nowhere", env=env)
        assert (code, out) == (1, "")
        assert "nowhere" in said
        code, out, _ = await _answer("new-epochs", "general", env=env)
        assert (code, out) == (0, "1\n")
        reset = await _frame(websocket, "room.reset")
        assert (reset["roomSlug"], reset["lastSeq"]) == ("general", 1)


async def test_health_is_degraded_while_the_database_is_gone(env, tmp_path, client):
    """The file replaced by a directory: 503, named; the process stays up and ends cleanly."""
    async with server_process(env) as server:
        database = tmp_path / "boltorezka.sqlite3"
        for path in tmp_path.glob("boltorezka.sqlite3*"):
            path.rename(tmp_path / f"moved-{path.name}")
        database.mkdir()
        answer = await client.get(f"{server.url}/health")
        assert answer.status_code == 503
        assert answer.json()["checks"]["db"] == "down"
        assert (await client.get(f"{server.url}/health/live")).status_code == 200
        server.signal(signal.SIGTERM)
        await server.ended()


def _attempts(token, ticket, metrics):
    """Requests that go well and badly, with secrets where they belong and where they do not."""
    return [
        ("GET", "/metrics", bearer(metrics)),
        ("GET", "/metrics", bearer(METRICS_TOKEN)),
        ("GET", f"/v1/auth/me?token={token}", bearer(token + "x")),
        ("GET", f"/nowhere?ticket={ticket}", {}),
        ("POST", "/v1/auth/login", bearer(token)),
        ("GET", "/version", {}),
        ("GET", "/v1/auth/mode", {}),
        ("POST", "/v1/auth/logout", bearer(token)),
        ("GET", "/v1/auth/me", bearer(token)),
    ]


async def test_no_secret_reaches_any_output(env, client, tmp_path):
    """Neither settings, tickets, tokens nor cookies are in a body they do not belong to, a log or the process list."""
    secret, metrics = f"{SENTINEL}-signing-secret", f"{SENTINEL}-metrics"
    seen = []
    env = {
        **env,
        "BOLTOREZKA_JWT_SECRET": secret,
        "BOLTOREZKA_METRICS_TOKEN": metrics,
        "BOLTOREZKA_LOG_LEVEL": "debug",
    }
    async with server_process(env) as server:
        body = await sign_in(client, server.url)
        token, cookie = body["token"], client.cookies["sso_session"]
        ticket = (await client.get(f"{server.url}/v1/auth/ws-ticket", headers=bearer(token))).json()["ticket"]
        address = f"{server.url}/v1/realtime/ws?ticket={ticket}".replace("http", "ws")
        for _ in range(2):
            async with connect(address) as websocket:
                seen.append(str(await websocket.recv()))
        for method, path, headers in _attempts(token, ticket, metrics):
            answer = await client.request(method, server.url + path, headers=headers)
            seen.append(f"{answer.headers} {answer.text}")
        seen.append(" ".join(psutil.Process(server.process.pid).cmdline()))
        server.signal(signal.SIGTERM)
        await server.ended()
        seen.append(str(await server.process.stdout.read()))
    seen += [str(await _answer(*argv, env=env)) for argv in (("check-config",), ("serve", "--port", "70000"))]
    text = "\n".join([*seen, *server.lines])
    for value in (SENTINEL, token, ticket, cookie):
        assert value not in text
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("boltorezka.sqlite3*"))
    for value in (SENTINEL, token, ticket, cookie):
        assert value.encode() not in stored
