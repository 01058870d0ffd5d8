"""Presence: people, not sockets, merged over processes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from boltorezka.rooms.presence import Person, Roster


def person(number: int) -> Person:
    """One of a few people in one of two rooms."""
    return Person(f"room{number % 2}", f"user{number // 2}", f"Name {number // 2}")


STEPS = st.lists(
    st.tuples(st.just("enter"), st.integers(0, 5))
    | st.tuples(st.just("leave"), st.integers(0, 5))
    | st.tuples(st.just("elsewhere"), st.sets(st.integers(0, 5))),
    max_size=60,
)


@given(STEPS)
def test_reports_are_exactly_the_changes_of_the_merged_answer(steps):
    """Model: somebody is present while a socket here or another process says so; each change is reported once."""
    roster, here, elsewhere, shown = Roster(), {}, set(), set()
    for kind, value in steps:
        if kind == "enter":
            here[value] = here.get(value, 0) + 1
            first_here, first = roster.enter(person(value))
            came, gone = ([value] if first else []), []
            assert first_here == (here[value] == 1)
        elif kind == "leave":
            if not here.get(value):
                continue
            here[value] -= 1
            last_here, last = roster.leave(person(value))
            came, gone = [], [value] if last else []
            assert last_here == (here[value] == 0)
        else:
            elsewhere = set(value)
            came_people, gone_people = roster.observe([person(each) for each in value])
            came = [each for each in range(6) if person(each) in came_people]
            gone = [each for each in range(6) if person(each) in gone_people]
        now = {each for each in range(6) if here.get(each) or each in elsewhere}
        assert set(came) == now - shown
        assert set(gone) == shown - now
        shown = now
        for room in ("room0", "room1"):
            assert set(roster.users(room)) == {person(each).user_id for each in now if person(each).room_id == room}
    assert {(each.room_id, each.user_id) for each in roster.ours()} == {
        (person(each).room_id, person(each).user_id) for each, count in here.items() if count
    }
