"""What was planned and confirmed is looked at again: before the migration, before the start, before users see it."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import msgspec
import pytest

from sluice.drive import Request
from sluice.drive.promotion import exceptions_of, plan_promotion
from sluice.engine import State
from sluice.journal import Entry, read_all
from sluice.ledger import Ledger
from sluice.model.errors import OriginUnreachable, StateCorrupted
from sluice.model.policy import FreezeWindow, Role
from sluice.model.promotion import document, expiry
from sluice.model.verdict import Finding, Verdict
from sluice.testing import ASKED, Killed, MemoryWorld, killer

from .pair import ASK, MAIN, later


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


@pytest.mark.parametrize("what", ["away", "frozen"])
async def test_what_is_refused_before_the_migration_uses_up_no_signature(pair, what):
    """The origin is away when the build has ended, or a window has begun: the same command goes when that is over."""
    window = FreezeWindow(name="evening", start="00:20", end="00:30")  # the clock of these tests begins at midnight
    gates = msgspec.structs.replace(pair.prod.specs["main"].gates, freeze=(window,))
    pair.prod.specs["main"] = msgspec.structs.replace(pair.prod.specs["main"], gates=gates)
    await pair.signed("bob")
    if what == "away":
        meanwhile(pair.prod, "build", lambda: pair.prod.broken.update(fetch=OriginUnreachable("away")))
    else:
        meanwhile(pair.prod, "build", lambda: later(pair, 1300))
    await pair.denied("OriginUnreachable" if what == "away" else "FreezeWindow")
    assert not Ledger(pair.prod.paths.ledger).records()[-1]["touched"]
    pair.prod.broken.pop("fetch", None)
    later(pair, 900)
    pair.prod.__dict__.pop("build")
    result = await pair.promote()
    assert result.exit_code == 0, result.what


async def test_who_waits_for_the_second_look_may_interrupt(pair):
    """An origin that does not answer holds nobody: nothing is announced yet, and the signature still holds."""
    await pair.signed("bob")
    asked, original = asyncio.Event(), pair.prod.fetch

    async def hanging():
        asked.set()
        await asyncio.Event().wait()

    meanwhile(pair.prod, "build", lambda: setattr(pair.prod, "fetch", hanging))
    drive = pair.prod.drive()
    promotion = asyncio.create_task(drive.promote(ASK))
    await asked.wait()
    drive.interrupt()
    result = await promotion
    assert (result.outcome, result.record["touched"]) == (State.REFUSED, False)
    pair.prod.__dict__.pop("build")
    pair.prod.fetch = original
    assert (await pair.promote()).exit_code == 0


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


def edited(path, change):
    """Somebody who can write the state folder edits a journal's plan; its checksums are anybody's to compute."""
    lines = []
    for line in path.read_bytes().splitlines():
        told = json.loads(line)
        if told["facts"].get("plan"):
            change(told["facts"]["plan"])
        told.pop("sum")
        lines.append(Entry(**told).line())
    path.write_bytes(b"\n".join([*lines, b""]))


async def half_way(tmp_path):
    """A rollout was killed after the switch, and the old release died too: the recovery has to start it again."""
    memory = MemoryWorld(tmp_path)
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    with pytest.raises(Killed):
        await memory.drive(killer("observed:switching")).rollout(dataclasses.replace(ASKED, branch="feature/good"))
    old = next(unit for unit, release in memory.running.items() if release == "run-0001")
    memory.running.pop(old)
    return memory


async def test_a_recovery_starts_the_old_release_as_its_file_says(tmp_path):
    """The journal says another command: what was recorded is started, with the environment's secrets."""
    memory = await half_way(tmp_path)
    path = max(memory.paths.journal_dir.glob("*.jsonl"))
    edited(path, lambda plan: plan["old_release"]["spec"]["run"].update(command=["evil"]))
    original, started = memory.start, []

    async def start(release, slot):
        started.append(release)
        await original(release, slot)

    memory.start = start
    await memory.drive().resume(ASKED)
    assert [one.id for one in started] == ["run-0001"]
    assert started[0].spec.run.command == memory.releases.get("run-0001").spec.run.command != ("evil",)


async def test_a_recovery_does_not_start_what_was_changed(tmp_path):
    """Its file says another command than the ledger vouches for: a person looks, and nothing of it runs."""
    memory = await half_way(tmp_path)
    release = memory.releases.get("run-0001")
    run = msgspec.structs.replace(release.spec.run, command=("evil",))
    memory.releases.save(msgspec.structs.replace(release, spec=msgspec.structs.replace(release.spec, run=run)))
    (result,) = await memory.drive().resume(ASKED)
    assert result.outcome is State.ROLLBACK_FAILED
    assert "run-0001 is not started again" in str(read_all(memory.paths.journal_dir, repair=False)[-1])
    assert "run-0001" not in memory.running.values()


async def test_a_journal_of_another_version_is_named(tmp_path):
    """It is damaged for this one: nothing is begun, and nobody is told of an internal error."""
    memory = await half_way(tmp_path)
    edited(max(memory.paths.journal_dir.glob("*.jsonl")), lambda plan: plan.update(steps={}))
    with pytest.raises(StateCorrupted, match="another version wrote it"):
        await memory.drive().resume(ASKED)


async def test_a_reason_that_holds_a_secret_makes_one_plan(pair):
    """Whoever prints the text, whoever signs it and whoever promotes see the same plan, with the same words hidden."""
    waiving = dataclasses.replace(ASK, waivers={"freeze": "sentinel-secret-value ran out"})
    world = pair.prod.world()
    shown = await plan_promotion(world, "", lambda _text: None, exceptions_of(world, waiving.waivers, ""))
    signed = []

    async def sign(plan):
        signed.append(plan.hash)
        text = document(("shop", "prod"), plan.hash, plan.promotion, expiry(pair.prod.clock.now(), 3600))
        return text, pair.tools.sign(text, "bob")

    await pair.prod.drive().sign(waiving, Role.APPROVE, sign)
    result = await pair.prod.drive().promote(waiving)
    assert (result.exit_code, {shown.hash, result.record["plan"], *signed}) == (0, {shown.hash}), result.what
    assert "sentinel" not in str(shown.promotion.exceptions)
