"""What the log says of requests and sockets, and what it never says."""

import io
import json
import logging

import pytest
from websockets.asyncio.client import connect

from boltorezka.adapters.logs import JsonLines
from boltorezka.errors import Unavailable
from boltorezka.rooms.model import Role
from boltorezka.testing import METRICS_TOKEN, bearer, sign_in

SENTINEL = "sentinel-of-a-secret"


@pytest.fixture
def written():
    """Everything our loggers say and what libraries warn of, as `configure_logs` sends it to stderr."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    ours = logging.getLogger("boltorezka")
    before = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.DEBUG)
    yield stream.getvalue
    root.removeHandler(handler)
    root.setLevel(before[0])
    ours.setLevel(before[1])


def _requests(text):
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line["logger"] == "boltorezka.http"]


async def test_each_request_has_a_line(api, person, written):
    """Id, method, path without query, status, milliseconds, and who it was when that is known."""
    ann = await person("ann")
    for path, headers in (
        ("/v1/rooms?limit=1", ann.headers | {"x-request-id": "mine-1"}),
        ("/v1/rooms/nowhere/messages", ann.headers | {"x-request-id": "mine-2"}),
        ("/v1/rooms", {"x-request-id": "mine-3"}),
        ("/nowhere" + "e" * 300, {"x-request-id": "mine-4"}),
    ):
        await api.get(path, headers=headers)
    lines = [line for line in _requests(written()) if line["request_id"].startswith("mine-")]
    shown = [(line["request_id"], line["path"][:30], line["status"], line.get("user_id")) for line in lines]
    assert shown == [
        ("mine-1", "/v1/rooms", 200, ann.id),
        ("mine-2", "/v1/rooms/nowhere/messages", 404, ann.id),
        ("mine-3", "/v1/rooms", 401, None),
        ("mine-4", "/nowhere" + "e" * 22, 404, None),
    ]
    assert all((line["event"], line["method"], line["level"]) == ("request", "GET", "info") for line in lines)
    assert all(line["ms"] >= 0 for line in lines)
    assert len(lines[3]["path"]) == 200


async def test_good_probes_are_quiet_and_bad_ones_are_not(api, running, written):
    """A line a second that says nothing hides the others; a probe that fails is worth one."""
    for path in ("/health", "/health/live", "/version"):
        await api.get(path)
    await api.get("/metrics", headers=bearer(METRICS_TOKEN))
    assert {line["level"] for line in _requests(written())} == {"debug"}
    await running.server.realtime.stop()
    await api.get("/health")
    await api.get("/metrics")
    assert [(line["level"], line["status"]) for line in _requests(written())[4:]] == [("info", 503), ("info", 401)]


async def test_a_fault_carries_the_id_of_its_request(api, person, running, written, monkeypatch):
    """The line of the exception and the line of the request can be put together; its text is on neither."""

    async def broken(*_args):
        raise RuntimeError(SENTINEL)

    ann = await person("ann")
    monkeypatch.setattr(type(running.server.store), "rooms_for", broken)
    answer = await api.get("/v1/rooms", headers=ann.headers)
    request_id = answer.headers["x-request-id"]
    lines = [json.loads(line) for line in written().splitlines()]
    ours = [line for line in lines if line.get("request_id") == request_id]
    assert {line.get("error") for line in ours} == {"RuntimeError", None}
    assert [line["status"] for line in ours if line["event"] == "request"] == [500]
    assert SENTINEL not in written()


async def test_a_database_that_is_gone_is_no_fault(api, person, running, written, monkeypatch):
    """503, worth a retry, without a stack in the log."""

    async def gone(*_args):
        raise Unavailable("The database does not answer.")

    ann = await person("ann")
    monkeypatch.setattr(type(running.server.store), "rooms_for", gone)
    answer = await api.get("/v1/rooms", headers=ann.headers)
    assert (answer.status_code, answer.json()["error"], answer.json()["retryable"]) == (503, "ServerError", True)
    assert [line.get("error") for line in _requests(written())] == [None]


async def test_no_secret_and_no_text_of_people_is_ever_logged(api, running, person, room, enter, written):
    """Many routes and a socket, with secrets in every place that takes one: none of them is in the log."""
    session = await sign_in(api, running.url, "boris")
    sso_cookie = api.cookies["sso_session"]
    chief = await person("chief", Role.SUPER_ADMIN)
    ann = await person("ann")
    await room("den", ann)
    secrets = {session["token"], sso_cookie, ann.token, chief.token, METRICS_TOKEN, SENTINEL}
    secrets |= {running.settings.jwt_secret.reveal(), ann.session_id, chief.session_id}
    refreshed = await api.post("/v1/auth/refresh", headers=bearer(session["token"]))
    secrets.add(refreshed.json()["token"])

    for method, path, content in (
        ("GET", f"/v1/rooms?token={SENTINEL}", None),
        ("GET", f"/v1/rooms/den/messages?beforeId={SENTINEL}&beforeCreatedAt=2027-01-15T08:00:00Z", None),
        ("GET", f"/v1/rooms/den/messages?limit={SENTINEL}", None),
        ("POST", "/v1/rooms", {"slug": "talk", "title": SENTINEL}),
        ("POST", "/v1/rooms", {"slug": SENTINEL.upper(), "title": SENTINEL}),
        ("POST", "/v1/rooms/den/members", {"userId": SENTINEL}),
        ("POST", "/v1/auth/login", {"email": "ann@people.example", "password": SENTINEL}),
        ("POST", "/v1/auth/register", {"email": "ann@people.example", "password": SENTINEL}),
        ("GET", f"/v1/auth/sso/start?provider={SENTINEL}&returnUrl=/{SENTINEL}", None),
        ("GET", f"/v1/auth/sso/session?code={SENTINEL}", None),
        ("GET", f"/metrics?token={SENTINEL}", None),
        ("GET", f"/nowhere?ticket={SENTINEL}", None),
        ("GET", f"/v1/realtime/ws?ticket={SENTINEL}", None),
    ):
        for headers in (ann.headers, chief.headers, bearer(SENTINEL), {"cookie": f"boltorezka_session={SENTINEL}"}):
            await api.request(method, path, json=content, headers=headers)
    socket = await enter(ann, "den")
    secrets.add(socket.ticket)
    said = {"type": "chat.send", "requestId": "r1", "payload": {"text": SENTINEL}}
    for frame in (json.dumps(said), SENTINEL, json.dumps({"type": SENTINEL, "requestId": "r2", "payload": {}})):
        await socket.socket.send(frame)
    await socket.heard("chat.message")
    address = f"{running.url.replace('http', 'ws', 1)}/v1/realtime/ws?ticket="
    async with connect(address + SENTINEL) as refused, connect(address + socket.ticket) as used:
        await refused.wait_closed()
        await used.wait_closed()
    await api.post("/v1/auth/logout", headers=ann.headers)
    await socket.socket.wait_closed()

    text = written()
    assert len(_requests(text)) > 50
    assert "socket opened" in text
    assert "socket closed" in text
    assert [secret for secret in secrets if secret.casefold() in text.casefold()] == []
    assert "people.example" not in text
