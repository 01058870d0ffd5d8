"""Around every request: its id, its line in the log, its address checked, and the headers of every answer."""

from __future__ import annotations

import logging
import re

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from boltorezka.adapters.http.answers import refusal_answer
from boltorezka.adapters.http.inputs import issue, well_escaped
from boltorezka.adapters.logs import begin_request
from boltorezka.ports import Clock, Ids

log = logging.getLogger("boltorezka.http")

# What a caller may call their request: it is echoed and logged. A token is longer.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

# A path is the caller's text; ours have some sixty characters.
_MAX_PATH = 200

# Asked every second by machines. Their good answers are noise between those of people.
_PROBES = frozenset({"/health", "/health/live", "/metrics", "/version"})


class Edge:
    """The outermost layer of the HTTP side. Of a request it logs method, path, status, time and user; never a query."""

    def __init__(self, application: ASGIApp, public_origin: str, clock: Clock, ids: Ids) -> None:
        self._application = application
        self._clock = clock
        self._ids = ids
        headers = security_headers(public_origin)
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        began, status = self._clock.monotonic(), 0
        request_id = _given_id(scope) or self._ids.new_id()
        begin_request(request_id)
        headers = [*self._headers, (b"x-request-id", request_id.encode())]

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        try:
            await self._checked(scope)(scope, receive, send_on)
        finally:
            self._write_line(scope, status, self._clock.monotonic() - began)

    def _checked(self, scope: Scope) -> ASGIApp:
        """The application, or what refuses an address that is not percent-encoded UTF-8 or holds a NUL."""
        if well_escaped(scope["raw_path"]) and "\0" not in scope["path"]:
            return self._application
        return refusal_answer(Request(scope), issue("path", "is not percent-encoded UTF-8 without NUL"))

    def _write_line(self, scope: Scope, status: int, seconds: float) -> None:
        path: str = scope["path"]
        quiet = path in _PROBES and status < 400
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "request",
            extra={
                "method": scope["method"],
                "path": path[:_MAX_PATH],
                "status": status or None,
                "ms": round(seconds * 1000, 1),
            },
        )


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            given: bytes = value
            return given.decode()
    return None


def security_headers(public_origin: str) -> dict[str, str]:
    """The headers that keep a browser from doing with our pages what we did not mean."""
    socket_origin = public_origin.replace("http", "ws", 1)
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"media-src 'self' blob:; manifest-src 'self'; connect-src 'self' {socket_origin}; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(self), display-capture=(self)",
        "cross-origin-opener-policy": "same-origin",
    }
