"""After every run that came to nothing there is something to type, and it is a whole command."""

from __future__ import annotations

import pytest

from sluice.drive import Request
from sluice.engine import State
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, MemoryWorld

MAIN = Request("ann@host", "test", "main")
WHERE = "--env test --service shop"
AGAIN = f"sluice rollout {WHERE} --branch {ASKED.branch}"
MEND = f"mend the branch, push, then: {AGAIN}"


@pytest.mark.parametrize("step", ["smoke private", "ready"])
async def test_a_release_that_fails_before_the_switch_is_mended(tmp_path, step):
    """Exit 1 where another serves: mend it and roll it out again."""
    memory = MemoryWorld(tmp_path)
    assert (await memory.drive().rollout(MAIN)).exit_code == 0
    memory.verdicts[step, ASKED.branch] = Verdict.FAIL
    result = await memory.drive().rollout(ASKED)
    assert (result.exit_code, result.next) == (1, MEND)


async def test_a_first_release_that_fails_is_mended(tmp_path):
    """Exit 7, where nothing serves: the same, and `unlock` is not needed."""
    memory = MemoryWorld(tmp_path)
    memory.verdicts["smoke public", ASKED.branch] = Verdict.FAIL
    result = await memory.drive().rollout(ASKED)
    assert (result.outcome, result.exit_code, result.next) == (State.NONE_SERVING, 7, MEND)


async def test_what_nobody_blames_on_the_branch_is_looked_into(tmp_path):
    """A probe that breaks is no reason to mend anything: the record of the run, and the command again."""
    memory = MemoryWorld(tmp_path)
    memory.verdicts["smoke private", ASKED.branch] = Verdict.ERROR
    result = await memory.drive().rollout(ASKED)
    assert result.next == f"look into it (sluice log {WHERE} --run {result.run}), then: {AGAIN}"


async def test_after_ctrl_c_the_same_command_is_enough(tmp_path):
    """Nothing is to be mended where a person stopped the run."""
    memory = MemoryWorld(tmp_path)
    drive = memory.drive()
    drive.interrupt()
    result = await drive.rollout(ASKED)
    assert (result.what, result.next) == ("interrupted", AGAIN)


async def test_a_rollback_that_has_nowhere_to_go_names_a_rollout(tmp_path):
    """`rollback` with one release: a command that can be typed, not a sentence about one."""
    memory = MemoryWorld(tmp_path)
    assert (await memory.drive().rollout(MAIN)).exit_code == 0
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, result.next) == (1, f"sluice rollout {WHERE} --branch BRANCH")
