"""`served-release`: whether what answers is really the release it should be, by the best witness there is.

The service itself (`version_path`: commit and tree); else, through the public URL, the ingress, which says in a header
which release it asked; else, on a slot's private address, the images of its containers, or the supervisor.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from sluice.checks.containers import SERVED, served_by_containers
from sluice.checks.http import client, read_some
from sluice.model.containers import Containers
from sluice.model.release import Commit, Release, Slot
from sluice.model.spec import RunSpec
from sluice.model.verdict import Finding, Verdict

if TYPE_CHECKING:
    import httpx

POLL_INTERVAL_S = 0.05
MAX_BODY = 64 * 1024  # /version is tiny; a server gone wrong must not fill our memory
HEADER = "Sluice-Release"  # set by the ingress on every answer


class Served(msgspec.Struct, frozen=True):
    """The part of `version_path`'s answer that names a release."""

    sha: str = ""
    tree: str = ""
    version: str = ""


def served_in_slot(release: Release, slot: Slot, containers: Containers | None, *, alive: bool) -> Finding:
    """`served-release` on the private address of a service without `version_path`. Pure."""
    if containers is not None:
        return served_by_containers(containers, release, slot)
    if not alive:
        return Finding(SERVED, Verdict.FAIL, detail=f"{slot.unit} does not run.", fix="sluice status")
    detail = f"The supervisor runs {slot.unit}, started for release {release.id}; the service itself names no release."
    return Finding(SERVED, Verdict.PASS, detail=detail)


async def read_header(url: str, spec: RunSpec, release_id: str, ca_file: str = "") -> Finding:
    """`served-release` through the public URL of a service without `version_path`: one question to the ingress."""
    import httpx

    path = spec.health_path
    try:
        async with client(ca_file) as http, http.stream("GET", url.rstrip("/") + path) as response:
            status, told = response.status_code, response.headers.get(HEADER, "")
            await read_some(response)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _unserved(f"GET {path}: {type(error).__name__}", release_id)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return _unserved(f"GET {path} answered {status}", release_id)
    if not told:
        return _unserved(
            f"GET {path} came back without {HEADER}, so it did not pass this environment's ingress", release_id
        )
    if told != release_id:
        return _unserved(f"the ingress asked release {told[:80]}", release_id)
    return Finding(SERVED, Verdict.PASS, detail=f"The ingress asked release {release_id}.")


def _unserved(problem: str, release_id: str) -> Finding:
    fix = "`sluice status` shows where the ingress points; an edge in front must pass the header on"
    return Finding(SERVED, Verdict.FAIL, detail=f"{problem[0].upper()}{problem[1:]}; expected {release_id}.", fix=fix)


async def read_back(url: str, spec: RunSpec, commit: Commit, timeout_s: float, ca_file: str = "") -> Finding:
    """`served-release` of a service that names its release: `version_path` says the commit, sha and tree both.

    Asks until it does, or until `timeout_s` has passed (an ingress takes a moment to switch); then a fail that names
    what serves instead. At least one question is asked, whatever the deadline.
    """
    started = time.monotonic()
    async with client(ca_file) as http:
        while True:
            served, problem = await _served(http, url, spec.version_path)
            elapsed = time.monotonic() - started
            if served is not None and (served.sha, served.tree) == (commit.sha, commit.tree):
                detail = f"{commit.sha[:12]} serves, tree {commit.tree[:12]}."
                return Finding(SERVED, Verdict.PASS, ms=round(elapsed * 1000), detail=detail)
            if elapsed + POLL_INTERVAL_S >= timeout_s:
                break
            await asyncio.sleep(POLL_INTERVAL_S)
    wanted = f"expected commit {commit.sha[:12]}, tree {commit.tree[:12]}"
    detail = f"{problem}; {wanted}." if served is None else f"{_named(served)} serves instead; {wanted}."
    fix = f"`curl {url.rstrip('/')}{spec.version_path}` shows what serves; the build or the start command is wrong"
    if served is None and problem.startswith(f"GET {spec.version_path} answered"):
        fix = (
            f'if the service has no page that names its release: version_path = "" in [run] of sluice.toml; else {fix}'
        )
    return Finding(SERVED, Verdict.FAIL, ms=round(elapsed * 1000), detail=detail, fix=fix)


def _named(served: Served) -> str:
    return f"commit {served.sha[:12] or '(unnamed)'}, tree {served.tree[:12] or '(unnamed)'}"


async def _served(http: httpx.AsyncClient, url: str, path: str) -> tuple[Served | None, str]:
    import httpx

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
