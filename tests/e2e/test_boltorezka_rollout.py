"""Boltorezka under 200 requests a second and 200 WebSockets, while it is rolled out, fails to be, and goes back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import bad_releases as bad
import pytest
from crowd import DRAINED, REQUESTS_PER_SECOND, SOCKETS, Seen, crowd
from images import Images
from rooms_world import Ran, RoomsWorld

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

PORTS = {"process": 23700, "compose": 23800}
BACK_S = 2.0  # every socket, after it was cut
COLD_S = 20.0  # the command typed -> the release before serves and is verified
WARM_S = 5.0  # a criterion broken -> users are with the old release


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoomsWorld]:
    """Boltorezka as processes of this machine."""
    yield from served(RoomsWorld(tmp_path_factory.mktemp("process"), "process", PORTS["process"], None))


@pytest.fixture(scope="module")
def in_containers(tmp_path_factory: pytest.TempPathFactory, images: Images) -> Iterator[RoomsWorld]:
    """Boltorezka in containers."""
    yield from served(RoomsWorld(tmp_path_factory.mktemp("compose"), "compose", PORTS["compose"], images))


def served(world: RoomsWorld) -> Iterator[RoomsWorld]:
    """The world, torn down at the end."""
    try:
        yield world
    finally:
        world.stop()


@pytest.fixture(params=["process", "compose"])
def world(request: pytest.FixtureRequest) -> RoomsWorld:
    """Each runtime in turn."""
    found: RoomsWorld = request.getfixturevalue({"process": "in_processes", "compose": "in_containers"}[request.param])
    return found


async def good_release_serves(world: RoomsWorld) -> str:
    """Roll out a good release where none serves yet; the commit that serves."""
    if not (world.state / world.service / "envs/test/ledger.jsonl").exists():
        world.branch("feature/first", bad.note("The first."))
        ended(await world.rollout("feature/first"), 0)
    if json.loads((await world.sluice("status", "--json")).text)["locked"]:
        await unlocked(world)  # a test before this one failed
    return await world.served()


def ended(ran: Ran, code: int) -> Ran:
    """The command ended with this exit code."""
    assert ran.code == code, ran.text
    return ran


async def unlocked(world: RoomsWorld) -> None:
    """A rollback locks; the test has looked."""
    ended(await world.sluice("unlock", "--reason", "a test looked at it"), 0)


def said(world: RoomsWorld, phase: str, ran: Ran) -> dict[str, float]:
    """Print how long a run and its steps took; the steps."""
    steps = world.steps()
    print(f"  {phase} ({world.runtime}): {ran.seconds:.1f} s;", *(f"{name} {took:.1f}" for name, took in steps.items()))
    return steps


def nobody_noticed(seen: Seen) -> None:
    """No request failed, no message was lost or doubled, and everybody who was cut came back at once."""
    print(seen.report())
    assert seen.rate > 0.95 * REQUESTS_PER_SECOND
    assert seen.failures == []
    assert seen.lost() == []
    assert seen.doubled() == []
    assert [cut for cut in seen.cuts if cut.seconds > BACK_S] == []
    assert {cut.code for cut in seen.cuts} <= {DRAINED}, "a socket was cut without a word"


async def test_rollout_and_both_rollbacks_under_load(world: RoomsWorld) -> None:
    """A rollout, a cold rollback somebody types and a warm one that a broken criterion starts go unnoticed."""
    first = await good_release_serves(world)
    second = world.branch("feature/second", bad.note("The second."))
    world.branch("feature/forgets", bad.fails_in_the_watch())
    async with crowd(world.url, world.sso) as users:
        seen = users.seen
        seen.phase = "rollout"
        said(world, seen.phase, ended(await world.rollout("feature/second"), 0))
        assert await world.served() == second
        seen.phase = "cold rollback"
        ran = ended(await world.sluice("rollback"), 0)
        steps = said(world, seen.phase, ran)
        cold = sum(took for name, took in steps.items() if name not in AFTER_VERIFIED)
        assert await world.served() == first
        await unlocked(world)
        seen.phase = "warm rollback"
        ran = ended(await world.rollout("feature/forgets"), 3)
        verified = said(world, seen.phase, ran)["restoring"]
        broken = next(at for entry, state, at in world.journal() if (entry, state) == ("observed", "watching"))
        assert await world.served() == first
        await unlocked(world)
        seen.phase = "after"
    warm = next(at for at, sha in reversed(seen.served) if sha == first) - broken.timestamp()
    print(f"  cold: verified after {cold:.1f} s; warm: serves after {warm:.1f} s, verified after {verified:.1f} s")
    nobody_noticed(seen)
    assert seen.healed > 0, "the forgetful release forgot nothing: the watch broke for another reason"
    for phase in ("rollout", "cold rollback", "warm rollback"):
        assert sum(cut.phase == phase for cut in seen.cuts) >= SOCKETS, f"{phase}: the sockets never moved"
    assert cold <= COLD_S
    assert 0 <= warm <= WARM_S
    # Verified is the whole smoke, calls included, beside the load on the same cores: measured here, judged by bench/.
    assert verified <= COLD_S


# Of a rollback: what comes after the old release serves and is verified.
AFTER_VERIFIED = {"draining", "watching", "retiring", "recording"}

FAILURES = {
    "building": (bad.does_not_build, 1),
    "migrating": (bad.does_not_migrate, 1),
    "starting": (bad.is_never_ready, 1),
    "smoking_private": (bad.fails_in_private, 1),
    "smoking_public": (bad.fails_in_public, 3),
}


async def test_a_rollout_that_fails_at_any_step_goes_unnoticed(in_containers: RoomsWorld) -> None:
    """Build, migration, start, private and public smoke each fail: the old release serves on, nobody notices."""
    world = in_containers
    first = await good_release_serves(world)
    for step, (change, _) in FAILURES.items():
        world.branch(f"feature/{step.replace('_', '-')}", change())
    async with crowd(world.url, world.sso) as users:
        seen = users.seen
        for step, (_, code) in FAILURES.items():
            seen.phase = f"fails {step}"
            ran = ended(await world.rollout(f"feature/{step.replace('_', '-')}"), code)
            steps = said(world, seen.phase, ran)
            assert [name for name in steps if name not in UNDOING][-1] == step, ran.text
            assert await world.served() == first
            if code == 3:
                await unlocked(world)
    nobody_noticed(seen)


UNDOING = {"discarding", "restoring", "cleaning"}
