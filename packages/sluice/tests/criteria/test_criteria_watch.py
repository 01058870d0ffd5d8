"""The watch window on virtual time: addresses in memory, plug-ins that say what the test wants."""

from __future__ import annotations

import asyncio

import pytest

from sluice.checks.http import client
from sluice.criteria import CRITERIA, sources, watch
from sluice.criteria.observations import Answer, Observation, Scrape
from sluice.model.errors import StepFailed
from sluice.model.release import Slot
from sluice.model.secret import Secret
from sluice.model.verdict import Verdict

from .watched import NEW, OLD, PUBLIC, TOKEN, Clock, context, judged, messages, verdicts


async def test_a_dead_slot_is_found_out_within_five_seconds_and_everything_is_killed(clock):
    """Three bad probes beside a healthy old slot are sure; no plug-in outlives the watch."""
    watched = context(clock)
    watched.service.dead = {NEW: 1.5, PUBLIC: 1.5}
    assert verdicts(await judged(watched))["health"] == "fail"
    assert clock.time < 1.5 + 5
    assert "canary" in watched.runner.killed


async def test_a_slot_that_dies_between_two_questions_is_found_out(clock):
    """It answers whenever it is asked, and was started again meanwhile; what it did before the watch does not count."""

    async def restarts():
        if clock.time < 1:
            raise StepFailed("nobody can be asked now")
        return 3 if clock.time < 4 else 4

    health = (await judged(context(clock, restarts=restarts)))["health"]
    assert (health.verdict, "started again, 1 time" in health.detail) == (Verdict.FAIL, True)
    assert clock.time < 4 + 3


async def test_cut_sockets_are_found_out_within_ten_seconds(clock):
    """The canary's own sockets, cut on the new slot alone after three seconds."""
    watched = context(clock, policy={"duration_s": 60})
    watched.runner.lines["canary"] = lambda at, _: [messages(at, {"cut": 3} if at > 3 else None)]
    assert verdicts(await judged(watched))["ws-disconnects"] == "fail"
    assert clock.time < 3 + 10


@pytest.mark.parametrize(
    ("plugin", "line", "criterion"),
    [
        ("canary", messages(9, {"lost": 1}), "messages"),
        ("calls", {"name": "voice", "verdict": "fail", "detail": "no audio"}, "call-setup"),
        ("refusals", {"name": "refused-origin", "verdict": "fail", "detail": "let in"}, "auth"),
    ],
)
async def test_a_break_on_the_new_slot_alone_ends_the_watch_early(clock, plugin, line, criterion):
    """Every plug-in can prove a release bad, and then no time is lost."""
    watched = context(clock, policy={"duration_s": 60})
    good = watched.runner.lines[plugin]
    watched.runner.lines[plugin] = lambda at, url: [line] if url == NEW else good(at, url)
    if plugin == "canary":
        watched.runner.lines[plugin] = lambda at, _: [messages(at, {"lost": 1})]
    findings = await judged(watched)
    assert findings[criterion].verdict is Verdict.FAIL
    assert clock.time < 15


async def test_growing_refusals_of_real_people_end_the_watch_early(clock):
    """The service's own counter grows on the new slot alone."""
    watched = context(clock, policy={"duration_s": 60})
    watched.service.denied_per_s[NEW] = 20
    findings = await judged(watched)
    assert findings["auth"].verdict is Verdict.FAIL
    assert clock.time < 10


async def test_a_dry_run_that_breaks_ends_nothing(clock):
    """Judged, recorded, marked: the watch goes to its end."""
    watched = context(clock, policy={"dry_run": ("auth",)})
    watched.service.denied_per_s[NEW] = 20
    findings = await judged(watched)
    assert (findings["auth"].verdict, findings["auth"].dry_run) == (Verdict.FAIL, True)
    assert clock.time >= 10


async def test_when_everything_is_dead_it_is_not_the_release(clock):
    """Bad on both slots is inconclusive, after the whole time."""
    watched = context(clock)
    watched.service.dead = {NEW: 2, OLD: 2, PUBLIC: 2}
    for plugin in ("calls", "refusals"):
        watched.runner.lines[plugin] = lambda at, _: [{"name": "refused-x", "verdict": "fail" if at > 2 else "pass"}]
    watched.runner.lines["canary"] = lambda at, _: [messages(at, {"lost": 5, "cut": 9}, {"lost": 5, "cut": 9})]
    findings = await judged(watched)
    assert set(verdicts(findings).values()) == {"inconclusive"}
    assert clock.time >= 10


@pytest.mark.parametrize("plugin", ["canary", "calls", "refusals"])
async def test_a_plugin_that_breaks_is_no_pass_and_no_fail(clock, plugin):
    """A crash without a word says nothing of the release."""
    watched = context(clock, old=False)
    watched.runner.lines[plugin] = lambda _at, _url: []
    watched.runner.exit_codes[plugin] = 3
    findings = verdicts(await judged(watched))
    assert {name for name, verdict in findings.items() if verdict != "pass"} == {
        "canary": {"messages", "ws-disconnects"},
        "calls": {"call-setup"},
        "refusals": {"auth"},
    }[plugin]
    assert "error" in findings.values()
    assert "fail" not in findings.values()


async def test_a_defect_of_ours_is_an_error_and_ends_no_watch(clock):
    """A source that raises makes its criterion `error`; the others are judged."""
    watched = context(clock)

    def broken(_at: float, _url: str) -> list[dict]:
        raise ZeroDivisionError

    watched.runner.lines["calls"] = broken
    findings = await judged(watched)
    assert findings["call-setup"].verdict is Verdict.ERROR
    assert findings["health"].verdict is Verdict.PASS


async def test_the_watch_holds_for_slow_calls_and_then_gives_up(clock):
    """Too few calls at the end of the window hold it for one call's longest time; what is cut then is not counted."""
    watched = context(clock)
    watched.runner.takes["calls"] = 19
    findings = await judged(watched)
    assert findings["call-setup"].verdict is Verdict.INCONCLUSIVE
    assert findings["call-setup"].metrics["new"]["total"] == 1
    assert clock.time <= 10 + 20 + 1


async def test_a_slow_machine_gets_the_time_its_calls_need(clock):
    """Calls of five seconds are too few for a window of ten: it holds until there are enough, and no longer."""
    watched = context(clock)
    watched.runner.takes["calls"] = 5
    findings = await judged(watched)
    assert findings["call-setup"].verdict is Verdict.PASS
    assert 10 < clock.time <= 16


async def test_without_the_variable_of_the_token_nothing_is_asked(clock):
    """The env file lacks it: an error of the criterion that says so, and no request without a token."""
    watched = context(clock, metrics_token=None, refusals_argv=())
    findings = await judged(watched)
    assert findings["auth"].verdict is Verdict.ERROR
    assert "TOKEN" in findings["auth"].detail
    assert not watched.service.tokens


@pytest.mark.parametrize("dead", [True, False])
async def test_the_token_is_never_shown(clock, dead):
    """Neither a refusal nor an exception that holds the request brings it into the evidence."""
    shown: list[dict] = []
    watched = context(clock, refusals_argv=(), metrics_token=Secret("some-other-long-token"))
    if dead:
        watched.service.dead = {NEW: 0}
    findings = await watch(watched, lambda _: None, shown.append)
    auth = next(finding for finding in findings if finding.name == "auth")
    assert auth.verdict is Verdict.INCONCLUSIVE
    assert "some-other-long-token" not in repr(findings) + repr(shown)
    assert dead or "401" in auth.detail


async def test_a_good_release_is_watched_to_the_end(clock):
    """All five pass; the canary knew both slots, the others each slot by itself, and all the same credentials."""
    watched = context(clock)
    findings = await judged(watched)
    assert verdicts(findings) == dict.fromkeys(CRITERIA, "pass")
    assert 10 <= clock.time <= 15
    assert watched.runner.environments["canary"]["SLUICE_OLD_URL"] == OLD
    asked = {(name, url) for name, url, _ in watched.runner.started}
    assert asked == {("canary", NEW), ("calls", NEW), ("calls", OLD), ("refusals", NEW), ("refusals", OLD)}


async def test_a_first_rollout_is_judged_without_a_control(clock):
    """Limits alone: nothing is asked of an old slot, and nothing is missing."""
    watched = context(clock, old=False)
    assert verdicts(await judged(watched)) == dict.fromkeys(CRITERIA, "pass")
    assert {url for _, url, _ in watched.runner.started} == {NEW}


async def test_a_service_without_plugins_is_judged_by_its_health(clock):
    """What has no source is skipped with a reason, never a pass."""
    watched = context(clock, canary_argv=(), calls_argv=(), refusals_argv=(), policy={"auth": ()})
    findings = verdicts(await judged(watched))
    assert findings == dict.fromkeys(CRITERIA, "skipped") | {"health": "pass"}


@pytest.mark.parametrize("duration", [10, 300])
async def test_the_probes_stay_far_under_the_limits_of_a_service(clock, duration):
    """In no minute do calls and refusals together take half of the 60 tickets of a session."""
    watched = context(clock, policy={"duration_s": duration})
    await judged(watched)
    starts = [at for name, _, at in watched.runner.started if name in {"calls", "refusals"}]
    assert max(sum(1 for other in starts if at <= other < at + 60) for at in starts) <= 30


async def test_people_are_told_how_it_stands_once_a_second(clock):
    """The time left falls to nothing, and every criterion says its value and its limit."""
    shown: list[dict] = []
    await watch(context(clock), lambda _: None, shown.append)
    left = [event["left_s"] for event in shown]
    assert (left[0], left[-1]) == (10, 0)
    assert left == sorted(left, reverse=True)
    assert {reading["state"] for reading in shown[0]["criteria"]} == {"waiting"}
    assert {reading["state"] for reading in shown[-1]["criteria"]} == {"good"}
    assert all(reading["now"] and reading["limit"] for reading in shown[-1]["criteria"])


async def test_cancelling_kills_every_plugin(clock):
    """Nothing of the watch outlives it."""
    watched = context(clock, policy={"duration_s": 600})
    task = asyncio.create_task(watch(watched, lambda _: None))
    await clock.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not watched.runner.running
    assert {"canary", "calls"} <= set(watched.runner.killed)


async def test_real_addresses_are_asked_with_the_real_client():
    """Health and counters over real sockets, one source at a time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        good = b"/metrics" not in head or f"Bearer {TOKEN}".encode() in head
        body = b"# TYPE denied_total counter\n"
        status = b"200 OK" if good else b"401 Unauthorized"
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()
        writer.close()

    class Quick(Clock):
        """Sleeping takes one turn of the loop."""

        async def sleep(self, seconds: float) -> None:
            self.time += seconds
            await asyncio.sleep(0)

    seen: list[Observation] = []
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for source in (sources.probes, sources.metrics):
            watched = context(Quick(), old=False, new=Slot("r2", "u2", 2, url), public_url=url, http=client)
            await source(watched, seen.append, 2)
    scraped = Scrape("new", {"denied_total": {}})
    assert seen == [Answer("public"), Answer("new"), Answer("public"), Answer("new"), scraped, scraped]
