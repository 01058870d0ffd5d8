"""Two processes on one file: messages, presence and ended sessions cross, as during every rollout."""

from __future__ import annotations

import asyncio

import pytest


async def flood(talker, name: str, count: int) -> None:
    """Send messages as fast as the socket takes them."""
    for number in range(count):
        await talker.say("chat.send", {"text": f"{name} {number}"}, key=f"{name}-{number}")


@pytest.mark.drill
async def test_five_hundred_messages_from_both_sides_cross_in_order(process_on):
    """Both processes deliver all 1,000 messages once each, in the order of seq, the same to everybody.

    One runs on uvloop and one on plain asyncio: both loops swap the protocol under the connection correctly.
    """
    one, two = await process_on("one", "ann", "bob", loop="uvloop"), await process_on("two", "cid", "dora")
    ann, bob = await one.talker("ann"), await one.talker("bob")
    cid, dora = await two.talker("cid"), await two.talker("dora")
    await asyncio.gather(flood(ann, "ann", 500), flood(cid, "cid", 500))
    heard = await asyncio.gather(*(talker.messages(1000) for talker in (ann, bob, cid, dora)))
    assert [message["seq"] for message in heard[0]] == list(range(5, 1005))  # after the four who became members
    assert all(messages == heard[0] for messages in heard)
    for name in ("ann", "cid"):
        texts = [message["text"] for message in heard[0] if message["text"].startswith(name)]
        assert texts == [f"{name} {number}" for number in range(500)]


@pytest.mark.drill
async def test_presence_crosses_and_a_killed_process_takes_its_people_with_it(process_on):
    """People of the other process are present here; when it is killed they leave as its lease runs out."""
    one, two = await process_on("one", "ann"), await process_on("two", "bob", "ann")
    ann = await one.talker("ann")
    bob = await two.talker("bob")
    assert (await ann.until("presence.joined"))[-1]["payload"]["userName"] == "Bob"
    await two.talker("ann")  # here twice now: her leaving one of them is no news
    people = next(frame for frame in await bob.join() if frame["type"] == "room.presence")["payload"]["users"]
    assert sorted(user["userName"] for user in people) == ["Ann", "Bob"]
    two.process.kill()
    left = (await ann.until("presence.left"))[-1]["payload"]
    assert (left["userName"], left["presenceCount"]) == ("Bob", 1)


async def test_a_session_ended_elsewhere_closes_the_sockets_here(two):
    """A logout through one server reaches the sockets of the same session on the other."""
    one, other = two
    session_id = await one.person("ann")
    ann = await one.dial(await one.ticket("ann", session_id))
    await ann.hear()
    await other.store.revoke_session(session_id, other.clock.now())
    assert (await ann.closed())[1] == 4009


async def test_a_client_that_moves_over_misses_nothing(two):
    """A client that saw a seq here joins there with it at once: the other catches up first, and answers no reset."""
    one, other = two
    mover, ann = await other.talker("mover", room=None), await one.talker("ann")
    await other.talker("mover")  # a member by this other tab, so that joining adds nothing to the log
    for number in range(20):
        await ann.say("chat.send", {"text": str(number)})
        seen = (await ann.messages(1))[0]
        frames = await mover.join(after={"epoch": seen["epoch"], "seq": seen["seq"]})
        # being in the room already, it may hear the message live before its answer begins
        start = [frame["type"] for frame in frames].index("room.joined")
        joined, delta = frames[start], frames[start + 1]
        assert (joined["payload"]["lastSeq"], delta["type"]) == (seen["seq"], "room.delta")
        assert delta["payload"]["events"] == []


async def test_the_lease_is_given_back(rooms_on):
    """After a clean stop nothing of the process is left in the store: no lease, no presence."""
    async with rooms_on("one") as one:
        async with rooms_on("two") as two:
            await two.talker("bob")
        assert await one.store.presence() == []
        assert await one.store.renew_lease("one", one.clock.now(), one.clock.now() + 1_000_000) == []
