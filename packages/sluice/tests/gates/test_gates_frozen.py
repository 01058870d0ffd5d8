"""What an operator froze: the gate `freeze` refuses until its time, whatever the policy's windows allow."""

from __future__ import annotations

import datetime as dt

import pytest

from sluice.gates.context import Asked
from sluice.gates.freeze import freeze
from sluice.gates.waivers import waived
from sluice.ledger import frozen_by
from sluice.model.policy import FreezeKind, FreezeWindow, GatesSpec
from sluice.model.verdict import Verdict

NOW = "2026-11-23T12:00:00.000Z"  # a Monday
ALWAYS = FreezeWindow(name="always", kind=FreezeKind.ALLOW)


class At:
    """A clock that stands."""

    def now(self) -> str:
        return NOW

    def monotonic(self) -> float:
        return 0.0


def frozen(until="2026-11-28T00:00:00Z", reason="Black Friday", owner="olga"):
    """A record of the ledger."""
    return {"type": "freeze", "until": until, "reason": reason, "ended": "2026-11-23T08:00:00Z", "owner": owner}


LIFTED = {"type": "unfreeze", "reason": "it is over", "ended": "2026-11-23T09:00:00Z", "owner": "olga"}


async def judged(origin, *records, owner="bob", source="ssh-key SHA256:x", waivers=None, **policy):
    """The gate at this moment, of an environment with this ledger."""
    context = await origin.context(
        policy=GatesSpec(**policy),
        clock=At(),
        asked=Asked(owner, owner_source=source, waivers=waivers or {}),
        records=lambda: records,
    )
    return waived(await freeze(context), context.asked)


async def test_what_is_frozen_is_refused_with_who_why_and_until_when(origin):
    """The reason is what the next person reads; the way out is named."""
    finding = await judged(origin, frozen())
    assert finding.verdict is Verdict.FAIL
    assert finding.detail == "Frozen by olga until 2026-11-28T00:00:00Z, since 2026-11-23T08:00:00Z: Black Friday."
    assert "sluice freeze --env test --lift" in finding.fix
    assert "--waive freeze=" in finding.fix


async def test_deny_wins_over_a_window_that_allows(origin):
    """Within the window of the policy, and frozen: refused. Both reasons are told where both forbid."""
    assert (await judged(origin, freeze=(ALWAYS,))).verdict is Verdict.PASS
    assert (await judged(origin, frozen(), freeze=(ALWAYS,))).verdict is Verdict.FAIL
    monday = FreezeWindow(name="monday", days=("mon",))
    finding = await judged(origin, frozen(), freeze=(monday,))
    assert "Black Friday" in finding.detail
    assert "Frozen by 'monday'" in finding.detail


async def test_each_freeze_holds_until_its_own_end(origin):
    """A shorter one shortens no other; one that is over is none."""
    over = frozen("2026-11-23T12:00:00Z", "was short")
    finding = await judged(origin, frozen(), over, frozen("2026-11-24T00:00:00Z", "a day", "ann"))
    assert "Black Friday" in finding.detail
    assert "a day" in finding.detail
    assert "was short" not in finding.detail
    assert (await judged(origin, over)).verdict is Verdict.SKIPPED


async def test_what_was_lifted_is_open_and_frozen_again_after_it_is_closed(origin):
    """The order of the ledger decides."""
    assert (await judged(origin, frozen(), LIFTED)).verdict is Verdict.SKIPPED
    assert (await judged(origin, LIFTED, frozen())).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("owner", "source", "verdict"),
    [("ann", "ssh-key SHA256:x", Verdict.PASS), ("ann", "flag", Verdict.FAIL), ("bob", "ssh-key", Verdict.FAIL)],
)
async def test_who_is_exempt_by_the_policy_is_not_stopped(origin, owner, source, verdict):
    """By name and by the key of the connection, as of the windows; a name that was typed exempts nobody."""
    finding = await judged(origin, frozen(), owner=owner, source=source, freeze_exempt=("ann",))
    assert finding.verdict is verdict
    assert ("ann is exempt from the freeze of olga" in finding.detail) == (verdict is Verdict.PASS)


async def test_nobody_is_exempt_without_a_name(origin):
    """An owner that is not known is none of the exempt ones."""
    assert (await judged(origin, frozen(), owner="", freeze_exempt=("ann",))).verdict is Verdict.FAIL


async def test_who_is_exempt_from_a_freeze_is_still_bound_by_the_windows(origin):
    """Two rules, two exemptions."""
    monday = FreezeWindow(name="monday", days=("mon",))
    finding = await judged(origin, frozen(), owner="ann", freeze_exempt=("ann",), freeze=(monday,))
    assert finding.verdict is Verdict.FAIL
    assert "Black Friday" not in finding.detail


async def test_a_waiver_passes_over_it_and_is_told(origin):
    """As of a window: by name and reason, with what the gate had said."""
    finding = await judged(origin, frozen(), waivers={"freeze": "users cannot log in"})
    assert finding.verdict is Verdict.WAIVED
    assert "Black Friday" in finding.detail


def test_a_ledger_without_freezes_freezes_nothing():
    """Locks are something else."""
    now = dt.datetime.fromisoformat(NOW)
    assert frozen_by([{"type": "lock", "locked": "why", "reason": "why"}, LIFTED], now) == []
