"""What each step promises: what its intent holds before it begins, what is observed after, and what undoes it."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.engine.table import State


@dataclass(frozen=True, slots=True)
class Step:
    """One step, in words for people; `sluice.drive` does it, docs/explanation/engine.md prints it."""

    title: str
    intent: str
    observation: str
    undo: str


STEPS: dict[State, Step] = {
    State.PLANNING: Step(
        "plan",
        "service, environment, branch, owner (in the journal's first entry)",
        "commit and tree, policy, environment fingerprint, what serves now, plan hash",
        "nothing to undo",
    ),
    State.GATING: Step("gates", "the plan hash", "one verdict per gate", "nothing to undo"),
    State.BUILDING: Step("artifact", "commit and tree", "artifact key, path and digests", "the artifact is kept"),
    State.MIGRATING: Step(
        "migrate",
        "the release",
        "the schema's head",
        "none: migrations only add, and servers accept a newer head; never run twice by a recovery",
    ),
    State.STARTING: Step(
        "start the new slot",
        "the slot: unit and port, before they are used",
        "ready: three successes in a row",
        "stop the new slot",
    ),
    State.SMOKING_PRIVATE: Step(
        "smoke on the private address",
        "the private address",
        "read-back of commit and tree, one verdict per check",
        "stop the new slot",
    ),
    State.SWITCHING: Step(
        "switch",
        "the slot users go to, the slot they came from",
        "what may run only once runs in the new slot; commit and tree read back through the public URL",
        "point the ingress at the old slot and read back",
    ),
    State.SMOKING_PUBLIC: Step(
        "smoke through the public URL",
        "the public URL",
        "one verdict per check",
        "point the ingress at the old slot and read back",
    ),
    State.DRAINING: Step(
        "drain",
        "the old slot and the signal it gets",
        "the grace has passed",
        "the old slot stays alive and accepting: point the ingress back at it",
    ),
    State.WATCHING: Step(
        "watch",
        "both slots and the length of the window",
        "one verdict per criterion",
        "point the ingress at the old slot and read back",
    ),
    State.RETIRING: Step(
        "stop the old slot",
        "the old slot",
        "it does not run",
        "where it alone still serves: point the ingress at it and read back; else none, only forward from here",
    ),
    State.RECORDING: Step(
        "record",
        "the release that serves from now on",
        "the release is marked verified and serving",
        "none: only forward from here",
    ),
    State.DISCARDING: Step(
        "discard the new slot", "the new slot, which no user has seen", "it does not run", "done again after a crash"
    ),
    State.RESTORING: Step(
        "restore the old release",
        "the old slot",
        "the public URL serves the old commit and tree and passes its smoke",
        "done again after a crash",
    ),
    State.CLEANING: Step("stop the bad slot", "the new slot", "it does not run", "done again after a crash"),
}
