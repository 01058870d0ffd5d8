"""The bus of processes that share a SQLite file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from boltorezka.adapters.sqlite import SqliteBus
from boltorezka.adapters.sqlite import bus as sqlite_bus
from boltorezka.rooms.hints import AnyHint, Committed, Look, Relay

DEADLINE_S = 30


class Ear:
    """A bus and what it heard."""

    def __init__(self, bus: SqliteBus) -> None:
        self.bus = bus
        self.heard: list[AnyHint] = []
        self._news = asyncio.Event()

    def hear(self, hint: AnyHint) -> None:
        """The bus calls this."""
        self.heard.append(hint)
        self._news.set()

    @property
    def frames(self) -> list[str]:
        """The relayed frames, in the order they came."""
        return [hint.frame for hint in self.heard if isinstance(hint, Relay)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is so."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def listen(open_store) -> AsyncIterator[Callable]:
    """Makes a process: a store of its own with a started bus."""
    async with AsyncExitStack() as stack:

        async def start(instance: str, *, peers: bool = True) -> Ear:
            ear = Ear(SqliteBus(await open_store(), instance))
            ear.bus.set_peers_live(peers)
            await ear.bus.start(ear.hear)
            stack.push_async_callback(ear.bus.stop)
            return ear

        yield start


async def test_a_commit_of_another_process_is_heard(listen, store, general, message):
    """Watching begins with one look, for what came before; then each foreign commit is one, and our own are none."""
    one = await listen("one")
    await one.until(lambda: one.heard == [Look()])
    for number in range(5):
        await one.bus._store.append([message(general, number)])
    await one.bus._store.ping()
    assert one.heard == [Look()]
    await store.append([message(general, 10)])
    await one.until(lambda: one.heard == [Look(), Look()])


async def test_nothing_is_watched_while_nobody_else_is_live(listen, store, general, message):
    """Without peers commits are not heard; the first look after they come back makes up for it."""
    one = await listen("one", peers=False)
    await store.append([message(general, 1)])
    await one.bus._store.append([message(general, 2)])  # the writer's thread has had its turn to look
    assert one.heard == []
    one.bus.set_peers_live(True)
    await one.until(lambda: one.heard == [Look()])
    one.bus.set_peers_live(False)
    await one.bus._store.append([message(general, 3)])
    await store.append([message(general, 4)])
    await one.bus._store.append([message(general, 5)])
    assert one.heard == [Look()]


async def test_a_relayed_frame_is_heard_once_by_each_other_process(listen):
    """In order, with everything it says, by every other process and not by the one that sent it."""
    one, two, three = [await listen(name) for name in ("one", "two", "three")]
    sent = [Relay("r", f"{number}\U0001f642", ("s1",), ("u1", "u2"), "u3") for number in range(700)]
    for relay in sent:
        one.bus.publish(relay)
    two.bus.publish(Relay("r", "from two"))
    await one.until(lambda: one.frames == ["from two"])
    for ear, extra in ((two, 0), (three, 1)):
        await ear.until(lambda ear=ear, extra=extra: len(ear.frames) >= 700 + extra)
        assert [hint for hint in ear.heard if hint in sent] == sent
        assert len(ear.frames) == 700 + extra


async def test_what_commits_tell_is_not_sent(listen, store):
    """Committed and Look are what the others find out by themselves; without peers frames have nobody to go to."""
    one, alone = await listen("one"), await listen("alone", peers=False)
    for hint in (Committed("r", "e", ()), Look()):
        one.bus.publish(hint)
    alone.bus.publish(Relay("r", "nobody hears"))
    await one.bus.stop()
    await alone.bus.stop()
    assert await store.engine.read(lambda db: db.execute("SELECT count(*) FROM relays").fetchone()) == (0,)


async def test_frames_beyond_the_bound_are_lost_and_nothing_else(listen, monkeypatch):
    """Publishing never blocks and never raises: what does not fit is dropped, what was before it arrives."""
    monkeypatch.setattr(sqlite_bus, "_MAX_WAITING", 10)
    one, two = await listen("one"), await listen("two")
    for number in range(100):
        one.bus.publish(Relay("r", str(number)))
    await two.until(lambda: len(two.frames) == 10)
    one.bus.publish(Relay("r", "later"))
    await two.until(lambda: "later" in two.frames)
    assert two.frames == [*(str(number) for number in range(10)), "later"]


async def test_old_frames_are_not_kept_and_not_delivered(listen, store, clock):
    """Who was not watching when a frame was sent, and comes later than ten seconds, does not get it."""
    one, late = await listen("one"), await listen("late", peers=False)
    one.bus.publish(Relay("r", "old"))
    await one.bus.stop()
    clock.time += 11_000_000
    two = await listen("two")
    late.bus.set_peers_live(True)
    two.bus.publish(Relay("r", "new"))
    await late.until(lambda: bool(late.frames))
    assert late.frames == ["new"]
    rows = await store.engine.read(lambda db: db.execute("SELECT body FROM relays").fetchall())
    assert len(rows) == 1


async def test_a_frame_sent_while_nobody_watched_is_not_lost_at_once(listen):
    """A process that learns of its peer a moment late still gets the frames of the last seconds."""
    one, late = await listen("one"), await listen("late", peers=False)
    one.bus.publish(Relay("r", "early"))
    await one.bus.stop()
    late.bus.set_peers_live(True)
    await late.until(lambda: late.frames == ["early"])


async def test_a_hint_of_a_newer_server_is_skipped(listen, store):
    """What cannot be read is not for us; what follows is."""
    one, two = await listen("one"), await listen("two")
    row = ("x", 1 << 60, b'{"kind": "new"}')
    await store.engine.write(
        lambda db: db.execute("INSERT INTO relays (instance, at, body) VALUES (?, ?, ?)", row).rowcount
    )
    one.bus.publish(Relay("r", "next"))
    await two.until(lambda: two.frames == ["next"])


async def test_a_stopped_bus_has_sent_and_hears_nothing_more(listen, store, general, message):
    """Frames published before stop() arrive; afterwards nothing is heard or sent, and stopping again is nothing."""
    one, two = await listen("one"), await listen("two")
    one.bus.publish(Relay("r", "last"))
    await one.bus.stop()
    await one.bus.stop()
    await two.until(lambda: two.frames == ["last"])
    heard = len(one.heard)
    one.bus.publish(Relay("r", "after"))
    await store.append([message(general, 1)])
    looks = len(two.heard)
    await store.append([message(general, 2)])
    await two.until(lambda: len(two.heard) > looks)
    assert (two.frames, len(one.heard)) == (["last"], heard)


async def test_a_bus_is_healthy_while_its_store_runs(listen):
    """Before the start, after the stop and after the store was closed hints do not travel."""
    one, two = await listen("one"), await listen("two")
    assert one.bus.healthy
    assert not SqliteBus(one.bus._store, "x").healthy
    await two.bus._store.close()
    assert not two.bus.healthy
    two.bus.publish(Relay("r", "lost"))  # neither raises nor hurts the stop that follows
    await one.bus.stop()
    assert not one.bus.healthy


async def test_a_file_that_is_away_interrupts_and_is_heard_again(listen, store, general, path, message):
    """While the file is gone nothing is heard; when it is back the frames of before are delivered."""
    one, two = await listen("one"), await listen("two")
    hidden = path.with_name("hidden")
    path.rename(hidden)
    one.bus.publish(Relay("r", "lost"))
    await asyncio.wait([one.bus._publishing], timeout=DEADLINE_S)
    hidden.rename(path)
    one.bus.publish(Relay("r", "arrives"))
    await two.until(lambda: two.frames == ["arrives"])


@pytest.mark.alone
async def test_a_foreign_commit_is_heard_soon(listen, store, general, message):
    """People notice 100 ms; the watch looks every 20, so that the quickest of many is well below."""
    one = await listen("one")
    await one.until(lambda: bool(one.heard))
    delays = []
    for number in range(10):
        before, begun = len(one.heard), time.monotonic()
        await store.append([message(general, number)])
        await one.until(lambda before=before: len(one.heard) > before)
        delays.append(time.monotonic() - begun)
    assert min(delays) < 0.1
