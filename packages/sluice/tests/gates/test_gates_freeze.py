"""Freeze windows: pure evaluation against a walk along the wall clock, and the gate's sentences."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.gates.context import Asked
from sluice.gates.freeze import freeze
from sluice.gates.windows import DAYS, ends_at, holds, moment, rule, spans
from sluice.model.policy import FreezeKind, FreezeWindow, GatesSpec, PromotionSpec
from sluice.model.promotion import Former
from sluice.model.verdict import Verdict

DENY, ALLOW = FreezeKind.DENY, FreezeKind.ALLOW
ZONES = ("UTC", "Europe/Moscow", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")


def utc(text: str) -> dt.datetime:
    """A moment."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


# ---------------------------------------------------------------- the gate


class At:
    """A clock that stands."""

    def __init__(self, now: str) -> None:
        self._now = now

    def now(self) -> str:
        return self._now

    def monotonic(self) -> float:
        return 0.0


WEEKEND = FreezeWindow(name="weekend", zone="Europe/Moscow", days=("sat", "sun"), exempt=("ann",))


async def judged(origin, now, *windows, owner="bob", environment="test", source="ssh-key SHA256:x", before=()):
    """The gate at a moment; `before`: the windows of the policies before it."""
    formers = [Former(f"run-{n}", GatesSpec(freeze=tuple(own)), PromotionSpec(), {}) for n, own in enumerate(before)]
    return await freeze(
        await origin.context(
            policy=GatesSpec(freeze=windows),
            clock=At(now),
            asked=Asked(owner, owner_source=source, before=formers),
            environment=environment,
        )
    )


async def test_a_window_that_forbids_is_named_with_its_end(origin):
    """Saturday and Sunday are one freeze: it ends on Monday, in the window's own zone."""
    finding = await judged(origin, "2026-01-03T12:00:00.000Z", WEEKEND)
    assert finding.verdict is Verdict.FAIL
    assert finding.detail == "Frozen by 'weekend' until Mon 2026-01-05 00:00 Europe/Moscow."
    assert "--waive freeze=" in finding.fix


async def test_in_a_promotion_the_windows_of_the_policies_before_count_too(origin):
    """Taken out, exempted from or allowed by the candidate: by the policy before it is as frozen as before."""
    now, allow = "2026-01-03T12:00:00.000Z", FreezeWindow(name="saturdays", kind=ALLOW, days=("sat",))
    exempt = msgspec.structs.replace(WEEKEND, exempt=("bob",))
    weekdays = FreezeWindow(name="weekdays", kind=ALLOW, days=("mon",))
    for mine, before, verdict in (
        ([], [[WEEKEND]], Verdict.FAIL),
        ([exempt], [[WEEKEND]], Verdict.FAIL),
        ([allow], [[weekdays]], Verdict.FAIL),
        ([], [[exempt], [WEEKEND]], Verdict.FAIL),
        ([WEEKEND], [[]], Verdict.FAIL),
        ([exempt], [[exempt]], Verdict.PASS),
        ([], [[allow]], Verdict.PASS),
        ([], [[]], Verdict.SKIPPED),
    ):
        finding = await judged(origin, now, *mine, environment="prod", before=before)
        assert finding.verdict is verdict, (mine, before)
        assert ("By the policy of release run-" in finding.detail) == (verdict is Verdict.FAIL and mine != [WEEKEND])


async def test_the_zone_decides_what_day_it_is(origin):
    """Friday 21:30 UTC is Saturday in Moscow."""
    assert (await judged(origin, "2026-01-02T20:59:00.000Z", WEEKEND)).verdict is Verdict.PASS
    assert (await judged(origin, "2026-01-02T21:00:00.000Z", WEEKEND)).verdict is Verdict.FAIL


async def test_an_exempt_owner_passes_and_it_is_said(origin):
    """By the key of the connection, not by a name that was typed; for this window alone."""
    finding = await judged(origin, "2026-01-03T12:00:00.000Z", WEEKEND, owner="ann")
    assert finding.verdict is Verdict.PASS
    assert "ann is exempt from weekend" in finding.detail
    typed = await judged(origin, "2026-01-03T12:00:00.000Z", WEEKEND, owner="ann", source="flag")
    assert typed.verdict is Verdict.FAIL  # anybody can type --owner ann
    other = FreezeWindow(name="release day", days=("sat",))
    finding = await judged(origin, "2026-01-03T12:00:00.000Z", WEEKEND, other, owner="ann")
    assert finding.verdict is Verdict.FAIL
    assert "'release day'" in finding.detail


async def test_outside_of_what_is_allowed(origin):
    """Where a window allows, everything else is frozen; the sentence says when the next one begins."""
    office = FreezeWindow(name="office", kind=ALLOW, days=("mon", "tue"), start="09:00", end="17:00")
    assert (await judged(origin, "2026-01-05T09:00:00.000Z", office)).verdict is Verdict.PASS
    finding = await judged(origin, "2026-01-05T17:00:00.000Z", office)
    assert finding.verdict is Verdict.FAIL
    assert finding.detail == "A rollout is allowed only within 'office'; the next one begins Tue 2026-01-06 09:00 UTC."


async def test_an_end_that_is_far_away_is_told_all_the_same(origin):
    """A freeze over the holidays names its own end; one of two that has none says so."""
    holidays = FreezeWindow(name="holidays", since="2026-01-01T00:00", until="2026-02-20T00:00", zone="Europe/Moscow")
    finding = await judged(origin, "2026-01-03T12:00:00.000Z", holidays)
    assert finding.detail == "Frozen by 'holidays' until 2026-02-20T00:00 Europe/Moscow at the latest."
    finding = await judged(origin, "2026-01-03T12:00:00.000Z", holidays, FreezeWindow(name="for good"))
    assert "without an end in the next two weeks" in finding.detail


async def test_deny_wins_over_allow(origin):
    """A moment in both is frozen."""
    both = (FreezeWindow(name="always", kind=ALLOW), FreezeWindow(name="audit", start="10:00", end="11:00"))
    finding = await judged(origin, "2026-01-05T10:30:00.000Z", *both)
    assert finding.verdict is Verdict.FAIL
    assert "'audit' until Mon 2026-01-05 11:00 UTC" in finding.detail
    assert (await judged(origin, "2026-01-05T11:00:00.000Z", *both)).verdict is Verdict.PASS


async def test_a_window_of_the_other_environment(origin):
    """What freezes prod leaves test alone."""
    window = FreezeWindow(name="prod only", environments=("prod",))
    assert (await judged(origin, "2026-01-05T10:30:00.000Z", window)).verdict is Verdict.PASS
    assert (await judged(origin, "2026-01-05T10:30:00.000Z", window, environment="prod")).verdict is Verdict.FAIL


async def test_without_windows_it_is_skipped(origin):
    """A policy without windows asks for nothing, and says so."""
    assert (await judged(origin, "2026-01-05T10:30:00.000Z")).verdict is Verdict.SKIPPED


async def test_a_window_without_end(origin):
    """Every day, all day: nobody can say when it ends."""
    finding = await judged(origin, "2026-01-05T10:30:00.000Z", FreezeWindow(name="for good"))
    assert "without an end" in finding.detail


# ---------------------------------------------------------------- the pure rule


def test_a_window_over_midnight_belongs_to_the_day_it_begins():
    """Friday 22:00 to 06:00 is still on at Saturday 05:59, and not at Sunday 05:00."""
    night = FreezeWindow(name="night", days=("fri",), start="22:00", end="06:00")
    assert not holds(night, utc("2026-01-02T21:59"))
    assert holds(night, utc("2026-01-02T22:00"))
    assert holds(night, utc("2026-01-03T05:59"))
    assert not holds(night, utc("2026-01-03T06:00"))
    assert not holds(night, utc("2026-01-04T05:00"))


def test_since_and_until_bound_a_window():
    """The first and last moment are local to its zone; the last one is outside."""
    window = FreezeWindow(name="w", zone="Asia/Kolkata", since="2026-01-05T10:00", until="2026-01-06T10:00")
    assert not holds(window, utc("2026-01-05T04:29"))
    assert holds(window, utc("2026-01-05T04:30"))
    assert holds(window, utc("2026-01-06T04:29"))
    assert not holds(window, utc("2026-01-06T04:30"))
    assert ends_at(window, utc("2026-01-05T05:00")) == utc("2026-01-06T04:30")


def test_a_time_the_clock_jumps_over_is_the_jump():
    """In Berlin 02:30 does not come on 29 March 2026: a window from 02:30 begins as it becomes 03:00."""
    zone = ZoneInfo("Europe/Berlin")
    jump = utc("2026-03-29T01:00")
    for late in (False, True):
        assert moment(dt.datetime(2026, 3, 29, 2, 30), zone, late=late) == jump  # noqa: DTZ001 - a local time is meant
    window = FreezeWindow(name="w", zone="Europe/Berlin", start="02:30", end="04:00")
    assert not holds(window, jump - dt.timedelta(seconds=1))
    assert holds(window, jump)
    inside = FreezeWindow(name="w", zone="Europe/Berlin", start="02:10", end="02:50")
    assert not [span for span in spans(inside, jump) if span[0].date() == jump.date()]


def test_an_hour_that_comes_twice_is_frozen_twice_and_allowed_once():
    """In Berlin 02:00 to 03:00 comes twice on 25 October 2026."""
    first, second = utc("2026-10-25T00:15"), utc("2026-10-25T01:15")
    deny = FreezeWindow(name="w", zone="Europe/Berlin", start="02:10", end="02:20")
    assert holds(deny, first)
    assert holds(deny, second)
    allow = FreezeWindow(name="w", kind=ALLOW, zone="Europe/Berlin", start="01:00", end="02:20")
    assert holds(allow, first)
    assert not holds(allow, second)


TIMES = st.tuples(st.integers(0, 23), st.sampled_from((0, 15, 30, 45))).map(lambda t: f"{t[0]:02}:{t[1]:02}")
WINDOWS = st.builds(
    FreezeWindow,
    name=st.sampled_from(("a", "b", "c")),
    kind=st.sampled_from((DENY, ALLOW)),
    zone=st.sampled_from(ZONES),
    days=st.lists(st.sampled_from(DAYS), max_size=4, unique=True).map(tuple),
    start=TIMES,
    end=st.one_of(TIMES, st.just("24:00")),
    environments=st.sampled_from((("test",), ("prod",), ("test", "prod"))),
    exempt=st.sampled_from(((), ("ann",), ("bob",))),
)
MOMENTS = st.datetimes(dt.datetime(2025, 1, 1), dt.datetime(2027, 12, 31)).map(  # noqa: DTZ001 - made UTC here
    lambda t: t.replace(tzinfo=dt.UTC, second=0, microsecond=0)
)


def turns(zone: ZoneInfo, now: dt.datetime) -> bool:
    """Whether the clock is turned within two days of a moment."""
    day = dt.timedelta(days=2)
    return len({(now + n * day / 4).astimezone(zone).utcoffset() for n in range(-4, 5)}) > 1


@settings(max_examples=300, deadline=None)
@given(WINDOWS, MOMENTS)
def test_a_window_is_what_the_wall_clock_says(window, now):
    """Away from the nights the clock is turned, a window holds exactly where day and time on the wall say so."""
    zone = ZoneInfo(window.zone)
    if turns(zone, now):
        return
    local = now.astimezone(zone)
    clock, start, end = f"{local:%H:%M}", window.start, window.end
    today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
    on = lambda day: not window.days or day in window.days  # noqa: E731 - a word for two uses
    if start < end:
        expected = on(today) and start <= clock < end
    else:
        expected = (on(today) and clock >= start) or (on(yesterday) and clock < end)
    assert holds(window, now) == expected


@settings(max_examples=200, deadline=None)
@given(WINDOWS, MOMENTS)
def test_an_end_is_a_change(window, now):
    """Just before the end that is told the window holds, at the end it does not, and it holds all the time between."""
    end = ends_at(window, now)
    if not holds(window, now) or end is None:
        return
    assert end > now
    assert not holds(window, end)
    step = (end - now) / 7
    assert all(holds(window, now + n * step) for n in range(7))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(WINDOWS, max_size=4), MOMENTS, st.sampled_from(("ann", "bob", "eve")), st.sampled_from(("test", "prod"))
)
def test_the_ruling_follows_from_its_windows(windows, now, owner, environment):
    """Deny wins; allow windows close everything else; the exempt and the other environment are bound by nothing."""
    bound = [w for w in windows if environment in w.environments and owner not in w.exempt]
    ruling = rule(windows, now, environment, owner)
    denied = any(w.kind is DENY and holds(w, now) for w in bound)
    allows = [w for w in bound if w.kind is ALLOW]
    assert ruling.allowed == (not denied and (not allows or any(holds(w, now) for w in allows)))
    assert set(ruling.windows) <= set(bound)
    assert ruling.changes is None or ruling.changes > now
    assert ruling.allowed or ruling.windows


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ZONES), st.datetimes(dt.datetime(2025, 1, 1), dt.datetime(2027, 12, 31)))  # noqa: DTZ001
def test_a_local_time_becomes_a_moment_and_back(name, local):
    """Early is never after late, both read as the time that was meant, or as the first one after the jump."""
    zone, local = ZoneInfo(name), local.replace(second=0, microsecond=0)
    early, late = (moment(local, zone, late=late) for late in (False, True))
    assert early <= late
    for found in (early, late):
        read = found.astimezone(zone).replace(tzinfo=None)
        before = (found - dt.timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
        assert read == local or before < local < read


@pytest.mark.parametrize("zone", ZONES)
def test_spans_are_in_order_and_never_empty(zone):
    """A year of evaluations, night after night."""
    window = FreezeWindow(name="w", zone=zone, start="01:30", end="02:45")
    now = utc("2026-01-01T00:00")
    for day in range(365):
        found = list(spans(window, now + dt.timedelta(days=day)))
        assert all(start < end for start, end in found)
        assert found == sorted(found)
