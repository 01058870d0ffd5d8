"""Death of the tool after every entry of the journal, then the next command: the heart of Sluice."""

from __future__ import annotations

import pytest

from sluice.engine import FORWARD, PASSED_OVER, Kind, State
from sluice.journal import read_all
from sluice.ledger import Ledger
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, Killed, MemoryWorld, Request, killer

ENTRIES = [
    "begin",
    *(f"{kind}:{state}" for state in FORWARD[:-1] for kind in ("intent", "observed")),
    "end",
]
UNDO_ENTRIES = [
    (fault, f"{kind}:{state}")
    for fault, states in (
        ("smoke private", (State.DISCARDING,)),
        ("smoke public", (State.RESTORING, State.CLEANING)),
    )
    for state in states
    for kind in ("intent", "observed")
]
BAD = Request("ann@host", "test", "feature/bad")


async def established(folder):
    """A world where one good release serves already."""
    memory = MemoryWorld(folder)
    result = await memory.drive().rollout(Request("ann@host", "test", "main"))
    assert result.exit_code == 0
    return memory, result.run


def settled(memory, *, serving):
    """One good release serves, nothing else runs, the ledger verifies, every journal ended and was recorded once."""
    assert memory.serving_release() in serving
    assert set(memory.running.values()) == {memory.serving_release()}
    held = memory.releases.serving()
    assert held is not None
    assert held[0].id == memory.serving_release()
    assert held[0].verified
    records = read_all(memory.paths.journal_dir, repair=False)
    assert all(record.ended for record in records)
    ledger = Ledger(memory.paths.ledger)
    assert ledger.verify({record.run: record.recorded for record in records}).ok
    runs = [(record["type"], record["run"]) for record in ledger.records()]
    assert len(runs) == len(set(runs))
    assert len(memory.migrated) == len(set(memory.migrated))


@pytest.mark.parametrize("entry", ENTRIES)
async def test_a_killed_rollout_is_recovered_by_resume(tmp_path, entry):
    """Killed anywhere, `resume` leaves exactly one good release serving, and the audit trail whole."""
    memory, first = await established(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollout(ASKED)
    results = await memory.drive().resume(ASKED)
    assert len(results) == (0 if entry == "end" else 1)
    settled(memory, serving={first, "run-0002"})
    if results:
        recovered = [r for r in Ledger(memory.paths.ledger).records() if r["type"] == "recovery"]
        assert [r["run"] for r in recovered] == ["run-0002"]
        finished = entry.partition(":")[2] in {"retiring", "recording"} or entry == "observed:watching"
        assert results[0].outcome.value == ("done" if finished else results[0].outcome.value)
        assert (memory.serving_release() == "run-0002") is finished


@pytest.mark.parametrize("entry", ENTRIES)
async def test_the_next_rollout_recovers_first_and_then_does_its_own_work(tmp_path, entry):
    """A new command never builds on an unfinished run: it settles that one, then goes its own way."""
    memory, _ = await established(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollout(ASKED)
    result = await memory.drive().rollout(ASKED)
    assert result.exit_code == 0
    settled(memory, serving={"run-0003"})


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if State(e.partition(":")[2] or "done") not in PASSED_OVER[Kind.ROLLBACK]]
)
async def test_a_killed_rollback_is_recovered(tmp_path, entry):
    """A rollback that dies anywhere leaves one good release serving too."""
    memory, first = await established(tmp_path)
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollback(ASKED)
    await memory.drive().resume(ASKED)
    settled(memory, serving={first, "run-0002"})


@pytest.mark.parametrize(("fault", "entry"), UNDO_ENTRIES)
async def test_a_kill_during_an_undo_is_recovered(tmp_path, fault, entry):
    """An undo that dies is done again, and the release it blamed stays blamed."""
    memory, first = await established(tmp_path)
    memory.verdicts[fault, "feature/bad"] = Verdict.FAIL
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollout(BAD)
    (result,) = await memory.drive().resume(ASKED)
    settled(memory, serving={first})
    assert result.record["bad_release"]
    assert result.exit_code == (1 if fault == "smoke private" else 3)


@pytest.mark.parametrize("entry", ENTRIES)
async def test_a_killed_recovery_is_recovered_again(tmp_path, entry):
    """Death of the recovery itself, after its first entry, changes nothing about the end."""
    memory, first = await established(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollout(ASKED)
    deaths = []

    def die_once(name):
        if not deaths:
            deaths.append(name)
            raise Killed(name)

    if entry != "end":
        with pytest.raises(Killed):
            await memory.drive(die_once).resume(ASKED)
    await memory.drive().resume(ASKED)
    settled(memory, serving={first, "run-0002"})


@pytest.mark.parametrize("entry", ENTRIES[:-1])
async def test_a_killed_first_rollout_leaves_no_half_release(tmp_path, entry):
    """With nothing to go back to, either the new release is finished or nothing runs and nothing is pointed at."""
    memory = MemoryWorld(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollout(ASKED)
    (result,) = await memory.drive().resume(ASKED)
    if result.exit_code == 0:
        settled(memory, serving={"run-0001"})
    else:
        assert result.exit_code in {1, 7}
        assert memory.running == {}
        assert memory.pointed is None
