"""The core without a network: tickets, visits, limits, epochs, and what ends a socket."""

from __future__ import annotations

import msgspec
import pytest

from boltorezka.auth.model import Session, TicketGrant
from boltorezka.errors import RoomNotFound, Unavailable
from boltorezka.protocol import CloseCode
from boltorezka.rooms import effects as do
from boltorezka.rooms.access import entered
from boltorezka.rooms.connection import DEFAULT_RATES, Limits
from boltorezka.rooms.hall import UNLOAD_AFTER_S
from boltorezka.rooms.limits import Rate
from boltorezka.rooms.model import Entrance, Role, Room, User

SECRET = Room("r1", "secret", "Secret", False, 0, "e1", 0)
HOUR = 3600 * 1_000_000


@pytest.mark.parametrize(
    ("grant", "session", "user", "code"),
    [
        (None, None, {}, CloseCode.INVALID_TICKET),
        ({"expires_at": 5}, {}, {}, CloseCode.INVALID_TICKET),
        ({"via_bearer": False}, {}, {}, CloseCode.INVALID_TICKET),
        ({}, None, {}, CloseCode.SESSION_ENDED),
        ({}, {"revoked_at": 1}, {}, CloseCode.SESSION_ENDED),
        ({}, {"expires_at": 9}, {}, CloseCode.SESSION_ENDED),
        ({}, {}, {"banned": True}, CloseCode.BANNED),
    ],
)
def test_tickets_that_let_nobody_in(world, grant, session, user, code):
    """Each way a ticket can be bad ends in its close code, before anything else is said."""
    world.frames[1] = []
    world.run(world.core.opened(1, "ticket", has_origin=False, tick=0.0, jitter=0.0))
    base = TicketGrant("s1", "u1", True, HOUR)
    found = (
        msgspec.structs.replace(Session("s1", "u1", 1, 0, 0, HOUR), **(session or {})),
        msgspec.structs.replace(world.user, **user),
    )
    taken = None if grant is None else msgspec.structs.replace(base, **grant)
    world.run(world.core.ticket_checked(1, taken, None if session is None else found, 10, 0.1))
    assert (world.kinds(1), world.closed[1]) == (["error"], code)
    world.run(world.core.received(1, b'{"type":"ping"}', 1, 0.2))
    assert world.kinds(1) == ["error"]


def test_a_session_that_ends_while_its_ticket_is_checked_does_not_slip_in(world):
    """The logout is seen between the check's reading and its answer: the socket is refused."""
    world.frames[1] = []
    world.run(world.core.opened(1, "ticket", has_origin=True, tick=5.0, jitter=0.0))
    world.run(world.core.ended("s1", CloseCode.SESSION_ENDED, 1, 6.0))
    world.settle()
    assert world.closed[1] == CloseCode.SESSION_ENDED


def test_a_ban_closes_every_socket_of_the_user_and_a_role_counts_at_once(world):
    """user_changed: banned is 4003 for all their tabs and nobody else's; a new role is on the sockets that stay."""
    for key, user in {1: "u1", 2: "u1", 3: "u2"}.items():
        world.joined(key, user)
    world.run(world.core.user_changed(User("u2", "U2", "", Role.ADMIN, 0), 1, 1.0))
    assert world.core._connections[3].role is Role.ADMIN
    world.run(world.core.user_changed(User("u1", "U1", "", Role.USER, 0, banned=True), 1, 1.0))
    assert world.closed == {1: CloseCode.BANNED, 2: CloseCode.BANNED}
    assert world.last(1)["code"] == "Banned"


def test_a_private_room_does_not_exist_for_others(world):
    """A non-member gets the same RoomNotFound for a private room as for none, and is not made a member."""
    with pytest.raises(RoomNotFound) as private:
        entered(Entrance(SECRET, None))
    with pytest.raises(RoomNotFound) as none:
        entered(None)
    assert private.value.message == none.value.message
    world.opened(1)
    world.say(1, "room.join", {"roomSlug": "secret"}, requestId="j")
    world.settle()
    assert world.last(1)["code"] == "RoomNotFound"
    world.members.add(("r1", "u1"))
    world.say(1, "room.join", {"roomSlug": "secret"}, requestId="again")
    world.settle()
    assert world.last(1, "ack")["requestId"] == "again"


def test_the_first_join_of_a_public_room_is_an_event_of_its_log(world):
    """Joining makes a member once: the log has it, those who are there hear it, and joining again adds nothing."""
    world.joined(1, "u1")
    world.joined(2, "u2")
    assert [event.user_id for event in world.log["r0"]] == ["u1", "u2"]
    assert world.last(1, "member.joined")["userId"] == "u2"
    world.say(2, "room.join", {"roomSlug": "general"})
    world.settle()
    assert world.head("r0") == 2


def test_whoever_is_removed_hears_it_and_nothing_after_it(world):
    """After member.left the removed user's tabs are out of the room; the others stay, and presence tells them."""
    world.joined(1, "u1", "secret")
    world.joined(2, "u2", "secret")
    world.joined(3, "u2", "secret")
    world.remove("r1", "u2")
    world.commit("r1", "u1", "among us")
    world.run(world.core.heads({"r1": ("e1", world.head("r1"))}, 1, 1.0))
    world.settle()
    for key in (2, 3):
        assert world.kinds(key)[-2:] == ["member.left", "room.left"] or world.kinds(key)[-1] == "room.left"
        assert "chat.message" not in world.kinds(key)
    assert world.kinds(1)[-3:] == ["member.left", "presence.left", "chat.message"]
    world.say(2, "chat.send", {"text": "still here?"}, requestId="x")
    assert world.last(2)["code"] == "NoActiveRoom"


def test_whoever_is_removed_between_look_and_entrance_does_not_enter(world):
    """The row said member, the log then said removed: the join is refused, and nothing of the room is shown."""
    world.joined(1, "u1", "secret")
    world.opened(2, "u2")
    world.members.add(("r1", "u2"))
    world.say(2, "room.join", {"roomSlug": "secret", "after": {"epoch": "e1", "seq": 2}}, requestId="j")
    world.ask(0)
    world.commit("r1", "u1", "one")
    world.remove("r1", "u2")
    world.settle()
    assert world.last(2)["code"] == "RoomNotFound"
    assert "room.joined" not in world.kinds(2)


def test_what_is_sent_during_a_join_waits_for_it(worlds):
    """A message right behind the join goes to the joined room, and reading pauses when too much waits."""
    world = worlds(Limits(pre_auth_frames=2))
    world.opened(1)
    world.say(1, "room.join", {"roomSlug": "general"}, requestId="j")
    for number in range(4):
        world.say(1, "chat.send", {"text": str(number)}, requestId=f"m{number}")
    assert do.PauseReading(1) in world.waiting
    world.settle()
    assert [event.text for event in world.log["r0"]] == ["member", "0", "1", "2", "3"]
    assert [frame["payload"]["requestId"] for frame in world.frames[1] if frame["type"] == "ack"] == [
        "j", "m0", "m1", "m2", "m3",
    ]  # fmt: skip


def test_a_log_that_cannot_be_read_fails_the_join_and_is_tried_again(world):
    """The join is refused as retryable; the socket stays; the next regular look asks for the log again."""
    world.opened(1)
    world.say(1, "room.join", {"roomSlug": "general"}, requestId="j")
    while not isinstance(world.waiting[0], do.ReadLog):
        world.happen()
    world.run(world.core.log_failed(world.waiting.pop(), Unavailable("The database is gone."), 1, 1.0))
    assert (world.kinds(1)[-1], world.last(1)["retryable"]) == ("nack", True)
    world.run(world.core.look_again(1, 1.0))
    assert isinstance(world.waiting[0], do.ReadLog)


@pytest.mark.parametrize("how", ["join", "look"])
def test_a_new_epoch_resets_everybody(world, how):
    """When the log was rebuilt, those who are in are told to begin anew, whoever learns of it and however."""
    world.joined(1, "u1")
    world.opened(2, "u2")
    world.members.add(("r0", "u2"))
    world.rooms["general"] = msgspec.structs.replace(world.GENERAL, epoch="e2")
    if how == "join":
        world.say(2, "room.join", {"roomSlug": "general"})
    else:
        world.run(world.core.heads({"r0": ("e2", world.head("r0"))}, 1, 1.0))
    world.settle()
    assert world.last(1, "room.reset")["epoch"] == "e2"
    if how == "join":
        assert world.last(2, "room.joined")["epoch"] == "e2"


def test_too_many_unanswered_messages_are_refused(worlds):
    """Beyond the bound a message is refused with a time to come back; after an ack there is room again."""
    world = worlds(Limits(unanswered=1))
    world.joined(1)
    for number in range(2):
        world.say(1, "chat.send", {"text": "x"}, requestId=str(number))
    nack = world.last(1)
    assert (nack["code"], nack["retryAfterMs"]) == ("RateLimited", 250)
    world.settle()
    world.say(1, "chat.send", {"text": "x"}, requestId="again")
    world.settle()
    assert world.kinds(1)[-1] == "ack"


def test_a_flood_is_refused_with_a_time_and_let_in_again_after_it(worlds):
    """Each kind of event has its bucket: refused with retryAfterMs, accepted when that has passed, others untouched."""
    world = worlds(Limits(rates={**DEFAULT_RATES, "chat": Rate(10, 2)}))
    world.joined(1)
    for number in range(3):
        world.say(1, "chat.send", {"text": "x"}, requestId=str(number))
    nack = world.last(1)
    assert (nack["code"], nack["retryable"], nack["requestId"]) == ("RateLimited", True, "2")
    assert 0 < nack["retryAfterMs"] <= 101
    world.say(1, "ping", {}, requestId="p")
    assert world.kinds(1)[-1] == "ack"
    world.tick += nack["retryAfterMs"] / 1000
    world.say(1, "chat.send", {"text": "x"}, requestId="3")
    world.settle()
    assert world.last(1)["requestId"] == "3"
    assert len([event for event in world.log["r0"] if event.text == "x"]) == 3


def test_a_socket_that_never_slows_down_is_closed(worlds):
    """Whoever ignores two hundred refusals in a row is sent away with 1008, after being told why."""
    world = worlds(Limits(frames=Rate(1, 1)))
    world.opened(1)
    for _ in range(210):
        world.say(1, "ping", {})
    assert world.closed[1] == CloseCode.POLICY
    assert world.kinds(1).count("error") == 202


def test_a_session_that_runs_out_ends_at_the_next_heartbeat(world):
    """A socket does not outlive its session by more than one heartbeat."""
    world.opened(1)
    world.run(world.core.look_again(HOUR - 1, 20.0))
    assert world.kinds(1)[-1] == "server.heartbeat"
    world.run(world.core.look_again(HOUR, 50.0))
    assert world.closed[1] == CloseCode.SESSION_ENDED


def test_an_empty_room_is_forgotten_after_a_while_and_loads_again(world):
    """Five minutes after the last socket a room is unloaded; whoever comes then reads the log again."""
    world.joined(1)
    page = world.core.hall.recent("general", "u1", 10)
    assert (page.room.epoch, page.room.last_seq, page.events, page.has_more) == ("e1", 1, (), False)
    world.run(world.core.closed(1))
    for tick in (1.0, UNLOAD_AFTER_S + 2):
        world.run(world.core.look_again(1, tick))
    assert world.core.hall.recent("general", "u1", 10) is None


def test_recent_messages_of_a_private_room_are_for_those_who_are_in_it(world):
    """From memory a private room is read only by a user with a socket in it; others must be judged by the store."""
    world.joined(1, "u1", "secret")
    world.opened(2, "u2")
    assert world.core.hall.recent("secret", "u1", 10) is not None
    assert world.core.hall.recent("secret", "u2", 10) is None
    world.remove("r1", "u1")
    world.run(world.core.heads({"r1": ("e1", world.head("r1"))}, 1, 1.0))
    world.settle()
    assert world.core.hall.recent("secret", "u1", 10) is None
