"""The engine's table: every pair known or impossible, every walk ends, nothing is undone out of order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.engine import (
    EXIT_CODES,
    FORWARD,
    PASSED_OVER,
    STEPS,
    TABLE,
    TERMINAL,
    UNSTOPPABLE,
    Effect,
    Event,
    ImpossibleEvent,
    Kind,
    State,
    advance,
    marks_bad,
    replay,
)
from sluice.model.errors import ExitCode

# Pairs the table does not have, per state; together with the table they must be every pair there is.
FORWARD_ONLY = {Event.NONE, Event.PARTLY}
IMPOSSIBLE = {
    **{state: set(Event) for state in TERMINAL},
    **{state: FORWARD_ONLY | {Event.SKIP} for state in FORWARD[:10]},
    State.RETIRING: FORWARD_ONLY | {Event.SKIP},
    State.RECORDING: FORWARD_ONLY | {Event.SKIP, Event.FAIL},
    State.DISCARDING: {Event.FAIL, Event.SKIP, Event.PARTLY},
    State.RESTORING: {Event.FAIL, Event.SKIP},
    State.CLEANING: {Event.FAIL, Event.SKIP},
}


def possible(kind: Kind, state: State) -> list[Event]:
    """The events that can happen in a state of this kind of run."""
    if state in PASSED_OVER[kind]:
        return [Event.SKIP]
    return [event for event in Event if event is not Event.SKIP and (state, event) in TABLE]


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_is_in_the_table_or_named_impossible(state, event):
    """No pair of state and event is left to chance."""
    passed_over = event is Event.SKIP and state in PASSED_OVER[Kind.ROLLBACK]
    assert ((state, event) in TABLE) != (event in IMPOSSIBLE[state] and not passed_over)


def test_an_impossible_event_is_refused():
    """A pair outside the table raises, naming both."""
    with pytest.raises(ImpossibleEvent, match="partly cannot happen in planning"):
        advance(Kind.ROLLOUT, State.PLANNING, Event.PARTLY)
    with pytest.raises(ImpossibleEvent, match="skip cannot happen in watching"):
        advance(Kind.ROLLOUT, State.WATCHING, Event.SKIP)


def walk(kind, draw, patience=3):
    """A random walk whose broken steps are given up in the end, as the drive does it."""
    state, seen, tries = State.PLANNING, [], 0
    while state not in TERMINAL:
        event = draw(st.sampled_from(possible(kind, state)))
        onward = advance(kind, state, event).state
        tries = tries + 1 if onward is state else 0
        if tries > patience:
            event = Event.OK if state in FORWARD else Event.GIVE_UP
            onward = advance(kind, state, event).state
            tries = 0
        seen.append((state, event))
        state = onward
    return state, seen


@given(st.sampled_from(Kind), st.data())
def test_every_walk_ends_in_a_known_outcome(kind, data):
    """Whatever happens, a run ends in a state with an exit code, and its journal replays to the same place."""
    end, seen = walk(kind, data.draw)
    assert end in EXIT_CODES
    assert replay(kind, seen) is end


@given(st.sampled_from(Kind), st.data())
def test_the_old_slot_is_stopped_only_after_proof(kind, data):
    """Retiring follows a passed watch, or a rollback's passed public smoke, and both slots are never stopped."""
    _, seen = walk(kind, data.draw)
    visited = [state for state, _ in seen]
    if State.RETIRING in visited:
        assert (State.SMOKING_PUBLIC, Event.OK) in seen
        assert (State.WATCHING, Event.SKIP if kind is Kind.ROLLBACK else Event.OK) in seen
        assert State.DISCARDING not in visited
    if (State.RETIRING, Event.FAIL) not in seen and State.RETIRING in visited:
        assert not {State.RESTORING, State.CLEANING} & set(visited)


@given(st.sampled_from(Kind), st.data())
def test_a_slot_users_may_be_on_is_stopped_only_after_the_ingress_left_it(kind, data):
    """After the switch the new slot is stopped only once restoring has succeeded."""
    _, seen = walk(kind, data.draw)
    visited = [state for state, _ in seen]
    if State.SWITCHING in visited:
        assert State.DISCARDING not in visited
    if State.CLEANING in visited:
        assert {event for state, event in seen if state is State.RESTORING} & {Event.OK, Event.NONE, Event.PARTLY}


@given(st.sampled_from(Kind), st.data())
def test_only_a_failed_release_is_marked_bad(kind, data):
    """A broken probe, an interrupt, a crash or an end after the watch never marks a release bad."""
    _, seen = walk(kind, data.draw)
    failed_late = any(event is Event.FAIL and state in FORWARD[4:10] for state, event in seen)
    assert marks_bad(kind, seen) is failed_late


def test_replay_refuses_a_walk_that_is_none():
    """Entries that do not follow one another are not taken for a run."""
    with pytest.raises(ImpossibleEvent):
        replay(Kind.ROLLOUT, [(State.GATING, Event.OK)])


def test_a_crash_is_recovered_from_where_the_run_stood():
    """Before the switch the slot is discarded, up to the watch the old one restored, after it the run is finished."""
    undo = {state: advance(Kind.ROLLOUT, state, Event.RECOVER).state for state in State if state not in TERMINAL}
    assert {undo[state] for state in FORWARD[:4]} == {State.REFUSED}
    assert {undo[state] for state in FORWARD[4:6]} == {State.DISCARDING}
    assert {undo[state] for state in FORWARD[6:10]} == {State.RESTORING}
    assert all(undo[state] is state for state in UNSTOPPABLE)


def test_every_step_is_explained_and_every_outcome_has_its_exit_code():
    """The table of words covers every state that does something; outcomes map to the documented codes."""
    assert set(STEPS) == set(State) - TERMINAL
    # These three say that no run ended: nothing was begun, or nobody here saw the end.
    assert set(EXIT_CODES.values()) == set(ExitCode) - {ExitCode.USAGE, ExitCode.LOCKED, ExitCode.CONNECTION_LOST}
    assert all(Effect.SETTLE in t.effects for t in TABLE.values() if t.state in TERMINAL)
