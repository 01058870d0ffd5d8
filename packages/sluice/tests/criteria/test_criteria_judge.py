"""Verdicts over time: what breaks a criterion, and what says nothing of the release."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.criteria.judge import Health, Messages
from sluice.model.spec import WatchSpec
from sluice.model.verdict import Finding, Verdict

GOOD = {"sent": 9, "received": 18, "lost": 0, "duplicated": 0, "reordered": 0}


def health(**answers: str) -> Health:
    """A criterion that saw these answers: `.` is good, `x` bad, one character per round."""
    judged = Health(failures=3, window=5, expected=5)
    for moment in range(max(map(len, answers.values()))):
        for target in ("old", "public", "new"):
            if target in answers:
                judged.add(target, "" if answers[target][moment] == "." else "answered 503")
    return judged


@pytest.mark.parametrize(
    ("new", "old", "verdict", "sure"),
    [
        ("........", "........", Verdict.PASS, False),
        ("x.x.....", "........", Verdict.PASS, False),
        ("x.x.x...", "........", Verdict.FAIL, True),
        ("xxx", "...", Verdict.FAIL, True),
        ("xxx", "..x", Verdict.INCONCLUSIVE, False),
        ("xxxxx", "xxxxx", Verdict.INCONCLUSIVE, False),
        (".....", "xxxxx", Verdict.PASS, False),
        ("....", "....", Verdict.INCONCLUSIVE, False),
        ("x....x....x....", "...............", Verdict.PASS, False),
    ],
)
def test_health_is_k_bad_of_the_last_n(new, old, verdict, sure):
    """Bad on the new slot alone fails; bad on both, or too few answers, is inconclusive."""
    judged = health(new=new, public="." * len(new), old=old)
    assert (judged.finding().verdict, judged.sure) == (verdict, sure)


def test_a_bad_public_address_breaks_it_too():
    """What users reach is what counts, whatever the private address says."""
    judged = health(public="xxx..", new=".....", old=".....")
    assert judged.finding().verdict is Verdict.FAIL
    assert "public: 3 of the last 3" in judged.finding().detail


def test_without_an_old_slot_there_is_no_control():
    """On a first rollout a bad slot is the release's fault."""
    assert health(public="xxx", new="xxx").finding().verdict is Verdict.FAIL


def test_no_answer_is_no_pass():
    """A watch that saw nothing says so."""
    assert Health(3, 5, 5).finding().verdict is Verdict.INCONCLUSIVE


def messages(new: dict | None, old: dict | None = None, **policy: int) -> Messages:
    """A criterion that got one line of the canary."""
    judged = Messages(WatchSpec(**policy), with_old=old is not None)
    counts = {name: count for name, count in (("new", new), ("old", old)) if count is not None}
    judged.add(Finding("messages", Verdict.PASS, metrics=counts))
    return judged


@pytest.mark.parametrize("fault", [{"lost": 1}, {"duplicated": 1}, {"reordered": 1}, {"cut": 3}])
def test_every_fault_of_the_new_slot_alone_breaks_it(fault):
    """Loss, doubles, disorder and cut sockets, beside a healthy old slot, are the release's fault, at once."""
    judged = messages(GOOD | fault, GOOD)
    assert judged.sure
    assert judged.finding().verdict is Verdict.FAIL


@pytest.mark.parametrize("fault", [{"lost": 1}, {"cut": 9}])
def test_a_fault_of_both_slots_is_not_the_releases(fault):
    """The old slot is the control group."""
    judged = messages(GOOD | fault, GOOD | fault)
    assert not judged.sure
    assert judged.finding().verdict is Verdict.INCONCLUSIVE


def test_a_fault_of_the_old_slot_alone_is_said_and_passes():
    """The new release is good; the old one's trouble stands in the evidence."""
    finding = messages(GOOD, GOOD | {"lost": 2}).finding()
    assert finding.verdict is Verdict.PASS
    assert "the old slot" in finding.detail


def test_the_policy_says_how_much_is_too_much():
    """Thresholds are the policy's, never the plug-in's own verdict."""
    assert messages(GOOD | {"lost": 2}, lost_messages=2).finding().verdict is Verdict.PASS


@pytest.mark.parametrize(
    "judged",
    [
        Messages(WatchSpec(), with_old=False),
        messages(GOOD | {"received": 0}),
        messages(GOOD | {"sent": 0}),
        messages(None, GOOD),
    ],
)
def test_nothing_measured_is_no_pass(judged):
    """No line, no message, or no count of the new slot is inconclusive."""
    assert judged.finding().verdict is Verdict.INCONCLUSIVE


def test_an_old_slot_that_was_not_measured_is_no_pass():
    """A control group that is missing is a missing measurement."""
    judged = Messages(WatchSpec(), with_old=True)
    judged.add(Finding("messages", Verdict.PASS, metrics={"new": GOOD}))
    assert judged.finding().verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("metrics", [{"new": {"lost": "many"}}, {"new": 7}])
def test_counts_that_are_none_are_the_probes_fault(metrics):
    """Nonsense in the metrics is an error."""
    judged = messages(GOOD)
    judged.add(Finding("messages", Verdict.PASS, metrics=metrics))
    assert judged.finding().verdict is Verdict.ERROR


def test_how_the_canary_ended_counts_unless_it_saw_a_break():
    """A crash is an error; loss it counted before that is still loss."""
    crash = Finding("plug-in", Verdict.ERROR, detail="The probe broke: exit code 3.")
    assert messages(GOOD).finding(crash).verdict is Verdict.ERROR
    assert messages(GOOD | {"lost": 1}).finding(crash).verdict is Verdict.FAIL


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_a_sure_break_is_always_a_fail(rounds):
    """Ending early never changes what the verdict would have been at that moment."""
    judged = Health(3, 5, 5)
    for new, old in rounds:
        judged.add("old", "bad" if old else "")
        judged.add("new", "bad" if new else "")
        if judged.sure:
            assert judged.finding().verdict is Verdict.FAIL
            return
    assert judged.finding().verdict is not Verdict.FAIL
