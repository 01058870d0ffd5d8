"""The plug-in protocol: what a plug-in says, and how it may break."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.checks import SmokeContext, run_smoke
from sluice.checks.plugin import deadline_after, parse_line
from sluice.model.containers import Container, Containers
from sluice.model.errors import StepFailed
from sluice.model.secret import Redactor
from sluice.model.spec import ChecksSpec
from sluice.model.verdict import Verdict, worst
from sluice.runner import LocalRunner

GOOD = '{"name":"login","verdict":"pass","ms":3,"detail":"in"}'


def program(code: str) -> tuple[str, ...]:
    """A plug-in written here."""
    return (sys.executable, "-I", "-S", "-c", code)


def says(*lines: str, code: int = 0) -> tuple[str, ...]:
    """A plug-in that prints these lines and ends."""
    return program(f"import sys; [print(line, flush=True) for line in {lines!r}]; sys.exit({code})")


@pytest.fixture
def smoke(target, clock):
    """Run a plug-in against the healthy site; returns the findings by name."""

    async def run(argv: tuple[str, ...], required: frozenset[str] = frozenset(), **changes):
        fields = {
            "target": target,
            "argv": argv,
            "credentials": nullcontext,
            "environment": "test",
            "runner": LocalRunner(Redactor()),
            "timeout_s": 10,
        }
        told = []
        findings = await run_smoke(SmokeContext(**(fields | changes)), required, told.append)
        assert sorted(told, key=str) == sorted(findings, key=str)
        return findings

    return run


@pytest.mark.parametrize(
    ("argv", "says_why"),
    [
        (program("raise SystemExit(3)"), "exit code 3"),
        (program("raise ValueError('no such user')"), "every check it reported passed|reported nothing"),
        (says("not json"), "line 1"),
        (says(GOOD, "", "Traceback"), "line 3"),
        (says('{"name":"login"}'), "line 1"),
        (says('{"name":"login","verdict":"fine"}'), "line 1"),
        (says('{"name":"Bad Name","verdict":"pass"}'), "line 1"),
        (says(GOOD, code=1), "every check it reported passed"),
        (says(), "reported nothing"),
        (("/nonexistent/plug-in",), "exit code 127"),
        (program("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), "exit code -11"),
    ],
)
async def test_a_plugin_that_breaks_is_an_error_and_never_a_fail(smoke, argv, says_why):
    """A crash or nonsense says nothing of the release."""
    findings = await smoke(argv)
    assert findings[-1].name == "plug-in"
    assert findings[-1].verdict is Verdict.ERROR
    assert any(part in findings[-1].detail for part in says_why.split("|"))
    assert worst(findings) is Verdict.ERROR


async def test_a_plugin_past_its_deadline_is_killed(smoke):
    """What it reported before stays, and the probe is said to be broken."""
    code = f"print({GOOD!r}, flush=True); import signal; signal.pause()"
    findings = await smoke(program(code), timeout_s=-0.5)
    assert [f.name for f in findings][-2:] == ["login", "plug-in"]
    assert "killed at its deadline" in findings[-1].detail


async def test_a_failed_check_is_a_fail(smoke):
    """What the plug-in judged bad is bad, whatever else it says."""
    findings = await smoke(says(GOOD, '{"name":"message","verdict":"fail","detail":"lost"}', code=1))
    assert worst(findings) is Verdict.FAIL
    assert "plug-in" not in {f.name for f in findings}


@pytest.mark.parametrize("line", [None, '{"name":"message","verdict":"skipped","detail":"no room"}'])
async def test_a_required_check_may_be_neither_missing_nor_skipped(smoke, line):
    """What policy requires and nobody judged is inconclusive."""
    lines = [GOOD] + ([line] if line else [])
    findings = await smoke(says(*lines), frozenset({"login", "message"}))
    assert (findings[-1].name, findings[-1].verdict) == ("message", Verdict.INCONCLUSIVE)


async def test_without_a_plugin_the_builtin_checks_alone_are_not_enough(smoke):
    """Required checks are missing then; nothing required, and the built-in ones decide."""
    assert worst(await smoke((), frozenset({"login"}))) is Verdict.INCONCLUSIVE
    findings = await smoke(())
    assert {f.name: f.verdict.value for f in findings} == {
        "http-health": "pass",
        "served-release": "pass",
        "containers-up": "skipped",
        "compose-complete": "skipped",
        "logs": "pass",
        "websocket": "skipped",
    }
    assert worst(findings) is Verdict.PASS
    assert "the runtime `process` has no containers" in findings[2].detail


@pytest.mark.parametrize("broken", ["now", "lines"])
async def test_a_builtin_check_that_breaks_is_an_error_and_never_a_pass(smoke, runtime, broken):
    """An engine that cannot be asked says nothing of the release, and the other checks are made all the same."""
    setattr(runtime, broken, StepFailed("The engine does not answer.", next="start it"))
    findings = await smoke(says(GOOD))
    errors = [f for f in findings if f.verdict is Verdict.ERROR]
    assert {f.name for f in errors} == ({"containers-up", "compose-complete"} if broken == "now" else {"logs"})
    assert all("The engine does not answer." in f.detail for f in errors)
    assert worst(findings) is Verdict.ERROR
    assert findings[-1].name == "login"


async def test_credentials_that_cannot_be_made_are_an_error_and_the_builtin_checks_are_made(smoke):
    """Nobody can be judged by the plug-in then, which is no proof against the release; a bad answer still is one."""

    @asynccontextmanager
    async def none_made() -> AsyncIterator[None]:
        raise StepFailed("The store is locked.", next="look at it")
        yield

    findings = await smoke(says(GOOD), frozenset({"login"}), credentials=none_made)
    assert [(f.name, f.verdict) for f in findings[-2:]] == [
        ("credentials", Verdict.ERROR),
        ("login", Verdict.INCONCLUSIVE),
    ]
    assert findings[-2].detail == "The store is locked."
    assert findings[0].name == "http-health"
    assert findings[0].verdict is Verdict.PASS


async def test_the_plugin_does_not_wait_for_a_builtin_check_nor_the_other_way_round(smoke, runtime):
    """The logs are given only once the plug-in has gone, and the credentials with it; the built-in ones come first."""
    gone, asked = asyncio.Event(), runtime.logs

    async def logs(*which):
        async with asyncio.timeout(10):
            await gone.wait()
        return await asked(*which)

    @asynccontextmanager
    async def made() -> AsyncIterator[None]:
        yield None
        gone.set()

    runtime.logs = logs
    findings = await smoke(says(GOOD), credentials=made)
    assert worst(findings) is Verdict.PASS
    assert findings[-1].name == "login"


async def test_a_smoke_that_is_cancelled_leaves_nothing_running(smoke, runtime):
    """Credentials, plug-in and built-in checks all end with it."""
    begun, left = asyncio.Event(), []

    async def logs(*_which):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.append("logs")

    @asynccontextmanager
    async def made() -> AsyncIterator[None]:
        try:
            yield None
        finally:
            left.append("credentials")

    runtime.logs = logs
    task = asyncio.create_task(smoke(program("import signal; signal.pause()"), credentials=made))
    async with asyncio.timeout(10):
        await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(left) == ["credentials", "logs"]


async def test_critical_lines_of_a_log_fail_the_smoke(smoke, runtime):
    """The runtime `process` has logs too, and they are judged."""
    runtime.lines = {"svc": ["INFO: up", "ERROR:    Exception in ASGI application"]}
    findings = await smoke(())
    assert worst(findings) is Verdict.FAIL


@pytest.mark.parametrize(
    ("logged", "shared"), [(["db"], True), (["db", "web"], False), (["web"], False), (["gone"], True)]
)
async def test_it_is_told_whether_a_service_of_the_slot_itself_logged_the_errors(
    smoke, runtime, target, logged, shared
):
    """Old errors of the environment's database are no proof against the release that has just come."""
    bad = {name: ["FATAL: no such role"] if name in logged else ["INFO: up"] for name in ("web", "db", "gone")}
    runtime.lines = bad
    where = {"web": target.slot.unit, "db": "svc-test-shared"}
    found = tuple(Container(name, name, name, project, "i", "i", "running") for name, project in where.items())
    runtime.now = Containers((), found, target.clock.now())
    (finding,) = [one for one in await smoke(()) if one.name == "logs"]
    assert (finding.verdict, finding.metrics["shared_alone"]) == (Verdict.FAIL, shared)


async def test_the_newest_lines_asked_for_are_the_policys(smoke, runtime, target):
    """`log_lines` of each service, 120 where the policy says nothing."""
    await smoke(())
    assert runtime.asked_lines == 120
    await smoke((), target=replace(target, checks=ChecksSpec(log_lines=7)))
    assert runtime.asked_lines == 7


async def test_the_domain_is_asked_of_the_public_address_alone(smoke, target):
    """Three checks more through the public URL, each judged or skipped with its reason."""
    private = {f.name for f in await smoke(())}
    public = await smoke((), target=replace(target, public=True))
    assert {f.name for f in public} - private == {"domain-dns", "domain-tls", "domain-redirect"}
    assert {f.verdict for f in public if f.name.startswith("domain")} == {Verdict.SKIPPED}


async def test_a_builtin_check_may_be_required(smoke):
    """A required check that was skipped is inconclusive, built in or not."""
    findings = await smoke((), frozenset({"websocket"}))
    assert (findings[-1].name, findings[-1].verdict) == ("websocket", Verdict.INCONCLUSIVE)


async def test_the_builtin_checks_catch_another_release(smoke, site):
    """A server that answers 200 but serves another commit fails its smoke."""
    site.answer = lambda _m, _p: (200, b'{"sha":"other","tree":"other"}')
    assert worst(await smoke(says(GOOD))) is Verdict.FAIL


async def test_a_plugin_gets_the_variables_of_the_protocol_and_nothing_else(smoke, target, monkeypatch):
    """No variable of ours leaks into it; all of the protocol are there."""
    monkeypatch.setenv("A_SECRET_OF_OURS", "x")
    code = "import json, os; print(json.dumps({'name': 'env', 'verdict': 'pass', 'metrics': dict(os.environ)}))"
    host = msgspec.structs.replace(target.host, public_url="https://x", ca_file="/etc/ca.pem")
    findings = await smoke(
        program(code), credentials=lambda: nullcontext(Path("/run/c.json")), target=replace(target, host=host)
    )
    seen = findings[-1].metrics
    assert {k: v for k, v in seen.items() if k.startswith("SLUICE_")} == {
        "SLUICE_URL": target.url,
        "SLUICE_OLD_URL": "",
        "SLUICE_PUBLIC_URL": "https://x",
        "SLUICE_SIDE": "",
        "SLUICE_RELEASE": "r1",
        "SLUICE_ENV": "test",
        "SLUICE_DEADLINE": f"{deadline_after('2026-01-01T00:00:00Z', 10):.3f}",
        "SLUICE_EXPECT_SSO_HOST": "sso:1",
        "SLUICE_CREDENTIALS": "/run/c.json",
        "SLUICE_CA_FILE": "/etc/ca.pem",
    }
    assert seen["SSL_CERT_FILE"] == "/etc/ca.pem"
    assert "A_SECRET_OF_OURS" not in seen


async def test_a_plugin_gone_wild_is_bounded(smoke):
    """Thousands of checks are not taken; the probe is broken."""
    code = '[print(\'{"name":"c%d","verdict":"pass"}\' % n) for n in range(3000)]'
    findings = await smoke(program(code))
    assert len(findings) < 250
    assert findings[-1].verdict is Verdict.ERROR


@given(st.text(max_size=200))
def test_no_line_breaks_the_parser(line):
    """Any text is a check or is not; nothing is raised."""
    parse_line(line)


@given(st.text(max_size=2000))
def test_a_detail_is_one_bounded_line(detail):
    """However a plug-in talks, the table stays a table."""
    finding = parse_line(json.dumps({"name": "x", "verdict": "pass", "detail": detail}))
    assert finding is not None
    assert len(finding.detail) <= 600
    assert "\n" not in finding.detail
