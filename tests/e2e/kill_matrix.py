"""SIGKILL of Sluice after every journal entry, and at every change inside the steps that matter; then the next command.

The cases come from the engine's own list of steps: a new step is a new case by itself. Each file of them, which may run
beside the others, has one world; every case leaves it as it found it: one good release serves.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from settled import Before, can_go_back, is_locked, other
from tiny import TinyWorld

from sluice.engine import FORWARD, PASSED_OVER, TERMINAL, UNSTOPPABLE, Event, Kind, State, advance
from sluice.journal import read_all
from sluice.ledger import Ledger

RUNTIMES = ("process", "compose")
NEXT = ("resume", "rollout", "resume", "rollback")
# A branch that is bad -> the step that finds it out.
BAD = {"lies": State.SMOKING_PRIVATE, "sick": State.SMOKING_PUBLIC}


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


def alternating(kind: Kind, runtime: str) -> list[tuple[str, str]]:
    """Every entry; which command comes next goes round, and is another one for each runtime."""
    number = RUNTIMES.index(runtime)
    return [(entry, NEXT[(place + number) % len(NEXT)]) for place, entry in enumerate(entries(kind))]


def bad() -> list[tuple[str, str]]:
    """Every bad branch with every entry of its undoing."""
    return [(mode, entry) for mode, state in BAD.items() for entry in undoing(state)]


class Stage:
    """The world of one file. After a case that failed it is made anew."""

    def __init__(self, runtime: str, folder: Path, base: str, port: int) -> None:
        """`port`: as of a TinyWorld."""
        self.runtime, self._folder, self._base, self._port = runtime, folder, base, port
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
            self._world = TinyWorld(folder, self.runtime, self._port, base, prefix="mx", watch_s=0.6)
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
        """Nothing of it is left."""
        if self._world is not None:
            self._world.stop()


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


def rollout_killed(stage: Stage, entry: str, verb: str) -> None:
    """A rollout dies after this entry, and then somebody types this."""
    world = stage.world()
    before, old, branch = Before(world), world.served()[0], other(world)
    world.killed(entry, "rollout", "--branch", branch)
    base = world.shas[branch] if finished(Kind.ROLLOUT, entry) else old
    end(stage, before, go_on(world, verb, base, locked=False))


def rollback_killed(stage: Stage, entry: str, verb: str) -> None:
    """A rollback dies after this entry, and then somebody types this."""
    world = stage.world()
    before, old = Before(world), world.served()[0]
    world.killed(entry, "rollback")
    done = finished(Kind.ROLLBACK, entry)
    journal = max(read_all(world.paths.journal_dir, repair=False), key=lambda record: record.run)
    planned = [one.facts["release"] for one in journal.entries if one.facts.get("release")]
    base = planned[0]["commit"]["sha"] if done else old
    end(stage, before, go_on(world, verb, base, locked=done))


def undo_killed(stage: Stage, mode: str, entry: str) -> None:
    """The undoing of a bad release dies after this entry; which command comes next goes round."""
    world = stage.world()
    before, old = Before(world), world.served()[0]
    world.killed(entry, "rollout", "--branch", f"feature/{mode}", "--override", "the matrix tries it again")
    place = [one for _, one in bad()].index(entry)
    shas = go_on(world, NEXT[place % len(NEXT)], old, locked=BAD[mode] is State.SMOKING_PUBLIC)
    blamed = [record for record in Ledger(world.paths.ledger).records() if record["run"] not in before.runs]
    assert any(record.get("bad_release") for record in blamed)
    end(stage, before, shas)
