"""A recovery that cannot be written down."""

from __future__ import annotations

import errno

import pytest

from sluice import disk
from sluice.engine import State
from sluice.ledger import Ledger
from sluice.model.errors import Refused
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, Killed, killer

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
