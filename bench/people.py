"""People for the servers: a stand-in of the central SSO that signs them in, and tokens for the Node peers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt

from harness import BenchError

COOKIE = "sso_session"
# The first of them, who may make rooms.
ADMIN_EMAIL = "person-0@people.example"
# A few at a time: the server is not measured while people sign in.
AT_ONCE = 4
DEADLINE_S = 30.0
# Longer than any bench runs with one set of people.
TOKEN_S = 3600


class _Sso(BaseHTTPRequestHandler):
    """Believes the number in the cookie."""

    protocol_version = "HTTP/1.1"
    # Head and body leave together; apart, the second would wait for a delayed acknowledgement.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        cookie = SimpleCookie(self.headers.get("cookie", "")).get(COOKIE)
        number = cookie.value if cookie else ""
        person = {"id": f"person-{number}", "email": f"person-{number}@people.example", "username": f"Person {number}"}
        answer: dict[str, Any] = {"authenticated": bool(cookie), **person, "role": "user"}
        body = json.dumps(answer if self.path == "/auth/get-token" else {"user": {**person, "role": "user"}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name for it
        """Nobody reads it."""


@contextmanager
def sso() -> Iterator[str]:
    """A central SSO on loopback; yields its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sso) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(DEADLINE_S)


def sign_in(url: str, people: int) -> list[str]:
    """Session tokens of so many people of a Boltorezka server. Raises BenchError."""
    # Every hundred from an address of its own: they are not one busy client.
    clients = [
        httpx.Client(base_url=url, timeout=DEADLINE_S, transport=httpx.HTTPTransport(local_address=f"127.0.1.{1 + n}"))
        for n in range((people + 99) // 100)
    ]

    def enter(number: int) -> str:
        headers = {"cookie": f"{COOKIE}={number}"}
        answer = clients[number // 100].get("/v1/auth/sso/session", headers=headers)
        token = answer.json().get("token") if answer.status_code == httpx.codes.OK else None
        if token is None:
            raise BenchError(f"person {number} could not sign in: {answer.status_code} {answer.text}")
        return str(token)

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(enter, range(people)))
    finally:
        for client in clients:
            client.close()


def minted(secret: str, people: int) -> list[str]:
    """Tokens for the sessions that SEED makes."""
    expires = int(time.time()) + TOKEN_S
    claims = ({"sub": f"user-{n}", "sid": f"session-{n}", "gen": 1, "exp": expires} for n in range(people))
    return [jwt.encode(each, secret, algorithm="HS256") for each in claims]


# The people of a Node peer, with a session each.
SEED = """
INSERT INTO users (id, email, name, role, banned, created_at)
  SELECT 'user-' || n, 'person-' || n || '@people.example', 'Person ' || n, 'user', false, now()
  FROM generate_series(0, {last}) n;
INSERT INTO sessions (id, user_id, generation, created_at, expires_at)
  SELECT 'session-' || n, 'user-' || n, 1, now(), now() + interval '1 day' FROM generate_series(0, {last}) n;
"""
