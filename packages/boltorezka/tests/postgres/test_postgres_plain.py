"""The one statement for the common batch: when it is enough, and that it never stores on facts that are old by then."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from boltorezka.adapters.postgres import plain
from boltorezka.adapters.postgres.append import Append
from boltorezka.auth.model import Identity
from boltorezka.errors import Forbidden, IdempotencyConflict, RoomNotFound
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import EventKind, MemberRole, Room, Stored

NOW = 1_800_000_000_000_000
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'boltorezka'"
DEADLINE_S = 20
GATE = 77
NOWHERE = Room("no-id", "nowhere", "Nowhere", True, 0, "e", 0)


def message(room: Room, name: str, key: str | None = None, user: str = "ann", text: str = "hi") -> NewEvent:
    """A message to be stored."""
    return NewEvent(room.id, EventKind.MESSAGE, name, user, user.title(), text, NOW, f"r-{name}", key)


def left(room: Room, user: str = "ann") -> NewEvent:
    """A user leaves."""
    return NewEvent(room.id, EventKind.LEFT, f"l-{room.id}", user, user.title(), "", NOW, ref=user)


async def make_room(store, slug: str, *members: str) -> Room:
    """A new room with ann and these members in it."""
    room = await store.ensure_room(Room(f"id-{slug}", slug, slug, True, NOW, f"e-{slug}", 0))
    role = MemberRole.MEMBER.value
    for user in ("ann", *members):
        await store.append(
            [NewEvent(room.id, EventKind.JOINED, f"j-{slug}-{user}", user, user.title(), role, NOW, ref=user)]
        )
    return room


async def somebody_waits(db) -> None:
    """Wait until one of our sessions waits for a lock."""
    async with asyncio.timeout(DEADLINE_S):
        while not await db.fetchval(WAITING):
            pass


@pytest.fixture
def transactions(monkeypatch):
    """Counts the batches for which the one statement was not enough."""
    seen = []
    in_transaction = Append.in_transaction

    async def counted(self, db):
        seen.append(self)
        return await in_transaction(self, db)

    monkeypatch.setattr(Append, "in_transaction", counted)
    return seen


@pytest.fixture
def gate(monkeypatch, session):
    """Stops the statement after it has begun to see and before it locks, for as long as the context lasts."""
    where = "AND (SELECT are_plain FROM facts)"
    assert where in plain._STORE
    stopped = f"{where} AND (SELECT pg_advisory_xact_lock_shared({GATE}) IS NOT NULL)"

    @asynccontextmanager
    async def closed():
        async with session() as db:
            with monkeypatch.context() as patch:
                patch.setattr(plain, "_STORE", plain._STORE.replace(where, stopped))
                await db.execute(f"SELECT pg_advisory_lock({GATE})")
                yield db
                await db.execute(f"SELECT pg_advisory_unlock({GATE})")

    return closed


# facts that are not plain


@pytest.mark.parametrize("kind", ["stranger", "banned", "no room", "known key"])
async def test_a_fact_that_is_not_plain_leaves_the_batch_to_be_judged(store, transactions, kind):
    """One message of a stranger, a banned member, to no room or with a known key: all are judged, each by itself."""
    room, other = await make_room(store, "here", "bob"), await make_room(store, "there")
    await store.append([message(room, "old", "k")])
    await store.upsert_user(Identity("b", "i", "s", "e@x", "Bob", "user", True), "bob", None, NOW)
    await store.set_banned("bob", banned=True, at=NOW)
    odd, expected = {
        "stranger": (message(room, "m2", user="zoe"), RoomNotFound),
        "banned": (message(room, "m2", user="bob"), Forbidden),
        "no room": (message(NOWHERE, "m2"), RoomNotFound),
        "known key": (message(room, "m2", "k", text="other"), IdempotencyConflict),
    }[kind]
    transactions.clear()
    answers = await store.append([message(room, "m1", "a"), odd, message(room, "m3", "b"), message(other, "m4")])
    assert len(transactions) == 1
    assert [type(each) for each in answers] == [Stored, expected, Stored, Stored]
    assert [answers[index].event.seq for index in (0, 2, 3)] == [4, 5, 2]
    assert [event.id for event in await store.delta(room.id, 3, 10)] == ["m1", "m3"]


@pytest.mark.parametrize("change", ["left", "ban"])
async def test_what_changed_before_the_room_was_free_is_seen(store, make_store, session, change):
    """The author leaves or is banned while the append waits for the room: the message is refused, nothing is stored."""
    room, second = await make_room(store, "here"), await make_store()
    await store.upsert_user(Identity("b", "i", "s", "e@x", "Ann", "user", True), "ann", None, NOW)
    async with session() as db:
        transaction = db.transaction()
        await transaction.start()
        await db.execute("SELECT 1 FROM rooms WHERE id = $1 FOR UPDATE", room.id)
        writing = asyncio.create_task(store.append([message(room, "m1", "k")]))
        async with session() as watcher:
            await somebody_waits(watcher)
        if change == "ban":
            await second.set_banned("ann", banned=True, at=NOW)
        else:
            await db.execute("DELETE FROM members WHERE room_id = $1", room.id)
            await db.execute("UPDATE rooms SET last_seq = last_seq + 1 WHERE id = $1", room.id)
        await transaction.commit()
        (answer,) = await writing
    assert type(answer) is (Forbidden if change == "ban" else RoomNotFound)
    assert await store.delta(room.id, 1, 10) == []


async def test_a_room_that_moved_while_the_statement_looked_is_judged_anew(store, make_store, gate, transactions):
    """The author leaves between the statement's look and its lock, unseen by it: their message is not stored."""
    room, other, second = await make_room(store, "here"), await make_room(store, "there"), await make_store()
    transactions.clear()
    async with gate() as db:
        writing = asyncio.create_task(store.append([message(other, "m1", "a"), message(room, "m2", "b")]))
        await somebody_waits(db)
        assert isinstance((await second.append([left(room)]))[0], Stored)
    answers = await writing
    assert [type(answer) for answer in answers] == [Stored, RoomNotFound]
    assert [event.kind for event in await store.delta(room.id, 1, 10)] == [EventKind.LEFT]
    assert [event.id for event in await store.delta(other.id, 1, 10)] == ["m1"]
    assert (await store.heads())[other.id][1] == 2


async def test_a_room_that_others_wrote_to_meanwhile_needs_no_judging(store, make_store, gate, monkeypatch):
    """Messages of another process between the look and the lock: the statement is asked again under the lock."""
    room, second = await make_room(store, "here", "bob"), await make_store()
    async with gate() as db:
        writing = asyncio.create_task(store.append([message(room, "m1", "a"), message(room, "m2")]))
        await somebody_waits(db)
        other = NewEvent(room.id, EventKind.JOINED, "j", "zoe", "Zoe", "member", NOW, ref="zoe")
        assert isinstance((await second.append([other]))[0], Stored)
        monkeypatch.setattr("boltorezka.adapters.postgres.append._Batch.run", None)
    answers = await writing
    assert [answer.event.seq for answer in answers] == [4, 5]
    assert [event.id for event in await store.delta(room.id, 3, 10)] == ["m1", "m2"]


async def test_a_row_that_changed_otherwise_is_no_hindrance(store, make_store, gate, transactions):
    """A new epoch between the look and the lock: the batch is stored by the one statement, the new epoch stays."""
    room, second = await make_room(store, "here"), await make_store()
    transactions.clear()
    async with gate() as db:
        writing = asyncio.create_task(store.append([message(room, "m1", "a"), message(room, "m2")]))
        await somebody_waits(db)
        await second.new_epochs()
        (epoch, _) = (await second.heads())[room.id]
    assert [answer.event.seq for answer in await writing] == [2, 3]
    assert transactions == []
    assert epoch != room.epoch
    assert (await store.heads())[room.id] == (epoch, 3)
    assert [event.seq for event in await store.delta(room.id, 1, 10)] == [2, 3]


# plain facts


async def test_messages_of_members_take_one_statement(store, transactions):
    """Whatever rooms, authors and keys a batch has, its answers are the log, and no transaction was begun for it."""
    rooms = [await make_room(store, slug, "bob") for slug in ("b", "a", "c")]
    transactions.clear()
    batch = [
        message(rooms[number % 3], f"m{number}", None if number % 4 else f"k{number}", "ann" if number % 2 else "bob")
        for number in range(30)
    ]
    answers = await store.append(batch)
    assert transactions == []
    assert [answer.event.id for answer in answers] == [new.id for new in batch]
    for room in rooms:
        events = await store.delta(room.id, 2, 100)
        names = {"ann": "Ann", "bob": "Bob"}
        told = [answer.event for answer in answers if answer.event.room_id == room.id]
        assert [(event.seq, event.id, event.idempotency_key) for event in events] == [
            (event.seq, event.id, event.idempotency_key) for event in told
        ]
        assert all(event.user_name == names[event.user_id] for event in told)
        assert [event.seq for event in events] == list(range(3, 13))
    (again,) = await store.append(batch[:1])
    assert again.duplicate
