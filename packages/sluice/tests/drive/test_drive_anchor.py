"""What a run does about the anchor: it brings each record there, and is not hindered by what hinders that."""

from __future__ import annotations

import dataclasses

import pytest

from sluice.drive import Drive, Request
from sluice.engine import State
from sluice.ledger import Ledger
from sluice.testing import Killed, MemoryWorld, killer

ANN = Request("ann", "flag", "feature/good")


class Anchored:
    """A world whose ledger is anchored, and what was on the ledger each time."""

    def __init__(self, folder, hindered: str = "") -> None:
        self.memory = MemoryWorld(folder)
        self.hindered, self.brought = hindered, []

    async def anchor(self) -> str:
        self.brought.append([record["type"] for record in Ledger(self.memory.paths.ledger).records()])
        return self.hindered

    def drive(self, after_entry=None) -> Drive:
        world = dataclasses.replace(self.memory.world(), anchor=self.anchor)
        return Drive(world, self.memory.reports.append, after_entry)


async def test_an_anchor_out_of_reach_is_said_and_changes_no_result(tmp_path):
    """The note is redacted; outcome, exit code and record are those of a run without an anchor."""
    world = Anchored(tmp_path, "The tail is not anchored at sentinel-secret-value.")
    result = await world.drive().rollout(ANN)
    assert (result.outcome, result.exit_code, result.record["n"]) == (State.DONE, 0, 1)
    notes = [report.text for report in world.memory.reports if report.event == "note"]
    assert [text for text in notes if "not anchored" in text]
    assert "sentinel-secret-value" not in " ".join(notes)


async def test_every_record_is_brought_once_it_is_written(tmp_path):
    """After a rollout, a lock and an unlock; the journal of the run has ended by then."""
    world = Anchored(tmp_path)
    await world.drive().rollout(ANN)
    await world.drive().lock(ANN, "why")
    await world.drive().unlock(ANN, "why not")
    assert world.brought == [["rollout"], ["rollout", "lock"], ["rollout", "lock", "unlock"]]
    assert not [report for report in world.memory.reports if "anchor" in report.text]


@pytest.mark.parametrize(("entry", "then"), [("observed:recording", ["rollout", "recovery"]), ("end", ["rollout"])])
async def test_what_a_killed_run_did_not_bring_the_next_record_does(tmp_path, entry, then):
    """Killed before or after its record was written: nothing was brought, and the next command brings it all."""
    world = Anchored(tmp_path)
    with pytest.raises(Killed):
        await world.drive(killer(entry)).rollout(ANN)
    assert world.brought == []
    await world.drive().resume(ANN)
    await world.drive().lock(ANN, "why")
    assert world.brought[-1] == [*then, "lock"]


async def test_the_record_says_when_users_may_have_been_on_the_release(tmp_path):
    """Commit time and switch are what lead time and time to restore are read from."""
    world = Anchored(tmp_path)
    record = (await world.drive().rollout(ANN)).record
    assert record["started"] <= record["switched"] <= record["ended"]
    assert record["committed_at"]
