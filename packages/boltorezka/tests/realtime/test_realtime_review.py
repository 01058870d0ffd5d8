"""The shell against unlucky schedules: a stop in the middle of things, and peers that only take."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from boltorezka.adapters.realtime.presence import PresenceWriter
from boltorezka.errors import Unavailable
from boltorezka.ports import NewEvent
from boltorezka.rooms.effects import PresenceChanged
from boltorezka.rooms.model import EventKind

from .conftest import DEADLINE_S


class Gate:
    """Calls wait here until it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.arrived = asyncio.Event()

    async def __call__(self, *_: object) -> None:
        self.arrived.set()
        await self.opened.wait()


async def test_presence_is_written_by_one_writer_at_a_time():
    """Two people who change rooms in one moment do not make two writers: the later word could be stored first."""
    gate = Gate()

    class Store:
        set_presence = staticmethod(gate)

    writer = PresenceWriter(Store(), "one", lambda: None)
    writer.wish(PresenceChanged("r0", "ann", "Ann", present=True))
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.write())
        second = group.create_task(writer.write())
        await gate.arrived.wait()
        await asyncio.wait_for(second, DEADLINE_S)
        assert not writer.settled
        writer.wish(PresenceChanged("r0", "ann", "Ann", present=False))
        assert not writer.wanted
        gate.opened.set()
    assert writer.settled


def event(room_id: str) -> NewEvent:
    """Something HTTP wants stored."""
    return NewEvent(room_id, EventKind.LEFT, "e", "user-ann", "Ann", "", 1, ref="user-ann")


async def test_whoever_waits_for_the_store_is_answered_when_the_process_stops(rooms_on, monkeypatch):
    """A request whose event is being stored hears that nobody knows, and one that comes later is refused at once."""
    async with rooms_on() as rooms:
        gate = Gate()
        monkeypatch.setattr(rooms.store, "append", gate)
        waiting = [asyncio.ensure_future(rooms.realtime.store_event(event("r"))) for _ in range(2)]
        await gate.arrived.wait()
        waiting.append(asyncio.ensure_future(rooms.realtime.store_event(event("r"))))
        await rooms.realtime.stop()
        for each in [*waiting, asyncio.ensure_future(rooms.realtime.store_event(event("r")))]:
            with pytest.raises(Unavailable):
                await asyncio.wait_for(each, DEADLINE_S)


async def test_whoever_waits_for_the_store_is_answered_when_the_writing_task_dies(rooms_on, monkeypatch, caplog):
    """A mistake of ours ends the task: the process says that it is ill, and leaves nobody waiting."""
    async with rooms_on() as rooms:
        room = await rooms.store.entrance("general", "")

        def broken(*_: object) -> list:
            raise RuntimeError("a mistake")

        monkeypatch.setattr(rooms.realtime._core, "appended", broken)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await asyncio.wait_for(rooms.realtime.store_event(event(room.room.id)), DEADLINE_S)
        assert not rooms.realtime.healthy
    assert "realtime-append died" in caplog.text


async def test_a_stop_that_was_cut_short_is_finished_by_the_next(rooms_on, monkeypatch):
    """Cancelled while the lease is given back, `stop` is called again before the store closes: the bus must end."""
    async with rooms_on() as rooms:
        gate = Gate()
        release = rooms.store.release_lease
        monkeypatch.setattr(rooms.store, "release_lease", gate)
        stopping = asyncio.ensure_future(rooms.realtime.stop())
        await gate.arrived.wait()
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopping
        monkeypatch.setattr(rooms.store, "release_lease", release)
        await rooms.realtime.stop()
        assert await rooms.store.renew_lease("two", rooms.clock.now(), rooms.clock.now() + 1) == []
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("sqlite-", "realtime-"))]


async def test_pings_of_a_peer_that_does_not_read_fill_no_memory(rooms, monkeypatch):
    """Every ping would be a pong that waits: a peer that takes nothing gets none until it reads again."""
    ann = await rooms.talker("ann", room=None)
    (client,) = rooms.realtime._clients.values()
    served = asyncio.Event()
    monkeypatch.setattr(rooms.metrics, "acked", lambda _: served.set())
    ann.ws.transport.pause_reading()
    ann.ws.transport.write((bytes((0x89, 0x80 | 125)) + bytes(4 + 125)) * 100_000)
    await ann.say("ping")
    await asyncio.wait_for(served.wait(), DEADLINE_S)
    assert client.transport.get_write_buffer_size() < 1 << 18
    ann.ws.transport.resume_reading()
    await ann.until("ack")
    await asyncio.wait_for(await ann.ws.ping(), DEADLINE_S)


class Hours:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.tick = 0.0

    def now(self) -> int:
        return int(self.tick * 1_000_000)

    def monotonic(self) -> float:
        return self.tick


async def test_looks_take_half_of_the_time_at_most(rooms_on, monkeypatch):
    """While others say without a pause that something is new, what a look takes is spent on other things too."""
    async with rooms_on() as rooms:
        peers = rooms.realtime._peers
        clock = peers._clock = Hours()
        pauses: list[float] = []
        paused = asyncio.Event()

        async def heads() -> dict:
            clock.tick += 0.3
            return {}

        async def pause(seconds: float, sleep=asyncio.sleep) -> None:
            pauses.append(seconds)
            if seconds > 0.1:
                paused.set()
            await sleep(0)

        monkeypatch.setattr(rooms.store, "heads", heads)
        monkeypatch.setattr(asyncio, "sleep", pause)
        peers._hint.set()
        await asyncio.wait_for(paused.wait(), DEADLINE_S)
        assert pytest.approx(0.3) in pauses
