"""What plug-ins report, as observations."""

from __future__ import annotations

import pytest

from sluice.criteria.observations import (
    Call,
    Counts,
    Refusals,
    SlotCount,
    Trouble,
    read_call,
    read_canary,
    read_refusals,
)
from sluice.model.verdict import Finding, Verdict

CRASH = Finding("plug-in", Verdict.ERROR, detail="The probe broke: exit code 3.")


def finding(name: str, verdict: str, detail: str = "", **metrics: object) -> Finding:
    """One line of a plug-in."""
    return Finding(name, Verdict(verdict), detail=detail, metrics=metrics)


@pytest.mark.parametrize(
    ("metrics", "verdict"),
    [
        ({}, Verdict.INCONCLUSIVE),
        ({"old": {"sent": 1}}, Verdict.INCONCLUSIVE),
        ({"new": {"lost": "many"}}, Verdict.ERROR),
        ({"new": {"cut": -1}}, Verdict.ERROR),
        ({"new": 7}, Verdict.ERROR),
    ],
)
def test_a_canary_line_without_counts_measures_nothing(metrics, verdict):
    """Missing counts are inconclusive, nonsense is the probe's fault."""
    seen = read_canary(finding("messages", "pass", **metrics))
    assert isinstance(seen, Trouble)
    assert seen.verdict is verdict


def test_a_canary_line_is_its_counts():
    """Missing counts are 0; what the contract does not name is passed over; the line's own verdict too."""
    seen = read_canary(finding("messages", "fail", new={"sent": 3, "refused": 2}))
    assert seen == Counts(SlotCount(sent=3))


@pytest.mark.parametrize(
    ("found", "ended", "verdict"),
    [
        ([], CRASH, Verdict.ERROR),
        ([finding("voice", "pass")], CRASH, Verdict.ERROR),
        ([finding("voice", "error")], None, Verdict.ERROR),
        ([finding("voice", "inconclusive")], None, Verdict.INCONCLUSIVE),
        ([finding("voice", "skipped", "no TURN here")], None, Verdict.INCONCLUSIVE),
        ([], None, Verdict.INCONCLUSIVE),
    ],
)
def test_a_call_that_was_not_tried_is_neither_good_nor_bad(found, ended, verdict):
    """A crash, doubt or a skip of the plug-in is no call."""
    seen = read_call("new", found, ended)
    assert isinstance(seen, Trouble)
    assert (seen.verdict, bool(seen.detail)) == (verdict, True)


def test_a_failed_call_is_bad_even_when_the_plugin_crashed_after_it():
    """What was seen was seen."""
    assert read_call("old", [finding("voice", "fail", "no audio")], CRASH) == Call("old", "no audio")


@pytest.mark.parametrize(
    ("metrics", "setup"),
    [({"setup_ms": 312}, 312), ({}, None), ({"setup_ms": "quick"}, None), ({"setup_ms": True}, None)],
)
def test_a_good_call_may_have_a_time(metrics, setup):
    """`setup_ms` is optional; what is no time is none."""
    assert read_call("new", [finding("voice", "pass", **metrics)], None) == Call("new", "", setup)


def test_something_forbidden_that_was_let_in_counts_whatever_else_broke():
    """A breach is a breach, also beside a crash of the probe."""
    found = [finding("refused-origin", "fail", "101"), finding("refused-no-token", "pass")]
    assert read_refusals("new", found, CRASH) == Refusals("new", ("refused-no-token",), {"refused-origin": "101"})


@pytest.mark.parametrize(
    ("found", "ended"),
    [
        ([finding("refused-origin", "pass"), finding("session", "fail", "no session")], None),
        ([finding("refused-origin", "pass"), finding("refused-ticket", "inconclusive")], None),
        ([finding("refused-origin", "skipped")], None),
        ([finding("refused-origin", "pass")], CRASH),
        ([], None),
    ],
)
def test_a_round_that_was_not_whole_is_no_round(found, ended):
    """Where less was tried than should be, nothing is known."""
    assert isinstance(read_refusals("new", found, ended), Trouble)
