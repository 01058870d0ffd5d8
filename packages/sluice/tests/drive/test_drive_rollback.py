"""Rollbacks from every state an environment can be in, and the truth about one that failed half-way."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from sluice.drive.status import status_of
from sluice.engine import State
from sluice.journal import read_all
from sluice.ledger import Ledger
from sluice.model.errors import Refused, StateCorrupted, StepFailed
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, Killed, MemoryWorld, Request, killer

MAIN = Request("ann@host", "test", "main")
BAD = Request("ann@host", "test", "feature/bad")


async def established(folder, *branches):
    """A world where these came one after the other; `main` first."""
    memory = MemoryWorld(folder)
    for branch in ("main", *branches):
        assert (await memory.drive().rollout(Request("ann@host", "test", branch))).exit_code == 0
    return memory


async def half_way(folder):
    """A rollout whose rollback could not be proven: the old release is pointed at, and the bad one runs on."""
    memory = await established(folder)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    memory.verdicts["served-release", "main"] = Verdict.FAIL
    return memory, await memory.drive().rollout(BAD)


async def test_a_failed_rollback_says_what_is_true_and_what_to_do(tmp_path):
    """What answers, what runs, where the ingress points; the command to try again, and the way by hand."""
    memory, result = await half_way(tmp_path)
    assert (result.outcome, result.exit_code) == (State.ROLLBACK_FAILED, 5)
    assert "It is not known what http://public.test serves" in result.world
    assert "v1-main runs at http://127.0.0.1:18100; v1-feature/bad runs at http://127.0.0.1:18101" in result.world
    assert "the ingress points at http://127.0.0.1:18100" in result.world
    assert result.next.startswith("sluice rollback --env test --service shop")
    assert f'in {tmp_path / "route"} make "url" say http://127.0.0.1:18100' in result.next
    end = read_all(memory.paths.journal_dir, repair=False)[-1].entries[-1]
    assert end.notes["seen"]["running"] == ["shop-test-18100", "shop-test-18101"]


async def test_a_failed_rollback_names_the_bad_release_where_that_is_what_answers(tmp_path):
    """When the ingress could not be pointed back, users are on the new release, and it is said."""
    memory = await established(tmp_path)
    memory.verdicts["smoke public", "feature/bad"] = Verdict.FAIL
    original = memory.point

    async def stuck(slot):
        if slot is not None and slot.release_id == "run-0001":
            raise StepFailed("the file cannot be written")
        await original(slot)

    memory.point = stuck
    result = await memory.drive().rollout(BAD)
    assert result.exit_code == 5
    assert "v1-feature/bad" in result.world.partition("answers at")[0]
    assert "(the new one) answers at http://public.test" in result.world


async def test_rollback_after_a_failed_rollback_goes_to_what_was_good_and_stops_the_rest(tmp_path):
    """The retry sees what the ingress points at, not what is remembered, and leaves nothing running beside it."""
    memory = await established(tmp_path)
    memory.verdicts["smoke public", "feature/bad"] = Verdict.FAIL
    original = memory.point

    async def stuck(slot):
        if slot is not None and slot.release_id == "run-0001":
            raise StepFailed("the file cannot be written")
        await original(slot)

    memory.point = stuck
    assert (await memory.drive().rollout(BAD)).exit_code == 5
    assert memory.serving_release() == "run-0002"
    memory.point = original
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, result.record["release"], result.record["from_release"]) == (0, "run-0001", "run-0002")
    assert memory.serving_release() == "run-0001"
    assert set(memory.running.values()) == {"run-0001"}
    assert "start" in memory.log


async def test_a_slot_that_a_failed_rollback_left_is_stopped_by_the_next_good_run(tmp_path):
    """The ingress did come back, so the retry has nobody to leave; the bad slot is swept away and said."""
    memory, _ = await half_way(tmp_path)
    memory.verdicts.clear()
    await memory.drive().unlock(ASKED, "the probe was wrong")
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    assert set(memory.running.values()) == {memory.serving_release()} == {"run-0004"}
    assert any("stopped shop-test-18101, which run run-0002 left running" in r.text for r in memory.reports)


async def test_what_half_runs_of_a_slot_that_was_left_is_stopped_too(tmp_path):
    """One crashed container makes a slot not alive; what else of it runs is stopped all the same, and told once."""
    memory, _ = await half_way(tmp_path)
    memory.verdicts.clear()
    memory.crippled.add("shop-test-18101")
    await memory.drive().unlock(ASKED, "the probe was wrong")
    for _ in range(2):
        assert (await memory.drive().rollout(ASKED)).exit_code == 0
    assert set(memory.running.values()) == {memory.serving_release()}
    assert sum("nothing of shop-test-18101, which run run-0002 left" in r.text for r in memory.reports) == 1


async def test_rollback_from_a_dead_release_goes_to_the_one_before(tmp_path):
    """What should serve and does not run is left, and is not gone back to later."""
    memory = await established(tmp_path, "feature/good")
    memory.running.clear()
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.serving_release()) == (0, "run-0001")
    assert result.record["from_release"] == "run-0002"
    assert "run-0002" in Ledger(memory.paths.ledger).rolled_back_from()


async def test_rollback_starts_a_dead_release_again_where_there_is_no_other(tmp_path):
    """The only good release is better than none; it is not marked as left."""
    memory = await established(tmp_path)
    memory.running.clear()
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.serving_release()) == (0, "run-0001")
    assert Ledger(memory.paths.ledger).rolled_back_from() == set()
    assert set(memory.running.values()) == {"run-0001"}


async def test_rollback_to_a_release_that_does_not_start_either_keeps_what_serves(tmp_path):
    """The release that serves goes on serving when the one before it is dead on arrival."""
    memory = await established(tmp_path, "feature/good")
    memory.verdicts["ready", "main"] = Verdict.FAIL
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.serving_release()) == (1, "run-0002")
    assert "v1-feature/good" in result.world


async def test_rollback_where_nothing_ever_served_is_refused(tmp_path):
    """There is nothing to roll back to, and it is said; nothing is started."""
    memory = MemoryWorld(tmp_path)
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.running) == (1, {})
    assert "nothing to roll back to" in result.what


async def test_rollback_where_the_ingress_points_nowhere_goes_to_the_newest_good_release(tmp_path):
    """The warm slot is taken as it is: nothing is started twice."""
    memory = await established(tmp_path, "feature/good")
    memory.pointed = None
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.serving_release()) == (0, "run-0002")
    assert set(memory.running.values()) == {"run-0002"}


async def test_rollback_records_that_the_env_file_changed_since(tmp_path):
    """The release runs with the present values, and the record says that they are others."""
    memory = await established(tmp_path, "feature/good")
    memory.env_file = "another fingerprint"
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, result.record["env_changed"]) == (0, True)
    assert result.record["env_fingerprint"] == "another fingerprint"


@pytest.mark.parametrize("command", ["rollout", "rollback", "resume"])
async def test_a_damaged_ingress_file_is_refused_before_anything_is_begun(tmp_path, command):
    """A person looks at it first: no journal is begun, nothing is written over it."""
    memory = await established(tmp_path, "feature/good")

    async def damaged():
        raise StateCorrupted("the ingress file is damaged.")

    memory.current = damaged
    before = list(memory.served)
    with pytest.raises(StateCorrupted, match="ingress file"):
        await getattr(memory.drive(), command)(ASKED)
    assert memory.served == before
    assert all(record.ended for record in read_all(memory.paths.journal_dir, repair=False))


async def test_status_shows_the_lock_and_who_set_it(tmp_path):
    """Reason, run, owner and since when, in one line."""
    memory = await established(tmp_path, "feature/good")
    assert (await status_of(memory.world())).locked == ""
    await memory.drive().rollback(ASKED)
    locked = (await status_of(memory.world())).locked
    assert "ann@host rolled back to v1-main" in locked
    assert "run-0003" in locked
    assert "since 2030" in locked


async def test_a_world_that_cannot_be_asked_is_said_and_raises_nothing(tmp_path):
    """The true state of a failed rollback is then that it is not known."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    memory.verdicts["served-release", "main"] = Verdict.FAIL
    original = memory.alive
    runs = []

    async def silent_at_the_end(slot):
        runs.append(slot.unit)
        if any(State.RESTORING.value == report.step and report.status == "give_up" for report in memory.reports):
            raise Refused("the supervisor does not answer")
        return await original(slot)

    memory.alive = silent_at_the_end
    result = await memory.drive().rollout(BAD)
    assert result.exit_code == 5
    assert "the world could not be asked: the supervisor does not answer" in result.world
    assert runs


@pytest.mark.parametrize("step", ["smoke private", "smoke public"])
@pytest.mark.parametrize("mended", [True, False])
async def test_an_old_release_that_lost_a_part_is_still_gone_back_to(tmp_path, step, mended):
    """A crashed side container keeps nobody away from what answers: it is started again, or that is said (exit 4)."""
    memory = await established(tmp_path)
    (unit,) = memory.running
    memory.crippled.add(unit)
    if not mended:
        memory.broken[f"start {unit}"] = StepFailed("the cache does not come up")
    memory.verdicts[step, "feature/bad"] = Verdict.FAIL
    result = await memory.drive().rollout(BAD)
    assert memory.serving_release() == "run-0001"
    seen = step == "smoke public"
    assert result.exit_code == (1 if not seen else 3 if mended else 4)
    assert any("not everything of it runs" in report.text for report in memory.reports)
    if seen and not mended:
        reasons = [
            e.notes.get("reason", "") for r in read_all(memory.paths.journal_dir, repair=False) for e in r.entries
        ]
        assert any("the cache does not come up" in reason for reason in reasons)


async def test_a_worker_that_does_not_follow_users_back_is_no_failed_rollback(tmp_path):
    """Users are back on the old release: three tries at what may run only once, then degraded, and it says why."""
    memory = await established(tmp_path)
    (unit,) = memory.running
    back = f"hand over to run-0001 {unit.rpartition('-')[2]} from run-0002"
    memory.broken[back] = StepFailed("the worker does not come up")
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    result = await memory.drive().rollout(BAD)
    assert (result.outcome, result.exit_code) == (State.DEGRADED, 4)
    assert memory.serving_release() == "run-0001"
    assert memory.log.count(back) == 3


async def test_a_cold_rollback_starts_nothing_that_was_changed(tmp_path):
    """What was verified is not what lies there now: refused before anything is touched, and it says what to do."""
    memory = await established(tmp_path, "feature/good")
    memory.altered = "tree/app.py is another"
    started = memory.log.count("start")
    result = await memory.drive().rollback(ASKED)
    assert (result.outcome, result.exit_code) == (State.REFUSED, 1)
    assert "was changed after it was verified: tree/app.py is another" in result.what
    assert "sluice rollout --env test --service shop --branch main" in result.next
    assert memory.log.count("start") == started
    assert memory.serving_release() == "run-0002"
    assert "sluice rollback --env test --service shop --override" in result.next
    memory.altered = ""
    assert (await memory.drive().rollback(ASKED)).exit_code == 0
    assert memory.serving_release() == "run-0001"


async def test_a_changed_release_is_gone_back_to_when_somebody_says_why(tmp_path):
    """Users may need it at once: it goes, and who said why is a ledger record of its own."""
    memory = await established(tmp_path, "feature/good")
    memory.altered = "tree/cache/index is another"
    asked = replace(ASKED, override="the service fills tree/cache itself")
    assert (await memory.drive().rollback(asked)).exit_code == 0
    assert memory.serving_release() == "run-0001"
    records = Ledger(memory.paths.ledger).records()
    (said,) = [one for one in records if one["type"] == "override"]
    assert (said["reason"], said["overridden"]) == ("the service fills tree/cache itself", "run-0001")
    assert said["run"] == records[-1]["run"]


@pytest.mark.parametrize("entry", ["intent:starting", "observed:starting", "observed:switching"])
async def test_who_had_a_changed_release_started_is_known_after_a_kill_too(tmp_path, entry):
    """It may have run by then: whoever recovers it, the override is recorded once, under the name of who gave it."""
    memory = await established(tmp_path, "feature/good")
    memory.altered = "tree/cache/index is another"
    asked = replace(ASKED, override="the service fills tree/cache itself")
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollback(asked)
    await memory.drive().resume(Request("carl@host", "flag"))
    records = [one for one in Ledger(memory.paths.ledger).records() if one["type"] == "override"]
    assert [(one["owner"], one["overridden"]) for one in records] == [(ASKED.owner, "run-0001")]


async def test_a_cold_rollback_believes_the_ledger_and_not_the_release(tmp_path):
    """Who changes an artifact can change the digest in the release's file beside it."""
    memory = await established(tmp_path, "feature/good")
    release = memory.releases.get("run-0001")
    changed = msgspec.structs.replace(release.artifact, digests={"a": "b", "content:own": "of what lies there now"})
    memory.releases.save(msgspec.structs.replace(release, artifact=changed))
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.serving_release()) == (1, "run-0002")
    assert "was recorded in run run-0001" in result.what


def planted(memory, **changes):
    """Somebody who can write the state folder puts a release there, newer than any and said to be verified."""
    release = msgspec.structs.replace(memory.releases.get("run-0001"), id="run-0009", **changes)
    memory.releases.save(release)
    return release


async def test_a_release_that_no_run_left_is_not_gone_back_to(tmp_path):
    """It lies there, verified by its own word; the ledger does not know it, and one that it knows is taken."""
    memory = await established(tmp_path, "feature/good")
    planted(memory, verified=True)
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.serving_release()) == (0, "run-0001")


async def test_where_only_such_a_release_lies_there_somebody_has_to_say_why(tmp_path):
    """Refused by name; with a reason it goes, and that is a record of its own."""
    memory = await established(tmp_path, "feature/good")
    planted(memory)
    memory.paths.releases_dir.joinpath("run-0001.json").unlink()
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.serving_release()) == (1, "run-0002")
    assert "the ledger has no run that left the release run-0009" in result.what
    assert "--override" in result.next
    result = await memory.drive().rollback(replace(ASKED, override="the ledger was begun anew on Monday"))
    assert (result.exit_code, memory.serving_release()) == (0, "run-0009")
    (record,) = [one for one in Ledger(memory.paths.ledger).records() if one["type"] == "override"]
    assert (record["overridden"], record["reason"]) == ("run-0009", "the ledger was begun anew on Monday")


async def test_a_release_whose_command_was_changed_is_not_started(tmp_path):
    """What it runs is a part of what was recorded, not only what it runs from."""
    memory = await established(tmp_path, "feature/good")
    release = memory.releases.get("run-0001")
    run = msgspec.structs.replace(release.spec.run, command=("evil",))
    memory.releases.save(msgspec.structs.replace(release, spec=msgspec.structs.replace(release.spec, run=run)))
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.serving_release()) == (1, "run-0002")
    assert "says something else than was recorded" in result.what


async def test_a_warm_rollback_starts_nothing_and_so_reads_nothing(tmp_path):
    """Its slot runs what was verified; what lies on disk by now is not what serves."""
    memory = await established(tmp_path, "feature/good")
    memory.pointed = None
    memory.altered = "tree/app.py is another"
    memory.log.clear()
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, memory.serving_release()) == (0, "run-0002")
    assert [line for line in memory.log if line.startswith("look at")] == []


async def test_users_come_back_to_an_old_release_that_was_changed_and_are_told(tmp_path):
    """It died in the run and is started again: better than nobody to serve them, and never as if nothing were."""
    memory = await established(tmp_path)
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    original = memory.watch

    async def dies(*given):
        memory.running.pop("shop-test-18100")
        memory.altered = "tree/app.py is another"
        return await original(*given)

    memory.watch = dies
    result = await memory.drive().rollout(BAD)
    assert (result.outcome, result.exit_code, memory.serving_release()) == (State.DEGRADED, 4, "run-0001")
    journal = str(read_all(memory.paths.journal_dir, repair=False)[-1])
    assert "its artifact was changed: tree/app.py is another" in journal


async def test_a_clock_that_was_set_back_changes_nothing_about_which_release_came_last(tmp_path):
    """A run's id has the clock's time; the ledger tells which release came after which, to go back to and to keep."""
    memory = MemoryWorld(tmp_path, keep=2)
    memory.branches |= {"a", "b", "c"}
    ids = iter(["run-1200", "run-0800", "run-0900", "run-1000"])
    drive = memory.drive()
    drive._world = replace(memory.world(), new_run_id=lambda: next(ids))
    for branch in ("a", "b", "c"):
        assert (await drive.rollout(Request("ann@host", "test", branch))).exit_code == 0
    assert "run-0800" in memory.kept
    result = await drive.rollback(ASKED)
    assert (result.exit_code, result.record["release"]) == (0, "run-0800")
