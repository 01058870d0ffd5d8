"""Readiness, health and what really serves, asked of a real server."""

from __future__ import annotations

import json

import msgspec
import pytest

from sluice.checks import read_back, wait_ready
from sluice.checks.http import health
from sluice.model.spec import RunSpec
from sluice.model.verdict import Verdict

SPEC = RunSpec(command=("serve",), ready_timeout_s=5)
NOWHERE = "http://127.0.0.1:1"


async def living() -> bool:
    """The process runs."""
    return True


@pytest.mark.parametrize("field", ["sha", "tree"])
async def test_a_server_that_answers_but_serves_another_release_fails(site, release, field):
    """Another sha or another tree is a fail that names what serves instead."""
    other = {"sha": release.commit.sha, "tree": release.commit.tree} | {field: "c" * 40}
    site.answer = lambda _m, _p: (200, json.dumps(other).encode())
    finding = await read_back(site.url, SPEC, release.commit, 0)
    assert finding.verdict is Verdict.FAIL
    assert "cccccccccccc" in finding.detail


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"<html>", "did not answer the JSON object"),
        (200, b"[]", "did not answer the JSON object"),
        (200, b"{}", "(unnamed)"),
        (502, b"", "answered 502"),
        (302, b"", "answered 302"),
        (200, b" " * 70_000, "more than 65536 bytes"),
    ],
)
async def test_nonsense_is_not_the_release(site, release, status, body, says):
    """Whatever is not the release's own name is a fail with what was answered."""
    site.answer = lambda _m, _p: (status, body)
    finding = await read_back(site.url, SPEC, release.commit, 0)
    assert finding.verdict is Verdict.FAIL
    assert says in finding.detail


async def test_nobody_there_is_not_the_release(release):
    """A refused connection is a fail, not an exception."""
    finding = await read_back(NOWHERE, SPEC, release.commit, 0)
    assert (finding.verdict, "ConnectError" in finding.detail) == (Verdict.FAIL, True)


async def test_it_is_asked_again_until_it_serves(site, release):
    """An ingress takes a moment; within the deadline the right answer counts."""
    right = site.answer
    site.answer = lambda m, p: (502, b"") if len(site.asked) < 3 else right(m, p)
    finding = await read_back(site.url, SPEC, release.commit, 10)
    assert finding.verdict is Verdict.PASS
    assert len(site.asked) == 3


async def test_ready_is_three_in_a_row(site, clock):
    """A bad answer starts the count anew."""
    site.answer = lambda _m, _p: (503, b"") if len(site.asked) in {1, 3} else (200, b"")
    finding = await wait_ready(site.url, SPEC, clock, living)
    assert finding.verdict is Verdict.PASS
    assert len(site.asked) == 6


async def test_never_ready_ends_at_the_deadline_with_the_last_answer(site, clock):
    """The sentence says what the server said last."""
    site.answer = lambda _m, _p: (503, b"")
    finding = await wait_ready(site.url, SPEC, clock, living)
    assert finding.verdict is Verdict.FAIL
    assert "answered 503" in finding.detail
    assert clock.time == pytest.approx(5, abs=0.2)


async def test_a_dead_process_is_not_waited_for(clock):
    """It ends at once when the process died."""

    async def dead() -> bool:
        return False

    finding = await wait_ready(NOWHERE, SPEC, clock, dead)
    assert finding.verdict is Verdict.FAIL
    assert "died" in finding.detail
    assert clock.time == 0


@pytest.mark.parametrize("bad", ["GET", "HEAD"])
async def test_health_is_asked_both_ways(site, bad):
    """GET and HEAD must both answer 200."""
    site.answer = lambda method, _p: (405 if method == bad else 200, b"")
    finding = await health(site.url, SPEC)
    assert finding.verdict is Verdict.FAIL
    assert f"{bad} /health answered 405" in finding.detail


async def test_a_healthy_server(site, release):
    """All good, with the evidence."""
    spec = msgspec.structs.replace(SPEC, health_path="/h", version_path="/version")
    assert (await health(site.url, spec)).verdict is Verdict.PASS
    assert site.asked == ["GET /h", "HEAD /h"]
    assert (await read_back(site.url, spec, release.commit, 0)).verdict is Verdict.PASS
