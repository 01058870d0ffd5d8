"""What happens when the disk or the file of a SQLite store fails, and how calls share a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import sys

import pytest

from boltorezka.adapters.sqlite import SqliteStore
from boltorezka.errors import RateLimited, RoomNotFound, Unavailable
from boltorezka.rooms.model import Stored

DEADLINE_S = 30


async def test_a_closed_store_refuses(path, clock):
    """Before open() and after close() every call is Unavailable."""
    store = SqliteStore(path, clock)
    with pytest.raises(Unavailable):
        await store.ping()
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(Unavailable):
        await store.append([])


async def test_a_file_that_is_gone_is_noticed_and_can_come_back(store, general, path, message):
    """SQLite would go on writing into a deleted file; we refuse reads and writes until it is back."""
    hidden = path.with_name("hidden")
    path.rename(hidden)
    with pytest.raises(Unavailable, match="gone"):
        await store.append([message(general, 1)])
    with pytest.raises(Unavailable, match="gone"):
        await store.ping()
    hidden.rename(path)
    await store.ping()
    assert isinstance((await store.append([message(general, 1)]))[0], Stored)


async def test_a_full_disk_stores_nothing_and_recovers(store, general, message):
    """A batch that does not fit is refused as a whole; what is smaller still works, with the next seq."""
    engine = store.engine
    (pages,) = engine._db.execute("PRAGMA page_count").fetchone()
    engine._db.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(Unavailable, match="disk space"):
        await store.append([message(general, number, text="x" * 4000) for number in range(100)])
    assert (await store.heads())[general.id][1] == 1
    engine._db.execute("PRAGMA max_page_count = 100000")
    assert (await store.append([message(general, 1)]))[0].event.seq == 2


async def test_one_refused_call_does_not_hurt_the_others_of_its_group(store, general, message):
    """A constraint broken, or a refusal raised, by one call of a transaction takes back that call only."""
    await store.append([message(general, 1)])
    results = await asyncio.gather(
        store.append([message(general, 2)]),
        store.append([message(general, 3), message(general, 1)]),
        store.set_read("no-room", "u1", 1),
        store.append([message(general, 4)]),
        return_exceptions=True,
    )
    assert isinstance(results[1], sqlite3.IntegrityError)
    assert isinstance(results[2], RoomNotFound)
    assert [event.id for event in await store.delta(general.id, 1, 10)] == ["m1", "m2", "m4"]


async def test_a_mistake_in_one_call_does_not_hurt_the_others_of_its_group(store, general, message):
    """A call that fails for a reason of its own, such as text that is no Unicode, fails alone."""
    results = await asyncio.gather(
        store.append([message(general, 1)]),
        store.append([message(general, 2, text="\ud800")]),
        store.append([message(general, 3)]),
        return_exceptions=True,
    )
    assert isinstance(results[1], UnicodeEncodeError)
    assert [event.id for event in await store.delta(general.id, 1, 10)] == ["m1", "m3"]


async def test_more_writes_than_can_wait_are_refused(store, general, message):
    """Beyond the bound a write is RateLimited at once; those that were accepted are stored."""
    with sqlite3.connect(store._path, isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        writing = [asyncio.ensure_future(store.append([message(general, number)])) for number in range(5000)]
        refused = [asyncio.ensure_future(store.append([message(general, 9999)]))]
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait(refused)
        blocker.execute("ROLLBACK")
    blocker.close()
    assert isinstance(refused[0].exception(), RateLimited)
    results = await asyncio.gather(*writing, return_exceptions=True)
    stored = [result for result in results if not isinstance(result, RateLimited)]
    assert (await store.heads())[general.id][1] == 1 + len(stored)
    assert len(stored) >= 4096


async def test_closing_finishes_what_was_accepted(path, clock, general, message):
    """Calls that were accepted before close() are stored and answered."""
    store = SqliteStore(path, clock)
    await store.open()
    writing = [asyncio.ensure_future(store.append([message(general, number)])) for number in range(50)]
    await asyncio.sleep(0)  # one turn of the loop: every task has handed its call over
    await store.close()
    assert [answer[0].event.seq for answer in await asyncio.gather(*writing)] == list(range(2, 52))


WRITER = """
import asyncio, pathlib, sys
from boltorezka.adapters.sqlite import SqliteStore
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import EventKind

async def main(path, room_id):
    store = SqliteStore(pathlib.Path(path), None)
    await store.open()
    for number in range(10**6):
        ids = [f"p{number}-{each}" for each in range(5)]
        new = [NewEvent(room_id, EventKind.MESSAGE, each, "u1", "Ann", "x" * 500, 1) for each in ids]
        answers = await store.append(new)
        print(answers[-1].event.seq, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_was_answered_survives_a_killed_process(store, general, path):
    """A writer that is killed in the middle: all that it was told to be stored is there, in whole batches."""
    command = [sys.executable, "-c", WRITER, str(path), general.id]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(DEADLINE_S):
            told = [int(await child.stdout.readline()) for _ in range(20)]
            child.kill()
            told += [int(line) for line in (await child.stdout.read()).splitlines()]
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
    log = await store.delta(general.id, 0, 10**6)
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert log[-1].seq >= told[-1]
    assert (len(log) - 1) % 5 == 0
    assert (await store.heads())[general.id][1] == len(log)
