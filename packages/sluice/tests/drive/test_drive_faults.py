"""What can go wrong in a run, and what is left: always one clear reason and the old release serving."""

from __future__ import annotations

import asyncio
import errno

import msgspec
import pytest

from sluice import disk
from sluice.drive import Drive
from sluice.engine import State
from sluice.journal import read_all
from sluice.ledger import Ledger
from sluice.lock import Holder, hold
from sluice.model.errors import ConfigError, Locked, ProbeBroken, Refused, StateCorrupted, StepFailed
from sluice.model.spec import EnvironmentName
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, SPEC, Killed, MemoryWorld, Request, killer

from .serving import BAD, established


def serves_as_before(memory):
    """Nothing but the first release runs and serves, and the audit trail holds."""
    assert memory.serving_release() == "run-0001"
    assert set(memory.running.values()) == {"run-0001"}
    assert Ledger(memory.paths.ledger).verify().ok


@pytest.mark.parametrize(
    ("judgement", "verdict", "exit_code", "bad"),
    [
        ("gates", Verdict.FAIL, 1, False),
        ("gates", Verdict.ERROR, 1, False),
        ("ready", Verdict.FAIL, 1, True),
        ("served-release", Verdict.FAIL, 1, True),
        ("smoke private", Verdict.FAIL, 1, True),
        ("smoke private", Verdict.ERROR, 1, False),
        ("smoke private", Verdict.SKIPPED, 1, False),
        ("smoke public", Verdict.FAIL, 3, True),
        ("smoke public", Verdict.INCONCLUSIVE, 3, False),
        ("watch", Verdict.FAIL, 3, True),
        ("watch", Verdict.ERROR, 3, False),
        ("watch", Verdict.INCONCLUSIVE, 3, False),
    ],
)
async def test_a_verdict_that_is_no_pass_ends_the_run_and_the_old_release_serves(
    tmp_path, judgement, verdict, exit_code, bad
):
    """Each verdict has its exit code; only a real fail of the release marks it bad."""
    memory = await established(tmp_path)
    memory.verdicts[judgement, "feature/bad"] = verdict
    result = await memory.drive().rollout(BAD)
    assert result.exit_code == exit_code
    assert result.record["bad_release"] is bad
    assert "v1-main" in result.world
    assert result.what
    serves_as_before(memory)


@pytest.mark.parametrize("method", ["fetch", "gates", "build", "migrate", "start", "ready", "smoke private", "ensure"])
@pytest.mark.parametrize(
    "failure",
    [
        StepFailed("no luck"),
        ProbeBroken("the probe broke"),
        Refused("not today"),
        OSError(errno.ENOSPC, "No space left on device"),
        ZeroDivisionError("a defect of ours"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_step_that_breaks_before_the_switch_leaves_everything_as_it_was(tmp_path, method, failure):
    """Whatever is raised, a user never saw the release, nobody blames it, and the exit code is 1."""
    memory = await established(tmp_path)
    memory.broken[method] = failure
    result = await memory.drive().rollout(BAD)
    memory.broken.clear()
    assert result.exit_code == 1
    assert not result.record["bad_release"]
    serves_as_before(memory)


@pytest.mark.parametrize("method", ["smoke public", "drain run-0001 18100", "watch"])
async def test_a_step_that_breaks_after_the_switch_is_rolled_back(tmp_path, method):
    """The old release is restored, whoever was at fault."""
    memory = await established(tmp_path)
    memory.broken[method] = StepFailed("no luck")
    memory.verdicts["smoke public", "main"] = Verdict.PASS
    result = await memory.drive().rollout(BAD)
    # The public smoke is broken for the old release too, so it serves again but is not proven.
    assert result.exit_code == (5 if method == "smoke public" else 3)


async def test_an_old_release_that_does_not_pass_its_smoke_is_restored_but_degraded(tmp_path):
    """Serving the old release again without proof is exit code 4, and the bad slot is stopped all the same."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    memory.verdicts["smoke public", "main"] = Verdict.FAIL
    result = await memory.drive().rollout(BAD)
    assert (result.outcome, result.exit_code) == (State.DEGRADED, 4)
    serves_as_before(memory)


async def test_a_restore_that_cannot_be_done_asks_for_a_human_and_stops_nothing(tmp_path):
    """When the ingress cannot be pointed back, both slots stay alive and the exit code is 5."""
    memory = await established(tmp_path)
    memory.verdicts["smoke public", "feature/bad"] = Verdict.FAIL
    memory.verdicts["served-release", "main"] = Verdict.FAIL
    result = await memory.drive().rollout(BAD)
    assert result.exit_code == 5
    assert set(memory.running.values()) == {"run-0001", "run-0002"}
    assert "human" in result.world or "not known" in result.world


async def test_an_old_slot_that_died_is_started_again_to_restore_it(tmp_path):
    """The rollback target that crashed meanwhile comes back from its artifact."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    original = memory.watch

    async def watch_while_the_old_slot_dies(*arguments):
        del memory.running["shop-test-18100"]
        return await original(*arguments)

    memory.watch = watch_while_the_old_slot_dies
    assert (await memory.drive().rollout(BAD)).exit_code == 3
    serves_as_before(memory)


async def test_a_first_rollout_that_fails_leaves_none_serving(tmp_path):
    """With nothing to go back to the exit code is 7, before the switch and after it."""
    for judgement in ("smoke private", "watch"):
        memory = MemoryWorld(tmp_path / judgement.replace(" ", "-"))
        memory.verdicts[judgement, "feature/bad"] = Verdict.FAIL
        result = await memory.drive().rollout(BAD)
        assert result.exit_code == 7
        assert (memory.running, memory.pointed, memory.releases.serving()) == ({}, None, None)


async def test_a_broken_probe_gets_one_more_chance_before_the_switch(tmp_path):
    """What could not be judged once and passes then is a pass."""
    memory = await established(tmp_path)
    memory.verdicts["smoke private", "feature/good"] = Verdict.ERROR
    original = memory.clock.now

    def heal_at_the_second_smoke():
        if memory.log.count("smoke private") >= 2:
            memory.verdicts.clear()
        return original()

    memory.clock.now = heal_at_the_second_smoke
    result = await memory.drive().rollout(ASKED)
    assert memory.log.count("smoke private") == 3
    assert result.exit_code == 0


async def test_after_the_switch_a_broken_probe_is_held_until_the_deadline(tmp_path):
    """The public smoke is asked again for as long as the watch would last, then rolled back without a mark."""
    memory = await established(tmp_path)
    memory.verdicts["smoke public", "feature/bad"] = Verdict.ERROR
    before = memory.clock.elapsed
    result = await memory.drive().rollout(BAD)
    assert (result.exit_code, result.record["bad_release"]) == (3, False)
    assert memory.clock.elapsed - before >= 8
    serves_as_before(memory)


async def test_a_release_that_failed_is_refused_until_overridden_with_a_reason(tmp_path):
    """The second attempt is refused at the artifact; a reason lets it through and is recorded."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    await memory.drive().rollout(BAD)
    await memory.drive().unlock(ASKED, "looked at it")
    memory.verdicts.clear()
    again = await memory.drive().rollout(BAD)
    assert (again.exit_code, "run-0002" in again.what) == (1, True)
    assert "--override" in again.next
    overridden = await memory.drive().rollout(Request("ann@host", "test", "feature/bad", "the network was down"))
    assert overridden.exit_code == 0
    assert overridden.record["override"] == "the network was down"


async def test_a_branch_that_does_not_exist_is_a_usage_error_and_not_a_decision(tmp_path):
    """Exit code 2 with the branches that exist; the ledger stays as it was, the journal is ended."""
    memory = await established(tmp_path)
    result = await memory.drive().rollout(Request("ann@host", "test", "feature/typo"))
    assert result.exit_code == 2
    assert "feature/good" in result.next
    assert len(Ledger(memory.paths.ledger).records()) == 1
    assert all(record.ended for record in read_all(memory.paths.journal_dir, repair=False))


async def test_a_service_file_of_another_service_is_a_configuration_error(tmp_path):
    """A sluice.toml that is missing is named with what to do; nothing was touched."""
    memory = await established(tmp_path)

    async def nothing(_ref, _path):
        return None

    memory.read = nothing
    result = await memory.drive().rollout(ASKED)
    assert (result.exit_code, ConfigError.exit_code) == (2, 2)
    assert "no sluice.toml" in result.what
    serves_as_before(memory)


async def test_prod_is_refused_before_anything_is_touched_and_recorded(tmp_path):
    """Into prod goes only what was proven in test."""
    memory = MemoryWorld(tmp_path)
    drive = Drive(memory.world(EnvironmentName.PROD), memory.reports.append)
    result = await drive.rollout(ASKED)
    assert (result.exit_code, result.record["decision"]) == (1, "refused")
    assert "sluice promote" in result.next
    assert memory.log == []


async def test_a_second_run_is_refused_while_one_holds_the_environment(tmp_path):
    """Locked, exit code 6, nothing journalled."""
    memory = await established(tmp_path)
    holder = Holder("bob", "rollout feature/x", "then", 1, "run-9")
    with hold(memory.paths.lock, memory.paths.lock_info, holder), pytest.raises(Locked, match="bob"):
        await memory.drive().rollout(ASKED)
    serves_as_before(memory)


@pytest.mark.parametrize("what", ["journal", "ledger", "release", "serving"])
async def test_damaged_state_blocks_every_mutation_by_name(tmp_path, what):
    """A damaged journal, ledger or release is named, nothing is overwritten, the old release serves."""
    memory = await established(tmp_path)
    path = {
        "journal": next(memory.paths.journal_dir.iterdir()),
        "ledger": memory.paths.ledger,
        "release": next(memory.paths.releases_dir.iterdir()),
        "serving": memory.paths.env_dir / "serving.json",
    }[what]
    good = path.read_bytes()
    damaged = good.replace(b"ann@host", b"bob@host", 1) if b"ann@host" in good else good.replace(b":", b";", 1)
    path.write_bytes(damaged)
    for command in ("rollout", "rollback", "resume"):
        with pytest.raises(StateCorrupted, match=path.name):
            await getattr(memory.drive(), command)(ASKED)
    assert path.read_bytes() == damaged
    assert memory.serving_release() == "run-0001"


@pytest.mark.parametrize(
    ("method", "exit_code"),
    [
        ("fetch", 1),
        ("gates", 1),
        ("build", 1),
        ("migrate", 1),
        ("start", 1),
        ("smoke private", 1),
        ("smoke public", 3),
        ("watch", 3),
    ],
)
async def test_an_interrupt_undoes_the_step_at_hand(tmp_path, method, exit_code):
    """Ctrl-C in any step cancels it and undoes it; nobody blames the release."""
    memory = await established(tmp_path)
    reached = memory.hold[method] = asyncio.Event()
    drive = memory.drive()
    running = asyncio.ensure_future(drive.rollout(ASKED))
    await asyncio.wait_for(reached.wait(), 5)
    memory.hold.clear()
    drive.interrupt()
    result = await asyncio.wait_for(running, 5)
    assert result.exit_code == exit_code
    assert result.record["reason"] == "interrupted"
    assert not result.record["bad_release"]
    serves_as_before(memory)


async def test_an_interrupt_after_the_watch_finishes_the_run(tmp_path):
    """Once the old slot is being stopped there is only forward."""
    memory = await established(tmp_path)
    drive = memory.drive(lambda name: drive.interrupt() if name == "intent:retiring" else None)
    assert (await drive.rollout(ASKED)).exit_code == 0
    assert memory.serving_release() == "run-0002"


@pytest.mark.parametrize("allowed", range(26))
async def test_a_full_disk_at_any_entry_undoes_the_run(tmp_path, monkeypatch, allowed):
    """When the journal or the ledger cannot be written, one good release serves, and with room again all is settled."""
    memory = await established(tmp_path)
    original, left = disk.write_all, [allowed]

    def full(handle, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(handle, data)

    monkeypatch.setattr(disk, "write_all", full)
    if allowed == 0:
        with pytest.raises(StepFailed, match="No space left"):
            await memory.drive().rollout(ASKED)
    else:
        result = await memory.drive().rollout(ASKED)
        assert result.exit_code in {0, 1, 3, 4}
        assert "make room" in result.next or result.exit_code == 0
    good = memory.serving_release()
    assert good in {"run-0001", "run-0002"}
    monkeypatch.setattr(disk, "write_all", original)
    await memory.drive().resume(ASKED)
    assert memory.serving_release() == good
    assert set(memory.running.values()) == {good}
    assert memory.releases.serving()[0].id == good
    records = read_all(memory.paths.journal_dir, repair=False)
    assert all(record.ended for record in records)
    assert Ledger(memory.paths.ledger).verify({record.run: record.recorded for record in records}).ok


async def test_a_release_that_serves_unrecorded_is_what_a_failed_rollout_goes_back_to(tmp_path, monkeypatch):
    """The disk was full when it was to be remembered: it serves all the same, and the next bad branch ends there."""
    memory = await established(tmp_path)

    def full(_release):
        raise Refused("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(memory.releases, "save", full)
        assert (await memory.drive().rollout(ASKED)).exit_code == 4
    assert memory.serving_release() == "run-0002"
    assert memory.releases.serving()[0].id == "run-0001"
    await memory.drive().unlock(ASKED, "there is room again")
    memory.verdicts["smoke public", "feature/bad"] = Verdict.FAIL
    result = await memory.drive().rollout(Request("ann@host", "test", "feature/bad"))
    assert result.exit_code == 3
    assert memory.serving_release() == "run-0002"
    assert set(memory.running.values()) == {"run-0002"}


async def test_the_plan_says_where_the_candidate_would_change_the_policy(tmp_path):
    """Policy keys the candidate wants otherwise are listed, and have no effect."""
    memory = await established(tmp_path)
    lax = msgspec.structs.replace(SPEC.watch, required_checks=(), duration_s=0.1)
    memory.specs["feature/good"] = msgspec.structs.replace(SPEC, watch=lax)
    before = memory.clock.elapsed
    result = await memory.drive().rollout(ASKED)
    assert result.record["policy_changed"] == ["watch.duration_s", "watch.required_checks"]
    assert memory.clock.elapsed - before >= SPEC.watch.duration_s
    assert any("policy changed" in report.text for report in memory.reports)


async def test_a_migration_is_never_run_again_by_a_recovery(tmp_path):
    """A kill in the middle of a migration abandons the run; the next one migrates for itself."""
    memory = await established(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer("intent:migrating")).rollout(ASKED)
    (result,) = await memory.drive().resume(ASKED)
    assert (result.exit_code, memory.migrated) == (1, ["run-0001"])
