"""SIGKILL of Sluice after every journal entry, and at every change inside the steps that matter; then the next command.

The cases come from the engine's own list of steps: a new step is a new case by itself. One world for each runtime is
used by all of them, and every case leaves it as it found it: one good release serves.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from settled import Before, can_go_back, is_locked, other
from tiny import TinyWorld

from sluice.engine import FORWARD, PASSED_OVER, TERMINAL, UNSTOPPABLE, Event, Kind, State, advance
from sluice.journal import read_all
from sluice.ledger import Ledger

pytestmark = pytest.mark.e2e

RUNTIMES = ("process", "compose")
PORTS = {"process": 18800, "compose": 18820}
NEXT = ("resume", "rollout", "resume", "rollback")
# A branch that is bad -> the step that finds it out.
BAD = {"lies": State.SMOKING_PRIVATE, "sick": State.SMOKING_PUBLIC}
INSIDE = (State.STARTING, State.SWITCHING, State.RETIRING)


def entries(kind: Kind) -> list[str]:
    """What the journal of a run that goes well holds, in its order."""
    names = ["begin"]
    for state in FORWARD[:-1]:
        names += [] if state in PASSED_OVER[kind] else [f"intent:{state}"]
        names.append(f"observed:{state}")
    return [*names, "end"]


def undoing(found_in: State) -> list[str]:
    """What the journal of a run that is undone holds from there on."""
    names, state = [], advance(Kind.ROLLOUT, found_in, Event.FAIL).state
    while state not in TERMINAL:
        names += [f"intent:{state}", f"observed:{state}"]
        state = advance(Kind.ROLLOUT, state, Event.OK).state
    return names


def finished(kind: Kind, entry: str) -> bool:
    """Whether a run that died after this entry can only be finished; else it is undone."""
    word, _, name = entry.partition(":")
    state = State(name) if name else {"begin": State.PLANNING, "end": State.DONE}[word]
    if word == "observed":
        state = advance(kind, state, Event.SKIP if state in PASSED_OVER[kind] else Event.OK).state
    return state is State.DONE or (state in FORWARD and state in UNSTOPPABLE)


def alternating(kind: Kind) -> Iterator[tuple[str, str, str]]:
    """Every runtime with every entry; which command comes next goes round, and is another one for each runtime."""
    for number, runtime in enumerate(RUNTIMES):
        for place, entry in enumerate(entries(kind)):
            yield runtime, entry, NEXT[(place + number) % len(NEXT)]


class Stage:
    """The world of one runtime. After a case that failed it is made anew."""

    def __init__(self, runtime: str, folder: Path, base: str) -> None:
        self.runtime, self._folder, self._base = runtime, folder, base
        self._made = itertools.count()
        self._world: TinyWorld | None = None
        self.settled = False

    def world(self) -> TinyWorld:
        """One good release serves, and there is another one to go back to."""
        if self._world is None or not self.settled:
            self.stop()
            folder = self._folder / f"{self.runtime}-{next(self._made)}"
            folder.mkdir()
            base = self._base if self.runtime == "compose" else ""
            self._world = TinyWorld(folder, self.runtime, PORTS[self.runtime], base, prefix="mx", watch_s=0.6)
            for name in ("one", "two"):
                self._world.branch(f"feature/{name}")
            for mode in BAD:
                self._world.branch(f"feature/{mode}", mode)
            self._world.good("rollout", "--branch", "feature/one")
        self.settled = False
        if not can_go_back(self._world):
            self._world.good("rollout", "--branch", other(self._world))
        return self._world

    def stop(self) -> None:
        if self._world is not None:
            self._world.stop()


@pytest.fixture(scope="module")
def stages(images, tmp_path_factory) -> Iterator[dict[str, Stage]]:
    """One for each runtime."""
    folder = tmp_path_factory.mktemp("matrix")
    made = {runtime: Stage(runtime, folder, images.python) for runtime in RUNTIMES}
    yield made
    for stage in made.values():
        stage.stop()


def go_on(world: TinyWorld, verb: str, base: str, *, locked: bool) -> set[str]:
    """The next command somebody types, where `base` serves once the dead run is recovered. What may serve then."""
    good = {world.shas["feature/one"], world.shas["feature/two"]}
    if verb == "resume":
        world.good("resume")
        return {base}
    if verb == "rollback":
        done = world.run("rollback")
        assert done.code == 0 or "nothing to roll back to" in done.text, done.text
        return good
    branch = "feature/two" if base == world.shas["feature/one"] else "feature/one"
    done = world.rollout(branch)
    assert done.code == (6 if locked else 0), done.text
    return {base if locked else world.shas[branch]}


def end(stage: Stage, before: Before, shas: set[str]) -> None:
    """Everything is as it should be, and open for the next case."""
    before.settle(shas)
    if is_locked(before.world):
        done = before.world.here("unlock", "--reason", "the next case")
        assert done.code == 0, done.text
    stage.settled = True


@pytest.mark.parametrize(("runtime", "entry", "verb"), list(alternating(Kind.ROLLOUT)))
def test_a_rollout_killed_after_an_entry(stages, runtime, entry, verb):
    """Whatever is typed next: one good release serves, nothing else runs, nothing was done twice."""
    stage = stages[runtime]
    world = stage.world()
    before, old, branch = Before(world), world.served()[0], other(world)
    world.killed(entry, "rollout", "--branch", branch)
    base = world.shas[branch] if finished(Kind.ROLLOUT, entry) else old
    end(stage, before, go_on(world, verb, base, locked=False))


@pytest.mark.parametrize(("runtime", "entry", "verb"), list(alternating(Kind.ROLLBACK)))
def test_a_rollback_killed_after_an_entry(stages, runtime, entry, verb):
    """A rollback that dies is undone or finished like a rollout; once finished, it has locked the environment."""
    stage = stages[runtime]
    world = stage.world()
    before, old = Before(world), world.served()[0]
    world.killed(entry, "rollback")
    done = finished(Kind.ROLLBACK, entry)
    journal = max(read_all(world.paths.journal_dir, repair=False), key=lambda record: record.run)
    planned = [one.facts["release"] for one in journal.entries if one.facts.get("release")]
    base = planned[0]["commit"]["sha"] if done else old
    end(stage, before, go_on(world, verb, base, locked=done))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("mode", "entry"), [(mode, entry) for mode, state in BAD.items() for entry in undoing(state)])
def test_an_undo_killed_after_an_entry(stages, runtime, mode, entry):
    """A bad release whose undo dies is undone all the same, stays blamed, and locks what users saw of it."""
    stage = stages[runtime]
    world = stage.world()
    before, old = Before(world), world.served()[0]
    world.killed(entry, "rollout", "--branch", f"feature/{mode}", "--override", "the matrix tries it again")
    place = [one for state in BAD.values() for one in undoing(state)].index(entry)
    shas = go_on(world, NEXT[place % len(NEXT)], old, locked=BAD[mode] is State.SMOKING_PUBLIC)
    blamed = [record for record in Ledger(world.paths.ledger).records() if record["run"] not in before.runs]
    assert any(record.get("bad_release") for record in blamed)
    end(stage, before, shas)


def test_every_step_is_in_the_matrix():
    """Each state that is no end has its intent and its observation in some case."""
    cases = {*entries(Kind.ROLLOUT), *(entry for state in BAD.values() for entry in undoing(state))}
    steps = [state for state in State if state not in TERMINAL]
    assert {f"{word}:{state}" for word in ("intent", "observed") for state in steps} <= cases


@pytest.mark.parametrize("step", INSIDE)
def test_a_run_killed_at_every_change_inside_a_step(stages, step):
    """Between any two calls of the engine, with Compose half-way, beside a file just put in place."""
    stage = stages["compose"]
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


def test_an_undo_killed_again_and_again_at_every_change_inside_it(stages):
    """Each recovery begins anew with what the one before left half-done; the last one is let through."""
    stage = stages["compose"]
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
