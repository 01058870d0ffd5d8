"""SIGKILL of Sluice after every journal entry, where releases are processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kill_matrix import BAD, Stage, alternating, bad, entries, rollback_killed, rollout_killed, undo_killed, undoing

from sluice.engine import TERMINAL, Kind, State

pytestmark = pytest.mark.e2e

PORT = 18800


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    """One for all cases."""
    made = Stage("process", tmp_path_factory.mktemp("matrix"), "", PORT)
    yield made
    made.stop()


@pytest.mark.parametrize(("entry", "verb"), alternating(Kind.ROLLOUT, "process"))
def test_a_rollout_of_processes_killed_after_an_entry(stage, entry, verb):
    """Whatever is typed next: one good release serves, nothing else runs, nothing was done twice."""
    rollout_killed(stage, entry, verb)


@pytest.mark.parametrize(("entry", "verb"), alternating(Kind.ROLLBACK, "process"))
def test_a_rollback_of_processes_killed_after_an_entry(stage, entry, verb):
    """A rollback that dies is undone or finished like a rollout; once finished, it has locked the environment."""
    rollback_killed(stage, entry, verb)


@pytest.mark.parametrize(("mode", "entry"), bad())
def test_an_undo_of_processes_killed_after_an_entry(stage, mode, entry):
    """A bad release whose undo dies is undone all the same, stays blamed, and locks what users saw of it."""
    undo_killed(stage, mode, entry)


def test_every_step_is_in_the_matrix():
    """Each state that is no end has its intent and its observation in some case."""
    cases = {*entries(Kind.ROLLOUT), *(entry for state in BAD.values() for entry in undoing(state))}
    steps = [state for state in State if state not in TERMINAL]
    assert {f"{word}:{state}" for word in ("intent", "observed") for state in steps} <= cases
