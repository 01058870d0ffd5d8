"""What is asked of a service over HTTP: is it ready, and is it healthy."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sluice.checks.trust import trust
from sluice.model.spec import RunSpec
from sluice.model.verdict import Finding, Verdict
from sluice.ports import Clock

if TYPE_CHECKING:
    import httpx

MAX_BODY = 64 * 1024  # /health and /version are tiny; a server gone wrong must not fill our memory
PROBE_TIMEOUT_S = 2.0  # a health answer that takes longer is a bad one
READY_IN_A_ROW = 3  # one lucky answer of a starting server is not readiness
READY_INTERVAL_S = 0.1
READY_AGAIN_S = 0.05  # after a good answer: who is about to fall over does so within the first requests


def client(ca_file: str = "") -> httpx.AsyncClient:
    """A client that talks to the address it is given: no proxy, no redirect, no environment.

    Trusts the system's certificate authorities, or those of `ca_file` alone where it is set. Raises OSError when that
    file cannot be used.
    """
    # Here and below: half the start of a command that asks nobody anything, as `sluice status`.
    import httpx

    return httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=PROBE_TIMEOUT_S, verify=trust(ca_file))


async def read_some(response: httpx.Response) -> None:
    """Take the answer's body, as far as it is an answer: closing on a server that writes makes it log an error."""
    taken = 0
    async for chunk in response.aiter_bytes():
        taken += len(chunk)
        if taken > MAX_BODY:
            return


async def probe(http: httpx.AsyncClient, url: str, path: str, method: str = "GET") -> str:
    """Nothing ("") when the answer is 200, else one short sentence why not."""
    import httpx

    try:
        async with http.stream(method, url.rstrip("/") + path) as response:
            await read_some(response)
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
            await clock.sleep(READY_AGAIN_S if in_a_row else READY_INTERVAL_S)
    return _ready(Verdict.FAIL, waited, f"Not ready after {spec.ready_timeout_s:g} s: {last}.")


def _ready(verdict: Verdict, waited: float, detail: str) -> Finding:
    fix = "" if verdict is Verdict.PASS else "read the slot's log below; `ready_timeout_s` in [run] is the deadline"
    return Finding("ready", verdict, ms=round(waited * 1000), detail=detail, fix=fix)


async def health(url: str, spec: RunSpec, ca_file: str = "") -> Finding:
    """The built-in check `http-health`: GET and HEAD both answer 200."""
    started = time.monotonic()
    async with client(ca_file) as http:
        problems = [await probe(http, url, spec.health_path, method) for method in ("GET", "HEAD")]
    detail = "; ".join(filter(None, problems)) or f"GET and HEAD {spec.health_path} answer 200"
    verdict = Verdict.FAIL if any(problems) else Verdict.PASS
    return Finding("http-health", verdict, ms=round((time.monotonic() - started) * 1000), detail=f"{detail}.")
