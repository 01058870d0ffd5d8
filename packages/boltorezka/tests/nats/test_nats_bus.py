"""The bus on NATS: hints between two processes, and what happens when the server is away, slow, or talks nonsense."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import replace

import nats
import pytest

from boltorezka.adapters import nats_bus
from boltorezka.adapters.nats_bus import NatsBus
from boltorezka.rooms.hints import Committed, Look, Relay
from boltorezka.rooms.model import Event, EventKind
from boltorezka.testing_servers import running_nats

DEADLINE_S = 30


class Process:
    """One process: its bus, and what it has heard."""

    def __init__(self, bus: NatsBus) -> None:
        self.bus = bus
        self.heard = []
        self._changed = asyncio.Event()

    def hear(self, hint) -> None:
        """What the bus calls."""
        self.heard.append(hint)
        self._changed.set()

    async def until(self, true) -> None:
        """Wait until this holds of what was heard, or of the bus."""
        async with asyncio.timeout(DEADLINE_S):
            while not true(self):
                self._changed.clear()
                # A lost connection is not heard, so it is looked at again soon.
                wait = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({wait}, timeout=0.02)
                wait.cancel()

    async def connected(self) -> None:
        """Wait for the connection."""
        await self.until(lambda me: me.bus.healthy)


@pytest.fixture
async def make():
    """Makes one more process with a started bus."""
    async with AsyncExitStack() as stack:

        async def start(address, namespace="tests"):
            process = Process(NatsBus(address, namespace))
            await process.bus.start(process.hear)
            stack.push_async_callback(process.bus.stop)
            return process

        yield start


@pytest.fixture
async def two(make, nats_server):
    """Two connected processes that have heard of each other."""
    first, second = await make(nats_server.address), await make(nats_server.address)
    await first.connected()
    await second.connected()
    # The one that was connected first hears its own beginning and the other's.
    await first.until(lambda me: len(me.heard) + len(second.heard) >= 3)
    await _quiet(first, second)
    return first, second


async def _quiet(*processes):
    """Everything sent so far has arrived: a mark from each has come to all others."""
    for index, process in enumerate(processes):
        mark = Relay("mark", str(index))
        process.bus.publish(mark)
        for other in processes:
            if other is not process:
                await other.until(lambda me, mark=mark: mark in me.heard)
    for process in processes:
        process.heard.clear()


def committed(first_seq: int, count: int = 1, text: str = "hi") -> Committed:
    """A hint of this many messages."""
    events = (
        Event("room", seq, EventKind.MESSAGE, f"m{seq}", "ann", "Ann", text, seq)
        for seq in range(first_seq, first_seq + count)
    )
    return Committed("room", "epoch", tuple(events))


def seqs(process: Process) -> list[int]:
    """What was heard of the log."""
    return [event.seq for hint in process.heard if isinstance(hint, Committed) for event in hint.events]


async def test_what_one_publishes_the_other_hears_in_order_and_oneself_does_not(two):
    """Each kind of hint arrives as it was, in order; none comes back."""
    first, second = two
    sent = [committed(1, 3), Relay("room", "{}", seats=("s",), but="ann"), Look(), committed(4)]
    for hint in sent:
        first.bus.publish(hint)
    await second.until(lambda me: len(me.heard) == len(sent))
    assert second.heard == sent
    second.bus.publish(committed(9))
    await first.until(lambda me: me.heard)
    assert first.heard == [committed(9)]


async def test_starting_does_not_wait_for_a_server_that_is_away(make, nats_server):
    """start() returns, the bus is not healthy; when the server comes it connects by itself and says Look."""
    nats_server.stop()
    process = await make(nats_server.address)
    process.bus.publish(committed(1))
    assert not process.bus.healthy
    assert process.bus.dropped == 1
    nats_server.start()
    await process.until(lambda me: Look() in me.heard)
    assert process.bus.healthy


async def test_after_a_restart_both_look_and_hear_each_other_again(two, nats_server):
    """The server goes and comes back: not healthy meanwhile, then Look, then hints as before."""
    nats_server.stop()
    for process in two:
        await process.until(lambda me: not me.bus.healthy)
        process.heard.clear()
    nats_server.start()
    for process in two:
        await process.until(lambda me: me.bus.healthy and Look() in me.heard)
    await _quiet(*two)
    two[0].bus.publish(committed(1))
    await two[1].until(lambda me: seqs(me) == [1])


async def test_publishing_while_away_is_bounded_and_counted(two, nats_server):
    """Any number of hints can be published without a server: none is kept, each is counted, Look makes up for it."""
    first, second = two
    nats_server.stop()
    await first.until(lambda me: not me.bus.healthy)
    before = first.bus.dropped
    for number in range(20_000):
        first.bus.publish(committed(number))
    assert first.bus.dropped - before == 20_000
    assert not first.bus._waiting
    nats_server.start()
    await second.until(lambda me: me.bus.healthy and Look() in me.heard)
    assert seqs(second) == []


async def test_a_burst_beyond_the_bound_becomes_a_look(two, monkeypatch):
    """What does not fit is dropped and counted, the others are told to look, and the bus goes on."""
    monkeypatch.setattr(nats_bus, "_MAX_WAITING", 3)
    first, second = two
    for seq in range(1, 11):
        first.bus.publish(committed(seq))
    await second.until(lambda me: Look() in me.heard)
    assert seqs(second) == [1, 2, 3]
    assert first.bus.dropped == 7
    first.bus.publish(committed(11))
    await second.until(lambda me: 11 in seqs(me))


async def test_a_lost_relay_is_not_worth_a_look(two, monkeypatch):
    """Droppable frames that do not fit are dropped and nobody reads the database for them."""
    monkeypatch.setattr(nats_bus, "_MAX_WAITING", 1)
    first, second = two
    for frame in "abc":
        first.bus.publish(Relay("room", frame))
    await second.until(lambda me: me.heard)
    monkeypatch.undo()
    first.bus.publish(committed(1))
    await second.until(lambda me: seqs(me) == [1])
    assert second.heard == [Relay("room", "a"), committed(1)]
    assert first.bus.dropped == 2


async def test_a_message_that_is_no_hint_is_ignored(two, nats_server, caplog):
    """Nonsense on the subject is counted, logged once without its content, and the next hint is heard."""
    first, second = two
    stranger = await nats.connect(nats_server.url)
    for nonsense in (b"", b"s3ntinel", b'{"kind":"unknown"}', b'{"kind":"relay","frame":"\xff"}'):
        await stranger.publish(first.bus._subject, nonsense)
    await stranger.flush()
    await stranger.close()
    first.bus.publish(committed(1))
    await second.until(lambda me: seqs(me) == [1] and me.bus.malformed == 4)
    await first.until(lambda me: me.bus.malformed == 4)
    assert second.heard == [committed(1)]
    assert caplog.text.count("not understood") == 2
    assert "s3ntinel" not in caplog.text


async def test_a_listener_that_fails_does_not_end_the_bus(two, caplog):
    """An error in what hears a hint is logged, and the next hint is heard."""
    first, second = two

    def fail(_):
        second.bus._on_hint = second.hear
        raise RuntimeError("a bug")

    second.bus._on_hint = fail
    first.bus.publish(committed(1))
    first.bus.publish(committed(2))
    await second.until(lambda me: seqs(me) == [2])
    assert "a bug" in caplog.text


async def test_hints_larger_than_the_server_takes_travel_in_parts(make):
    """A large Committed arrives whole, in order, in several hints; one event that is too large becomes a Look."""
    with running_nats(max_payload=4000) as small:
        first, second = await make(small.address), await make(small.address)
        await first.connected()
        await second.connected()
        await first.until(lambda me: len(me.heard) + len(second.heard) >= 3)
        await _quiet(first, second)
        first.bus.publish(committed(1, 100))
        await second.until(lambda me: len(seqs(me)) == 100)
        assert seqs(second) == list(range(1, 101))
        assert len(second.heard) > 1
        second.heard.clear()
        first.bus.publish(committed(101, text="x" * 5000))
        await second.until(lambda me: me.heard)
        assert second.heard == [Look()]
        await first.bus.stop()
        await second.bus.stop()


async def test_without_peers_nothing_is_sent_until_one_is_heard(two):
    """set_peers_live(False) saves the work; a process that is heard turns it on before any lease does."""
    first, second = two
    first.bus.set_peers_live(False)
    first.bus.publish(committed(1))
    second.bus.publish(committed(2))
    await first.until(lambda me: seqs(me) == [2])
    first.bus.publish(committed(3))
    await second.until(lambda me: seqs(me) == [3])
    assert first.bus.dropped == 0


async def test_other_databases_on_the_same_server_are_not_heard(two, make, nats_server):
    """A process of another namespace neither hears nor is heard."""
    first, second = two
    stranger = await make(nats_server.address, "elsewhere")
    await stranger.connected()
    stranger.bus.publish(committed(7))
    first.bus.publish(committed(1))
    await second.until(lambda me: seqs(me) == [1])
    await stranger.bus.stop()
    await _quiet(first, second)
    assert seqs(stranger) == []


async def test_stopping_sends_what_was_published(two):
    """The last hints of a process that ends arrive; it hears nothing more, and drops what comes too late."""
    first, second = two
    for seq in range(1, 501):
        first.bus.publish(committed(seq))
    await first.bus.stop()
    await second.until(lambda me: len(seqs(me)) == 500)
    assert not first.bus.healthy
    first.bus.publish(committed(501))
    assert first.bus.dropped == 1
    await first.bus.stop()


async def test_a_refused_password_is_tried_again_and_never_logged(make, nats_server, caplog):
    """The log names the server and the kind of error, once; the bus goes on trying and is stopped at once."""
    caplog.set_level(logging.DEBUG)
    process = await make(replace(nats_server.address, password="s3ntinel"))
    await process.until(lambda _: "bus lost" in caplog.text)
    attempts = []
    connect = nats_bus.Client.connect

    async def counted(client, **arguments):
        attempts.append(1)
        await connect(client, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nats_bus.Client, "connect", counted)
        await process.until(lambda _: len(attempts) >= 2)
    await process.bus.stop()
    assert caplog.text.count("bus lost") == 1
    assert "s3ntinel" not in caplog.text
    assert "s3ntinel" not in f"{process.bus!r} {vars(process.bus)}"
