"""The bounds of a socket: how long a text may be, how fast somebody may talk, how slowly somebody may read."""

from __future__ import annotations

from boltorezka.rooms.connection import CHAT, DEFAULT_FRAMES, DEFAULT_RATES
from boltorezka.rooms.limits import Rate

from .conftest import DEADLINE_S
from .contract import acked, nacked


async def test_typing_is_coalesced(rooms_on):
    """Beyond the default pace typing is acked and not passed on."""
    async with rooms_on(rates=DEFAULT_RATES) as rooms:
        ann, bob = await rooms.talker("ann"), await rooms.talker("bob")
        for _ in range(100):
            await ann.say("chat.typing")
        for _ in range(100):
            assert (await ann.until("ack", "nack"))[-1]["type"] == "ack"
        await ann.say("chat.send", {"text": "typed"})
        told = sum(frame["type"] == "chat.typing" for frame in await bob.until("chat.message"))
        assert 0 < told < 100


async def test_too_fast_is_refused_with_a_time_and_then_closed(rooms_on):
    """Beyond the pace RateLimited with retryAfterMs, which is enough; two hundred refusals in a row: 1008."""
    rates = {**DEFAULT_RATES, CHAT: Rate(20, 5)}
    async with rooms_on(rates=rates) as rooms:
        ann, bob = await rooms.talker("ann"), await rooms.talker("bob")
        for _ in range(6):
            await ann.say("chat.send", {"text": "x"})
        nack = (await ann.until("nack"))[-1]["payload"]
        assert (nack["code"], nack["retryable"], nack["eventType"]) == ("RateLimited", True, "chat.send")
        assert 1 <= nack["retryAfterMs"] <= 51
        await acked(ann, "ping")
        await acked(bob, "chat.send", {"text": "unhindered"})
    async with rooms_on("two", frames=Rate(0.001, 5)) as rooms:
        flood = await rooms.talker("eve", room=None)
        for _ in range(400):
            await flood.say("ping")
        frames, code = await flood.closed()
        nacks = [frame for frame in frames if frame["type"] == "nack"]
        assert all(frame["payload"]["code"] == "RateLimited" for frame in nacks)
        assert (len(nacks), frames[-1]["payload"]["code"], code) == (201, "RateLimited", 1008)
    assert DEFAULT_FRAMES.burst >= 4 * DEFAULT_FRAMES.per_s


async def test_a_consumer_that_reads_again_in_time_learns_why(rooms_on):
    """Cut for being slow, it gets `error` SlowConsumer and 4008 behind what was already on its way."""
    async with rooms_on(send_queue_bytes=100_000, unanswered=2000, close_grace_s=DEADLINE_S) as rooms:
        slow, fast = await rooms.talker("sam"), await rooms.talker("ann")
        slow.ws.transport.pause_reading()
        while not rooms.metrics.counts["dropped slow_consumer"]:
            await fast.say("chat.send", {"text": "x" * 4000})
            await fast.messages(1)
        slow.ws.transport.resume_reading()
        frames, code = await slow.closed()
        assert (frames[-1]["type"], frames[-1]["payload"]["code"], code) == ("error", "SlowConsumer", 4008)
        seqs = [frame["payload"]["seq"] for frame in frames if frame["type"] == "chat.message"]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_a_text_has_one_to_four_thousand_characters(rooms):
    """Characters are counted, not bytes: 4000 of the widest go through, one more does not."""
    ann = await rooms.talker("ann")
    await acked(ann, "chat.send", {"text": "\N{GRINNING FACE}" * 4000})
    assert (await rooms.talker("bob")) is not None
    for text in ("", "\N{GRINNING FACE}" * 4001):
        assert await nacked(ann, "chat.send", {"text": text}) == "ValidationError"
