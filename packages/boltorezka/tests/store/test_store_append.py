"""Appending to the logs: what is refused, what is repeated, what an edit, a delete, a joining and a leaving do."""

from __future__ import annotations

import asyncio

import pytest

from boltorezka.errors import (
    DeleteWindowExpired,
    EditWindowExpired,
    Forbidden,
    IdempotencyConflict,
    MessageNotFound,
    RoomNotFound,
    Unavailable,
    UserNotFound,
)
from boltorezka.rooms.access import CHANGE_WINDOW_US
from boltorezka.rooms.model import EventKind, MemberRole, Room, Stored, Unchanged

NOWHERE = Room("no-id", "nowhere", "Nowhere", True, 0, "e", 0)


# who may write


async def test_only_members_write(world):
    """Neither a stranger nor somebody who has left writes, in a public room neither; nobody writes to no room."""
    room = await world.room("ann", "bob")
    answers = await world.append(
        world.message(room, "zoe"),
        world.message(room, "ann"),
        world.left(room, "bob"),
        world.message(room, "bob"),
        world.message(NOWHERE, "ann"),
    )
    assert world.outcomes(answers) == ["RoomNotFound", "3", "4", "RoomNotFound", "RoomNotFound"]
    assert [event.user_id for event in await world.log(room)] == ["ann", "bob", "ann", "bob"]


async def test_a_banned_member_is_forbidden(world):
    """A ban is seen by the very next batch of any process, for messages, edits and deletes; unbanning ends it."""
    await world.user("ann")
    room = await world.room("ann")
    await world.append(first := world.message(room, "ann"))
    await world.second.set_banned("ann", banned=True, at=world.NOW)
    answers = await world.append(
        world.message(room, "ann"), world.edit(room, "ann", first.id, "x"), world.delete(room, "ann", first.id)
    )
    assert [type(answer) for answer in answers] == [Forbidden] * 3
    await world.second.set_banned("ann", banned=False, at=world.NOW)
    assert world.outcomes(await world.append(world.message(room, "ann"))) == ["3"]


async def test_joining_lets_write_and_leaving_ends_it_within_a_batch(world):
    """The order inside a batch counts: before joining and after leaving a message is refused, between it is stored."""
    room = await world.room()
    answers = await world.append(
        world.message(room, "ann"),
        world.joined(room, "ann"),
        world.message(room, "ann"),
        world.left(room, "ann"),
        world.message(room, "ann"),
        world.joined(room, "ann"),
        world.message(room, "ann"),
    )
    assert world.outcomes(answers) == ["RoomNotFound", "1", "2", "3", "RoomNotFound", "4", "5"]


async def test_a_refused_item_takes_nothing_else_with_it(world):
    """Refusals of every kind in one batch: the good ones around them are stored without a hole."""
    room, other = await world.room("ann"), await world.room("ann")
    batch = []
    for number in range(10):
        batch += [
            world.message(room, "ann", str(number)),
            world.message(room, "zoe"),
            world.edit(room, "ann", "no-message", "x"),
            world.left(room, "zoe"),
            world.message(other, "ann", str(number)),
        ]
    answers = await world.append(*batch)
    assert world.outcomes(answers[:5]) == ["2", "RoomNotFound", "MessageNotFound", "UserNotFound", "2"]
    for each in (room, other):
        log = await world.log(each)
        assert [event.seq for event in log] == list(range(1, 12))
        assert [event.text for event in log[1:]] == [str(number) for number in range(10)]


async def test_an_empty_batch_and_a_closed_store(world):
    """Nothing stored is no error; a store that was closed is Unavailable for good."""
    assert await world.append() == []
    await world.second.close()
    with pytest.raises(Unavailable):
        await world.second.append([])
    with pytest.raises(Unavailable):
        await world.second.ping()
    await world.store.ping()


# what is stored


async def test_an_event_is_stored_as_it_was_said(world):
    """The answer and the log agree in every field; the name is the author's present one."""
    await world.user("ann")
    room = await world.room("ann")
    text = "тест \U0001f642 '\"; DROP TABLE x -- %s {}"
    (answer,) = await world.append(new := world.message(room, "ann", text, key="k" * 128))
    (event,) = await world.store.delta(room.id, 1, 10)
    assert answer == Stored(event)
    assert (event.room_id, event.seq, event.kind, event.id) == (room.id, 2, EventKind.MESSAGE, new.id)
    assert (event.user_id, event.user_name, event.text, event.created_at) == ("ann", "Ann", text, world.NOW)
    assert (event.request_id, event.idempotency_key, event.ref, event.edited_at) == (
        new.request_id,
        "k" * 128,
        None,
        None,
    )


async def test_a_batch_of_any_size_is_stored(world):
    """More users, rooms, keys and edits than one statement takes: every item finds its own facts."""
    users = [f"user{number}" for number in range(600)]
    room, other = await world.room(*users), await world.room("user1")
    first = [world.message(room, user, user, key="k") for user in users]
    await world.append(*first)
    edits = [world.edit(room, user, new.id, user.upper()) for user, new in zip(users, first, strict=True)]
    answers = await world.append(*edits, *first, world.message(other, "user1"), world.message(other, "user2"))
    assert world.outcomes(answers) == [
        *(str(number) for number in range(1201, 1801)),
        *(f"again {number}" for number in range(601, 1201)),
        "2",
        "RoomNotFound",
    ]
    page = await world.store.page(room.id, 600)
    assert [event.text for event in page.events] == [user.upper() for user in users]


# idempotency


async def test_a_repeated_key_answers_the_first_event(world):
    """Messages, edits and deletes are stored once for each key, in a batch and later, and answer the first event."""
    room = await world.room("ann")
    message = world.message(room, "ann", key="m")
    edit, delete = world.edit(room, "ann", message.id, "x", key="e"), world.delete(room, "ann", message.id, key="d")
    for again in ([message, message, edit, edit], [message, edit], [delete, delete], [message, edit, delete]):
        answers = await world.append(*again)
        for new, answer in zip(again, answers, strict=True):
            assert isinstance(answer, Stored)
            assert answer.event.id == new.id
    assert [answer.duplicate for answer in answers] == [True, True, True]
    assert [event.seq for event in await world.log(room)] == [1, 2, 3, 4]


async def test_a_repeated_key_with_new_ids_is_the_same_event(world):
    """A retry has another event id and time; what counts is the key: the first message comes back."""
    room = await world.room("ann")
    first, again = (world.message(room, "ann", key="k", at=world.NOW + late) for late in (0, 10))
    answers = await world.append(first, again) + await world.append(again)
    assert [(answer.event.id, answer.duplicate) for answer in answers] == [
        (first.id, False),
        (first.id, True),
        (first.id, True),
    ]


async def test_a_key_with_another_body_conflicts(world):
    """Another text, room, kind or message under a used key is refused, within a batch and later."""
    room, other = await world.room("ann", "bob"), await world.room("ann")
    one, two = world.message(room, "ann", "text", key="k"), world.message(room, "ann", "text")
    wrong = [
        world.message(room, "ann", "other", key="k"),
        world.message(other, "ann", "text", key="k"),
        world.edit(room, "ann", one.id, "text", key="k"),
    ]
    answers = await world.append(one, two, *wrong)
    answers += await world.append(*wrong)
    assert [type(answer) for answer in answers] == [Stored, Stored] + [IdempotencyConflict] * 6
    await world.append(world.edit(room, "ann", one.id, "new", key="e"))
    (answer,) = await world.append(world.edit(room, "ann", two.id, "new", key="e"))
    assert isinstance(answer, IdempotencyConflict)
    (answer,) = await world.append(world.message(room, "bob", "other", key="k"))
    assert isinstance(answer, Stored), "keys are each user's own"


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_key_outlives_its_text(world, at_once):
    """A retry of a message that was deleted meanwhile, or of its edit, gets the first event, without its text."""
    room = await world.room("ann")
    message = world.message(room, "ann", "secret", key="m")
    edit, delete = world.edit(room, "ann", message.id, "secret too", key="e"), world.delete(room, "ann", message.id)
    await world.append(message, edit)
    if at_once:
        answers = (await world.append(delete, message, edit))[1:]
    else:
        await world.append(delete)
        answers = await world.append(message, edit)
    assert world.outcomes(answers) == ["again 2", "again 3"]
    assert [answer.event.text for answer in answers] == ["", ""]


async def test_a_retry_is_answered_even_when_writing_is_no_longer_allowed(world):
    """What was stored is stored: a retry after leaving learns its seq, a new message does not."""
    room = await world.room("ann")
    message = world.message(room, "ann", key="k")
    await world.append(message, world.left(room, "ann"))
    assert world.outcomes(await world.append(message, world.message(room, "ann"))) == ["again 2", "RoomNotFound"]


# edits and deletes


async def test_only_the_author_changes_a_message_that_is_there(world):
    """Others are Forbidden; what is not there, is in another room, is no message or was deleted is not found."""
    room, other = await world.room("ann", "bob"), await world.room("ann")
    message, gone, elsewhere = world.message(room, "ann"), world.message(room, "ann"), world.message(other, "ann")
    edit = world.edit(room, "ann", message.id, "x")
    await world.append(message, gone, elsewhere, world.delete(room, "ann", gone.id), edit)
    for ref, user, expected in (
        (message.id, "bob", Forbidden),
        (message.id, "zoe", RoomNotFound),
        (gone.id, "ann", MessageNotFound),
        (elsewhere.id, "ann", MessageNotFound),
        (edit.id, "ann", MessageNotFound),
        ("nothing", "ann", MessageNotFound),
    ):
        answers = await world.append(world.edit(room, user, ref, "y"), world.delete(room, user, ref))
        assert [type(answer) for answer in answers] == [expected, expected], ref


async def test_a_message_can_be_changed_for_ten_minutes(world):
    """At the end of the window a change is stored, a microsecond later refused."""
    room = await world.room("ann")
    one, two = world.message(room, "ann"), world.message(room, "ann")
    end = world.NOW + CHANGE_WINDOW_US
    answers = await world.append(
        one,
        two,
        world.edit(room, "ann", one.id, "late", at=end + 1),
        world.edit(room, "ann", one.id, "x", at=end),
        world.delete(room, "ann", two.id, at=end + 1),
        world.delete(room, "ann", two.id, at=end),
    )
    assert world.outcomes(answers) == ["2", "3", "EditWindowExpired", "4", "DeleteWindowExpired", "5"]
    assert isinstance(answers[2], EditWindowExpired)
    assert isinstance(answers[4], DeleteWindowExpired)


async def test_an_edit_changes_the_page_and_not_the_log(world):
    """The page has the newest text and its time; the log keeps what was sent, and each edit with its own text."""
    room = await world.room("ann")
    message = world.message(room, "ann", "one")
    await world.append(message, world.edit(room, "ann", message.id, "two", at=world.NOW + 1))
    await world.append(world.edit(room, "ann", message.id, "three", at=world.NOW + 2))
    (event,) = (await world.store.page(room.id, 10)).events
    assert (event.id, event.seq, event.text, event.edited_at) == (message.id, 2, "three", world.NOW + 2)
    log = await world.log(room)
    assert [(each.kind.value, each.text, each.ref, each.edited_at) for each in log[1:]] == [
        ("message", "one", None, None),
        ("edit", "two", message.id, None),
        ("edit", "three", message.id, None),
    ]


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_delete_erases_every_text_for_good(world, at_once):
    """Neither the message nor any of its edits keeps its text, in one batch or many; other messages keep theirs."""
    room = await world.room("ann")
    message, other = world.message(room, "ann", "one"), world.message(room, "ann", "other")
    batch = [message, other]
    batch += [world.edit(room, "ann", message.id, "two"), world.edit(room, "ann", other.id, "another")]
    batch += [world.delete(room, "ann", message.id)]
    for part in [batch] if at_once else [[each] for each in batch]:
        await world.append(*part)
    assert [event.text for event in await world.log(room)] == ["member", "", "other", "", "another", ""]
    assert [event.text for event in (await world.store.page(room.id, 10)).events] == ["another"]


# membership


async def test_joining_twice_and_leaving_twice(world):
    """Who is a member already changes nothing; who is none cannot leave; of a room that is not there nobody is one."""
    room = await world.room("ann")
    answers = await world.append(
        world.joined(room, "ann", MemberRole.OWNER),
        world.left(room, "ann"),
        world.left(room, "ann"),
        world.joined(NOWHERE, "ann"),
        world.left(NOWHERE, "ann"),
    )
    assert [type(each) for each in answers] == [Unchanged, Stored, UserNotFound, RoomNotFound, RoomNotFound]
    assert await world.store.members(room.id) == []


async def test_a_member_has_a_role_and_a_time(world):
    """The role is the text of the event; joining anew replaces it; members come by the time they joined."""
    for user in ("ann", "bob"):
        await world.user(user)
    room = await world.room()
    await world.append(world.joined(room, "bob", at=world.NOW + 2), world.joined(room, "ann", at=world.NOW + 3))
    await world.append(world.left(room, "ann"), world.joined(room, "ann", MemberRole.OWNER, at=world.NOW + 1))
    ann, bob = await world.store.members(room.id)
    assert (ann.user_id, ann.user_name, ann.role, ann.joined_at) == ("ann", "Ann", MemberRole.OWNER, world.NOW + 1)
    assert (bob.user_id, bob.role, bob.joined_at) == ("bob", MemberRole.MEMBER, world.NOW + 2)
    log = await world.log(room)
    assert [(each.kind.value, each.user_id, each.text, each.ref) for each in log] == [
        ("joined", "bob", "member", "bob"),
        ("joined", "ann", "member", "ann"),
        ("left", "ann", "", "ann"),
        ("joined", "ann", "owner", "ann"),
    ]


# two processes at once


async def test_two_processes_append_without_holes(world):
    """Many tasks of two processes: seq grows by one in the order of storing, per room, and everybody agrees on it."""
    rooms = [await world.room("ann"), await world.room("ann")]
    stores = [world.store, world.second]
    batches = [[world.message(rooms[number % 3 == 0], "ann") for _ in range(number % 4)] for number in range(80)]
    answers = await asyncio.gather(*(stores[index % 2].append(batch) for index, batch in enumerate(batches)))
    told = {answer.event.id: answer.event for batch in answers for answer in batch}
    for room in rooms:
        log = await world.log(room)
        assert [event.seq for event in log] == list(range(1, len(log) + 1))
        assert [told[event.id].seq for event in log[1:]] == [event.seq for event in log[1:]]
    heads = await world.second.heads()
    assert sum(heads[room.id][1] for room in rooms) == len(told) + 2


async def test_retries_at_the_same_moment_store_once(world):
    """The same key through both processes at once, many times over: one event, everybody gets it."""
    room = await world.room("ann")
    stores = [world.store, world.second]
    for turn in range(20):
        retries = [world.message(room, "ann", key=f"k{turn}") for _ in range(6)]
        answers = await asyncio.gather(*(stores[index % 2].append([new]) for index, new in enumerate(retries)))
        flat = [answer for batch in answers for answer in batch]
        assert len({answer.event.id for answer in flat}) == 1
        assert sorted(answer.duplicate for answer in flat) == [False] + [True] * 5
    assert (await world.store.heads())[room.id][1] == 21


async def test_a_message_deleted_by_two_processes_is_deleted_once(world):
    """Of concurrent deletes one is stored, the others find no message."""
    room = await world.room("ann")
    await world.append(message := world.message(room, "ann"))
    stores = [world.store, world.second] * 3
    answers = await asyncio.gather(*(each.append([world.delete(room, "ann", message.id)]) for each in stores))
    assert sorted(type(answer).__name__ for (answer,) in answers) == ["MessageNotFound"] * 5 + ["Stored"]
