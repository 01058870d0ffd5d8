"""A watch on virtual time: addresses in memory, plug-ins that say what the test wants, and what is judged."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections.abc import Callable

import httpx

from sluice.criteria import WatchContext, watch
from sluice.model.release import Completed, Slot
from sluice.model.secret import Secret
from sluice.model.spec import MetricLimit, RunSpec, WatchSpec
from sluice.model.verdict import Finding

PUBLIC, NEW, OLD = "http://public.test", "http://new.test", "http://old.test"
COUNTS = {"senders": 2, "listeners": 4, "connected": 6, "lost": 0, "duplicated": 0, "reordered": 0}
TOKEN = "the-token-of-the-metrics"
# Enough turns of the loop for everything that can happen now to have happened: an in-memory request takes about ten.
TURNS = 60


class Clock:
    """Time jumps to the next sleeper whenever nobody has anything left to do."""

    def __init__(self) -> None:
        self.time = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> str:
        return "2026-01-01T00:00:00.000Z"

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + max(0.0, seconds), next(self._order), woken))
        await woken

    async def run(self) -> None:
        while True:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            while self._sleepers:
                moment, _, woken = heapq.heappop(self._sleepers)
                if not woken.done():
                    self.time = max(self.time, moment)
                    woken.set_result(None)
                    break


class Plugins:
    """A runner of made-up programs: the first word of a command names what is said, second by second."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lines: dict[str, Callable[[float, str], list[dict]]] = {
            "canary": lambda at, _url: [messages(at)],
            "calls": lambda _at, _url: [{"name": "voice", "verdict": "pass", "metrics": {"setup_ms": 300}}],
            "refusals": lambda _at, _url: [{"name": "refused-origin", "verdict": "pass"}],
        }
        self.takes = {"calls": 1.5, "refusals": 0.3}  # seconds
        self.exit_codes: dict[str, int] = {}
        self.started: list[tuple[str, str, float]] = []
        self.environments: dict[str, dict[str, str]] = {}
        self.running: set[str] = set()
        self.killed: list[str] = []

    async def run(self, argv, *, timeout_s, environment, on_line=None, **_):
        name, url, began = argv[0], environment["SLUICE_URL"], self.clock.time
        self.started.append((name, url, began))
        self.environments[name] = environment
        self.running.add(name)
        said: list[str] = []
        try:
            duration = timeout_s - 5 if name == "canary" else self.takes[name]
            seconds = int(duration) if name == "canary" else 1
            for _ in range(seconds):
                left = timeout_s - (self.clock.time - began)
                await self.clock.sleep(min(duration / seconds, left))
                if duration / seconds > left:
                    return Completed(tuple(argv), -9, "", "", 1, timed_out=True)
                for line in self.lines[name](self.clock.time, url):
                    said.append(json.dumps(line))
                    if on_line is not None:
                        on_line(said[-1])
        except asyncio.CancelledError:
            self.killed.append(name)
            raise
        finally:
            self.running.discard(name)
        code = self.exit_codes.get(name, int(any('"fail"' in line for line in said)))
        return Completed(tuple(argv), code, "\n".join(said), "", 1)


def messages(at: float, new: dict | None = None, old: dict | None = None) -> dict:
    """One line of the canary."""
    counts = COUNTS | {"sent": int(at), "received": 4 * int(at)}
    return {
        "name": "messages",
        "verdict": "pass",
        "metrics": {"new": counts | (new or {}), "old": counts | (old or {})},
    }


class Service:
    """Answers of the three addresses: who is dead from when on, and what the counters say."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.dead: dict[str, float] = {}
        self.denied_per_s = {NEW: 0.0, OLD: 0.0}
        self.tokens: set[str] = set()

    def answer(self, request: httpx.Request) -> httpx.Response:
        url = f"{request.url.scheme}://{request.url.host}"
        if self.clock.time >= self.dead.get(url, 1e9):
            raise httpx.ConnectError(f"refused, with {request.headers}")
        if request.url.path == "/metrics":
            self.tokens.add(request.headers.get("Authorization", ""))
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                return httpx.Response(401)
            denied = self.denied_per_s[url] * self.clock.time
            return httpx.Response(200, text=f"# TYPE denied_total counter\ndenied_total {denied}\n")
        return httpx.Response(200)


def context(clock: Clock, *, old: bool = True, policy: dict | None = None, **changes: object) -> WatchContext:
    """A watch of ten seconds with every source."""
    service = Service(clock)
    limits = {"metrics_path": "/metrics", "metrics_token": "TOKEN", "auth": (MetricLimit("denied_total", 5),)}
    fields = {
        "policy": WatchSpec(**(limits | (policy or {}))),
        "run": RunSpec(command=("serve",)),
        "public_url": PUBLIC,
        "new": Slot("r2", "u2", 2, NEW),
        "old": Slot("r1", "u1", 1, OLD) if old else None,
        "canary_argv": ("canary",),
        "calls_argv": ("calls",),
        "refusals_argv": ("refusals",),
        "release": "r2",
        "environment": "test",
        "credentials": None,
        "expect_sso_host": "",
        "runner": Plugins(clock),
        "clock": clock,
        "metrics_token": Secret(TOKEN),
        "http": lambda _ca: httpx.AsyncClient(transport=httpx.MockTransport(service.answer)),
    }
    made = WatchContext(**(fields | changes))
    object.__setattr__(made, "service", service)
    return made


async def judged(watched: WatchContext) -> dict[str, Finding]:
    """The finding of every criterion; each is told once, and nothing runs on afterwards."""
    told: list[Finding] = []
    findings = await watch(watched, told.append)
    assert told == findings
    assert not watched.runner.running
    return {finding.name: finding for finding in findings}


def verdicts(findings: dict[str, Finding]) -> dict[str, str]:
    """Names and verdicts."""
    return {name: finding.verdict.value for name, finding in findings.items()}
