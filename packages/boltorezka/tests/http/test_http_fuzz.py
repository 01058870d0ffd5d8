"""The routes against hostile requests: never a fault of ours, always the error shape, and the server goes on."""

from __future__ import annotations

import http.client
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltorezka.protocol import MAX_FRAME
from boltorezka.testing import bearer, server_in_thread, signed_in

PATHS = [
    "/health", "/version", "/metrics", "/v1/auth/mode", "/v1/auth/login", "/v1/auth/me", "/v1/auth/ws-ticket",
    "/v1/auth/sso/start", "/v1/auth/sso/session", "/v1/auth/sso/callback", "/v1/auth/sso/logout", "/v1/rooms",
    "/v1/rooms/general/messages", "/v1/rooms/general/members", "/v1/rooms/general/members/x", "/v1/admin/users",
    "/v1/admin/users/x/ban", "/v1/telemetry/summary", "/v1/openapi.json", "/", "/%00", "/v1/rooms/%ff",
    "/v1/realtime/ws", "/v1/rooms/..%2f..%2fetc/messages", "//evil.example/", "/v1/rooms/" + "a" * 5000 + "/messages",
]  # fmt: skip
NAMES = ["limit", "beforeSeq", "beforeId", "beforeCreatedAt", "after", "provider", "returnUrl", "code", "state", "x"]
VALUES = [
    "", "0", "1", "-1", "101", "9007199254740992", "1e3", "١", "%00", "%ff", "%", "%2", "%u0041", "a" * 3000,
    "2026-01-02", "2026-01-02T03:04:05Z", "0001-01-01T00:00:00+23:59", "//evil.example", "%2F%5Cevil.example",
    "javascript:x", "google", "' OR 1=1 --", "[]", "null", "%0d%0aX: y", "😀",
]  # fmt: skip
BODIES = [
    b"", b"{}", b"null", b"[]", b"\xff", b'{"slug":"\\ud83d"}', b'{"slug":"a-b","title":1}', b"[" * 60_000, b"{" * 10,
    b'{"userId":"' + b"u" * 200 + b'"}', b'{"slug":"' + "й".encode() * 3 + b'","title":"abc"}', b"x" * (MAX_FRAME + 1),
    b'{"slug":"ok-\\u0000","title":"abc"}', b'{"slug":"aaa","title":"\\u0000bc"}', b'{"userId":"\\u0000"}',
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a real server, and the headers of its super admin."""
    with server_in_thread(tmp_path_factory.mktemp("fuzz"), SUPER_ADMIN_EMAIL="ann@people.example") as url:
        yield url.removeprefix("http://"), bearer(signed_in(url)["token"])


def ask(place: str, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
    """Send exactly this, without any client's good manners; answers the status and the body."""
    connection = http.client.HTTPConnection(place, timeout=30)
    try:
        connection.putrequest(method, "/", skip_accept_encoding=True)
        # The request line, as raw bytes: http.client refuses what servers have to endure.
        connection._buffer[0] = f"{method} {target} HTTP/1.1".encode()
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


TARGETS = st.tuples(
    st.sampled_from(PATHS), st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4)
).map(lambda drawn: drawn[0] + "?" + "&".join(f"{n}={v}".replace(" ", "+") for n, v in drawn[1]))


@settings(max_examples=150)
@given(
    method=st.sampled_from(["GET", "GET", "GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH", "BREW"]),
    target=TARGETS,
    signed=st.booleans(),
    body=st.just(b"") | st.sampled_from(BODIES) | st.binary(max_size=300),
    cookie=st.sampled_from(["", "boltorezka_session=x", "boltorezka_session=a.b.c; x=%ff", "=;;=", "a" * 3000]),
)
def test_no_request_makes_a_fault(server, method, target, signed, body, cookie):
    """Whatever the method, address, cookie and body, the answer is below 500, and a refusal has the error shape."""
    place, admin = server
    headers = {"Host": place, **(admin if signed else {}), **({"Cookie": cookie} if cookie else {})}
    status, content = ask(place, method, target, headers, body)
    assert status < 500, (status, content)
    if status >= 400 and method != "HEAD" and content.startswith(b"{"):
        assert {"error", "message", "retryable"} <= json.loads(content).keys()
        assert b"Traceback" not in content


def test_the_server_is_well_afterwards(server):
    """After all of this the server is healthy and still knows its admin."""
    place, admin = server
    assert ask(place, "GET", "/health", {"Host": place})[0] == 200
    assert ask(place, "GET", "/v1/auth/me", {"Host": place, **admin})[0] == 200
