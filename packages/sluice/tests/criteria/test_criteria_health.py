"""The criterion `health`, one character per round: `.` is a good answer, `x` a bad one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.criteria.health import Health
from sluice.criteria.observations import Answer, Restarted
from sluice.model.spec import WatchSpec
from sluice.model.verdict import Verdict


def health(**answers: str) -> Health:
    """A criterion that saw these answers of `old`, `public` and `new`."""
    judged = Health(WatchSpec(health_failures=3, health_window=5), with_old="old" in answers)
    for moment in range(max(map(len, answers.values()))):
        for target in ("old", "public", "new"):
            if target in answers:
                judged.observe(moment, Answer(target, "" if answers[target][moment] == "." else "answered 503"))
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


@pytest.mark.parametrize(
    ("old", "verdict", "sure"), [("........", Verdict.FAIL, True), ("...x....", Verdict.INCONCLUSIVE, False)]
)
def test_a_slot_that_ends_and_is_started_again_is_not_healthy(old, verdict, sure):
    """Between two questions nobody sees it gone; where the old one was in trouble too, it is nobody's fault."""
    judged = health(new="........", public="........", old=old)
    judged.observe(8, Restarted(2))
    found = judged.finding()
    assert (found.verdict, judged.sure, judged.broken) == (verdict, sure, True)
    assert "new: it ended and was started again, 2 times" in found.detail


def test_without_an_old_slot_there_is_no_control():
    """On a first rollout a bad slot is the release's fault."""
    assert health(public="xxx", new="xxx").finding().verdict is Verdict.FAIL


def test_a_watch_shorter_than_the_window_is_judged_by_what_it_has_time_for():
    """Three rounds of three are enough where there are no five."""
    judged = Health(WatchSpec(duration_s=3, interval_s=1), with_old=False)
    for moment in range(3):
        judged.observe(moment, Answer("public"))
        judged.observe(moment, Answer("new"))
    assert judged.finding().verdict is Verdict.PASS


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_a_sure_break_is_always_a_fail(rounds):
    """Ending early never changes what the verdict would have been at that moment."""
    judged = Health(WatchSpec(), with_old=True)
    for moment, (new, old) in enumerate(rounds):
        judged.observe(moment, Answer("old", "bad" if old else ""))
        judged.observe(moment, Answer("new", "bad" if new else ""))
        if judged.sure:
            assert judged.finding().verdict is Verdict.FAIL
            return
    assert judged.finding().verdict is not Verdict.FAIL
