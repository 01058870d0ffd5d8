"""Theory of operation.

A run walks forward through the steps of a rollout. Until the switch nobody has seen the new release, so its undo is to
stop the new slot (`discarding`). From the switch up to the end of the watch users may be on it, so its undo is to point
the ingress back at the old slot and prove it (`restoring`), and only then to stop the new one (`cleaning`). Once the
watch has passed the old slot is stopped (`retiring`): from there a run can only be finished. It is not stopped where it
alone still serves by then, as may be hours after a kill: that is undone too, and blames nobody.

A rollback is the same walk with another release as the new one; the steps it does not have are passed over by `skip`.
A promotion has every step of a rollout: its gates ask for approvals too, and its artifact is the one that passed test.
A pair that is not in the table is impossible: `advance` refuses it, and a test names every one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sluice.model.errors import ExitCode


class Kind(StrEnum):
    """What a run is for."""

    ROLLOUT = "rollout"
    ROLLBACK = "rollback"
    PROMOTION = "promotion"


class State(StrEnum):
    """The step a run stands at, or how it ended."""

    PLANNING = "planning"
    GATING = "gating"
    BUILDING = "building"
    MIGRATING = "migrating"
    STARTING = "starting"
    SMOKING_PRIVATE = "smoking_private"
    SWITCHING = "switching"
    SMOKING_PUBLIC = "smoking_public"
    DRAINING = "draining"
    WATCHING = "watching"
    RETIRING = "retiring"
    RECORDING = "recording"
    DISCARDING = "discarding"
    RESTORING = "restoring"
    CLEANING = "cleaning"
    DONE = "done"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    DEGRADED = "degraded"
    ROLLBACK_FAILED = "rollback_failed"
    NONE_SERVING = "none_serving"


class Event(StrEnum):
    """What came of a step."""

    OK = "ok"
    FAIL = "fail"  # the step's answer is no; from `starting` to `watching` that is the release's fault
    BROKEN = "broken"  # the step could not be judged: it is tried again
    GIVE_UP = "give_up"  # it still could not be judged, or the world failed it: nobody blames the release
    SKIP = "skip"  # this kind of run has no such step
    INTERRUPT = "interrupt"  # somebody asked the run to stop
    RECOVER = "recover"  # the tool died in this step and has come back
    NONE = "none"  # there is no old release to go back to
    PARTLY = "partly"  # the old release serves again, but does not pass its own smoke


class Effect(StrEnum):
    """What to do on the way into the next state, in this order."""

    MARK_BAD = "mark_bad"  # remember (artifact key, environment fingerprint): refused until overridden
    PERFORM = "perform"  # journal the state's intent, then do its step
    SETTLE = "settle"  # append the ledger record, then end the journal


@dataclass(frozen=True, slots=True)
class Transition:
    """One cell of the table."""

    state: State
    effects: tuple[Effect, ...]


class ImpossibleEvent(Exception):
    """A (state, event) pair the table does not have: a defect of the caller, or a journal that is not ours."""

    def __init__(self, state: State, event: Event) -> None:
        """Both are kept for the caller."""
        super().__init__(f"{event.value} cannot happen in {state.value}")
        self.state, self.event = state, event


FORWARD: tuple[State, ...] = (
    State.PLANNING,
    State.GATING,
    State.BUILDING,
    State.MIGRATING,
    State.STARTING,
    State.SMOKING_PRIVATE,
    State.SWITCHING,
    State.SMOKING_PUBLIC,
    State.DRAINING,
    State.WATCHING,
    State.RETIRING,
    State.RECORDING,
    State.DONE,
)

EXIT_CODES: dict[State, ExitCode] = {
    State.DONE: ExitCode.DONE,
    State.REFUSED: ExitCode.REFUSED,
    State.ROLLED_BACK: ExitCode.ROLLED_BACK,
    State.DEGRADED: ExitCode.DEGRADED,
    State.ROLLBACK_FAILED: ExitCode.ROLLBACK_FAILED,
    State.NONE_SERVING: ExitCode.NONE_SERVING,
}
TERMINAL = frozenset(EXIT_CODES)

# An interrupt does not stop these half-way: they are an undo, or the end of what cannot be undone.
UNSTOPPABLE = frozenset({State.RETIRING, State.RECORDING, State.DISCARDING, State.RESTORING, State.CLEANING})

# A rollback runs what was gated, built, migrated and watched before: its proof is the smoke and the read-back.
PASSED_OVER: dict[Kind, frozenset[State]] = {
    Kind.ROLLOUT: frozenset(),
    Kind.PROMOTION: frozenset(),
    Kind.ROLLBACK: frozenset({State.GATING, State.BUILDING, State.MIGRATING, State.WATCHING}),
}

_UNTOUCHED = FORWARD[:4]  # nothing runs yet that was not running before
_UNSEEN = FORWARD[4:6]  # the new slot runs; no user has seen it
_SEEN = FORWARD[6:10]  # users may be on the new slot


def _to(state: State, *before: Effect) -> Transition:
    return Transition(state, (*before, Effect.SETTLE if state in TERMINAL else Effect.PERFORM))


def _build_table() -> dict[tuple[State, Event], Transition]:
    table: dict[tuple[State, Event], Transition] = {}
    for here, onward in itertools.pairwise(FORWARD):
        table[here, Event.OK] = _to(onward)
        table[here, Event.BROKEN] = _to(here)
    for here in PASSED_OVER[Kind.ROLLBACK]:
        table[here, Event.SKIP] = _to(FORWARD[FORWARD.index(here) + 1])
    for states, undo in ((_UNTOUCHED, State.REFUSED), (_UNSEEN, State.DISCARDING), (_SEEN, State.RESTORING)):
        for here in states:
            blame = () if states is _UNTOUCHED else (Effect.MARK_BAD,)
            table[here, Event.FAIL] = _to(undo, *blame)
            for event in (Event.GIVE_UP, Event.INTERRUPT, Event.RECOVER):
                table[here, event] = _to(undo)
    for here in UNSTOPPABLE:
        for event in (Event.BROKEN, Event.INTERRUPT, Event.RECOVER):
            table[here, event] = _to(here)
    table |= {
        # What passed its watch and serves no more may have been stopped by anybody since: users go back.
        (State.RETIRING, Event.FAIL): _to(State.RESTORING),
        # An old slot that will not stop harms nobody: the run is recorded and says so.
        (State.RETIRING, Event.GIVE_UP): _to(State.RECORDING),
        # The new release serves and is proven; only its memory could not be written.
        (State.RECORDING, Event.GIVE_UP): _to(State.DEGRADED),
        (State.DISCARDING, Event.OK): _to(State.REFUSED),
        (State.DISCARDING, Event.NONE): _to(State.NONE_SERVING),
        (State.DISCARDING, Event.GIVE_UP): _to(State.DEGRADED),
        (State.RESTORING, Event.OK): _to(State.CLEANING),
        (State.RESTORING, Event.NONE): _to(State.CLEANING),
        (State.RESTORING, Event.PARTLY): _to(State.CLEANING),
        # The new slot keeps running: a bad release is better than none until a human has looked.
        (State.RESTORING, Event.GIVE_UP): _to(State.ROLLBACK_FAILED),
        (State.CLEANING, Event.OK): _to(State.ROLLED_BACK),
        (State.CLEANING, Event.NONE): _to(State.NONE_SERVING),
        (State.CLEANING, Event.PARTLY): _to(State.DEGRADED),
        (State.CLEANING, Event.GIVE_UP): _to(State.DEGRADED),
    }
    return table


TABLE = _build_table()


def advance(kind: Kind, state: State, event: Event) -> Transition:
    """The next state and its effects. Raises ImpossibleEvent for a pair the table does not have."""
    if event is Event.SKIP and state not in PASSED_OVER[kind]:
        raise ImpossibleEvent(state, event)
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleEvent(state, event) from None


def replay(kind: Kind, observed: Iterable[tuple[State, Event]]) -> State:
    """Where a run stands after what its journal observed. Raises ImpossibleEvent when that is no walk of the table."""
    state = State.PLANNING
    for seen, event in observed:
        if seen is not state:
            raise ImpossibleEvent(seen, event)
        state = advance(kind, state, event).state
    return state


def marks_bad(kind: Kind, observed: Iterable[tuple[State, Event]]) -> bool:
    """Whether this walk blamed the release."""
    return any(Effect.MARK_BAD in advance(kind, state, event).effects for state, event in observed)
