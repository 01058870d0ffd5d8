"""A recovery that cannot be written down, and signatures while somebody's command was killed."""

from __future__ import annotations

import errno

import pytest

from sluice import disk
from sluice.drive.desk import desk_for
from sluice.engine import State
from sluice.journal import read_all
from sluice.ledger import Ledger
from sluice.model.errors import Refused, StepFailed
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, Killed, killer

from .pair import ASK, later
from .test_drive_matrix import BAD, established, settled


def full_for(monkeypatch, times):
    """The disk takes nothing so many times, and then again."""
    append, left = disk.append, [times]

    def full(path, data):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, data)

    monkeypatch.setattr(disk, "append", full)


@pytest.mark.parametrize("died", ["intent:restoring", "observed:cleaning"])
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_nothing_begins_upon_a_recovery_that_could_not_be_written_down(tmp_path, monkeypatch, died, times):
    """It may be one that locks, and to recover it once more would take users away from what came after it."""
    memory, first = await established(tmp_path)
    memory.verdicts["smoke public", "feature/bad"] = Verdict.FAIL
    with pytest.raises(Killed):
        await memory.drive(killer(died)).rollout(BAD)
    full_for(monkeypatch, times)
    with pytest.raises(Refused, match="run-0002 did not end") as refused:
        await memory.drive().rollout(ASKED)
    assert "v1-main" in refused.value.world
    assert refused.value.next == "sluice resume --env test --service shop"
    monkeypatch.undo()
    (result,) = await memory.drive().resume(ASKED)
    assert (result.run, result.outcome) == ("run-0002", State.ROLLED_BACK)
    settled(memory, serving={first})
    assert Ledger(memory.paths.ledger).closed() is not None


async def test_a_recovery_is_recorded_though_the_disk_was_full_behind_the_record_of_its_run(tmp_path, monkeypatch):
    """The run has its record then, and stays open until somebody's recovery of it has one, too."""
    memory, first = await established(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer("intent:starting")).rollout(ASKED)
    append = Ledger.append

    def full(ledger, body):
        if body["type"] == "recovery":
            raise StepFailed("No space left on device")
        return append(ledger, body)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append", full)
        with pytest.raises(Refused, match="could not be written down"):
            await memory.drive().resume(ASKED)
    await memory.drive().resume(ASKED)
    settled(memory, serving={first})
    told = [(one["type"], one["run"]) for one in Ledger(memory.paths.ledger).records()]
    assert told[1:] == [("rollout", "run-0002"), ("recovery", "run-0002")]


async def test_a_recovery_that_could_not_be_written_down_did_not_come_to_its_end(tmp_path, monkeypatch):
    """`resume` says so, and that it is to be typed again; it would end with 0 else."""
    memory, first = await established(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer("intent:starting")).rollout(ASKED)
    full_for(monkeypatch, 9)
    with pytest.raises(Refused, match="could not be written down"):
        await memory.drive().resume(ASKED)
    monkeypatch.undo()
    await memory.drive().resume(ASKED)
    settled(memory, serving={first})


@pytest.mark.parametrize("died", ["observed:watching", "intent:retiring"])
async def test_an_old_slot_that_alone_still_serves_is_not_stopped_by_a_recovery(tmp_path, died):
    """The tool died when the watch had passed, and the new release after it: users go back, and nobody is blamed."""
    memory, first = await established(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer(died)).rollout(ASKED)
    memory.running = {unit: release for unit, release in memory.running.items() if release == first}
    (result,) = await memory.drive().resume(ASKED)
    assert (result.outcome, result.exit_code) == (State.ROLLED_BACK, 3)
    assert "passed its watch, and serves no more" in result.what
    settled(memory, serving={first})
    record = next(one for one in Ledger(memory.paths.ledger).records() if one["run"] == "run-0002")
    assert (record["decision"], record["bad_release"]) == ("rollback", False)
    assert "serves no more" in record["locked"]


async def test_a_machine_that_was_restarted_after_the_watch_takes_nothing_back(tmp_path):
    """Neither slot runs yet, so the run is finished with the release that was proven."""
    memory, _ = await established(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer("intent:retiring")).rollout(ASKED)
    memory.running.clear()
    (result,) = await memory.drive().resume(ASKED)
    assert result.outcome is State.DONE
    assert memory.releases.serving()[0].id == "run-0002"


async def test_nobody_signs_while_a_promotion_is_unfinished(pair):
    """Its record, which comes with the recovery, would use that signature up, though nothing acted upon it."""
    await pair.signed("bob")
    with pytest.raises(Killed):
        await pair.prod.drive(killer("intent:migrating")).promote(ASK)
    with pytest.raises(Refused, match="did not end") as refused:
        await pair.signed("bob")
    assert refused.value.next == "sluice resume --env prod --service shop"
    await pair.prod.drive().resume(ASK)
    await pair.signed("eve")
    assert (await pair.promote()).exit_code == 0
    assert all(record.ended for record in read_all(pair.prod.paths.journal_dir, repair=False))


@pytest.mark.parametrize(("entry", "approvers"), [("observed:building", ["bob"]), ("intent:migrating", [])])
async def test_a_killed_promotion_has_used_up_what_it_acted_upon_before_it_is_recovered(pair, entry, approvers):
    """Who looks at the plan meanwhile is not told of an approval that no run would take any more."""
    await pair.signed("bob")
    with pytest.raises(Killed):
        await pair.prod.drive(killer(entry)).promote(ASK)
    desk = await desk_for(pair.prod.world(), await pair.plan())
    assert [one.principal for one in await desk.given()] == approvers


@pytest.mark.parametrize("again", [False, True])
async def test_a_signature_whose_command_was_killed_before_its_record_counts_for_nothing(pair, monkeypatch, again):
    """The ledger does not know it, so no run would use it up; who signed was told of nothing and signs again."""

    def dies(*_):
        raise Killed("before the record")

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append", dies)
        with pytest.raises(Killed):
            await pair.signed("bob")
    later(pair, 2)
    if again:
        await pair.signed("bob")
        with pytest.raises(Killed):
            await pair.prod.drive(killer("intent:migrating")).promote(ASK)
    refused = await pair.denied("ApprovalUsed" if again else "ApprovalMissing")
    assert again or "never recorded" in refused.what
    later(pair, 2)
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
