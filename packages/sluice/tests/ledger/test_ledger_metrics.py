"""The four numbers, worked out by hand beside what the ledger gives, and what is said where it has no answer."""

from __future__ import annotations

import datetime as dt

from sluice.ledger.metrics import Measured, metrics_of

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NONE = Measured(0, 0, None, None)


def at(hours: float) -> str:
    """So many hours after the start."""
    return (START + dt.timedelta(hours=hours)).isoformat()


def change(name: str, hours: float, decision: str = "go", outcome: str = "done", **more) -> dict:
    """A rollout that ended then; committed two hours before, switched a quarter of an hour before."""
    times = {"committed_at": at(hours - 2), "switched": at(hours - 0.25), "ended": at(hours)}
    base = {"type": "rollout", "run": name, "release": name, "decision": decision, "outcome": outcome}
    return {**base, **times, **more}


def back(hours: float, left: str, to: str, outcome: str = "done") -> dict:
    """A rollback that somebody typed."""
    base = {"type": "rollback", "run": f"back-{hours}", "decision": "rollback", "outcome": outcome}
    return {**base, "from_release": left, "release": to, "ended": at(hours), "switched": at(hours)}


def measured(records, weeks: float = 1, since=START):
    """The metrics after so many weeks."""
    return metrics_of(records, since, START + dt.timedelta(weeks=weeks))


def test_an_empty_ledger_gives_no_number():
    """No rate of nothing, no zero that looks like a measurement."""
    found = measured([], since=None)
    assert (found.deployments, found.per_week, found.failure_rate) == (0, None, None)
    assert (found.lead_time, found.restore) == (NONE, NONE)
    assert found.missing == ("The ledger has no record yet.",)


def test_refused_runs_and_other_records_are_no_changes():
    """Gates that did their work, locks and approvals reached no user."""
    records = [change("a", 1, "refused", "refused"), {"type": "lock", "run": "l", "ended": at(2), "outcome": "locked"}]
    found = measured(records)
    assert (found.changes, found.deployments, found.failure_rate) == (0, 0, None)
    assert "No change reached users" in found.missing[0]


def test_deployments_are_counted_per_week():
    """Four in two weeks are two a week; within less than a day no rate is made up."""
    records = [change(name, 24 * day) for name, day in zip("abcd", (1, 3, 8, 13), strict=True)]
    assert (measured(records, 2).deployments, measured(records, 2).per_week) == (4, 2)
    assert measured(records[:1], 0.1).per_week is None


def test_lead_time_is_from_commit_to_verified_and_says_what_it_could_not_read():
    """The middle of those that have a commit time before their end; the others are named."""
    broken = [change("d", 9, committed_at=""), change("e", 10, committed_at=at(99))]
    records = [change("a", 3), change("b", 4, committed_at=at(0)), change("c", 5, committed_at=at(-25)), *broken]
    found = measured(records)
    assert found.lead_time == Measured(5, 3, 4 * 3600, 30 * 3600)
    assert "2 of 5 deployments have no usable commit time" in " ".join(found.missing)


def test_a_change_undone_by_its_own_run_is_a_failure_restored_by_it():
    """From the switch to the end of the run: what users saw of it."""
    found = measured([change("a", 1), change("b", 5, "rollback", "rolled_back")])
    assert (found.changes, found.failed, found.failure_rate) == (2, 1, 0.5)
    assert found.restore == Measured(1, 1, 900, 900)


def test_a_later_rollback_makes_its_change_a_failure():
    """Found too late for the run itself: it counts for the change, and the time runs from its switch."""
    found = measured([change("a", 1), change("b", 5), back(8, "b", "a")])
    assert (found.changes, found.failed, found.deployments) == (2, 1, 2)
    assert found.restore == Measured(1, 1, 3.25 * 3600, 3.25 * 3600)


def test_a_rollback_counts_for_the_change_it_left_and_for_no_other():
    """Not for an earlier one that served well, not for a dead release that was started again."""
    records = [change("a", 1), change("b", 5), change("c", 7), back(8, "c", "b"), back(9, "b", "b")]
    found = measured(records)
    assert (found.changes, found.failed) == (3, 1)


def test_a_failure_that_goes_on_has_no_time_to_restore_yet():
    """A rollback that failed is no restoration; the next good run is."""
    broken = change("b", 5, "rollback", "rollback_failed")
    open_ = measured([change("a", 1), broken])
    assert open_.restore == Measured(1, 0, None, None)
    assert "1 of 1 failures lack it or go on" in " ".join(open_.missing)
    closed = measured([change("a", 1), broken, change("c", 9)])
    assert closed.restore == Measured(1, 1, 4.25 * 3600, 4.25 * 3600)


def test_without_the_moment_of_the_switch_no_time_is_guessed():
    """A build may have taken most of the run."""
    found = measured([change("a", 1, "rollback", "rolled_back", switched="")])
    assert found.restore == Measured(1, 0, None, None)


def test_a_period_counts_what_ended_in_it_and_says_when_the_ledger_is_younger():
    """`since` cuts changes; a rollback after it still counts for a change within."""
    records = [change("a", 1), change("b", 30), back(40, "b", "a")]
    found = measured(records, since=START + dt.timedelta(hours=24))
    assert (found.changes, found.failed) == (1, 1)
    early = measured(records, since=START - dt.timedelta(days=30))
    assert "The ledger begins at" in " ".join(early.missing)


def test_a_promotion_is_a_change_like_any_other():
    """Prod has promotions where test has rollouts."""
    assert measured([change("a", 1, type="promotion")]).deployments == 1


def test_a_rollback_that_did_not_go_through_first_does_not_clear_its_change():
    """Failed or undone, and typed again: the change was left all the same, by the one that was done."""
    for first in ("rollback_failed", "rolled_back"):
        records = [change("a", 1), change("b", 5), back(6, "b", "a", outcome=first), back(8, "b", "a")]
        found = measured(records)
        assert (found.changes, found.failed) == (2, 1)
        assert found.restore == Measured(1, 1, 3.25 * 3600, 3.25 * 3600)


def test_a_rollback_that_reached_nobody_left_nothing():
    """The old release did not come up, and its slot did not go away either: the change went on serving."""
    stuck = back(6, "b", "a", outcome="degraded") | {"decision": "refused"}
    assert measured([change("a", 1), change("b", 5), stuck]).failed == 0
    assert measured([change("a", 1), change("b", 5), stuck, back(8, "b", "a")]).restore.median_s == 3.25 * 3600


def test_a_rollback_behind_a_rollback_counts_for_the_change_that_served_between():
    """From c to b and on to a: both were left while they served."""
    records = [change("a", 1), change("b", 5), change("c", 7), back(8, "c", "b"), back(9, "b", "a")]
    found = measured(records)
    assert (found.changes, found.failed) == (3, 2)
    assert (found.restore.of, found.restore.read) == (2, 2)


def test_nine_of_ten_are_not_longer_than_the_ninetieth_percentile():
    """Of ten the ninth, of twenty the eighteenth, of nine and of one the last."""
    for count, which in ((1, 1), (9, 9), (10, 9), (11, 10), (20, 18)):
        records = [change(str(n), 1000, committed_at=at(1000 - n)) for n in range(1, count + 1)]
        assert measured(records).lead_time.p90_s == which * 3600
