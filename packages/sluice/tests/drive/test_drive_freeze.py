"""Freezing an environment: recorded like a lock, judged by the gate, and no obstacle to a rollback."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from sluice.drive.status import status_of
from sluice.ledger import Ledger
from sluice.lock import Holder, hold
from sluice.model.errors import ExitCode, Locked, Refused, StateCorrupted, UsageError
from sluice.model.policy import FreezeWindow, GatesSpec
from sluice.testing import ASKED, SPEC, MemoryWorld, Request

MAIN = Request("ann@host", "test", "main")


@pytest.fixture
async def memory(tmp_path):
    """A world where `main` serves and another release can be gone back to."""
    made = MemoryWorld(tmp_path)
    for asked in (ASKED, MAIN):
        assert (await made.drive().rollout(asked)).exit_code == 0
    return made


def ahead(memory, hours=2.0):
    """A time to come, in another zone than UTC."""
    now = dt.datetime.fromisoformat(memory.clock.now())
    return (now + dt.timedelta(hours=hours)).astimezone(dt.timezone(dt.timedelta(hours=3)))


async def test_a_freeze_is_recorded_with_owner_reason_and_end(memory):
    """A record of its own in UTC, shown in status until its time or until it is lifted."""
    until = ahead(memory)
    record = await memory.drive().freeze(ASKED, until, " holidays: sentinel-secret-value ")
    assert (record["type"], record["owner"], record["reason"]) == ("freeze", "ann@host", "holidays: [redacted]")
    assert dt.datetime.fromisoformat(record["until"]) == until.replace(microsecond=0)
    assert record["until"].endswith("Z")
    assert record["outcome"] == f"frozen until {record['until']}"
    (told,) = (await status_of(memory.world())).frozen
    assert "holidays: [redacted] (ann@host" in told
    memory.clock.elapsed += 2 * 3600
    assert (await status_of(memory.world())).frozen == []
    assert Ledger(memory.paths.ledger).verify().ok


async def test_it_is_lifted_with_a_reason_once(memory):
    """All freezes at once; what is not frozen is not lifted, nor what is over."""
    with pytest.raises(Refused, match="not frozen"):
        await memory.drive().unfreeze(ASKED, "just to be sure")
    await memory.drive().freeze(ASKED, ahead(memory), "one")
    await memory.drive().freeze(ASKED, ahead(memory, 3), "two")
    assert len((await status_of(memory.world())).frozen) == 2
    record = await memory.drive().unfreeze(ASKED, "it is over")
    assert (record["type"], record["outcome"], record["reason"]) == ("unfreeze", "unfrozen", "it is over")
    assert (await status_of(memory.world())).frozen == []
    with pytest.raises(Refused, match="not frozen"):
        await memory.drive().unfreeze(ASKED, "again")


async def test_it_needs_a_reason_and_a_time_to_come(memory):
    """Nothing is recorded otherwise."""
    with pytest.raises(UsageError, match="needs a reason"):
        await memory.drive().freeze(ASKED, ahead(memory), " ")
    with pytest.raises(UsageError, match="is over"):
        await memory.drive().freeze(ASKED, ahead(memory, 0), "too late")
    assert {one["type"] for one in Ledger(memory.paths.ledger).records()} == {"rollout"}


async def test_a_freeze_is_no_lock(memory):
    """A rollback goes, and what the freeze stops is the gate's to say: nothing is locked by it."""
    await memory.drive().freeze(ASKED, ahead(memory), "holidays")
    assert Ledger(memory.paths.ledger).closed() is None
    back = await memory.drive().rollback(ASKED)
    assert back.exit_code == 0
    assert len((await status_of(memory.world())).frozen) == 1


async def test_it_waits_for_nobody(memory):
    """While a run holds the environment it is refused, as a lock is."""
    holder = Holder("bob@host", "rollout", memory.clock.now(), 1, "run-x")
    with hold(memory.paths.lock, memory.paths.lock_info, holder), pytest.raises(Locked, match="bob@host"):
        await memory.drive().freeze(ASKED, ahead(memory), "holidays")


async def test_a_damaged_ledger_takes_no_freeze_and_loses_none(memory):
    """Who takes the freeze out of the ledger damages it, and nothing is let in."""
    await memory.drive().freeze(ASKED, ahead(memory), "holidays")
    raw = memory.paths.ledger.read_bytes()
    memory.paths.ledger.write_bytes(raw.replace(b'"freeze"', b'"freece"'))
    for act in (memory.drive().rollout(MAIN), memory.drive().unfreeze(ASKED, "open")):
        with pytest.raises(StateCorrupted):
            await act
    assert (await status_of(memory.world())).damaged


WINDOW = FreezeWindow(name="evening", start="00:30", end="06:00")  # the clock of these tests begins at midnight


@pytest.mark.parametrize(
    ("step", "exit_code", "waivers"),
    [
        ("build", ExitCode.REFUSED, {}),
        ("build", ExitCode.DONE, {"freeze": "an outage"}),
        ("migrate", ExitCode.DONE, {}),
    ],
)
async def test_a_window_that_begins_meanwhile_stops_what_touched_nothing(tmp_path, step, exit_code, waivers):
    """Asked again after the build; whatever began to touch the environment is finished, and a waiver holds."""
    memory = MemoryWorld(tmp_path)
    memory.specs["main"] = msgspec.structs.replace(SPEC, gates=GatesSpec(freeze=(WINDOW,)))
    original = getattr(memory, step)

    async def slow(*arguments):
        memory.clock.elapsed += 3600
        return await original(*arguments)

    setattr(memory, step, slow)
    result = await memory.drive().rollout(Request("ann@host", "test", "feature/good", waivers=waivers))
    assert result.exit_code == exit_code
    assert memory.served == [] or exit_code == ExitCode.DONE
    if exit_code == ExitCode.REFUSED:
        assert memory.migrated == []
        assert result.record["refusal"] == "FreezeWindow"
        assert "It began while this was built: Frozen by 'evening'" in f"{result.record}"
