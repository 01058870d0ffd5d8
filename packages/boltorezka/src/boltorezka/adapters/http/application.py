"""The ASGI application: routes, error shape and security headers put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from boltorezka.adapters.http.accounts import Accounts, SessionSockets
from boltorezka.adapters.http.answers import failure_answer, refusal_answer, routing_answer
from boltorezka.adapters.http.authentication import Authentication, AuthSettings
from boltorezka.adapters.http.history import room_routes
from boltorezka.adapters.http.operations import BuildInfo, Probes, operations_routes
from boltorezka.adapters.http.web_client import web_client_routes
from boltorezka.adapters.metrics import Metrics
from boltorezka.adapters.tokens import Tokens
from boltorezka.errors import Refusal
from boltorezka.ports import Clock, Ids, SsoDriver, Store


class Sockets(SessionSockets, Protocol):
    """The sockets' side, as far as HTTP needs it."""

    @property
    def healthy(self) -> bool:
        """Whether messages are being written and other processes heard."""
        ...


@dataclass(frozen=True)
class HttpSettings:
    """What the routes must know of the outside. Holds no secret."""

    public_origin: str
    return_hosts: frozenset[str]
    sso_base_url: str
    build: BuildInfo
    super_admin_email: str | None = None
    web_root: Path | None = None


@dataclass(frozen=True)
class HttpParts:
    """What the routes work with."""

    store: Store
    clock: Clock
    ids: Ids
    tokens: Tokens
    sso: SsoDriver
    metrics: Metrics
    sockets: Sockets


def http_application(settings: HttpSettings, parts: HttpParts, metrics_token: str) -> ASGIApp:
    """Every route of the contract over these parts. Raises ConfigError when the web client cannot be served."""
    accounts = Accounts(
        parts.store,
        parts.clock,
        parts.ids,
        parts.tokens,
        parts.metrics,
        parts.sockets,
        settings.super_admin_email,
    )
    authentication = Authentication(
        accounts, parts.sso, AuthSettings(settings.public_origin, settings.return_hosts, settings.sso_base_url)
    )
    probes = Probes(parts.store.ping, lambda: parts.sockets.healthy)
    routes = [
        *operations_routes(probes, parts.clock, settings.build, parts.metrics.text, metrics_token),
        *authentication.routes(),
        *room_routes(parts.store, authentication.caller),
        *(web_client_routes(settings.web_root) if settings.web_root else []),
    ]
    application = Starlette(
        routes=routes,
        exception_handlers={Refusal: refusal_answer, HTTPException: routing_answer, Exception: failure_answer},
    )
    # A trailing slash is another address, and answers in the error shape like any other unknown one.
    application.router.redirect_slashes = False
    return _SecurityHeaders(application, settings.public_origin)


class _SecurityHeaders:
    """Adds the headers that keep a browser from doing with our pages what we did not mean."""

    def __init__(self, application: ASGIApp, public_origin: str) -> None:
        self._application = application
        socket_origin = public_origin.replace("http", "ws", 1)
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
            f"media-src 'self' blob:; manifest-src 'self'; connect-src 'self' {socket_origin}; "
            "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=(self), display-capture=(self)",
            "cross-origin-opener-policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._application(scope, receive, send_with_headers)
