"""The book of seats: looks that began too early, differences, and two processes that must end up in agreement."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltorezka.voice.model import Seat
from boltorezka.voice.seats import SeatBook


def seat(seat_id: str, user: str, room: str = "r", **more) -> Seat:
    """A seat through process `one`."""
    return Seat(seat_id, room, user, user.title(), more.pop("instance", "one"), 0, **more)


def names(seats) -> list[str]:
    """The ids of seats."""
    return [each.id for each in seats]


def test_a_user_cannot_have_two_seats():
    """The book refuses a second seat of a user: the first has to be removed, and announced, before."""
    book = SeatBook()
    book.put(seat("s1", "ann"))
    with pytest.raises(ValueError, match="at most one"):
        book.put(seat("s2", "ann"))


def test_a_look_that_began_before_our_change_does_not_undo_it():
    """A seat taken, or given up, while the store was being read stays as we know it; the next look is believed."""
    book = SeatBook()
    book.put(seat("s1", "ann"))
    mark = book.mark()
    book.begin("ann")
    book.remove("s1")
    assert names(book.observe([seat("s1", "ann")], mark).joined) == []  # on its way
    book.end("ann")
    assert names(book.observe([seat("s1", "ann")], mark).joined) == []  # answered after the look began
    assert names(book.observe([seat("s1", "ann")], book.mark()).joined) == ["s1"]


def test_changes_of_one_user_are_counted_not_flagged():
    """Two changes on their way protect until both are answered."""
    book = SeatBook()
    book.begin("ann")
    book.begin("ann")
    book.end("ann")
    assert book.is_pending("ann")
    assert book.observe([seat("s1", "ann")], book.mark()).joined == []
    book.end("ann")
    assert not book.is_pending("ann")


def test_a_look_tells_who_left_who_joined_and_what_changed():
    """A moved user is in both lists; another process or a hold is no difference that people see."""
    book = SeatBook()
    for each in (seat("s1", "ann"), seat("s2", "bob"), seat("s3", "cid")):
        book.put(each)
    found = [seat("s9", "ann", "q"), seat("s2", "bob", muted=True), seat("s3", "cid", instance="two", held_until=9)]
    different = book.observe(found, book.mark())
    assert names(different.left) == ["s1"]
    assert names(different.joined) == ["s9"]
    assert names(different.changed) == ["s2"]
    assert book.of_user("ann") == found[0]
    assert book.overdue(9)
    assert not book.overdue(8)


def test_a_signal_goes_only_to_seats_of_the_senders_room():
    """To a seat, a user or everybody, never back to the sender; a name without a seat in the room is told apart."""
    book = SeatBook()
    ann, bob, cid = seat("s1", "ann"), seat("s2", "bob"), seat("s3", "cid", "other")
    for each in (ann, bob, cid):
        book.put(each)
    assert book.recipients(ann, None, None) == [bob]
    assert book.recipients(ann, "s2", None) == [bob]
    assert book.recipients(ann, None, "bob") == [bob]
    assert book.recipients(cid, None, None) == []
    for nobody in [("s3", None), (None, "cid"), ("s1", None), (None, "ann"), ("s2x", "bob")]:
        assert book.recipients(ann, *nobody) is None


class Process:
    """A book with what its people were told: joined and left, one after the other for each seat."""

    def __init__(self, name: str, store: dict[str, Seat]) -> None:
        self.name, self.store, self.book = name, store, SeatBook()
        self.told: dict[str, str] = {}
        self.reading: tuple[list[Seat], int] | None = None
        self.unanswered: list = []

    def tell(self, what: str, seats) -> None:
        for each in seats:
            before = self.told.get(each.id, "left")
            assert before != what, f"{self.name} told {what} twice of {each.id}"
            self.told[each.id] = what

    def take(self, seat_id: str, user: str) -> None:
        """The store moves the user to a new seat; the answer comes later."""
        self.book.begin(user)
        old = next((each for each in self.store.values() if each.user_id == user), None)
        if old is not None:
            del self.store[old.id]
        new = self.store[seat_id] = seat(seat_id, user, instance=self.name)

        def answered() -> None:
            mine = self.book.of_user(user)
            if mine is not None and mine.id != new.id:
                self.tell("left", [self.book.remove(mine.id)])
            if self.book.put(new):
                self.tell("joined", [new])
            self.book.end(user)

        self.unanswered.append(answered)

    def drop(self, user: str) -> None:
        """People are told at once; the store hears of it later."""
        mine = self.book.of_user(user)
        if mine is None:
            return
        self.book.begin(user)
        self.tell("left", [self.book.remove(mine.id)])

        def stored() -> None:
            self.store.pop(mine.id, None)
            self.book.end(user)

        self.unanswered.append(stored)

    def begin_look(self) -> None:
        if self.reading is None:
            mark = self.book.mark()
            self.reading = (list(self.store.values()), mark)

    def end_look(self) -> None:
        if self.reading is not None:
            (stored, mark), self.reading = self.reading, None
            different = self.book.observe(stored, mark)
            self.tell("left", different.left)
            self.tell("joined", different.joined)

    def answer(self) -> None:
        if self.unanswered:
            self.unanswered.pop(0)()


@given(st.randoms(use_true_random=False), st.integers(10, 60))
def test_two_processes_tell_every_seat_once_and_agree_in_the_end(dice: random.Random, steps: int):
    """In any order of changes, answers and looks nobody is told twice, and both end with what the store has."""
    store: dict[str, Seat] = {}
    processes = [Process("one", store), Process("two", store)]
    for step in range(steps):
        process, user = dice.choice(processes), dice.choice(["ann", "bob", "cid"])
        act = dice.choice(["take", "drop", "begin_look", "end_look", "answer"])
        if act == "take":
            process.take(f"s{step}", user)
        elif act == "drop":
            process.drop(user)
        else:
            getattr(process, act)()
    for process in processes:
        while process.unanswered:
            process.answer()
    for process in processes:
        process.end_look()
        process.begin_look()
        process.end_look()
        assert {each.id for each in process.book} == set(store)
        assert {seat_id for seat_id, what in process.told.items() if what == "joined"} == set(store)


def test_a_seat_that_was_replaced_is_the_one_shown():
    """Putting a known seat again changes what is said of it and is no news."""
    book = SeatBook()
    assert book.put(seat("s1", "ann"))
    assert not book.put(msgspec.structs.replace(seat("s1", "ann"), held_until=5))
    assert book.get("s1").held_until == 5
    assert names(book.in_room("r")) == ["s1"]
    assert book.remove("nobody") is None
