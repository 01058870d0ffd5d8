"""What was planned and confirmed is looked at again: before the migration, before the start, before users see it."""

from __future__ import annotations

import dataclasses

import pytest

from sluice.drive import Request
from sluice.engine import State
from sluice.ledger import Ledger
from sluice.model.errors import OriginUnreachable, StateCorrupted
from sluice.model.verdict import Finding, Verdict
from sluice.testing import ASKED, MemoryWorld

from .pair import ASK, MAIN


def meanwhile(world, port, happens):
    """While this port of the world is at work something else happens."""
    original = getattr(world, port)

    async def changed(*given, **named):
        found = await original(*given, **named)
        result = happens()
        if result is not None:
            await result
        return found

    setattr(world, port, changed)


async def stopped(pair, code):
    """The promotion ends with this code before any user saw it; 7: nothing served before either."""
    result = await pair.promote()
    assert (result.record["refusal"], pair.prod.pointed) == (code, None), result.what
    assert result.exit_code in {1, 7}
    assert pair.prod.running == {}


@pytest.mark.parametrize("port", ["migrate", "start", "ready"])
@pytest.mark.parametrize("kind", ["rollout", "promotion", "rollback"])
async def test_an_env_file_that_changes_before_it_serves_serves_nobody(pair, kind, port):
    """The slot read, or may have read, another one than was planned, signed and is written into the record."""
    world = pair.test if kind != "promotion" else pair.prod
    if kind == "rollback":
        if port == "migrate":
            return  # a rollback has no migration
        assert (await world.drive().rollout(Request("ann@host", "test", "feature/good"))).exit_code == 0
    await pair.signed("bob")
    before = world.pointed
    meanwhile(world, port, lambda: setattr(world, "env_file", "another"))
    drive = world.drive()
    asked = {"rollout": Request("ann@host", "test", "feature/good"), "promotion": ASK, "rollback": ASK}[kind]
    result = await {"rollout": drive.rollout, "promotion": drive.promote, "rollback": drive.rollback}[kind](asked)
    assert (result.record["refusal"], world.pointed) == ("EnvChanged", before), result
    assert result.exit_code in {1, 7}
    assert [unit for unit in world.running if world.running[unit] == result.run] == []


@pytest.mark.parametrize("port", ["migrate", "ready"])
async def test_an_artifact_that_changes_before_it_serves_serves_nobody(pair, port):
    """It was the very one when it was planned and when it was taken; a migration later it is not."""
    await pair.signed("bob")
    meanwhile(pair.prod, port, lambda: setattr(pair.prod, "altered", "tree/server.py is another"))
    await stopped(pair, "ArtifactChanged")


@pytest.mark.parametrize("port", ["build", "migrate", "smoke"])
async def test_what_fails_in_test_meanwhile_does_not_reach_prod(pair, port):
    """Somebody rolls the same tree out to test again while it is promoted, and it fails there."""
    await pair.signed("bob")
    pair.test.verdicts["watch", "main"] = Verdict.FAIL
    again = dataclasses.replace(MAIN, override="try")
    meanwhile(pair.prod, port, lambda: pair.test.drive().rollout(again))
    await stopped(pair, "NewestAttemptFailed")


async def test_what_test_leaves_meanwhile_does_not_reach_prod(pair):
    """Somebody rolls back from it in test while it is promoted."""
    assert (await pair.test.drive().rollout(Request("ann@host", "test", "feature/good"))).exit_code == 0
    assert (await pair.test.drive().rollout(MAIN)).exit_code == 0
    await pair.signed("bob")
    meanwhile(pair.prod, "ready", lambda: pair.test.drive().rollback(ASK))
    await stopped(pair, "NewestAttemptFailed")


async def test_another_proof_is_not_the_one_that_was_signed(pair):
    """The same tree was proven anew meanwhile: good, and something else than the text says."""
    await pair.signed("bob")
    meanwhile(pair.prod, "migrate", lambda: pair.test.drive().rollout(MAIN))
    await stopped(pair, "PlanAltered")


async def test_a_branch_that_is_gone_has_moved(pair):
    """Main was removed from the origin while the promotion was confirmed."""
    await pair.signed("bob")
    meanwhile(pair.prod, "gates", lambda: pair.prod.branches.discard("main"))
    result = await pair.denied("RefsMoved")
    assert "is gone from the origin" in result.what


@pytest.mark.parametrize(
    ("error", "code"), [(OriginUnreachable("away"), "OriginUnreachable"), (StateCorrupted("torn"), "StateCorrupted")]
)
async def test_every_refusal_has_a_code(tmp_path, error, code):
    """Also the ones that are nobody's decision: the record says what stood in the way."""
    memory = MemoryWorld(tmp_path)
    memory.broken["fetch"] = error
    result = await memory.drive().rollout(ASKED)
    assert (result.outcome, result.record["refusal"]) == (State.REFUSED, code)
    assert Ledger(memory.paths.ledger).records()[-1]["refusal"] == code


@pytest.mark.parametrize(
    ("metrics", "code"), [({}, "disk"), ({"codes": ["DiskFull", "x"]}, "DiskFull"), ({"code": "Full"}, "Full")]
)
async def test_a_gate_that_fails_is_the_code(tmp_path, metrics, code):
    """Its own code, or else its name; and of several the one whose sentence is the reason."""
    memory = MemoryWorld(tmp_path)

    async def gates(*_given):
        unsure = Finding("slow", Verdict.ERROR, detail="no answer", metrics={"code": "Slow"})
        return [unsure, Finding("disk", Verdict.FAIL, detail="no room", metrics=metrics)]

    memory.gates = gates
    result = await memory.drive().rollout(ASKED)
    assert result.record["refusal"] == code
    assert "disk: no room" in result.record["reason"]
