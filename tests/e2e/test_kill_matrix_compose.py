"""SIGKILL of Sluice after every journal entry, where releases are containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kill_matrix import Stage, alternating, bad, rollback_killed, rollout_killed, undo_killed

from sluice.engine import Kind

pytestmark = pytest.mark.e2e

PORT = 18820


@pytest.fixture(scope="module")
def stage(images, tmp_path_factory) -> Iterator[Stage]:
    """One for all cases."""
    made = Stage("compose", tmp_path_factory.mktemp("matrix"), images.python, PORT)
    yield made
    made.stop()


@pytest.mark.parametrize(("entry", "verb"), alternating(Kind.ROLLOUT, "compose"))
def test_a_rollout_of_containers_killed_after_an_entry(stage, entry, verb):
    """Whatever is typed next: one good release serves, nothing else runs, nothing was done twice."""
    rollout_killed(stage, entry, verb)


@pytest.mark.parametrize(("entry", "verb"), alternating(Kind.ROLLBACK, "compose"))
def test_a_rollback_of_containers_killed_after_an_entry(stage, entry, verb):
    """A rollback that dies is undone or finished like a rollout; once finished, it has locked the environment."""
    rollback_killed(stage, entry, verb)


@pytest.mark.parametrize(("mode", "entry"), bad())
def test_an_undo_of_containers_killed_after_an_entry(stage, mode, entry):
    """A bad release whose undo dies is undone all the same, stays blamed, and locks what users saw of it."""
    undo_killed(stage, mode, entry)
