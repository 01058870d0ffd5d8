"""Who may: removal from a room, bans and roles, decided through one process and held by every other."""

from __future__ import annotations

import asyncio
import json

import pytest

from boltorezka.ports import NewEvent
from boltorezka.rooms.model import EventKind, Role, Room

from .conftest import DEADLINE_S
from .contract import acked, all_until_pong, asked, heard, nacked, position


@pytest.fixture
async def den(two):
    """A private room of Ann's, with Bob; each of them in it through a server of their own."""
    one, other = two
    for name in ("ann", "bob"):
        await one.person(name)
    room = Room("room-den", "den", "Den", False, one.clock.now(), "epoch-den", 0)
    await one.store.create_room(room, "user-ann", "made-den")
    await one.realtime.store_event(membership(one, EventKind.JOINED, "bob"))
    return await one.talker("ann", "den"), await other.talker("bob", "den")


def membership(rooms, kind: EventKind, name: str) -> NewEvent:
    """What adding somebody to the private room, or removing them, stores."""
    now = rooms.clock.now()
    return NewEvent("room-den", kind, f"{kind}-{name}", f"user-{name}", name.title(), "member", now, ref="user-ann")


async def test_a_removed_member_is_out_of_everything_on_every_process(two, den):
    """Live events, typing, voice, history and resume of a private room end with the removal, wherever it was made."""
    one, other = two
    ann, bob = den
    watching = await other.talker("bob", room=None)
    for talker in den:
        await acked(talker, "call.join")
    while (await heard(ann, "call.joined"))["userId"] != "user-bob":
        pass
    epoch, seq = await position(ann)
    assert {message["text"] for message in await bob.messages(1)} == {"a mark"}
    await one.realtime.store_event(membership(one, EventKind.LEFT, "bob"))
    assert (await ann.until("call.left"))[-1]["payload"]["userId"] == "user-bob"
    await acked(ann, "chat.send", {"text": "among us"})
    assert "among us" not in json.dumps(await bob.until("room.left"))
    for kind, payload in (
        ("chat.send", {"text": "hi"}), ("chat.typing", {}), ("room.read", {"seq": 1}),
        ("call.join", {}), ("call.offer", {"signal": {}}),
    ):  # fmt: skip
        assert await nacked(bob, kind, payload) in {"NoActiveRoom", "Forbidden"}, kind
    seen = {"roomSlug": "den", "epoch": epoch, "seq": seq}
    for talker in (bob, watching):
        assert await nacked(talker, "resume", {"rooms": [seen]}) == "RoomNotFound"
        assert await nacked(talker, "room.join", {"roomSlug": "den", "after": seen}) == "RoomNotFound"
    for rooms in two:
        assert rooms.realtime.recent("den", "user-bob", 50) is None
        assert (await rooms.store.entrance("den", "user-bob")).member is None
    await acked(ann, "chat.send", {"text": "still among us"})
    assert "among us" not in json.dumps(await all_until_pong(bob))


async def test_a_ban_closes_the_sockets_of_every_process(two):
    """Decided through one process, 4003 after the reason through both; nobody else is touched, no ticket is good."""
    one, other = two
    bobs = [await one.talker("bob"), await other.talker("bob"), await other.talker("bob", room=None)]
    ann = await other.talker("ann")
    late = await one.ticket("bob")
    one.realtime.user_changed(await one.store.set_banned("user-bob", True, one.clock.now()))
    for talker in bobs:
        frames, code = await talker.closed()
        assert (frames[-1]["payload"]["code"], code) == ("Banned", 4003)
    frames, code = await (await other.dial(late)).closed()
    assert ([frame["payload"]["code"] for frame in frames], code) == (["InvalidTicket"], 4002)
    await acked(ann, "ping")


async def test_a_new_role_counts_on_every_process(two):
    """Who was made an admin through one process may silence others through the other, and no longer when demoted."""
    one, other = two
    ann, bob = await one.talker("ann"), await other.talker("bob")
    await acked(ann, "call.join")
    await bob.until("call.joined")
    mute = {"targetUserId": "user-ann", "action": "mute"}
    assert await nacked(bob, "call.moderate", mute) == "Forbidden"
    one.realtime.user_changed(await one.store.set_role("user-bob", Role.ADMIN, one.clock.now()))
    await becomes(bob, "ack", mute)
    one.realtime.user_changed(await one.store.set_role("user-bob", Role.USER, one.clock.now()))
    await becomes(bob, "nack", mute)


async def becomes(talker, answer: str, mute: dict) -> None:
    """Ask to moderate until it is answered so: the other process hears of a new role a moment later."""
    async with asyncio.timeout(DEADLINE_S):
        while (await asked(talker, "call.moderate", mute))["type"] != answer:
            pass
