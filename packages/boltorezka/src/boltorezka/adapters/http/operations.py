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
from starlette.routing import Route

from boltorezka.adapters.http.answers import json_answer, json_bytes
from boltorezka.errors import Unauthorized, Unavailable
from boltorezka.ports import Clock
from boltorezka.protocol import iso_time

# A probe asks every second and gives up after about as long; a database slower than this is down for people too.
PING_DEADLINE_S = 1.0


class BuildInfo(msgspec.Struct, frozen=True, rename="camel"):
    """What really serves: the commit given at start, the tree and time baked in at the build. null when unknown."""

    service: str
    version: str
    sha: str | None
    tree: str | None
    built_at: str | None


@dataclass(frozen=True)
class Probes:
    """What health asks: `ping` raises Unavailable while the database is gone, `bus` says whether messages travel."""

    ping: Callable[[], Awaitable[None]]
    bus: Callable[[], bool]


def operations_routes(
    probes: Probes, clock: Clock, build: BuildInfo, metrics_text: Callable[[], bytes], metrics_token: str
) -> list[Route]:
    """Health, version and metrics. Of the metrics token only a digest is kept here."""
    version = msgspec.json.encode(build)
    expected = _digest(f"Bearer {metrics_token}")

    async def health(_request: Request) -> Response:
        checks = {"api": True, "db": await _answers(probes.ping), "bus": probes.bus()}
        good = all(checks.values())
        body = {
            "status": "ok" if good else "degraded",
            "checks": {name: "ok" if works else "down" for name, works in checks.items()},
            "ts": iso_time(clock.now()),
        }
        return json_answer(body, 200 if good else 503)

    async def live(_request: Request) -> Response:
        return json_answer({"status": "ok", "ts": iso_time(clock.now())})

    async def version_of(_request: Request) -> Response:
        return json_bytes(version)

    async def metrics(request: Request) -> Response:
        given = _digest(request.headers.get("authorization", ""))
        if not hmac.compare_digest(given, expected):
            raise Unauthorized("The metrics need the token from BOLTOREZKA_METRICS_TOKEN as a Bearer token.")
        return Response(metrics_text(), 200, {"cache-control": "no-store"}, "text/plain; version=0.0.4")

    return [
        Route("/health", health),
        Route("/health/live", live),
        Route("/version", version_of),
        Route("/metrics", metrics),
    ]


async def _answers(ping: Callable[[], Awaitable[None]]) -> bool:
    try:
        async with asyncio.timeout(PING_DEADLINE_S):
            await ping()
    except (Unavailable, TimeoutError):
        return False
    return True


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
