"""Voice in the core, without a network: what only a clock, a slow store or another process can show."""

from __future__ import annotations

import json

import msgspec
import pytest

from boltorezka import protocol
from boltorezka.errors import Conflict, Forbidden, RoomNotFound, Unavailable, VoiceFull
from boltorezka.protocol import CloseCode
from boltorezka.rooms import effects as do
from boltorezka.rooms.access import voice_moderated
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.hints import Committed, Relay
from boltorezka.rooms.model import Entrance, Event, EventKind, Member, MemberRole, Role, User
from boltorezka.rooms.seating import Voice
from boltorezka.voice.engine import Caps, Connected, Lost, Message, SignalOut, Speaking
from boltorezka.voice.model import Seat, Taken

VOICE = (
    do.TakeSeat, do.HoldSeat, do.SetSeat, do.DropSeat, do.LookSeats, do.FindModerator, do.AskEngine, do.WakeMic,
    do.CountSetup, do.CountRelayed,
)  # fmt: skip
SFU = Caps("janus", "sfu", 20, enforces_mute=True, hides_addresses=True)


class Calls:
    """A world whose voice effects are kept, each until the test answers it."""

    def __init__(self, world, caps: Caps | None = None) -> None:
        self.world = world
        world.core = RoomsCore(world.core._limits, Voice("one", caps or Voice().caps))
        self.asked: list = []
        world._at_once.update(dict.fromkeys(VOICE, self.asked.append))
        self._seats = 0

    def wanted(self, kind: type):
        """The oldest effect of this kind, taken out."""
        found = next(effect for effect in self.asked if isinstance(effect, kind))
        self.asked.remove(found)
        return found

    def wants(self, kind: type) -> bool:
        return any(isinstance(effect, kind) for effect in self.asked)

    def enter(self, key: int, user: str, slug: str = "general") -> None:
        """A socket in a room."""
        self.world.joined(key, user, slug)

    def ask(self, key: int, kind: str, payload: dict | None = None) -> None:
        self.world.say(key, kind, payload or {}, requestId="r")

    def answer(self, **more) -> Seat:
        """The store gives the seat that was asked for."""
        asked = self.wanted(do.TakeSeat)
        self._seats += 1
        seat = Seat(f"seat-{self._seats}", asked.room_id, asked.user_id, asked.user_name, "one", self._seats)
        seat = more.pop("seat", seat)
        self.world.run(self.world.core.seats.taken(asked, Taken(seat, **more), {}, self.world.now, self.world.tick))
        return seat

    def settle(self, kind: type) -> None:
        """The store has written a change."""
        self.world.run(self.world.core.seats.settled(self.wanted(kind).user_id))

    def sit(self, key: int, user: str, slug: str = "general") -> Seat:
        """A socket in a room with a seat."""
        self.enter(key, user, slug)
        self.ask(key, "call.join")
        return self.answer()

    def seen(self, *seats: Seat) -> None:
        """A look at the store."""
        core = self.world.core.seats
        self.world.run(core.seen(seats, core.mark(), self.world.now))


@pytest.fixture
def calls(world) -> Calls:
    """A world with voice."""
    return Calls(world)


def elsewhere(user: str, seat_id: str = "far", **more) -> Seat:
    """A seat of another process."""
    return Seat(seat_id, "r0", user, user.upper(), "two", 1, **more)


def test_rights_to_moderate(worlds):
    """A member may not, an outsider learns nothing; the owner and an admin may."""

    def entrance(role: MemberRole | None) -> Entrance:
        member = None if role is None else Member("u", "U", role, 0)
        return Entrance(worlds.SECRET, member)

    with pytest.raises(Forbidden):
        voice_moderated(entrance(MemberRole.MEMBER), Role.USER)
    for nothing in (None, entrance(None)):
        with pytest.raises(RoomNotFound):
            voice_moderated(nothing, Role.SUPER_ADMIN)
    voice_moderated(entrance(MemberRole.OWNER), Role.USER)
    voice_moderated(entrance(MemberRole.MEMBER), Role.ADMIN)


@pytest.mark.parametrize("error", [VoiceFull("Full."), Conflict("Another tab."), Unavailable("Down.")])
def test_a_refused_seat_is_a_nack_and_the_socket_goes_on(calls, error):
    """The store's refusal is answered as it is; what waited is served, and the next try asks anew."""
    calls.enter(1, "ann")
    calls.ask(1, "call.join")
    calls.ask(1, "ping")
    world = calls.world
    assert world.kinds(1)[-1] != "pong"  # it waits for the seat
    world.run(world.core.seats.refused(calls.wanted(do.TakeSeat), error, world.now, world.tick))
    assert world.kinds(1)[-3:] == ["nack", "pong", "ack"]
    assert world.last(1, "nack")["code"] == error.code
    calls.ask(1, "call.join")
    assert calls.wants(do.TakeSeat)


def test_a_socket_lost_while_its_seat_is_taken_holds_it(calls):
    """The seat is there, so everybody hears of it, and it is held for whoever comes back."""
    calls.enter(1, "ann")
    calls.enter(2, "bob")
    calls.ask(1, "call.join")
    calls.world.run(calls.world.core.closed(1))
    seat = calls.answer()
    assert calls.world.last(2, "call.joined")["seatId"] == seat.id
    assert calls.wanted(do.HoldSeat).seat_id == seat.id


@pytest.mark.parametrize("how", ["removed", "banned"])
def test_who_is_sent_away_while_their_seat_is_taken_does_not_get_it(calls, how):
    """A membership or a user that ends in between: the seat is given back, and nobody hears of it."""
    calls.enter(1, "ann")
    calls.enter(2, "bob")
    calls.ask(1, "call.join")
    world = calls.world
    if how == "banned":
        world.run(world.core.user_changed(User("ann", "Ann", "", Role.USER, 0, True), world.now, world.tick))
    else:
        left = Event("r0", 9, EventKind.LEFT, "e9", "ann", "ANN", "", 1, ref="bob")
        world.run(world.core.committed(Committed("r0", "e1", (left,)), world.now, world.tick))
    seat = calls.answer()
    assert calls.wanted(do.DropSeat).seat_id == seat.id
    assert not {"call.joined", "call.left"} & set(world.kinds(2))
    if how == "removed":
        assert world.last(1, "nack")["code"] == "RoomNotFound"


def test_a_slow_consumer_keeps_its_seat_and_a_logout_does_not(calls):
    """Why a socket is closed decides: whoever may come back is waited for."""
    first, second = calls.sit(1, "ann"), calls.sit(2, "bob")
    world = calls.world
    world.run(world.core.close(1, CloseCode.SLOW_CONSUMER, "Slow.", world.now))
    assert calls.wanted(do.HoldSeat).seat_id == first.id
    world.run(world.core.close(2, CloseCode.SESSION_ENDED, "Ended.", world.now))
    assert calls.wanted(do.DropSeat).seat_id == second.id


def test_a_logout_gives_up_what_is_held_for_that_session(calls):
    """The session's socket was lost, then the session ended: nobody can come back to that seat."""
    seat = calls.sit(1, "ann")
    world = calls.world
    world.run(world.core.closed(1))
    calls.settle(do.HoldSeat)
    world.run(world.core.ended("s1", CloseCode.SESSION_ENDED, world.now, world.tick))
    assert calls.wanted(do.DropSeat).seat_id == seat.id


def test_a_hold_that_ended_is_asked_of_the_store(calls):
    """Another process may have it by now: only the store says that it is lost."""
    seat = calls.sit(1, "ann")
    calls.enter(2, "bob")
    world = calls.world
    world.run(world.core.closed(1))
    held = calls.wanted(do.HoldSeat)
    world.run(world.core.seats.settled(held.user_id, held.seat_id, 100))
    assert world.core.seats.counts == (0, 1)
    world.run(world.core.look_again(99, 1.0))
    assert not calls.wants(do.LookSeats)
    world.run(world.core.look_again(100, 2.0))
    assert calls.wants(do.LookSeats)
    calls.seen()
    left = world.last(2, "call.left")
    assert (left["seatId"], left["reason"]) == (seat.id, "lost")


def test_what_the_store_says_wrongly_of_us_is_repaired(calls):
    """Held though its socket is here: taken again. Ours without a socket: held. Another's now: the old tab is told."""
    seat = calls.sit(1, "ann")
    calls.seen(msgspec.structs.replace(seat, held_until=1000))
    again = calls.wanted(do.TakeSeat)
    assert (again.user_id, again.move) == ("ann", False)
    world = calls.world
    world.run(world.core.seats.taken(again, Taken(seat, reclaimed=True), {}, world.now, world.tick))
    assert world.kinds(1)[-1] != "nack"
    orphan = msgspec.structs.replace(elsewhere("bob"), instance="one")
    calls.seen(seat, orphan)
    assert calls.wanted(do.HoldSeat).seat_id == orphan.id
    calls.seen(msgspec.structs.replace(seat, instance="two"), orphan)
    left = world.last(1, "call.left")
    assert (left["seatId"], left["reason"]) == (seat.id, "moved")
    calls.ask(1, "call.offer", {"signal": 1})
    assert world.last(1)["code"] == "Forbidden"


def test_a_lost_reclaim_asks_the_store_who_sits_there(calls):
    """Our lease ran out and somebody else has the seat now: no nack to a socket that asked nothing."""
    seat = calls.sit(1, "ann")
    calls.seen(msgspec.structs.replace(seat, held_until=1000))
    world = calls.world
    before = len(world.frames[1])
    world.run(world.core.seats.refused(calls.wanted(do.TakeSeat), Conflict("Taken."), world.now, world.tick))
    assert len(world.frames[1]) == before
    assert calls.wants(do.LookSeats)


def test_seats_of_other_processes_are_told_with_their_reasons(calls):
    """A look tells who came, who left, was lost or moved, and whose microphone is off."""
    calls.enter(1, "ann")
    world = calls.world
    calls.seen(elsewhere("bob", "b1"), elsewhere("cid", "c1"))
    assert [f["payload"]["seatId"] for f in world.frames[1] if f["type"] == "call.joined"] == ["b1", "c1"]
    calls.seen(elsewhere("bob", "b1", muted=True, moderated=True), elsewhere("cid", "c1", held_until=50))
    state = world.last(1, "call.mic_state")
    assert (state["fromSeatId"], state["muted"], state["moderated"]) == ("b1", True, True)
    calls.seen(elsewhere("bob", "b2"))
    left = {f["payload"]["seatId"]: f["payload"]["reason"] for f in world.frames[1] if f["type"] == "call.left"}
    assert left == {"b1": "moved", "c1": "lost"}
    calls.seen()
    assert world.last(1, "call.left")["reason"] == "left"


def test_signals_to_other_processes_are_published_and_theirs_delivered(calls):
    """Remote seats are named in a hint, held ones hear nothing; a hint reaches only the seats it names."""
    mine = calls.sit(1, "ann")
    calls.sit(2, "bob")
    calls.seen(*list(calls.world.core._floor.seating.book), elsewhere("cid"), elsewhere("dan", "away", held_until=99))
    calls.ask(1, "call.ice", {"signal": {"candidate": "x"}})
    world = calls.world
    assert world.last(1, "ack")["relayedTo"] == 2
    hint = world.published[-1]
    assert (hint.seats, json.loads(hint.frame)["payload"]["signal"]) == (("far",), {"candidate": "x"})
    assert calls.wanted(do.CountRelayed) == do.CountRelayed("call.ice", 2)
    before = len(world.frames[2])
    world.run(world.core.relayed(Relay("r0", hint.frame, seats=(mine.id,))))
    assert world.kinds(1)[-1] == "call.ice"
    assert len(world.frames[2]) == before
    world.run(world.core.relayed(Relay("r0", '{"type":"call.of.tomorrow","payload":{}}', seats=(mine.id,))))
    assert world.kinds(1)[-1] == "call.of.tomorrow"


def test_speaking_elsewhere_is_known_here(calls):
    """A microphone relayed by another process is in what a socket is told that joins later."""
    mine = calls.sit(1, "ann")
    calls.seen(mine, elsewhere("bob"))
    state = protocol.RelayedMicState("bob", "BOB", "far", "r0", "general", "t", speaking=True)
    calls.world.run(calls.world.core.relayed(Relay("r0", protocol.encode(state).decode(), seats=(mine.id,))))
    calls.enter(2, "cid")
    people = calls.world.in_voice[2][-1]["payload"]["participants"]
    assert {each["userId"]: each["speaking"] for each in people} == {"ann": False, "bob": True}


def test_a_microphone_is_told_five_times_a_second_at_most(calls):
    """The first change at once, the newest of the rest when its time has come, and nothing when it went back."""
    seat, _ = calls.sit(1, "ann"), calls.sit(2, "bob")
    world = calls.world

    def told() -> list[bool]:
        return [f["payload"]["speaking"] for f in world.frames[2] if f["type"] == "call.mic_state"]

    for speaking in (True, False, True, False):
        calls.ask(1, "call.mic_state", {"speaking": speaking})
    assert told() == [True]
    wake = calls.wanted(do.WakeMic)
    assert not calls.wants(do.WakeMic)
    assert wake.after_s == pytest.approx(0.2)
    world.tick = 0.2
    world.run(world.core.seats.mic_due(seat.id, world.now, world.tick))
    assert told() == [True, False]
    calls.ask(1, "call.mic_state", {"speaking": True})
    calls.ask(1, "call.mic_state", {"speaking": False})
    world.run(world.core.seats.mic_due(seat.id, world.now, 0.4))
    assert told() == [True, False]
    assert not calls.wants(do.SetSeat)
    world.run(world.core.seats.mic_due("gone", world.now, 0.4))


def test_too_many_signals_are_refused_with_a_time_to_come_back(calls):
    """A burst of 200 is served; then RateLimited, and more after a while. Joins have a bucket of their own."""
    calls.sit(1, "ann")
    world = calls.world
    for _ in range(200):
        calls.ask(1, "call.ice", {"signal": 1})
        assert world.kinds(1)[-1] == "ack"
    calls.ask(1, "call.ice", {"signal": 1})
    assert (world.last(1)["code"], world.last(1)["retryAfterMs"]) == ("RateLimited", 21)
    for _ in range(4):
        calls.ask(1, "call.join")
        assert world.last(1)["seatId"]
    calls.ask(1, "call.join")
    assert world.last(1)["code"] == "RateLimited"
    world.tick = 0.03
    calls.ask(1, "call.ice", {"signal": 1})
    assert world.kinds(1)[-1] == "ack"


def test_a_target_that_left_while_the_right_was_looked_up(calls):
    """The moderator's right is known a moment later; by then the seat may be gone, and so may the moderator."""
    calls.enter(1, "boss")
    target = calls.sit(2, "ann")
    owner = Entrance(calls.world.GENERAL, Member("boss", "Boss", MemberRole.OWNER, 0))
    calls.ask(1, "call.moderate", {"targetUserId": "ann", "action": "kick"})
    calls.ask(2, "call.leave")
    world = calls.world
    asked = calls.wanted(do.FindModerator)
    world.run(world.core.seats.judged(asked, owner, world.now))
    assert world.last(1, "nack")["code"] == "TargetNotInRoom"
    world.run(world.core.seats.judged(asked, Unavailable("Down."), world.now))
    assert world.last(1, "nack")["code"] == "ServerError"
    world.run(world.core.closed(1))
    assert world.core.seats.judged(asked, owner, world.now) == []
    assert calls.wanted(do.DropSeat).seat_id == target.id


def test_the_owner_mutes_somebody_of_another_process(calls):
    """The word goes to their process, the store keeps it without touching what they say themselves."""
    calls.enter(1, "boss")
    calls.seen(elsewhere("bob", muted=True))
    calls.ask(1, "call.moderate", {"targetUserId": "bob", "action": "mute"})
    world = calls.world
    owner = Entrance(world.GENERAL, Member("boss", "Boss", MemberRole.OWNER, 0))
    world.run(world.core.seats.judged(calls.wanted(do.FindModerator), owner, world.now))
    assert calls.wanted(do.SetSeat) == do.SetSeat("far", "bob", moderated=True)
    assert world.published[-1].seats == ("far",)
    assert world.last(1, "ack")["relayedTo"] == 1


def test_leaving_gives_up_what_is_held_for_the_user(calls):
    """Back on a new socket without a seat: leaving means the held one, and never another tab's."""
    seat = calls.sit(1, "ann")
    calls.enter(2, "ann")
    calls.ask(2, "call.leave")
    assert not calls.wants(do.DropSeat)
    calls.world.run(calls.world.core.closed(1))
    calls.ask(2, "call.leave")
    assert calls.wanted(do.DropSeat).seat_id == seat.id


def test_an_sfu_gets_the_signals_and_its_word_reaches_its_seat(world):
    """With a server-side engine, offers go to it and its answers come from no seat; it can end a seat, too."""
    calls = Calls(world, SFU)
    seat = calls.sit(1, "ann")
    calls.sit(2, "bob")
    assert world.last(1, "ack")["engine"] == "janus"
    calls.ask(1, "call.offer", {"signal": {"sdp": "v=0"}})
    assert calls.wanted(do.AskEngine) == do.AskEngine(seat.id, "offer", '{"sdp": "v=0"}')
    assert "call.offer" not in world.kinds(2)
    say = world.core.seats.engine_said
    world.run(say(seat.id, SignalOut("x", Message("answer", '{"sdp":"a"}')), world.now, world.tick))
    answer = world.last(1, "call.answer")
    assert (answer["signal"], answer["fromSeatId"], answer["targetUserId"]) == ({"sdp": "a"}, "", "ann")
    world.run(say(seat.id, Speaking("x", True), world.now, world.tick))
    assert world.last(2, "call.mic_state")["speaking"] is True
    calls.asked.clear()
    world.run(say(seat.id, Connected("x"), world.now, world.tick))
    assert calls.wanted(do.CountSetup).outcome == "ok"
    world.run(say(seat.id, Lost("x"), world.now, world.tick))
    assert world.last(2, "call.left")["reason"] == "lost"
    assert say(seat.id, Connected("x"), world.now, world.tick) == []
