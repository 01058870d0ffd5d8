"""A run that went wrong closes the environment for rollouts until somebody has looked, and nothing loses that."""

from __future__ import annotations

import errno

import pytest

from sluice import disk
from sluice.engine import State
from sluice.journal import read_all
from sluice.ledger import Ledger
from sluice.model.errors import Locked, Refused, StateCorrupted, StepFailed, UsageError
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, Killed, MemoryWorld, Request, killer

from .serving import BAD, MAIN, established


def closed(memory):
    """Why the environment is locked, or None."""
    return Ledger(memory.paths.ledger).closed()


@pytest.mark.parametrize(
    ("faults", "outcome", "says"),
    [
        ({("watch", "feature/bad"): Verdict.FAIL}, State.ROLLED_BACK, "was rolled back: messages"),
        ({("watch", "feature/bad"): Verdict.ERROR}, State.ROLLED_BACK, "was rolled back"),
        (
            {("watch", "feature/bad"): Verdict.FAIL, ("smoke public", "main"): Verdict.FAIL},
            State.DEGRADED,
            "not cleanly",
        ),
        (
            {("watch", "feature/bad"): Verdict.FAIL, ("served-release", "main"): Verdict.FAIL},
            State.ROLLBACK_FAILED,
            "rolling back from v1-feature/bad",
        ),
    ],
)
async def test_a_run_that_went_wrong_locks_and_the_next_rollout_is_refused(tmp_path, faults, outcome, says):
    """Exit code 6 with run, reason, who and since when, and the command that unlocks; nothing is touched."""
    memory = await established(tmp_path)
    memory.verdicts |= faults
    result = await memory.drive().rollout(BAD)
    assert result.outcome is outcome
    assert says in result.record["locked"]
    before = list(memory.log)
    with pytest.raises(Locked) as refused:
        await memory.drive().rollout(ASKED)
    error = refused.value
    assert (error.exit_code, error.data["run"], error.data["who"]) == (6, "run-0002", "ann@host")
    assert says in error.what
    assert "since 2030" in error.what
    assert "sluice unlock --env test --service shop --reason" in error.next
    assert memory.log == before
    with pytest.raises(Locked):
        await memory.drive().rollout(Request("ann@host", "test", "feature/good", "an override does not unlock"))


async def test_unlocking_with_a_reason_lets_the_next_rollout_in(tmp_path):
    """`unlock` is a record of its own, with who and why; the bad release stays remembered all the same."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    await memory.drive().rollout(BAD)
    record = await memory.drive().unlock(Request("bob@host", "flag"), "the feed is mended")
    assert (record["type"], record["owner"], record["reason"]) == ("unlock", "bob@host", "the feed is mended")
    assert closed(memory) is None
    memory.verdicts.clear()
    again = await memory.drive().rollout(BAD)
    assert "failed in this environment before" in again.what
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    assert Ledger(memory.paths.ledger).verify().ok


async def test_a_rollback_somebody_typed_locks_too_and_works_where_it_is_locked(tmp_path):
    """Whoever rolls back wants the release kept out; a locked environment still rolls back and resumes."""
    memory = await established(tmp_path)
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    await memory.drive().lock(ASKED, "nobody deploys tonight")
    assert closed(memory).reason == "nobody deploys tonight"
    assert await memory.drive().resume(ASKED) == []
    assert (await memory.drive().rollback(ASKED)).exit_code == 0
    assert closed(memory).reason.startswith("ann@host rolled back to v1-main")
    assert "from v1-feature/good" in closed(memory).reason
    with pytest.raises(Locked):
        await memory.drive().rollout(MAIN)


@pytest.mark.parametrize("judgement", ["gates", "smoke private"])
async def test_a_run_that_no_user_saw_locks_nothing(tmp_path, judgement):
    """A refusal before the switch is mended and tried again at once."""
    memory = await established(tmp_path)
    memory.verdicts[judgement, "feature/bad"] = Verdict.FAIL
    assert (await memory.drive().rollout(BAD)).exit_code == 1
    assert closed(memory) is None


async def test_a_first_rollout_that_fails_locks_nothing(tmp_path):
    """Where nothing serves, everybody waits for the next attempt."""
    memory = MemoryWorld(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    assert (await memory.drive().rollout(BAD)).exit_code == 7
    assert closed(memory) is None


async def test_an_interrupt_and_the_death_of_the_tool_lock_nothing_when_all_is_as_it_was(tmp_path):
    """Neither says anything about a release, and the old one serves, proven."""
    memory = await established(tmp_path)
    drive = memory.drive(lambda name: drive.interrupt() if name == "intent:watching" else None)
    assert (await drive.rollout(ASKED)).exit_code == 3
    with pytest.raises(Killed):
        await memory.drive(killer("intent:watching")).rollout(ASKED)
    (recovered,) = await memory.drive().resume(ASKED)
    assert recovered.exit_code == 3
    assert closed(memory) is None


UNDO = [
    "observed:watching",
    *(f"{kind}:{step}" for step in ("restoring", "cleaning") for kind in ("intent", "observed")),
]


@pytest.mark.parametrize("entry", UNDO)
async def test_a_kill_while_rolling_back_loses_no_lock(tmp_path, entry):
    """Whatever command comes next recovers the run first, and with it the lock; then the rollout is refused."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollout(BAD)
    with pytest.raises(Refused, match="did not end"):
        await memory.drive().unlock(ASKED, "too early")
    with pytest.raises(Locked, match="run-0002"):
        await memory.drive().rollout(ASKED)
    assert memory.serving_release() == "run-0001"
    assert closed(memory).run == "run-0002"


async def test_a_kill_between_the_record_and_the_journals_end_locks_once(tmp_path):
    """The lock is in the run's own record, so recovery finds it there instead of writing a second one."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    memory.broken["notify"] = Killed("after the record")
    with pytest.raises(Killed):
        await memory.drive().rollout(BAD)
    memory.broken.clear()
    assert closed(memory).run == "run-0002"
    assert not read_all(memory.paths.journal_dir, repair=False)[-1].ended
    (result,) = await memory.drive().resume(ASKED)
    assert result.exit_code == 3
    assert [r["run"] for r in Ledger(memory.paths.ledger).records() if r.get("locked")] == ["run-0002"]


async def test_a_full_disk_neither_locks_by_halves_nor_unlocks(tmp_path, monkeypatch):
    """What cannot be recorded is not done, and the record of a run that could not be written locks when it is."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    await memory.drive().rollout(BAD)

    def full(_handle, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "write_all", full)
        with pytest.raises(StepFailed, match="No space left"):
            await memory.drive().unlock(ASKED, "no room for this")
    assert closed(memory) is not None
    await memory.drive().unlock(ASKED, "there is room")
    with monkeypatch.context() as patched:
        patched.setattr(disk, "write_all", full)
        with pytest.raises(StepFailed, match="No space left"):
            await memory.drive().lock(ASKED, "no room for this either")
    assert closed(memory) is None


async def test_a_damaged_ledger_is_never_read_as_unlocked(tmp_path):
    """Who takes the reason out of the ledger locks everything, not nothing."""
    memory = await established(tmp_path)
    await memory.drive().lock(ASKED, "nobody deploys tonight")
    raw = memory.paths.ledger.read_bytes()
    memory.paths.ledger.write_bytes(raw.replace(b"nobody deploys tonight", b""))
    for command in ("rollout", "rollback"):
        with pytest.raises(StateCorrupted):
            await getattr(memory.drive(), command)(ASKED)
    with pytest.raises(StateCorrupted):
        await memory.drive().unlock(ASKED, "let me in")


@pytest.mark.parametrize("verb", ["lock", "unlock"])
async def test_a_reason_is_needed_and_unlocking_needs_a_lock(tmp_path, verb):
    """An empty reason is a usage error; what is not locked is not unlocked."""
    memory = await established(tmp_path)
    with pytest.raises(UsageError, match="needs a reason"):
        await getattr(memory.drive(), verb)(ASKED, "  ")
    with pytest.raises(Refused, match="not locked"):
        await memory.drive().unlock(ASKED, "just to be sure")
