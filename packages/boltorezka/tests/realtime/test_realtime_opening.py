"""Coming in over real sockets: origins, tickets, and what waits until a ticket is checked."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.exceptions import InvalidStatus

from boltorezka.adapters.realtime import RealtimeSettings

from .conftest import DEADLINE_S
from .contract import MovedClock, legal


@pytest.mark.parametrize(
    "origin",
    [
        "null", "https://rooms.example.evil.example", "https://evil-rooms.example", "http://rooms.example",
        "https://rooms.example:444", "https://rooms.example/", "https://ROOMS.example", "https://sub.rooms.example",
    ],
)  # fmt: skip
async def test_an_origin_is_compared_exactly(rooms, origin):
    """What only resembles an allowed page is refused at the upgrade, whatever ticket it has."""
    with pytest.raises(InvalidStatus) as refused:
        await rooms.dial(await rooms.ticket("ann"), origin=origin)
    assert refused.value.response.status_code == 403
    body = json.loads(refused.value.response.body)
    assert (body["error"], body["retryable"]) == ("Forbidden", False)


async def test_a_ticket_that_is_no_good_is_refused_with_its_reason(rooms):
    """Expired, corrupted, empty: `error` InvalidTicket, then 4002; in a frame as in the address."""
    good = await rooms.ticket("ann")
    for bad in (await rooms.ticket("ann", ttl_s=-1), good[:-1] + "_" * 2, "x", "%00", "x" * 400):
        frames, code = await (await rooms.dial(bad)).closed()
        assert ([frame["payload"]["code"] for frame in frames], code) == (["InvalidTicket"], 4002), bad
    talker = await rooms.dial()
    await talker.say("auth", {"ticket": "wrong"})
    frames, code = await talker.closed()
    assert (frames[-1]["payload"]["code"], code) == ("InvalidTicket", 4002)


async def test_a_ticket_of_an_ended_session_says_so(rooms):
    """Revoked between the ticket and the socket: `error` SessionEnded, then 4009."""
    session_id = await rooms.person("ann")
    ticket = await rooms.ticket("ann", session_id)
    await rooms.store.revoke_session(session_id, rooms.clock.now())
    frames, code = await (await rooms.dial(ticket)).closed()
    assert (frames[-1]["payload"]["code"], code) == ("SessionEnded", 4009)


async def test_a_ban_during_the_check_of_the_ticket_is_told(rooms):
    """Decided between the ticket and its session, which a ban ends too: `error` Banned, then 4003."""
    ticket, take = await rooms.ticket("ann"), rooms.store.take_ticket

    async def take_and_ban(ticket_hash: bytes):
        grant = await take(ticket_hash)
        await rooms.store.set_banned("user-ann", True, rooms.clock.now())
        return grant

    rooms.store.take_ticket = take_and_ban
    frames, code = await (await rooms.dial(ticket)).closed()
    assert ([frame["payload"]["code"] for frame in frames], code) == (["Banned"], 4003)


async def test_a_socket_ends_with_its_session(rooms_on, rooms):
    """A session that ran out ends its sockets with 4009 at the next heartbeat."""
    clock = MovedClock(rooms.clock)
    async with rooms_on("two", clock, heartbeat_s=0.01) as later:
        ann = await later.talker("ann")
        clock.ahead_s = 3601
        frames, code = await ann.closed()
        assert (frames[-1]["payload"]["code"], code) == ("SessionEnded", 4009)


@pytest.fixture
async def slow_check(rooms):
    """A server whose ticket checks wait for `set`."""
    gate, take = asyncio.Event(), rooms.store.take_ticket

    async def later(ticket_hash: bytes):
        await gate.wait()
        return await take(ticket_hash)

    rooms.store.take_ticket = later
    return gate


def bounds() -> tuple[int, int, float]:
    """Frames, bytes and seconds before a ticket is checked, as the server has them by default."""
    defaults = RealtimeSettings()
    return defaults.pre_auth_frames, defaults.pre_auth_bytes, defaults.auth_timeout_s


@pytest.mark.parametrize("in_frame", [False, True])
async def test_thirty_two_frames_wait_for_the_ticket_in_order(rooms, slow_check, in_frame):
    """Those before the check are served after it, in order and without a loss, wherever the ticket stood."""
    assert bounds() == (32, 64 * 1024, 5.0)
    ticket = await rooms.ticket("ann")
    early = await rooms.dial(None if in_frame else ticket)
    if in_frame:
        await early.ws.send(json.dumps({"type": "auth", "payload": {"ticket": ticket}}))
    sent = [await early.say("room.join", {"roomSlug": "general"})]
    sent += [await early.say("chat.send", {"text": str(number)}) for number in range(31)]
    await served(early)
    slow_check.set()
    assert (await early.hear())["type"] == "server.ready"
    frames = []
    while sum(frame["type"] in {"ack", "nack"} for frame in frames) < 32:
        frames.append(await early.hear())
    assert [frame["payload"]["requestId"] for frame in frames if frame["type"] == "ack"] == sent
    texts = [frame["payload"]["text"] for frame in frames if frame["type"] == "chat.message"]
    assert texts == [str(number) for number in range(31)]


async def served(talker) -> None:
    """Wait until the server has read everything that was sent: it answers a ping of the protocol in its order."""
    async with asyncio.timeout(DEADLINE_S):
        await (await talker.ws.ping())


@pytest.mark.parametrize(("count", "size"), [(33, 0), (3, 30_000)])
async def test_more_than_may_wait_for_the_ticket_is_refused(rooms, slow_check, count, size):
    """The 33rd frame, or more than 64 KiB, before the check: told, and closed with 1008."""
    greedy = await rooms.dial(await rooms.ticket("ann"))
    for _ in range(count):
        await greedy.ws.send(json.dumps({"type": "ping", "payload": {"x": "x" * size}}))
    frames, code = await greedy.closed()
    assert (frames[-1]["payload"]["code"], code) == ("RateLimited", 1008)


async def test_a_check_that_takes_too_long_is_given_up(rooms_on):
    """When the store does not answer in time the client is told to try again later."""
    async with rooms_on(auth_timeout_s=0.05) as rooms:
        never = asyncio.Event()

        async def hang(_ticket_hash: bytes):
            await never.wait()

        rooms.store.take_ticket = hang
        frames, code = await (await rooms.dial("any")).closed()
        assert (frames[-1]["payload"]["retryable"], code) == (True, 1013)


async def test_the_server_says_what_it_promises_when_it_is_ready(rooms):
    """The user, the connection and the heartbeat of 25 s."""
    ready = legal(await (await rooms.dial(await rooms.ticket("ann"))).hear())
    assert (ready["userId"], ready["userName"]) == ("user-ann", "Ann")
    assert (ready["heartbeatMs"], type(ready["connectionId"])) == (25_000, str)
