"""The ASGI application: the tables of routes, the error shape and the edge put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from boltorezka.adapters.http.accounts import Accounts, SessionSockets
from boltorezka.adapters.http.admin import Administration, UserSockets
from boltorezka.adapters.http.answers import failure_answer, refusal_answer, routing_answer
from boltorezka.adapters.http.authentication import Authentication, AuthSettings
from boltorezka.adapters.http.edge import Edge
from boltorezka.adapters.http.history import History, Recent
from boltorezka.adapters.http.limits import Limits, LimitSettings
from boltorezka.adapters.http.members import Log, Members
from boltorezka.adapters.http.openapi import document_routes
from boltorezka.adapters.http.operations import BuildInfo, Operations, Probes
from boltorezka.adapters.http.rooms import Rooms
from boltorezka.adapters.http.table import ApiRoute, starlette_routes
from boltorezka.adapters.http.telemetry import Telemetry
from boltorezka.adapters.http.web_client import web_client_routes
from boltorezka.adapters.metrics import Metrics
from boltorezka.adapters.oidc_sso import OidcSso
from boltorezka.adapters.tokens import Tokens
from boltorezka.errors import Refusal
from boltorezka.ports import Clock, Ids, SsoDriver, Store


class Sockets(SessionSockets, UserSockets, Log, Recent, Protocol):
    """The sockets' side, as far as HTTP needs it."""

    @property
    def healthy(self) -> bool:
        """Whether messages are being written."""
        ...

    @property
    def bus_healthy(self) -> bool:
        """Whether other processes are heard."""
        ...


@dataclass(frozen=True)
class HttpSettings:
    """What the routes must know of the outside. Holds no secret."""

    public_origin: str
    return_hosts: frozenset[str]
    sso_base_url: str
    build: BuildInfo
    providers: tuple[str, ...] = ()
    limits: LimitSettings = field(default_factory=LimitSettings)
    super_admin_email: str | None = None
    web_root: Path | None = None


@dataclass(frozen=True)
class HttpParts:
    """What the routes work with."""

    store: Store
    clock: Clock
    ids: Ids
    tokens: Tokens
    sso: SsoDriver | OidcSso
    metrics: Metrics
    sockets: Sockets


def http_application(settings: HttpSettings, parts: HttpParts, metrics_token: str) -> ASGIApp:
    """Every route of the contract over these parts. Raises ConfigError when the web client cannot be served."""
    application = Starlette(
        routes=[
            *starlette_routes(api_table(settings, parts, metrics_token)),
            *(web_client_routes(settings.web_root) if settings.web_root else []),
        ],
        exception_handlers={Refusal: refusal_answer, HTTPException: routing_answer, Exception: failure_answer},
    )
    # A trailing slash is another address, and answers in the error shape like any other unknown one.
    application.router.redirect_slashes = False
    return Edge(application, settings.public_origin, parts.clock, parts.ids)


def api_table(settings: HttpSettings, parts: HttpParts, metrics_token: str) -> tuple[ApiRoute, ...]:
    """Every route of the API as data, in the order of the contract."""
    authentication = _authentication(settings, parts)
    caller = authentication.caller
    store, clock, ids, sockets = parts.store, parts.clock, parts.ids, parts.sockets
    probes = Probes(lambda: sockets.healthy, store.ping, lambda: sockets.bus_healthy)

    table = (
        *Operations(probes, clock, settings.build, parts.metrics.text, metrics_token).table(),
        *authentication.table(),
        *Rooms(store, clock, ids, caller).table(),
        *History(store, sockets, caller, lambda: parts.metrics.log_read("page")).table(),
        *Members(store, sockets, clock, ids, caller).table(),
        *Administration(store, sockets, clock, caller).table(),
        *Telemetry(store, parts.metrics, clock, caller).table(),
    )
    return (*table, *document_routes(table))


def _authentication(settings: HttpSettings, parts: HttpParts) -> Authentication:
    accounts = Accounts(
        parts.store,
        parts.clock,
        parts.ids,
        parts.tokens,
        parts.metrics,
        parts.sockets,
        settings.super_admin_email,
    )
    urls = AuthSettings(settings.public_origin, settings.return_hosts, settings.sso_base_url, settings.providers)
    return Authentication(accounts, parts.sso, urls, Limits(settings.limits, parts.clock))
