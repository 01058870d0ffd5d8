"""The PostgreSQL store under what only a shared server does: stops, races, locks, deadlines. See tests/store too."""

from __future__ import annotations

import asyncio

import pytest

from boltorezka.adapters.postgres import PostgresStore, engine
from boltorezka.auth.model import Identity
from boltorezka.errors import IdempotencyConflict, MessageNotFound, RateLimited, Unavailable, ValidationError
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import EventKind, MemberRole, Room, Stored
from boltorezka.testing import VirtualClock

NOW = 1_800_000_000_000_000
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'boltorezka'"
DEADLINE_S = 20


def message(room: Room, name: str, key: str | None = None, text: str = "hi") -> NewEvent:
    """A message of ann's to be stored."""
    return NewEvent(room.id, EventKind.MESSAGE, name, "ann", "Ann", text, NOW, f"r-{name}", key)


async def make_room(store, slug: str) -> Room:
    """A new room with ann in it."""
    room = await store.ensure_room(Room(f"id-{slug}", slug, slug, True, NOW, f"e-{slug}", 0))
    joined = NewEvent(room.id, EventKind.JOINED, f"j-{slug}", "ann", "Ann", MemberRole.MEMBER.value, NOW, ref="ann")
    assert isinstance((await store.append([joined]))[0], Stored)
    return room


async def somebody_waits(db) -> None:
    """Wait until one of our sessions waits for a lock."""
    async with asyncio.timeout(DEADLINE_S):
        while not await db.fetchval(WAITING):
            pass


# the server comes and goes


async def test_a_store_lives_through_a_restart_of_the_server(store, postgres_server):
    """While it is away every call is Unavailable and says nothing of ours; when it is back the same store works."""
    room = await make_room(store, "here")
    postgres_server.stop()
    for call in (store.ping, store.heads, lambda: store.append([message(room, "m1", "k1")])):
        with pytest.raises(Unavailable) as caught:
            await call()
        assert "The database does not answer" in caught.value.message
        for secret in ("127.0.0.1", str(postgres_server.port), "postgresql", "boltorezka"):
            assert secret not in caught.value.message
    postgres_server.start()
    (stored,) = await store.append([message(room, "m1", "k1")])
    assert (stored.event.seq, stored.duplicate) == (2, False)
    await store.ping()


async def test_connections_that_died_while_idle_are_replaced_unseen(store, session):
    """An operator ends our sessions: the next write and the next read succeed at once."""
    room = await make_room(store, "here")
    async with session() as db:
        ended = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        for call in (lambda: store.append([message(room, "m1")]), store.heads):
            await db.fetchval(ended + " AND application_name = 'boltorezka' AND datname = current_database()")
            await call()
    assert (await store.heads())[room.id] == (room.epoch, 2)


async def test_a_closed_postgres_store_refuses(postgres_database):
    """Before open() and after close() every call is Unavailable, and closing twice is no harm."""
    store = PostgresStore(postgres_database, VirtualClock())
    with pytest.raises(Unavailable):
        await store.ping()
    with pytest.raises(Unavailable):
        _ = store.namespace
    await store.open()
    opened = store.engine
    await store.close()
    await store.close()
    for call in (store.ping, opened.ping, lambda: store.append([])):
        with pytest.raises(Unavailable, match="closed"):
            await call()
    assert str(postgres_database.password) not in f"{store!r} {vars(store)}"


async def test_the_namespace_is_the_databases_own(make_store, postgres_server):
    """Two processes on one database share it, another database of the same server has another."""
    other = postgres_server.new_database()
    first, second, third = [await make_store(), await make_store(), await make_store(postgres_server.address(other))]
    assert first.namespace == second.namespace != third.namespace
    await third.close()
    postgres_server.drop_database(other)


async def test_commits_are_durable_whatever_the_database_is_set_to(make_store, session, postgres_database):
    """An operator's asynchronous commits do not reach our sessions: an ack survives a power cut."""
    async with session() as db:
        await db.execute(f"ALTER DATABASE {postgres_database.name} SET synchronous_commit = off")
    store = await make_store()
    assert await store.engine.read(lambda db: db.fetchval("SHOW synchronous_commit")) == "on"


# races between processes


async def test_batches_over_the_same_rooms_in_opposite_order_all_succeed(make_store):
    """Two stores append to the same rooms crosswise: no caller sees a deadlock, no seq is missing or taken twice."""
    first, second = await make_store(), await make_store()
    rooms = [await make_room(first, slug) for slug in ("a", "b", "c")]
    rounds = 15

    async def write(store, name, order):
        for number in range(rounds):
            batch = [message(room, f"{name}-{number}-{room.slug}", f"{name}-{number}-{room.slug}") for room in order]
            assert all(isinstance(each, Stored) for each in await store.append(batch))

    await asyncio.gather(
        write(first, "p", rooms), write(second, "q", rooms[::-1]), write(second, "r", [rooms[1], rooms[0], rooms[2]])
    )
    for room in rooms:
        events = await second.delta(room.id, 0, 1000)
        assert [event.seq for event in events] == list(range(1, 3 * rounds + 2))
        assert len({event.id for event in events}) == 3 * rounds + 1


async def test_one_key_in_two_rooms_at_once_is_stored_once(make_store):
    """Retries that race through two processes into two rooms: one is stored, the other is told of a conflict."""
    first, second = await make_store(), await make_store()
    here, there = await make_room(first, "here"), await make_room(first, "there")
    for number in range(10):
        key = f"k{number}"
        answers = await asyncio.gather(
            first.append([message(here, f"h{number}", key)]), second.append([message(there, f"t{number}", key)])
        )
        outcomes = sorted(type(answer).__name__ for (answer,) in answers)
        assert outcomes == ["IdempotencyConflict", "Stored"]
    heads = await first.heads()
    assert heads[here.id][1] + heads[there.id][1] == 2 + 10


async def test_a_race_for_a_key_reruns_the_batch_around_it(make_store, session):
    """The key is taken while the batch waits for it: everything else in the batch is stored, in order, once."""
    store = await make_store()
    here, there = await make_room(store, "here"), await make_room(store, "there")
    batch = [message(here, "m1"), message(here, "m2", "key"), message(here, "m3")]
    async with session() as db:
        transaction = db.transaction()
        await transaction.start()
        await db.execute(
            "INSERT INTO events (room_id, seq, kind, id, user_id, text, idempotency_key, created_at)"
            " VALUES ($1, 2, 'message', 'first', 'ann', 'hi', 'key', 1)",
            there.id,
        )
        writing = asyncio.create_task(store.append(batch))
        async with session() as watcher:
            await somebody_waits(watcher)
        await transaction.commit()
        answers = await writing
    assert [type(each) for each in answers] == [Stored, IdempotencyConflict, Stored]
    assert [event.id for event in await store.delta(here.id, 1, 10)] == ["m1", "m3"]


async def test_many_shared_keys_in_opposite_order_do_not_deadlock(make_store):
    """Two batches with the same twenty keys, in two rooms and in opposite order: each key is stored once."""
    first, second = await make_store(), await make_store()
    here, there = await make_room(first, "here"), await make_room(first, "there")
    for number in range(5):
        keys = [f"{number}-{index}" for index in range(20)]
        answers = await asyncio.gather(
            first.append([message(here, f"h{key}", key) for key in keys]),
            second.append([message(there, f"t{key}", key) for key in reversed(keys)]),
        )
        stored = [each for answer in answers for each in answer if isinstance(each, Stored)]
        assert len({each.event.idempotency_key for each in stored}) == len(stored) == len(keys)


async def test_a_deadlock_is_not_the_callers_matter(store):
    """Two transactions that lock crosswise: the server ends one, it is run again, and both succeed."""
    crossed = asyncio.Barrier(2)
    runs = []

    async def lock(db, first, second):
        runs.append(first)
        await db.execute("SET LOCAL deadlock_timeout = '10ms'")
        await db.execute(f"SELECT pg_advisory_xact_lock({first})")
        if len(runs) <= 2:
            await crossed.wait()
        await db.execute(f"SELECT pg_advisory_xact_lock({second})")
        return first

    async with asyncio.timeout(DEADLINE_S):
        both = await asyncio.gather(
            store.engine.write(lambda db: lock(db, 1, 2)), store.engine.write(lambda db: lock(db, 2, 1))
        )
    assert both == [1, 2]
    assert len(runs) == 3


# deadlines, bounds, cancelling


async def test_a_cancelled_caller_does_not_cancel_the_write(store, make_store, session):
    """The append waits for a lock, its caller goes away, the lock is free: the message is stored, and close waits."""
    room = await make_room(store, "here")
    async with session() as db:
        transaction = db.transaction()
        await transaction.start()
        await db.execute("SELECT 1 FROM rooms WHERE id = $1 FOR UPDATE", room.id)
        writing = asyncio.create_task(store.append([message(room, "m1")]))
        async with session() as watcher:
            await somebody_waits(watcher)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        closing = asyncio.create_task(store.close())
        await transaction.rollback()
        await closing
    second = await make_store()
    assert [event.id for event in await second.delta(room.id, 1, 10)] == ["m1"]


async def test_a_lock_that_is_not_given_back_is_not_waited_for_forever(store, session, monkeypatch):
    """Past the deadline the append is Unavailable and nothing of it is stored; then the store goes on."""
    room = await make_room(store, "here")
    monkeypatch.setattr(engine, "_DEADLINE_S", 0.3)
    async with session() as db, db.transaction():
        await db.execute("SELECT 1 FROM rooms WHERE id = $1 FOR UPDATE", room.id)
        with pytest.raises(Unavailable):
            await store.append([message(room, "m1")])
    monkeypatch.undo()
    (stored,) = await store.append([message(room, "m2")])
    assert stored.event.seq == 2


async def test_busy_reads_leave_room_for_writes(store):
    """With every connection for reading taken, an append still gets one, and the next read waits its turn."""
    room = await make_room(store, "here")
    taken, free = asyncio.Semaphore(0), asyncio.Event()

    async def slow(db):
        taken.release()
        await free.wait()
        return await db.fetchval("SELECT 1")

    async with asyncio.timeout(DEADLINE_S):
        reads = [asyncio.create_task(store.engine.read(slow)) for _ in range(engine._MAX_READING + 1)]
        for _ in range(engine._MAX_READING):
            await taken.acquire()
        await store.append([message(room, "m1")])
        assert taken.locked()
        free.set()
        assert await asyncio.gather(*reads) == [1] * len(reads)


async def test_too_many_waiting_calls_are_told_to_come_back(store, monkeypatch):
    """Beyond the bound a call is RateLimited at once; the ones before it are answered."""
    monkeypatch.setattr(engine, "_MAX_WAITING", 1)
    taken, free = asyncio.Semaphore(0), asyncio.Event()

    async def slow(db):
        taken.release()
        await free.wait()
        return await db.fetchval("SELECT 1")

    calls = [asyncio.create_task(call(slow)) for call in (store.engine.read, store.engine.write)]
    for _ in range(2):
        await taken.acquire()
    for call in (store.heads, lambda: store.append([])):
        with pytest.raises(RateLimited) as caught:
            await call()
        assert caught.value.data["retry_after_ms"] > 0
    free.set()
    assert await asyncio.gather(*calls) == [1, 1]


# what PostgreSQL's text cannot hold


async def test_the_character_nul_is_refused_without_harm(store):
    """One message with NUL is refused alone; names with NUL are unknown; a person's name with NUL is a bad request."""
    room = await make_room(store, "here")
    answers = await store.append([message(room, "m1"), message(room, "m2", text="a\0b"), message(room, "m3", "k\0")])
    assert [type(each) for each in answers] == [Stored, ValidationError, ValidationError]
    assert await store.entrance("he\0re", "ann") is None
    with pytest.raises(MessageNotFound):
        await store.page(room.id, 10, before_id="m\0")
    with pytest.raises(ValidationError):
        await store.upsert_user(Identity("b", "i", "s", "e@x", "An\0n", "user", True), "u1", None, NOW)
