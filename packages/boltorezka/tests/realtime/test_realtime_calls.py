"""Voice over real sockets: seats, signals, microphones and moderators, in one process."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest

from boltorezka.ports import NewEvent
from boltorezka.rooms.model import EventKind, Role, Room
from boltorezka.voice.turn import IceServers

from .calling import asked, cut, heard, in_voice, one_is_held, seats_become

TURN_SECRET = "a-turn-secret-for-tests"


@pytest.fixture
async def rooms(rooms_on):
    """A running server with a second public room."""
    async with rooms_on() as running:
        await running.store.ensure_room(Room("room-other", "other", "Other", True, running.clock.now(), "e1", 0))
        yield running


# refusals


async def test_nothing_of_voice_works_without_a_room(rooms):
    """Without a joined room every request of voice is refused with NoActiveRoom; leaving is fine anywhere."""
    ann = await rooms.talker("ann", room=None)
    for kind, payload in [
        ("call.join", {}), ("call.offer", {"signal": {}}), ("call.hangup", {}), ("call.mic_state", {}),
        ("call.setup", {"connected": True}), ("call.moderate", {"targetUserId": "u", "action": "mute"}),
    ]:  # fmt: skip
        assert (await asked(ann, kind, payload))["code"] == "NoActiveRoom"
    assert "code" not in await asked(ann, "call.leave")


async def test_signals_need_a_seat_and_a_target_in_the_same_voice(rooms):
    """No seat: Forbidden. A target without a seat, in another room, or oneself: TargetNotInRoom."""
    spectator = await rooms.talker("eve")
    assert (await asked(spectator, "call.offer", {"signal": {}}))["code"] == "Forbidden"
    ann, mine = await in_voice(rooms, "ann")
    _, other = await in_voice(rooms, "bob", "other")
    for target in [
        {"targetUserId": "user-eve"}, {"targetUserId": "user-bob"}, {"targetSeatId": other["seatId"]},
        {"targetUserId": "user-ann"}, {"targetSeatId": mine["seatId"]}, {"targetSeatId": "nobody"},
    ]:  # fmt: skip
        assert (await asked(ann, "call.ice", {"signal": {}, **target}))["code"] == "TargetNotInRoom"
    assert (await asked(ann, "call.offer", {"signal": {"sdp": "x"}}))["relayedTo"] == 0


async def test_the_seventh_is_refused_and_comes_in_when_somebody_leaves(rooms):
    """A mesh has six seats: the seventh gets VoiceFull, and a seat as soon as one is free."""
    first, _ = await in_voice(rooms, "p0")
    for number in range(1, 6):
        await in_voice(rooms, f"p{number}")
    seventh = await rooms.talker("p6")
    assert len(seventh.in_voice["payload"]["participants"]) == 6
    full = await asked(seventh, "call.join")
    assert (full["code"], full["retryable"]) == ("VoiceFull", True)
    await asked(first, "call.leave")
    assert "seatId" in await asked(seventh, "call.join")


async def test_a_user_has_one_seat_and_moves_it_when_they_say_so(rooms):
    """A second tab gets Conflict; with `move` it takes over, both tabs hear it, and the first one's signals end."""
    ann, first = await in_voice(rooms, "ann")
    tab = await rooms.talker("ann")
    assert (await asked(tab, "call.join"))["code"] == "Conflict"
    second = await asked(tab, "call.join", {"move": True})
    assert second["seatId"] != first["seatId"]
    left = await heard(ann, "call.left")
    assert (left["seatId"], left["reason"]) == (first["seatId"], "moved")
    assert (await heard(ann, "call.joined"))["seatId"] == second["seatId"]
    assert (await asked(ann, "call.offer", {"signal": {}}))["code"] == "Forbidden"


async def test_only_the_owner_or_an_admin_moderates(rooms):
    """A member is refused, whoever the target is; a target that has no seat is named so."""
    ann, _ = await in_voice(rooms, "ann")
    await in_voice(rooms, "bob")
    for action in ("mute", "unmute", "kick"):
        refused = await asked(ann, "call.moderate", {"targetUserId": "user-bob", "action": action})
        assert refused["code"] == "Forbidden"
    nobody = await asked(ann, "call.moderate", {"targetUserId": "user-cid", "action": "kick"})
    assert nobody["code"] == "TargetNotInRoom"


# seats


async def test_everybody_hears_who_comes_and_goes(rooms):
    """The room hears it, and so does a seat's holder who reads another room; who comes later gets the state."""
    watcher = await rooms.talker("eve")
    assert watcher.in_voice["payload"] == {"roomSlug": "general", "participants": []}
    ann, ack = await in_voice(rooms, "ann")
    assert (ack["engine"], ack["iceServers"], ack["engineData"]) == ("mesh", [], {})
    assert [each["seatId"] for each in ack["participants"]] == [ack["seatId"]]
    await ann.join("other")
    bob, second = await in_voice(rooms, "bob")
    assert [each["userId"] for each in second["participants"]] == ["user-ann", "user-bob"]
    joined = await heard(watcher, "call.joined")
    assert (joined["userId"], joined["roomSlug"], joined["muted"]) == ("user-ann", "general", False)
    for talker in (watcher, ann):
        assert (await heard(talker, "call.joined"))["seatId"] == second["seatId"]
    late = await rooms.talker("late")
    assert [each["userId"] for each in late.in_voice["payload"]["participants"]] == ["user-ann", "user-bob"]
    await asked(bob, "call.leave")
    for talker in (watcher, ann, late):
        left = await heard(talker, "call.left")
        assert (left["seatId"], left["reason"]) == (second["seatId"], "left")
    await seats_become(rooms, "ann")


async def test_the_seat_outlives_the_text_room_and_its_signals_stay_in_its_voice(rooms):
    """Leaving the text room keeps the seat; signals go to the voice of the seat's room, from there and back."""
    ann, _ = await in_voice(rooms, "ann")
    bob, _ = await in_voice(rooms, "bob")
    await ann.say("room.leave")
    await ann.until("ack")
    offer = {"targetUserId": "user-bob", "signal": {"type": "offer", "sdp": "v=0", "n": [1, None]}}
    assert (await asked(ann, "call.offer", offer))["relayedTo"] == 1
    got = await heard(bob, "call.offer")
    assert got["signal"] == offer["signal"]
    assert (got["fromUserId"], got["fromUserName"], got["roomSlug"]) == ("user-ann", "Ann", "general")
    await asked(bob, "call.answer", {"targetSeatId": got["fromSeatId"], "signal": "ok"})
    assert (await heard(ann, "call.answer"))["signal"] == "ok"


async def test_asking_again_is_the_same_seat_with_new_credentials(rooms_on):
    """The credentials are what a TURN server computes from the secret, for an hour at most, and fresh at every ask."""
    ice = IceServers(["stun:s.example", "turn:t.example?transport=udp"], TURN_SECRET, 600)
    async with rooms_on(ice=ice) as rooms:
        ann, ack = await in_voice(rooms, "ann")
        stun, turn = ack["iceServers"]
        assert stun == {"urls": ["stun:s.example"]}
        assert turn["urls"] == ["turn:t.example?transport=udp"]
        digest = hmac.digest(TURN_SECRET.encode(), turn["username"].encode(), hashlib.sha1)
        assert turn["credential"] == base64.b64encode(digest).decode()
        expiry, _, user_id = turn["username"].partition(":")
        assert user_id == "user-ann"
        assert 0 < int(expiry) - time.time() <= 600
        again = await asked(ann, "call.join")
        assert (again["seatId"], len(again["iceServers"])) == (ack["seatId"], 2)


async def test_moving_on_to_another_rooms_voice_leaves_the_first(rooms):
    """The same tab joins the voice of another room: its old seat is left as moved, without being asked to say so."""
    ann, first = await in_voice(rooms, "ann")
    bob = await rooms.talker("bob")
    await ann.join("other")
    second = await asked(ann, "call.join")
    assert second["roomSlug"] == "other"
    left = await heard(bob, "call.left")
    assert (left["seatId"], left["reason"]) == (first["seatId"], "moved")


async def test_a_dropped_socket_comes_back_to_its_seat_without_noise(rooms):
    """The seat is held, shown, and reclaimed with the same id; nobody hears a word, and signals flow again."""
    ann, first = await in_voice(rooms, "ann")
    bob, _ = await in_voice(rooms, "bob")
    cut(ann)
    await one_is_held(rooms)
    again = await rooms.talker("ann")
    assert len(again.in_voice["payload"]["participants"]) == 2
    assert (await asked(again, "call.join"))["seatId"] == first["seatId"]
    await asked(again, "call.offer", {"signal": 1})
    between = await bob.until("call.offer")
    assert not {"call.left", "call.joined"} & {frame["type"] for frame in between[:-1]}
    assert between[-1]["payload"]["fromSeatId"] == first["seatId"]


async def test_a_hold_that_ends_is_told_as_lost(rooms, monkeypatch):
    """Nobody came back: when the hold is over the others hear that the seat was lost."""
    monkeypatch.setattr("boltorezka.adapters.realtime.seats.SEAT_HOLD_US", 200_000)
    ann, first = await in_voice(rooms, "ann")
    bob = await rooms.talker("bob")
    cut(ann)
    left = await heard(bob, "call.left")
    assert (left["seatId"], left["reason"]) == (first["seatId"], "lost")
    assert await rooms.store.seats(rooms.clock.now()) == []


async def test_a_logout_and_a_ban_give_the_seat_up_at_once(rooms):
    """Who is sent away is not waited for, neither with a socket nor while the seat is held."""
    session = await rooms.person("ann")
    ann = await rooms.dial(await rooms.ticket("ann", session))
    await ann.hear()
    await ann.join()
    await asked(ann, "call.join")
    bob, _ = await in_voice(rooms, "bob")
    cid, _ = await in_voice(rooms, "cid")
    watcher = await rooms.talker("eve")
    rooms.realtime.close_session(session)
    assert (await heard(watcher, "call.left"))["userId"] == "user-ann"
    rooms.realtime.user_changed(await rooms.store.set_banned("user-bob", True, rooms.clock.now()))
    assert (await heard(watcher, "call.left"))["userId"] == "user-bob"
    assert (await bob.closed())[1] == 4003
    cut(cid)
    await one_is_held(rooms)
    rooms.realtime.user_changed(await rooms.store.set_banned("user-cid", True, rooms.clock.now()))
    assert (await heard(watcher, "call.left"))["userId"] == "user-cid"
    await seats_become(rooms)


async def test_a_removed_member_loses_the_seat_at_once(rooms):
    """Removed from the room while reading another one: out of its voice, and no way back into a private room."""
    ann, _ = await in_voice(rooms, "ann")
    bob, _ = await in_voice(rooms, "bob")
    await ann.join("other")
    room = (await rooms.store.entrance("general", "user-bob")).room
    left = NewEvent(room.id, EventKind.LEFT, "event-left", "user-ann", "Ann", "", rooms.clock.now(), ref="user-bob")
    await rooms.realtime.store_event(left)
    for talker in (ann, bob):
        assert (await heard(talker, "call.left"))["userId"] == "user-ann"
    assert (await asked(ann, "call.offer", {"signal": 1}))["code"] == "Forbidden"
    await seats_become(rooms, "bob")


# microphones and moderators


async def test_a_microphone_is_told_when_it_changes_and_the_newest_wins(rooms):
    """Unchanged states are not repeated; of many quick changes the last is told; muted is in the store."""
    watcher = await rooms.talker("eve")
    ann, ack = await in_voice(rooms, "ann")
    bob, _ = await in_voice(rooms, "bob")
    for _ in range(3):
        assert (await asked(ann, "call.mic_state", {"muted": True}))["relayedTo"] == 1
    for speaking in (True, False, True):
        await asked(ann, "call.mic_state", {"muted": False, "speaking": speaking, "audioMuted": True})
    first, last = await heard(bob, "call.mic_state"), await heard(bob, "call.mic_state")
    assert (first["fromSeatId"], first["muted"], first["speaking"]) == (ack["seatId"], True, False)
    assert (last["muted"], last["speaking"], last["audioMuted"]) == (False, True, True)
    assert (await heard(watcher, "call.mic_state"))["muted"] is True
    assert (await heard(watcher, "call.mic_state"))["audioMuted"] is True
    late = await rooms.talker("late")
    state = late.in_voice["payload"]["participants"][0]
    assert (state["muted"], state["speaking"], state["audioMuted"]) == (False, True, True)
    (seat,) = [seat for seat in await rooms.store.seats(rooms.clock.now()) if seat.user_id == "user-ann"]
    assert (seat.muted, seat.audio_muted) == (False, True)


async def test_an_admin_mutes_unmutes_and_kicks(rooms):
    """Everybody in voice hears it, the seat keeps it, and a kick ends the seat as kicked; its user may come again."""
    await rooms.person("boss")
    await rooms.store.set_role("user-boss", Role.ADMIN, rooms.clock.now())
    boss = await rooms.talker("boss")
    ann, _ = await in_voice(rooms, "ann")
    bob, _ = await in_voice(rooms, "bob")
    for action, moderated in (("mute", True), ("unmute", False)):
        done = await asked(boss, "call.moderate", {"targetUserId": "user-bob", "action": action})
        assert done["relayedTo"] == 2
        for talker in (ann, bob):
            said = await heard(talker, "call.moderate")
            assert (said["action"], said["targetUserId"], said["fromUserId"]) == (action, "user-bob", "user-boss")
            assert (await heard(talker, "call.mic_state"))["moderated"] is moderated
    await asked(boss, "call.moderate", {"targetUserId": "user-bob", "action": "kick"})
    assert (await heard(bob, "call.moderate"))["action"] == "kick"
    for talker in (bob, ann):
        left = await heard(talker, "call.left")
        assert (left["userId"], left["reason"]) == ("user-bob", "kicked")
    assert "seatId" in await asked(bob, "call.join")


async def test_rejections_and_hang_ups_carry_their_reason(rooms):
    """They are relayed with the reason and without a signal; the seat stays."""
    ann, _ = await in_voice(rooms, "ann")
    bob, _ = await in_voice(rooms, "bob")
    for kind in ("call.reject", "call.hangup"):
        assert (await asked(ann, kind, {"targetUserId": "user-bob", "reason": "busy"}))["relayedTo"] == 1
        got = await heard(bob, kind)
        assert (got["reason"], got["targetUserId"]) == ("busy", "user-bob")
        assert "signal" not in got
    await seats_become(rooms, "ann", "bob")


async def test_setups_are_counted_as_their_clients_report_them(rooms):
    """Started when there is somebody to hear; ok with its time, failed, or unreported when the seat ends before."""
    ann, _ = await in_voice(rooms, "ann")
    assert rooms.metrics.counts["setup started"] == 0
    bob, _ = await in_voice(rooms, "bob")
    cid, _ = await in_voice(rooms, "cid")
    assert rooms.metrics.counts["setup started"] == 3
    await asked(ann, "call.setup", {"connected": True, "setupMs": 250})
    await asked(ann, "call.setup", {"connected": True, "setupMs": 250})
    await asked(bob, "call.setup", {"connected": False})
    await asked(cid, "call.leave")
    counts = rooms.metrics.counts
    assert [counts[f"setup {outcome}"] for outcome in ("ok", "failed", "unreported")] == [1, 1, 1]
    assert rooms.metrics.seconds == [0.25]
    await asked(ann, "call.offer", {"signal": 1})
    assert counts["relayed call.offer"] == 1
