"""Voice over real sockets of two processes on one database: seats and signals cross, and a killed one's are lost."""

from __future__ import annotations

import asyncio

import pytest

from .calling import asked, cut, heard, in_voice, one_is_held, seats_become
from .conftest import DEADLINE_S


async def test_seats_and_signals_cross_two_processes(two):
    """Seats, signals, microphones and moderation of one process reach the voice of the other."""
    one, other = two
    ann, mine = await in_voice(one, "ann")
    bob = await other.talker("bob")
    theirs = await asked(bob, "call.join")
    assert (await heard(ann, "call.joined"))["seatId"] == theirs["seatId"]
    # The other process learns of a seat by a hint, or by looking a moment later.
    async with asyncio.timeout(DEADLINE_S):
        while {each["userId"] for each in (await asked(bob, "call.join"))["participants"]} != {"user-ann", "user-bob"}:
            pass
    offer = {"targetSeatId": theirs["seatId"], "signal": {"sdp": "v=0"}}
    assert (await asked(ann, "call.offer", offer))["relayedTo"] == 1
    assert (await heard(bob, "call.offer"))["fromSeatId"] == mine["seatId"]
    await asked(ann, "call.mic_state", {"speaking": True})
    assert (await heard(bob, "call.mic_state"))["speaking"] is True
    await asked(ann, "call.mic_state", {"muted": True})
    while not (await heard(bob, "call.mic_state"))["muted"]:
        pass
    await asked(bob, "call.leave")
    assert (await heard(ann, "call.left"))["reason"] == "left"
    await seats_become(one, "ann")


async def test_a_seat_is_reclaimed_through_the_other_process(two):
    """Dropped here and reclaimed there within the hold: the same seat, and nobody on either side hears a word."""
    one, other = two
    ann, first = await in_voice(one, "ann")
    bob, _ = await in_voice(one, "bob")
    cid, _ = await in_voice(other, "cid")
    await bob.until("call.joined")
    cut(ann)
    await one_is_held(other)
    again = await other.talker("ann")
    assert (await asked(again, "call.join"))["seatId"] == first["seatId"]
    await asked(again, "call.hangup", {"reason": "marker"})
    between = await cid.until("call.hangup")
    assert "call.left" not in {frame["type"] for frame in between}
    seats = await seats_become(other, "ann", "bob", "cid")
    assert {seat.user_id: seat.instance for seat in seats}["user-ann"] == "two"


async def test_a_move_to_the_other_process_ends_the_seat_here(two):
    """The old tab hears that its seat moved, and has none any more."""
    one, other = two
    ann, first = await in_voice(one, "ann")
    tab = await other.talker("ann")
    await asked(tab, "call.join", {"move": True})
    left = await heard(ann, "call.left")
    assert (left["seatId"], left["reason"]) == (first["seatId"], "moved")
    assert (await asked(ann, "call.offer", {"signal": 1}))["code"] == "Forbidden"


async def test_a_process_that_stops_leaves_its_seats_held(rooms_on):
    """A clean stop gives no seat up: its user comes back to the other process and has it."""
    async with rooms_on("one") as one:
        async with rooms_on("two") as two:
            _, first = await in_voice(two, "ann")
        again = await one.talker("ann")
        assert (await asked(again, "call.join"))["seatId"] == first["seatId"]


@pytest.mark.drill
async def test_the_voice_of_a_killed_process_is_lost_after_its_hold(rooms_on, process_on, monkeypatch):
    """A killed process cannot hold anything: its lease runs out, then the hold, and the others are told."""
    monkeypatch.setattr("boltorezka.adapters.sqlite.instances.SEAT_HOLD_US", 200_000)
    async with rooms_on("one") as one:
        bob = await one.talker("bob")
        two = await process_on("two", "ann")
        ann = await two.talker("ann")
        await asked(ann, "call.join")
        assert (await heard(bob, "call.joined"))["userId"] == "user-ann"
        two.process.kill()
        assert (await heard(bob, "call.left"))["reason"] == "lost"
