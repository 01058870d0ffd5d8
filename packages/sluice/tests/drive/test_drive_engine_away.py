"""An engine that is away for a while (an update, a restart) during an undo: waited for, and not for ever."""

from __future__ import annotations

import pytest

from sluice.ledger import Ledger
from sluice.model.errors import StepFailed
from sluice.model.verdict import Verdict
from sluice.testing import MemoryWorld, Request

MAIN = Request("ann@host", "test", "main")
BAD = Request("ann@host", "test", "feature/bad")


@pytest.mark.parametrize(("away_s", "exit_code"), [(20, 3), (600, 5)])
async def test_an_undo_waits_for_an_engine_that_comes_back(tmp_path, away_s, exit_code):
    """Back within a minute the old release serves again; after that a human is asked, and nothing was stopped."""
    memory = MemoryWorld(tmp_path)
    assert (await memory.drive().rollout(MAIN)).exit_code == 0
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    original, left = memory.hand_over, []

    async def hand_over(release, slot, other):
        if release.commit.branch == "main":
            left.append(memory.clock.elapsed)
            if memory.clock.elapsed - left[0] < away_s:
                raise StepFailed("the engine is away.", unreachable=True)
        await original(release, slot, other)

    memory.hand_over = hand_over
    result = await memory.drive().rollout(BAD)
    assert result.exit_code == exit_code
    assert left[-1] - left[0] <= 65
    assert ("run-0002" in memory.running.values()) == (exit_code == 5)
    assert "run-0001" in memory.running.values()
    assert Ledger(memory.paths.ledger).verify().ok
