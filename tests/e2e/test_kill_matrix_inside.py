"""SIGKILL of Sluice at every change inside the steps that matter, where releases are containers."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator

import pytest
from kill_matrix import Stage, end
from settled import Before, other

from sluice.engine import UNSTOPPABLE, State

pytestmark = pytest.mark.e2e

PORT = 19290
INSIDE = (State.STARTING, State.SWITCHING, State.RETIRING)


@pytest.fixture(scope="module")
def stage(images, tmp_path_factory) -> Iterator[Stage]:
    """One for all cases."""
    made = Stage("compose", tmp_path_factory.mktemp("matrix"), images.python, PORT)
    yield made
    made.stop()


@pytest.mark.parametrize("step", INSIDE)
def test_a_run_killed_at_every_change_inside_a_step(stage, step):
    """Between any two calls of the engine, with Compose half-way, beside a file just put in place."""
    for number in itertools.count(1):
        world = stage.world()
        before, old, branch = Before(world), world.served()[0], other(world)
        finishes = step in UNSTOPPABLE
        command = ("rollout", "--branch", branch) if finishes else ("rollback",)
        done = world.run(*command, drill=("kill-in", step.value, str(number)))
        killed = done.code == -signal.SIGKILL
        assert killed or done.code == 0, f"change {number}: {done.code}\n{done.text}"
        world.good("resume")
        end(stage, before, {world.shas[branch] if finishes else old} if killed else set(world.shas.values()))
        if not killed:
            assert number > 3, f"{step} changes next to nothing: is it still counted?"
            return


def test_an_undo_killed_again_and_again_at_every_change_inside_it(stage):
    """Each recovery begins anew with what the one before left half-done; the last one is let through."""
    world = stage.world()
    before, old = Before(world), world.served()[0]
    world.killed("observed:switching", "rollback")
    for number in itertools.count(1):
        done = world.run("resume", drill=("kill-in", State.RESTORING.value, str(number)))
        if done.code != -signal.SIGKILL:
            break
    assert done.code == 0, done.text
    assert number > 3, "restoring changes next to nothing: is it still counted?"
    end(stage, before, {old})
