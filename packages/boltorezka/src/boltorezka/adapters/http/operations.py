"""Routes for those who run the server: health, version, metrics."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.answers import json_answer, json_bytes
from boltorezka.adapters.http.table import Access, ApiRoute
from boltorezka.errors import Unauthorized, Unavailable
from boltorezka.ports import Clock
from boltorezka.protocol import iso_time

# A probe asks every second and gives up after about as long; a database slower than this is down for people too.
PING_DEADLINE_S = 1.0


class Checks(msgspec.Struct, frozen=True):
    """What health looked at: each `ok` or `down`."""

    api: str
    db: str
    bus: str


class HealthBody(msgspec.Struct, frozen=True):
    """`ok`, or `degraded` while something is down."""

    status: str
    checks: Checks
    ts: str


class LiveBody(msgspec.Struct, frozen=True):
    """The process runs."""

    status: str
    ts: str


class BuildInfo(msgspec.Struct, frozen=True, rename="camel"):
    """What really serves: the commit given at start, the tree and time baked in at the build. null when unknown."""

    service: str
    version: str
    sha: str | None
    tree: str | None
    built_at: str | None


@dataclass(frozen=True)
class Probes:
    """What health asks: whether messages are written, the database answers (else Unavailable), hints travel."""

    api: Callable[[], bool]
    ping: Callable[[], Awaitable[None]]
    bus: Callable[[], bool]


class Operations:
    """Health, version and metrics. Of the metrics token only a digest is kept here."""

    def __init__(
        self, probes: Probes, clock: Clock, build: BuildInfo, metrics_text: Callable[[], bytes], metrics_token: str
    ) -> None:
        self._probes = probes
        self._clock = clock
        self._version_body = msgspec.json.encode(build)
        self._metrics_text = metrics_text
        self._expected = _digest(f"Bearer {metrics_token}")

    def table(self) -> tuple[ApiRoute, ...]:
        """The four routes."""
        public, token = Access.PUBLIC, Access.METRICS_TOKEN
        health = "Whether this process can serve; 503 names what is down"
        return (
            ApiRoute("GET", "/health", self._health, health, public, {200: HealthBody, 503: HealthBody}),
            ApiRoute("GET", "/health/live", self._live, "Whether the process runs", public, {200: LiveBody}),
            ApiRoute("GET", "/version", self._version, "What really serves", public, {200: BuildInfo}),
            ApiRoute("GET", "/metrics", self._metrics, "Counters as Prometheus text", token, {200: bytes}),
        )

    async def _health(self, _request: Request) -> Response:
        api, bus, db = self._probes.api(), self._probes.bus(), await _answers(self._probes.ping)
        checks = Checks(*("ok" if works else "down" for works in (api, db, bus)))
        good = api and db and bus
        body = HealthBody("ok" if good else "degraded", checks, iso_time(self._clock.now()))
        return json_answer(body, 200 if good else 503)

    async def _live(self, _request: Request) -> Response:
        return json_answer(LiveBody("ok", iso_time(self._clock.now())))

    async def _version(self, _request: Request) -> Response:
        return json_bytes(self._version_body)

    async def _metrics(self, request: Request) -> Response:
        given = _digest(request.headers.get("authorization", ""))
        if not hmac.compare_digest(given, self._expected):
            raise Unauthorized("The metrics need the token from BOLTOREZKA_METRICS_TOKEN as a Bearer token.")
        return Response(self._metrics_text(), 200, {"cache-control": "no-store"}, "text/plain; version=0.0.4")


async def _answers(ping: Callable[[], Awaitable[None]]) -> bool:
    try:
        async with asyncio.timeout(PING_DEADLINE_S):
            await ping()
    except (Unavailable, TimeoutError):
        return False
    return True


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
