"""What is asked of a service over HTTP: is it ready, is it healthy, and is it really the release it should be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import msgspec

from sluice.model.release import Commit
from sluice.model.spec import RunSpec
from sluice.model.verdict import Finding, Verdict
from sluice.ports import Clock

PROBE_TIMEOUT_S = 2.0  # a health answer that takes longer is a bad one
READY_IN_A_ROW = 3  # one lucky answer of a starting server is not readiness
READY_INTERVAL_S = 0.1
POLL_INTERVAL_S = 0.05
MAX_BODY = 64 * 1024  # /version and /health are tiny; a server gone wrong must not fill our memory


def client() -> httpx.AsyncClient:
    """A client that talks to the address it is given: no proxy, no redirect, no environment."""
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=PROBE_TIMEOUT_S)


class Served(msgspec.Struct, frozen=True):
    """The part of `version_path`'s answer that names a release."""

    sha: str = ""
    tree: str = ""
    version: str = ""


async def probe(http: httpx.AsyncClient, url: str, path: str, method: str = "GET") -> str:
    """Nothing ("") when the answer is 200, else one short sentence why not."""
    try:
        async with http.stream(method, url.rstrip("/") + path) as response:
            if response.status_code == httpx.codes.OK:
                return ""
            return f"{method} {path} answered {response.status_code}"
    except httpx.TimeoutException:
        return f"{method} {path} did not answer within {PROBE_TIMEOUT_S:g} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{method} {path}: {type(error).__name__}"


async def wait_ready(url: str, spec: RunSpec, clock: Clock, alive: Callable[[], Awaitable[bool]]) -> Finding:
    """Pass after three good health answers in a row; fail at `ready_timeout_s`, or at once when the process died.

    Cancellation leaves nothing behind.
    """
    started = clock.monotonic()
    in_a_row, last = 0, "no answer yet"
    async with client() as http:
        while (waited := clock.monotonic() - started) < spec.ready_timeout_s:
            if not await alive():
                return _ready(Verdict.FAIL, waited, f"The process died before it was ready ({last}).")
            problem = await probe(http, url, spec.health_path)
            in_a_row, last = (0, problem) if problem else (in_a_row + 1, last)
            if in_a_row >= READY_IN_A_ROW:
                waited = clock.monotonic() - started
                return _ready(Verdict.PASS, waited, f"Ready after {waited:.1f} s.")
            await clock.sleep(READY_INTERVAL_S)
    return _ready(Verdict.FAIL, waited, f"Not ready after {spec.ready_timeout_s:g} s: {last}.")


def _ready(verdict: Verdict, waited: float, detail: str) -> Finding:
    fix = "" if verdict is Verdict.PASS else "read the slot's log below; `ready_timeout_s` in [run] is the deadline"
    return Finding("ready", verdict, ms=round(waited * 1000), detail=detail, fix=fix)


async def health(url: str, spec: RunSpec) -> Finding:
    """The built-in check `http-health`: GET and HEAD both answer 200."""
    started = time.monotonic()
    async with client() as http:
        problems = [await probe(http, url, spec.health_path, method) for method in ("GET", "HEAD")]
    detail = "; ".join(filter(None, problems)) or f"GET and HEAD {spec.health_path} answer 200"
    verdict = Verdict.FAIL if any(problems) else Verdict.PASS
    return Finding("http-health", verdict, ms=round((time.monotonic() - started) * 1000), detail=f"{detail}.")


async def read_back(url: str, spec: RunSpec, commit: Commit, timeout_s: float) -> Finding:
    """The check `served-release`: what `version_path` says equals the commit, sha and tree both.

    Asks until it does, or until `timeout_s` has passed (an ingress takes a moment to switch); then a fail that names
    what serves instead. At least one question is asked, whatever the deadline.
    """
    started = time.monotonic()
    async with client() as http:
        while True:
            served, problem = await _served(http, url, spec.version_path)
            elapsed = time.monotonic() - started
            if served is not None and (served.sha, served.tree) == (commit.sha, commit.tree):
                detail = f"{commit.sha[:12]} serves, tree {commit.tree[:12]}."
                return Finding("served-release", Verdict.PASS, ms=round(elapsed * 1000), detail=detail)
            if elapsed + POLL_INTERVAL_S >= timeout_s:
                break
            await asyncio.sleep(POLL_INTERVAL_S)
    wanted = f"expected commit {commit.sha[:12]}, tree {commit.tree[:12]}"
    detail = f"{problem}; {wanted}." if served is None else f"{_named(served)} serves instead; {wanted}."
    fix = f"`curl {url.rstrip('/')}{spec.version_path}` shows what serves; the build or the start command is wrong"
    return Finding("served-release", Verdict.FAIL, ms=round(elapsed * 1000), detail=detail, fix=fix)


def _named(served: Served) -> str:
    return f"commit {served.sha[:12] or '(unnamed)'}, tree {served.tree[:12] or '(unnamed)'}"


async def _served(http: httpx.AsyncClient, url: str, path: str) -> tuple[Served | None, str]:
    try:
        async with http.stream("GET", url.rstrip("/") + path) as response:
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    return None, f"GET {path} answered more than {MAX_BODY} bytes"
            if response.status_code != httpx.codes.OK:
                return None, f"GET {path} answered {response.status_code}"
            return msgspec.json.decode(body, type=Served), ""
    except msgspec.DecodeError:
        return None, f"GET {path} did not answer the JSON object that names a release"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return None, f"GET {path}: {type(error).__name__}"
