"""How the canary counts."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st

from boltorezka.smoke import canary_sockets
from boltorezka.smoke.canary import LISTENERS, SENDERS, measure, sockets_for
from boltorezka.smoke.canary_sockets import LOST_AFTER_S, Listener, Track
from boltorezka.smoke.target import Person

PERSON = Person("u", "t")


def track(sent: list[int], heard: list[int]) -> Track:
    """A track whose messages were all sent at time 0 and heard in this order."""
    made = Track()
    for number in sent:
        made.expect(number, 0.0)
    for number in heard:
        made.hear(number)
    return made


def test_a_message_overtaken_by_a_later_one_is_lost_at_once():
    """Order is guaranteed, so a gap needs no waiting to be seen."""
    assert track([1, 2, 3], [1, 3]).lost(0.0) == {2}


def test_a_message_that_does_not_come_is_lost_after_the_deadline():
    """The newest message is given time, and then it counts."""
    last = track([1, 2], [1])
    assert last.lost(LOST_AFTER_S - 0.1) == set()
    assert last.lost(LOST_AFTER_S + 0.1) == {2}


def test_a_late_message_is_reordered_and_no_longer_lost():
    """What arrives after its successor was not lost, but the order was."""
    late = track([1, 2, 3], [1, 3, 2])
    assert (late.lost(0.0), late.reordered) == (set(), 1)


def test_every_delivery_after_the_first_is_a_double():
    """Three deliveries are two too many."""
    assert track([1], [1, 1, 1]).duplicated == 2


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(0, 30))
def test_lost_and_heard_account_for_everything_sent(heard, sent):
    """After the deadline each message sent was either heard or lost, whatever came in whatever order."""
    made = track(list(range(1, sent + 1)), [n for n in heard if n <= sent])
    assert len(made.lost(LOST_AFTER_S + 1)) + made.heard == sent
    assert made.duplicated == len([n for n in heard if n <= sent]) - made.heard


NAMES = ("new", "old")


def measured(heard: dict[tuple[str, str], list[int]], deaf: int = LISTENERS) -> dict[str, dict[str, int]]:
    """Two messages sent on each slot long ago; `heard[sender's, listener's slot]` is what came to `deaf` of them."""
    sides = sockets_for({name: f"http://{name}" for name in NAMES}, [PERSON] * 4, "canary")
    for name, side in sides.items():
        sender = side.senders[0]
        sender.number = 2
        for each in sender.tracks:
            each.expect(1, 0.0)
            each.expect(2, 0.0)
        for other, there in sides.items():
            for index, listener in enumerate(there.listeners):
                for number in heard.get((name, other), [1, 2]) if index < deaf else [1, 2]:
                    listener.tracks[sender.name].hear(number)
    return measure(sides, LOST_AFTER_S + 1)


@pytest.mark.parametrize(
    ("heard", "lost_new", "lost_old"),
    [
        ({}, 0, 0),
        ({("new", "new"): [1], ("new", "old"): [1]}, 1, 0),
        ({("new", "new"): [2], ("old", "new"): [2]}, 2, 0),
        ({("new", "old"): [1]}, 1, 0),
        ({("old", "new"): [1]}, 1, 0),
        ({("old", "old"): [1], ("old", "new"): [1]}, 0, 1),
        ({(a, b): [] for a in NAMES for b in NAMES}, 2, 2),
    ],
    ids=["nothing", "new drops", "new does not deliver", "new does not store", "new does not hear", "old drops", "all"],
)
def test_loss_is_charged_to_the_slot_that_lost_it(heard, lost_new, lost_old):
    """A slot that drops what it took is at fault on both listeners; the old slot is blamed for its own alone."""
    counts = measured(heard)
    assert (counts["new"]["lost"], counts["old"]["lost"]) == (lost_new, lost_old)
    assert counts["new"]["sent"] == 2


def test_one_listener_of_many_that_misses_a_message_is_a_loss():
    """A slot that forgets one socket in eight loses messages, each counted once however many miss it."""
    counts = measured({("new", "new"): [1]}, deaf=1)
    assert (counts["new"]["lost"], counts["old"]["lost"]) == (1, 0)
    assert measured({("new", "new"): [1]})["new"]["lost"] == 1


def test_every_sender_is_heard_by_every_listener_of_both_slots():
    """Eight listeners and two senders a slot; a person's sockets are spread over both."""
    sides = sockets_for({name: f"http://{name}" for name in NAMES}, [Person(f"u{n}", "t") for n in range(4)], "canary")
    for side in sides.values():
        assert (len(side.senders), len(side.listeners)) == (SENDERS, LISTENERS)
        assert {len(sender.tracks) for sender in side.senders} == {2 * LISTENERS}
        assert [listener.person.user_id for listener in side.listeners] == ["u0", "u1", "u2", "u3"] * 2


class Slot:
    """A slot that lets everybody into the room, and ends the sockets it has when it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.joins = 0
        self.refusals = 0  # how many more requests it refuses
        self.sockets: list[websockets.ServerConnection] = []
        self.joined = asyncio.Event()

    async def http(self, _connection, request):
        """A ticket, unless it refuses."""
        if self.refusals:
            self.refusals -= 1
            return websockets.Response(503, "No", websockets.Headers({"Content-Length": "0"}), b"")
        if not request.path.startswith("/v1/auth/ws-ticket"):
            return None
        body = b'{"ticket": "t", "expiresInSec": 45}'
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        return websockets.Response(200, "OK", websockets.Headers(headers), body)

    async def socket(self, connection):
        """One socket: its join is acknowledged."""
        self.sockets.append(connection)
        with contextlib.suppress(websockets.ConnectionClosed):
            async for raw in connection:
                frame = json.loads(raw)
                payload = {"requestId": frame["requestId"]}
                await connection.send(json.dumps({"type": "ack", "payload": payload}))
                self.joins += 1
                self.joined.set()

    async def again(self):
        """Wait until the next join."""
        self.joined.clear()
        await asyncio.wait_for(self.joined.wait(), 10)


@pytest.fixture
async def slot():
    """The slot, on loopback."""
    made = Slot()
    async with websockets.serve(made.socket, "127.0.0.1", 0, process_request=made.http) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


@pytest.fixture
async def listener(slot, monkeypatch):
    """A listener that has joined; it comes back soon."""
    monkeypatch.setattr(canary_sockets, "RECONNECT_AFTER_S", 0.01)
    made = Listener(slot.url, PERSON, "canary")
    async with httpx.AsyncClient(trust_env=False) as http:
        task = asyncio.create_task(made.run(http))
        await asyncio.wait_for(made.settled.wait(), 10)
        yield made
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def counts(listener: Listener) -> tuple[int, int]:
    """Cut and drained."""
    return listener.cut, listener.drained


async def test_a_socket_that_is_closed_without_notice_is_cut(slot, listener):
    """With a code or without a word: both are cuts, and the socket comes back to the same address."""
    await slot.sockets[-1].close(1011)
    await slot.again()
    slot.sockets[-1].transport.abort()
    await slot.again()
    assert counts(listener) == (2, 0)


async def test_a_planned_drain_is_not_a_cut(slot, listener):
    """Closed with 4012, or in any way after server.draining."""
    await slot.sockets[-1].close(4012)
    await slot.again()
    await slot.sockets[-1].send(json.dumps({"type": "server.draining", "payload": {"retryAfterMs": 1}}))
    slot.sockets[-1].transport.abort()
    await slot.again()
    assert counts(listener) == (0, 2)


async def test_an_outage_is_one_cut_however_often_it_is_tried(slot, listener):
    """A slot that refuses is tried again and again; once it lets in, the next outage counts anew."""
    slot.refusals = 3
    await slot.sockets[-1].close(1011)
    await slot.again()
    assert counts(listener) == (1, 0)
    await slot.sockets[-1].close(1011)
    await slot.again()
    assert counts(listener) == (2, 0)


async def test_a_slot_that_goes_away_after_its_drain_is_cut(slot, listener, monkeypatch):
    """The drain was planned; that nobody may come back was not."""
    refused = asyncio.Event()
    monkeypatch.setattr(listener, "_cut", lambda why, real=listener._cut: (real(why), refused.set()))
    slot.refusals = 1_000
    await slot.sockets[-1].close(4012)
    await asyncio.wait_for(refused.wait(), 10)
    assert counts(listener) == (1, 1)
    assert not listener.connected
    assert "503" in listener.trouble


async def test_a_frame_that_cannot_be_read_is_the_slots_fault(slot, listener):
    """The canary goes on, and the socket counts as cut."""
    await slot.sockets[-1].send("not json")
    await slot.again()
    await slot.sockets[-1].send(json.dumps({"type": "chat.message", "payload": {}}))
    await slot.again()
    assert counts(listener) == (2, 0)
