"""SIGKILL of Sluice at steps of a rollout, then the next command: exactly one good release serves."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.drill

BEFORE_THE_SWITCH = ["intent:gating", "observed:building", "intent:starting", "observed:starting", "intent:switching"]
AFTER_THE_SWITCH = ["observed:switching", "observed:smoking_public", "intent:watching"]
PAST_UNDOING = ["intent:retiring", "intent:recording"]


@pytest.mark.parametrize("entry", [*BEFORE_THE_SWITCH, *AFTER_THE_SWITCH, *PAST_UNDOING])
def test_next_command_after_a_kill_leaves_one_good_release(served_world, entry):
    """After a kill at this journal entry, `resume` leaves one slot serving a known good commit, and a true ledger."""
    world = served_world
    before = world.version()["sha"]
    candidate = world.branch("feature/killed", "changes/killed.md", f"Killed at {entry}.\n")
    world.killed_rollout(entry, "feature/killed")
    resumed = world.run("resume", "--env", "test", "--service", "boltorezka")
    now = world.version()["sha"]
    assert now == (candidate if entry in PAST_UNDOING else before), resumed.stdout + resumed.stderr
    assert len(world.slots_alive()) == 1, world.slots_alive()
    verified = world.run("log", "verify", "--env", "test", "--service", "boltorezka")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "recovery" in {record["type"] for record in world.ledger()}
    status = world.run("status", "--env", "test", "--service", "boltorezka")
    assert status.returncode == 0
    assert now[:8] in status.stdout


def test_next_rollout_recovers_a_killed_one_by_itself(served_world):
    """Without `resume`, the next rollout first undoes the killed one, says so, and then succeeds."""
    world = served_world
    world.branch("feature/killed", "changes/killed.md", "Killed, then overtaken.\n")
    world.killed_rollout("observed:switching", "feature/killed")
    candidate = world.branch("feature/next", "changes/next.md", "Next.\n")
    done = world.rollout("feature/next")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recovering run" in done.stdout
    assert "demo = true" in done.stdout, "a host without separated users must say so"
    assert world.version()["sha"] == candidate
    assert len(world.slots_alive()) == 1
