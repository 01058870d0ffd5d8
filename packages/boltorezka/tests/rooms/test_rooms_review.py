"""The core against unlucky schedules: answers that arrive late, epochs that flip, rights that changed meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from boltorezka import protocol
from boltorezka.errors import Conflict
from boltorezka.protocol import CloseCode
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import DEFAULT_RATES, Limits
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.limits import Rate
from boltorezka.rooms.model import Entrance, Member, MemberRole
from boltorezka.rooms.seating import Voice
from boltorezka.voice.model import Seat, Taken


def delivered(world, room_id: str) -> None:
    """The log as it is now is offered to the feed."""
    world.run(world.core.heads({room_id: ("e1", world.head(room_id))}, 1, 1.0))


@pytest.mark.parametrize("kind", ["room.join", "resume"])
def test_whoever_was_removed_before_the_answer_arrived_does_not_enter(world, kind):
    """The right was read, then its end was delivered, then the answer arrives: the end decides."""
    world.joined(1, "u1", "secret")
    world.opened(2, "u2")
    world.members.add(("r1", "u2"))
    place = {"roomSlug": "secret", "epoch": "e1", "seq": 0}
    payload = {"roomSlug": "secret"} if kind == "room.join" else {"rooms": [place]}
    world.say(2, kind, payload, requestId="j")
    world.ask(0)  # the row was read while they were a member
    world.remove("r1", "u2")
    delivered(world, "r1")
    world.happen(1)
    assert world.core.hall.live("r1").feed.head == world.head("r1")
    world.settle()
    world.commit("r1", "u1", "for members only")
    delivered(world, "r1")
    world.settle()
    assert (world.kinds(2)[-1], world.last(2)["code"]) == ("nack", "RoomNotFound")
    assert not {"room.joined", "room.delta", "chat.message"} & set(world.kinds(2))


def test_whoever_was_removed_and_is_a_member_again_enters(world):
    """A removal that the row already knew of is old news."""
    world.joined(1, "u1", "secret")
    world.opened(2, "u2")
    world.members.add(("r1", "u2"))
    world.remove("r1", "u2")
    delivered(world, "r1")
    world.settle()
    world.members.add(("r1", "u2"))
    world.say(2, "room.join", {"roomSlug": "secret"}, requestId="j")
    world.settle()
    assert world.kinds(2)[-1] == "ack"


def test_a_new_epoch_tells_nobody_old_events_again(world):
    """Whoever is in is told to begin anew, once; the old events of the restored log are not news to them."""
    world.joined(1, "u1")
    for text in ("a", "b"):
        world.commit("r0", "u1", text)
    delivered(world, "r0")
    world.settle()
    before = len(world.frames[1])
    world.rooms["general"] = msgspec.structs.replace(world.GENERAL, epoch="e2")
    world.run(world.core.heads({"r0": ("e2", world.head("r0"))}, 1, 1.0))
    world.settle()
    assert world.kinds(1)[before:] == ["room.reset"]
    world.say(1, "chat.send", {"text": "c"})
    world.settle()
    assert [f["payload"].get("text") for f in world.frames[1][before + 1 :]] == ["c"]


def test_a_new_epoch_throws_nobody_out_for_what_happened_long_ago(world):
    """Somebody who had left once and came back stays in the room when its log is read anew."""
    world.joined(1, "u1")
    world.remove("r0", "u1")
    delivered(world, "r0")
    world.settle()
    world.say(1, "room.join", {"roomSlug": "general"})
    world.settle()
    world.rooms["general"] = msgspec.structs.replace(world.GENERAL, epoch="e2")
    world.run(world.core.heads({"r0": ("e2", world.head("r0"))}, 1, 1.0))
    world.settle()
    assert world.kinds(1)[-1] == "room.reset"
    assert world.inside["r0"] == [1]


def test_a_delta_that_is_too_large_to_send_is_a_reset(world):
    """A room full of the longest messages must not cut off everybody who comes back, again and again."""
    world.joined(1, "u1")
    for _ in range(200):
        world.commit("r0", "u1", "\N{GRINNING FACE}" * protocol.MAX_TEXT)
    delivered(world, "r0")
    world.settle()
    world.opened(2, "u2")
    top = world.head("r0")
    for seq, kind in ((0, "room.reset"), (top - 5, "room.delta")):
        world.say(2, "resume", {"rooms": [{"roomSlug": "general", "epoch": "e1", "seq": seq}]}, requestId="r")
        world.settle()
        assert world.kinds(2)[-2:] == [kind, "ack"]


def test_a_resume_costs_as_much_as_the_rooms_it_looks_into(worlds):
    """Thirty-two reads of the database are not had for the price of one; the first resume of a socket passes."""
    world = worlds(Limits(rates={**DEFAULT_RATES, "rooms": Rate(1, 40)}))
    world.opened(1)
    rooms = [{"roomSlug": "general", "epoch": "e1", "seq": 0}] * protocol.MAX_RESUME
    for number in range(2):
        world.say(1, "resume", {"rooms": rooms}, requestId=str(number))
        world.settle()
    assert [f["payload"]["requestId"] for f in world.frames[1] if f["type"] == "ack"] == ["0"]
    nack = world.last(1, "nack")
    assert nack["code"] == "RateLimited"
    world.tick += nack["retryAfterMs"] / 1000
    world.say(1, "resume", {"rooms": rooms}, requestId="later")
    world.settle()
    assert world.last(1, "ack")["requestId"] == "later"


class Counting(dict):
    """Connections that may not be looked through."""

    def values(self):
        raise AssertionError("every connection was looked at")


def test_an_ended_session_does_not_look_at_every_connection(world):
    """Every look repeats the ends of the last half minute: each must cost what it closes, not all sockets."""
    world.opened(1, "ann")
    world.opened(2, "bob")
    world.core._connections = Counting(world.core._connections)
    world.run(world.core.ended("nobody's", CloseCode.SESSION_ENDED, 1, 1.0))
    assert world.closed == {}
    world.run(world.core.ended("bob", CloseCode.BANNED, 1, 1.0))
    assert world.closed == {2: 4003}
    world.run(world.core.ended("s1", CloseCode.SESSION_ENDED, 1, 1.0))
    assert world.closed == {1: 4009, 2: 4003}
    for key in (1, 2):
        world.run(world.core.closed(key))
    assert world.core._floor.of("s1") == world.core._floor.of("ann") == []


VOICE = (do.TakeSeat, do.HoldSeat, do.SetSeat, do.DropSeat, do.LookSeats, do.FindModerator, do.CountSetup)


@pytest.fixture
def asked(world) -> list:
    """What voice asks of the store; the world has voice."""
    world.core = RoomsCore(Limits(), Voice("one"))
    asked: list = []
    world._at_once.update(dict.fromkeys(VOICE, asked.append))
    return asked


def take(asked: list, kind: type):
    """The oldest of this kind."""
    found = next(effect for effect in asked if isinstance(effect, kind))
    asked.remove(found)
    return found


def seat(user: str, seat_id: str, room_id: str = "r0", **more) -> Seat:
    """Somebody's seat as the store has it."""
    return Seat(seat_id, room_id, user, user.upper(), more.pop("instance", "one"), 1, **more)


def test_nobody_is_moderated_in_another_room_than_the_right_was_read_of(world, asked):
    """The owner of one room, who sits in the voice of another, may not silence there who has just moved to it."""
    world.joined(1, "owner")
    world.say(1, "call.join", {})
    world.run(world.core.seats.taken(take(asked, do.TakeSeat), Taken(seat("owner", "s1")), {}, 1, 0.0))
    world.members.add(("r1", "owner"))
    world.say(1, "room.join", {"roomSlug": "secret"})
    world.settle()
    core = world.core.seats
    there = [seat("owner", "s1"), seat("bob", "s2", "r1", instance="two")]
    world.run(core.seen(there, core.mark(), 1))
    world.say(1, "call.moderate", {"targetUserId": "bob", "action": "kick"}, requestId="m")
    found = take(asked, do.FindModerator)
    world.run(core.seen([there[0], seat("bob", "s3", "r0", instance="two")], core.mark(), 1))
    entrance = Entrance(world.SECRET, Member("owner", "O", MemberRole.OWNER, 0))
    world.run(core.judged(found, entrance, 1))
    assert (world.kinds(1)[-1], world.last(1)["code"]) == ("nack", "TargetNotInRoom")
    assert not any(isinstance(effect, do.DropSeat) for effect in asked)


def repaired_while_moving(world, asked):
    """Ann's seat is given back to her while she asks for one elsewhere: what the store is asked for each."""
    world.joined(1, "ann")
    world.say(1, "call.join", {})
    core = world.core.seats
    world.run(core.taken(take(asked, do.TakeSeat), Taken(seat("ann", "s1")), {}, 1, 0.0))
    world.run(core.seen([seat("ann", "s1", held_until=99)], core.mark(), 1))
    repair = take(asked, do.TakeSeat)
    world.members.add(("r1", "ann"))
    world.say(1, "room.join", {"roomSlug": "secret"})
    world.settle()
    world.say(1, "call.join", {}, requestId="move")
    return repair, take(asked, do.TakeSeat)


def test_a_repaired_seat_does_not_answer_a_request(world, asked):
    """While the store is told that a seat is ours still, its user asks for one elsewhere: that answer is theirs."""
    core = world.core.seats
    repair, moving = repaired_while_moving(world, asked)
    world.run(core.taken(repair, Taken(seat("ann", "s1"), reclaimed=True), {}, 1, 0.0))
    assert "ack" not in world.kinds(1)
    moved = Taken(seat("ann", "s2", "r1"), left=seat("ann", "s1"))
    world.run(core.taken(moving, moved, {}, 1, 0.0))
    ack = world.last(1, "ack")
    assert (ack["requestId"], ack["seatId"], ack["roomSlug"]) == ("move", "s2", "secret")
    assert not any(isinstance(effect, do.HoldSeat) for effect in asked)


def test_a_refused_repair_does_not_refuse_a_request(world, asked):
    """The store does not give the old seat back, and the request for another one still waits for its own answer."""
    core = world.core.seats
    repair, moving = repaired_while_moving(world, asked)
    world.run(core.refused(repair, Conflict("Another tab."), 1, 0.0))
    assert "nack" not in world.kinds(1)
    world.run(core.taken(moving, Taken(seat("ann", "s2", "r1")), {}, 1, 0.0))
    assert world.last(1, "ack")["seatId"] == "s2"


@pytest.mark.parametrize(("kind", "body"), [("chat.send", "text"), ("call.ice", "signal")])
def test_what_one_socket_makes_others_take_at_once_is_bounded(world, asked, kind, body):
    """A burst of the largest frames would fill the queues of everybody in the room, and have them cut as too slow."""
    world.joined(1, "ann")
    world.say(1, "call.join", {})
    world.run(world.core.seats.taken(take(asked, do.TakeSeat), Taken(seat("ann", "s1")), {}, 1, 0.0))
    size = protocol.MAX_TEXT if kind == "chat.send" else 60_000
    text = "\N{GRINNING FACE}" * size if kind == "chat.send" else "x" * size
    for number in range(200):
        world.say(1, kind, {body: text}, requestId=str(number))
    world.settle()
    through = sum(frame["type"] == "ack" for frame in world.frames[1])
    assert through > 5
    assert through * len(text.encode()) < 1 << 20
