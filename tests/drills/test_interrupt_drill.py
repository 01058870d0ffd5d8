"""Two commands at once, and Ctrl-C: the first is refused with who and since when, the second undoes the run."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

pytestmark = pytest.mark.drill


def start_until(world, branch: str, step: str) -> subprocess.Popen[str]:
    """A rollout under way, returned as soon as it says that it began this step."""
    child = world.popen("rollout", "--env", "test", "--branch", branch, "--owner", "ann@laptop", "--json")
    for line in child.stdout:
        world.printed.append(line)
        told = json.loads(line)
        if (told["event"], told.get("step"), told.get("status")) == ("step", step, "started"):
            return child
    raise AssertionError(f"the rollout ended before {step}: {child.stderr.read()}")


def end(world, child: subprocess.Popen[str]) -> int:
    """Its exit code; what it said is kept."""
    out, err = child.communicate(timeout=60)
    world.printed += [out, err]
    return child.returncode


def test_a_second_rollout_is_refused_and_ctrl_c_undoes_the_first(served_world):
    """The refusal names owner, branch and time (6); after Ctrl-C in the watch the old release serves again (3)."""
    world = served_world
    before = world.version()["sha"]
    candidate = world.branch("feature/held", "changes/held.md", "Held.\n")
    child = start_until(world, "feature/held", "watching")
    assert world.version()["sha"] == candidate
    second = world.rollout("feature/good")
    child.send_signal(signal.SIGINT)
    code = end(world, child)
    text = second.stdout + second.stderr
    assert second.returncode == 6, text
    assert "ann@laptop" in text
    assert "feature/held" in text
    assert "since" in text
    assert code == 3
    assert world.version()["sha"] == before
    assert len(world.slots_alive()) == 1


def test_ctrl_c_before_the_switch_leaves_everything_as_it_was(served_world):
    """Before the switch Ctrl-C stops the new slot, which no user ever saw (exit 1)."""
    world = served_world
    before = world.version()["sha"]
    world.branch("feature/early", "changes/early.md", "Early.\n")
    child = start_until(world, "feature/early", "starting")
    child.send_signal(signal.SIGINT)
    assert end(world, child) == 1
    assert world.version()["sha"] == before
    assert len(world.slots_alive()) == 1
