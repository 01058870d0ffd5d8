"""The sockets over a real connection: coming in, being refused, joining, talking, leaving."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.exceptions import InvalidStatus


async def test_a_foreign_origin_is_refused_at_the_upgrade(rooms):
    """A page that is not on the list gets HTTP 403 and no socket."""
    with pytest.raises(InvalidStatus) as refused:
        await rooms.dial(origin="https://evil.example")
    assert refused.value.response.status_code == 403
    assert rooms.metrics.counts["refused Origin"] == 1


async def test_other_paths_are_not_found(rooms):
    """Only the path of the contract can be upgraded."""
    with pytest.raises(InvalidStatus) as refused:
        await rooms.dial(path="/v1/realtime/other")
    assert refused.value.response.status_code == 404


async def test_a_used_ticket_is_refused(rooms):
    """Of two sockets with one ticket exactly one comes in; the other is told why and closed with 4002."""
    ticket = await rooms.ticket("ann")
    sockets = [await rooms.dial(ticket) for _ in range(2)]
    first = [await socket.hear() for socket in sockets]
    assert sorted(frame["type"] for frame in first) == ["error", "server.ready"]
    loser = sockets[[frame["type"] for frame in first].index("error")]
    assert first[sockets.index(loser)]["payload"]["code"] == "InvalidTicket"
    assert (await loser.closed())[1] == 4002


async def test_without_a_ticket_the_socket_is_closed(rooms_on):
    """Neither a first frame that is not auth nor silence gets in: 4001."""
    async with rooms_on(auth_timeout_s=0.05) as rooms:
        silent = await rooms.dial()
        frames, code = await silent.closed()
        assert (frames[0]["payload"]["code"], code) == ("MissingTicket", 4001)
        hasty = await rooms.dial()
        await hasty.say("ping")
        assert (await hasty.closed())[1] == 4001


async def test_no_origin_needs_a_ticket_by_bearer(rooms):
    """A browser always sends an Origin: a ticket fetched by cookie does not work without one."""
    stolen = await rooms.dial(await rooms.ticket("ann", via_bearer=False), origin=None)
    assert (await stolen.closed())[1] == 4002
    tool = await rooms.dial(await rooms.ticket("ann", via_bearer=True), origin=None)
    assert (await tool.hear())["type"] == "server.ready"


async def test_frames_before_the_ticket_is_checked_are_served_in_order(rooms):
    """Auth as a frame, and everything sent behind it at once, is answered in order."""
    early = await rooms.dial()
    await early.ws.send(json.dumps({"type": "auth", "payload": {"ticket": await rooms.ticket("ann")}}))
    await early.say("room.join", {"roomSlug": "general"})
    for text in "abc":
        await early.say("chat.send", {"text": text})
    await early.say("ping")
    frames = []
    while sum(frame["type"] == "ack" for frame in frames) < 5:
        frames.append(await early.hear())
    assert frames[0]["type"] == "server.ready"
    assert [f["payload"]["text"] for f in frames if f["type"] == "chat.message"] == ["a", "b", "c"]
    joined = [frame["type"] for frame in frames][1:4]
    assert joined == ["room.joined", "room.presence", "ack"]


async def test_too_much_before_the_ticket_is_checked(rooms_on):
    """More frames than the bound, before the ticket is checked, close the socket."""
    async with rooms_on(pre_auth_frames=2) as rooms:
        greedy = await rooms.dial()
        ticket = await rooms.ticket("ann")
        frames = [json.dumps({"type": "auth", "payload": {"ticket": ticket}})] + ['{"type":"ping"}'] * 8
        for frame in frames:
            await greedy.ws.send(frame)
        heard, code = await greedy.closed()
        assert (heard[-1]["payload"]["code"], code) == ("RateLimited", 1008)


async def test_malformed_frames_leave_the_socket_open(rooms):
    """Bad JSON earns an error, an unknown type a nack, wrong types a nack; then a ping still works."""
    talker = await rooms.talker("ann", room=None)
    await talker.ws.send("{nonsense")
    assert (await talker.hear())["payload"]["code"] == "ValidationError"
    await talker.say("no.such")
    assert (await talker.hear())["payload"]["code"] == "UnknownEvent"
    await talker.say("chat.send", {"text": 7})
    nack = await talker.hear()
    assert (nack["type"], nack["payload"]["code"]) == ("nack", "ValidationError")
    await talker.say("ping")
    assert [frame["type"] for frame in await talker.until("ack")] == ["pong", "ack"]


@pytest.mark.parametrize("size", [65 * 1024, 200 * 1024])
async def test_a_frame_over_the_limit_closes_with_1009(rooms, size):
    """A frame over 64 KiB ends the connection with 1009."""
    talker = await rooms.talker("ann")
    await talker.ws.send("x" * size)
    assert (await talker.closed())[1] == 1009


async def test_a_message_in_pieces_is_put_together(rooms):
    """A text message may come in several frames."""
    talker = await rooms.talker("ann")

    async def pieces():
        for piece in ('{"type":"ping","requ', 'estId":"p', '1"}'):
            yield piece

    await talker.ws.send(pieces())
    assert (await talker.until("ack"))[-1]["payload"]["requestId"] == "p1"


async def test_sending_needs_a_room(rooms):
    """chat.send and room.leave outside a room are refused with NoActiveRoom."""
    talker = await rooms.talker("ann", room=None)
    for kind, payload in (("chat.send", {"text": "hi"}), ("room.leave", {})):
        await talker.say(kind, payload)
        assert (await talker.hear())["payload"]["code"] == "NoActiveRoom"
    assert (await talker.join("nowhere"))[-1]["payload"]["code"] == "RoomNotFound"


async def test_everybody_gets_each_message_once_in_order(rooms):
    """Three sockets of two users: each gets every message once, in order of seq, and the senders their acks."""
    talkers = [await rooms.talker(name) for name in ("ann", "ann", "bob")]
    for number in range(60):
        await talkers[number % 3].say("chat.send", {"text": str(number)})
    heard = [await talker.messages(60) for talker in talkers]
    assert heard[0] == heard[1] == heard[2]
    assert [message["seq"] for message in heard[0]] == list(range(3, 63))  # after the two who became members
    assert len({message["id"] for message in heard[0]}) == 60
    assert rooms.metrics.counts["delivery"] == 60


async def test_a_repeated_key_is_stored_once(rooms):
    """The same key again: the first message, for the sender alone, and an ack that says duplicate."""
    ann, bob = await rooms.talker("ann"), await rooms.talker("bob")
    await ann.say("chat.send", {"text": "hi"}, key="k1")
    first = (await ann.until("ack"))[-1]["payload"]
    await ann.say("chat.send", {"text": "hi"}, key="k1")
    again = await ann.until("ack")
    assert again[-1]["payload"]["duplicate"] is True
    assert again[-1]["payload"]["seq"] == first["seq"]
    assert again[-2]["payload"]["id"] == first["messageId"]
    await ann.say("chat.send", {"text": "other"}, key="k1")
    assert (await ann.hear())["payload"]["code"] == "IdempotencyConflict"
    await ann.say("chat.send", {"text": "last"})
    assert [message["text"] for message in await bob.messages(2)] == ["hi", "last"]


async def test_presence_counts_people_and_not_sockets(rooms):
    """A second tab is no news; the last tab closing is."""
    bob = await rooms.talker("bob")
    tab1, tab2 = await rooms.talker("ann"), await rooms.talker("ann")
    came = (await bob.until("presence.joined"))[-1]["payload"]
    assert (came["userName"], came["presenceCount"]) == ("Ann", 2)
    await tab1.ws.close()
    await tab2.say("room.leave")
    left = await tab2.until("ack")
    assert left[-2]["type"] == "room.left"
    assert (await bob.hear())["payload"]["presenceCount"] == 1
    assert rooms.metrics.counts["closed client"] == 1


async def test_joining_after_a_position_brings_what_was_missed(rooms):
    """With `after` a delta of exactly what was missed comes before presence, and another epoch gets a reset."""
    ann = await rooms.talker("ann")
    for number in range(5):
        await ann.say("chat.send", {"text": str(number)})
    epoch = (await ann.messages(5))[-1]["epoch"]
    bob = await rooms.talker("bob", room=None)
    frames = await bob.join(after={"epoch": epoch, "seq": 2})
    assert [frame["type"] for frame in frames] == ["room.joined", "room.delta", "room.presence", "ack"]
    delta = frames[1]["payload"]
    seqs = [event["payload"]["seq"] for event in delta["events"]]
    assert (delta["fromSeq"], delta["toSeq"], seqs) == (3, 7, [3, 4, 5, 6, 7])
    assert [event["type"] for event in delta["events"]] == ["chat.message"] * 4 + ["member.joined"]
    assert (await bob.join(after={"epoch": "other", "seq": 2}))[1]["type"] == "room.reset"
    assert (await bob.join(after={"epoch": epoch, "seq": 99}))[1]["type"] == "room.reset"
    assert (await bob.join(after={"epoch": epoch, "seq": 7}))[1]["payload"]["events"] == []


async def test_heartbeats_carry_the_top(rooms_on):
    """The heartbeat names the joined room and the seq of its newest event."""
    async with rooms_on(heartbeat_s=0.01) as rooms:
        ann = await rooms.talker("ann")
        await ann.say("chat.send", {"text": "hi"})
        await ann.messages(1)
        beat = (await ann.until("server.heartbeat"))[-1]["payload"]
        assert [room["lastSeq"] for room in beat["rooms"]] == [2]


async def test_a_drained_socket_is_told_and_closed_and_new_ones_come_in(rooms):
    """drain(): server.draining, then 4012 for each socket; the process goes on accepting; it can be done again."""
    for _ in range(2):
        talkers = [await rooms.talker(name) for name in ("ann", "bob")]
        rooms.realtime.drain()
        for talker in talkers:
            frames, code = await talker.closed()
            assert (frames[-1]["type"], code) == ("server.draining", 4012)
    await rooms.talker("cid")


async def test_an_ended_session_closes_its_sockets_only(rooms):
    """close_session: 4009 for that session's sockets, nothing for the others."""
    session_id = await rooms.person("ann")
    ann = await rooms.dial(await rooms.ticket("ann", session_id))
    await ann.hear()
    bob = await rooms.talker("bob")
    rooms.realtime.close_session(session_id)
    assert (await ann.closed())[1] == 4009
    await bob.say("ping")
    await bob.until("ack")


async def test_a_slow_consumer_is_cut(rooms_on):
    """A socket that does not read is closed with 4008 once too much waits for it; the others hear everything."""
    async with rooms_on(send_queue_bytes=100_000, unanswered=2000, close_grace_s=0.2) as rooms:
        slow, fast = await rooms.talker("sam"), await rooms.talker("ann")
        slow.ws.transport.pause_reading()
        text = "x" * 4000
        for _ in range(4000):
            await fast.say("chat.send", {"text": text})
            await fast.messages(1)
            if rooms.metrics.counts["dropped slow_consumer"]:
                break
        assert rooms.metrics.counts["dropped slow_consumer"] == 1
        slow.ws.transport.resume_reading()
        await slow.closed()
        await fast.say("ping")
        await fast.until("ack")


async def test_a_store_that_is_gone_acks_nothing(rooms, database):
    """When the database is gone a message is refused as retryable; when it is back the same key is stored once."""
    ann = await rooms.talker("ann")
    hidden = database.with_suffix(".hidden")
    database.rename(hidden)
    await ann.say("chat.send", {"text": "hi"}, key="k")
    nack = (await ann.until("nack", "ack"))[-1]
    assert (nack["type"], nack["payload"]["retryable"]) == ("nack", True)
    hidden.rename(database)
    await ann.say("chat.send", {"text": "hi"}, key="k")
    assert (await ann.until("ack"))[-1]["payload"]["seq"] == 2


async def test_browsers_that_keep_alive_are_upgraded(rooms):
    """`Connection: keep-alive, Upgrade` is a valid upgrade (RFC 9110 section 7.8); the ticket is not echoed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rooms.port)
    writer.write(
        b"GET /v1/realtime/ws?ticket=sentinel HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    refused = await reader.readuntil(b"InvalidTicket")
    assert b"sentinel" not in head + refused
    writer.close()
    await writer.wait_closed()


async def test_a_dropped_connection_is_counted_apart_from_a_goodbye(rooms):
    """A socket that closes says so; one that is cut off is `lost`: mass disconnects must show in the metrics."""
    bob = await rooms.talker("bob")
    polite, rude = await rooms.talker("ann"), await rooms.talker("cid")
    await polite.ws.close()
    rude.ws.transport.abort()
    while (await bob.until("presence.left"))[-1]["payload"]["presenceCount"] > 1:
        pass
    assert rooms.metrics.counts["closed client"] == 1
    assert rooms.metrics.counts["closed lost"] == 1
    assert rooms.realtime.sockets == 1


async def test_stop_waits_for_messages_that_were_accepted(rooms_on):
    """A message sent just before the stop is stored and acked before its socket is sent away."""
    async with rooms_on() as rooms:
        ann = await rooms.talker("ann")
        await ann.say("chat.send", {"text": "last words"})
        stopping = asyncio.ensure_future(rooms.realtime.stop())
        frames, code = await ann.closed()
        await stopping
        assert [frame["type"] for frame in frames if frame["type"] != "server.heartbeat"][-3:] == [
            "chat.message", "ack", "server.draining",
        ]  # fmt: skip
        assert code == 4012
        assert not rooms.realtime.healthy
