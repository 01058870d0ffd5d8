"""What a run says of the ingress before it touches it, and what a killed run's recovery does for its users first."""

from __future__ import annotations

import pytest

from sluice.drive.status import ingress_of
from sluice.model.errors import StateCorrupted, StepFailed
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, Killed, MemoryWorld, killer

REPLACED = "the ingress x runs by other settings: it is replaced"


async def test_a_replaced_ingress_is_announced_in_the_plan_and_again_before_it_happens(tmp_path):
    """Users' sockets are cut once, so it is told when the run is planned and when the slot is started."""
    memory = MemoryWorld(tmp_path, outdated=REPLACED)
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    steps = [report.step for report in memory.reports if report.event == "progress" and report.text == REPLACED]
    assert steps == ["planning", "starting"]


async def test_an_ingress_that_stays_is_no_news(tmp_path):
    """Nothing is said of it."""
    memory = MemoryWorld(tmp_path)
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    assert not [report for report in memory.reports if report.event == "progress" and "ingress" in report.text]


async def test_the_checks_say_what_becomes_of_the_ingress(tmp_path):
    """To be replaced passes and says so; edited by hand is no pass; a damaged file fails."""
    memory = MemoryWorld(tmp_path)
    world = memory.world()
    assert (await ingress_of(world)).verdict is Verdict.PASS
    memory.outdated = REPLACED
    found = await ingress_of(world)
    assert (found.verdict, REPLACED in found.detail) == (Verdict.PASS, True)
    memory.by_hand = "the ingress file was edited by hand"
    found = await ingress_of(world)
    assert (found.verdict, "edited by hand" in found.detail) == (Verdict.INCONCLUSIVE, True)

    async def damaged() -> str:
        raise StateCorrupted("the ingress file is damaged.")

    memory.current = damaged
    assert (await ingress_of(world)).verdict is Verdict.FAIL


@pytest.mark.parametrize("failure", [None, StepFailed("the engine is odd")])
async def test_recovery_sees_to_the_ingress_first(tmp_path, failure):
    """A replacement that a killed run left half-way is mended before its run is undone; what fails is said."""
    memory = MemoryWorld(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer("intent:starting")).rollout(ASKED)
    assert "mend" not in memory.log
    memory.log.clear()
    if failure is not None:
        memory.broken["mend"] = failure
    results = await memory.drive().resume(ASKED)
    assert (len(results), memory.log[0]) == (1, "mend")
    assert any("the engine is odd" in report.text for report in memory.reports) == (failure is not None)
