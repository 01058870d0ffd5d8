"""A waiver's way through a run: journal, its own ledger record, the run's record, and every later report."""

from __future__ import annotations

import dataclasses

import pytest

from sluice.drive.audit import standing_waivers
from sluice.drive.status import status_of
from sluice.ledger import Ledger
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, Killed, MemoryWorld, Request, killer

MAIN = Request("ann@host", "test", "main")
BRANCH = "feature/good"
WAIVED = Request("ann@host", "flag", BRANCH, waivers={"branch-policy": "the name is agreed with sentinel-secret-value"})
TOLD = "branch-policy, by ann@host: the name is agreed with [redacted] (it said fail)"


async def established(folder):
    """A world where `main` serves, and the gates say no to the branch."""
    memory = MemoryWorld(folder)
    assert (await memory.drive().rollout(MAIN)).exit_code == 0
    memory.verdicts["gates", BRANCH] = Verdict.FAIL
    return memory


def records(memory, kind):
    """The ledger's records of a type."""
    return [one for one in Ledger(memory.paths.ledger).records() if one["type"] == kind]


async def test_without_a_waiver_the_gate_stops_the_run(tmp_path):
    """The run the other tests let pass is refused here."""
    memory = await established(tmp_path)
    assert (await memory.drive().rollout(ASKED)).exit_code == 1


async def test_a_waiver_lets_the_run_pass_and_is_recorded_twice(tmp_path):
    """A record of its own before the run's, with who, why and what the gate said; the run's gates say it too."""
    memory = await established(tmp_path)
    result = await memory.drive().rollout(WAIVED)
    assert result.exit_code == 0
    (record,) = records(memory, "waiver")
    assert (record["run"], record["owner"], record["owner_source"]) == ("run-0002", "ann@host", "flag")
    (waiver,) = record["waivers"]
    assert (waiver["gate"], waiver["by"], waiver["verdict"]) == ("branch-policy", "ann@host", "fail")
    assert waiver["reason"] == "the name is agreed with [redacted]"
    assert "the branch" in waiver["evidence"]
    assert record["n"] == result.record["n"] - 1
    assert result.record["waived"] == ["branch-policy"]
    assert result.record["gates"][0]["verdict"] == "waived"
    assert result.waivers == [TOLD]
    assert Ledger(memory.paths.ledger).verify().ok


async def test_it_is_shown_until_another_release_serves(tmp_path):
    """Status, the next run that fails and a rollback to it show it; a release without a waiver ends it."""
    memory = await established(tmp_path)
    await memory.drive().rollout(WAIVED)
    assert (await status_of(memory.world())).waivers == [TOLD]
    refused = await memory.drive().rollout(dataclasses.replace(ASKED, branch="feature/typo"))
    assert refused.waivers == [TOLD]
    later = await memory.drive().rollout(MAIN)
    assert (later.exit_code, later.waivers) == (0, [])
    assert (await status_of(memory.world())).waivers == []
    back = await memory.drive().rollback(ASKED)
    assert (back.exit_code, back.waivers) == (0, [TOLD])
    assert standing_waivers(memory.world()) == [TOLD]


async def test_a_waiver_that_was_not_needed_is_not_recorded(tmp_path):
    """The gate passed: nothing was passed over, and nothing is shown later."""
    memory = await established(tmp_path)
    memory.verdicts.clear()
    result = await memory.drive().rollout(WAIVED)
    assert (result.exit_code, records(memory, "waiver"), result.waivers) == (0, [], [])
    assert "nothing to waive" in result.record["gates"][0]["detail"]


async def test_a_broken_probe_that_is_waived_is_named_as_broken(tmp_path):
    """An error is not turned into a pass: the record says that nobody knows."""
    memory = await established(tmp_path)
    memory.verdicts["gates", BRANCH] = Verdict.ERROR
    result = await memory.drive().rollout(WAIVED)
    assert result.exit_code == 0
    assert records(memory, "waiver")[0]["waivers"][0]["verdict"] == "error"
    assert "(it said error)" in result.waivers[0]


@pytest.mark.parametrize(
    ("waivers", "code"),
    [
        ({"no-secrets": "they are old"}, "WaiverForbidden"),
        ({"nonsense": "x"}, "WaiverUnknown"),
        ({"freeze": " "}, "WaiverEmpty"),
    ],
)
async def test_a_waiver_that_cannot_be_taken_refuses_the_run(tmp_path, waivers, code):
    """No gate is asked, the refusal is recorded with its code, and what serves goes on serving."""
    memory = await established(tmp_path)
    before = memory.log.count("gates")
    result = await memory.drive().rollout(dataclasses.replace(WAIVED, waivers=waivers))
    assert (result.exit_code, result.record["refusal"]) == (1, code)
    assert memory.log.count("gates") == before
    assert records(memory, "waiver") == []


@pytest.mark.parametrize("entry", ["intent:gating", "observed:gating", "observed:building", "observed:switching"])
async def test_a_run_that_was_killed_remembers_its_waiver(tmp_path, entry):
    """Whoever recovers it, the waiver that was taken is recorded under the name of who gave it, once."""
    memory = await established(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollout(WAIVED)
    results = await memory.drive().resume(Request("bob@host", "flag"))
    assert results
    taken = records(memory, "waiver")
    assert [one["owner"] for one in taken] == ([] if entry == "intent:gating" else ["ann@host"])
    assert await memory.drive().resume(Request("bob@host", "flag")) == []
    assert records(memory, "waiver") == taken
