"""Who is told of a run that went wrong: what the message says, and that telling changes nothing."""

from __future__ import annotations

import pytest

from sluice.engine import State
from sluice.journal import read_all
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, MemoryWorld, Request

MAIN = Request("ann@host", "test", "main")
BAD = Request("ann@host", "test", "feature/bad")
SENTINEL = "sentinel-secret-value"


async def established(folder):
    """A world where `main` serves."""
    memory = MemoryWorld(folder)
    assert (await memory.drive().rollout(MAIN)).exit_code == 0
    return memory


@pytest.mark.parametrize(
    ("faults", "outcome"),
    [
        ({("watch", "feature/bad"): Verdict.FAIL}, State.ROLLED_BACK),
        ({("watch", "feature/bad"): Verdict.FAIL, ("smoke public", "main"): Verdict.FAIL}, State.DEGRADED),
        ({("watch", "feature/bad"): Verdict.FAIL, ("served-release", "main"): Verdict.FAIL}, State.ROLLBACK_FAILED),
    ],
)
async def test_people_are_told_what_happened_what_serves_and_what_to_type(tmp_path, faults, outcome):
    """Service, environment, commit, reason, the state of the world and the next command; no secret."""
    memory = await established(tmp_path)
    memory.verdicts |= faults
    result = await memory.drive().rollout(BAD)
    assert result.outcome is outcome
    ((title, body),) = memory.told
    assert title == f"shop in test: rollout {outcome.value.replace('_', ' ')}"
    for words in ("feature/bad", "reason: messages", f"now: {result.world}", f"next: {result.next}", "ann@host"):
        assert words in body
    assert "sluice" in result.next
    assert SENTINEL not in title + body
    assert read_all(memory.paths.journal_dir, repair=False)[-1].entries[-1].notes["notified"] == "everybody"


async def test_people_are_told_that_nothing_serves(tmp_path):
    """A first rollout that failed after the switch."""
    memory = MemoryWorld(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    assert (await memory.drive().rollout(BAD)).exit_code == 7
    assert memory.told[0][0] == "shop in test: rollout none serving"


async def test_nobody_is_told_of_a_good_run_of_a_refusal_or_of_a_lock(tmp_path):
    """Only what went wrong after users could have seen it is worth a message."""
    memory = await established(tmp_path)
    memory.verdicts["gates", "feature/bad"] = Verdict.FAIL
    assert (await memory.drive().rollout(BAD)).exit_code == 1
    await memory.drive().lock(ASKED, "nobody deploys tonight")
    assert memory.told == []


async def test_a_message_that_could_not_be_sent_is_said_and_recorded_and_changes_nothing(tmp_path):
    """The outcome is the run's own; the journal keeps who was not told."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    memory.untold = [f"Line 3 of addresses (json) did not take {SENTINEL}."]
    result = await memory.drive().rollout(BAD)
    assert result.exit_code == 3
    assert any("Line 3 of addresses" in report.text for report in memory.reports)
    noted = read_all(memory.paths.journal_dir, repair=False)[-1].entries[-1].notes["notified"]
    assert noted == ["Line 3 of addresses (json) did not take [redacted]."]
