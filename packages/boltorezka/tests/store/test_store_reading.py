"""Rooms as users find them, pages and deltas of the log, read pointers, epochs, counters."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from boltorezka.errors import Conflict, MessageNotFound, RoomNotFound
from boltorezka.ports import MAX_UNREAD
from boltorezka.rooms.model import EventKind, MemberRole, Room

# pages and deltas


async def test_pages_go_back_without_holes(world):
    """Paging backwards by seq or by id covers all messages exactly, and only messages."""
    room = await world.room("ann", "bob")
    messages = [world.message(room, "ann", str(number)) for number in range(25)]
    for number, new in enumerate(messages):
        await world.append(new, world.edit(room, "ann", new.id, f"{number}!"))
    for by_id in (True, False):
        page, seen = await world.store.page(room.id, 10), []
        while True:
            seen = [*page.events, *seen]
            if not page.has_more:
                break
            oldest = page.events[0]
            where = {"before_id": oldest.id} if by_id else {"before_seq": oldest.seq}
            page = await world.store.page(room.id, 10, **where)
            assert page.room.last_seq == 52
        assert [event.id for event in seen] == [new.id for new in messages]
        assert [event.text for event in seen] == [f"{number}!" for number in range(25)]
        assert {event.kind for event in seen} == {EventKind.MESSAGE}


async def test_a_page_that_ends_at_the_beginning_has_no_more(world):
    """`has_more` is false exactly when no message is before the page; deleted ones before it do not count."""
    room = await world.room("ann")
    assert (await world.store.page(room.id, 10)).events == ()
    messages = [world.message(room, "ann") for _ in range(3)]
    await world.append(*messages)
    assert not (await world.store.page(room.id, 3)).has_more
    assert (await world.store.page(room.id, 2)).has_more
    await world.append(world.delete(room, "ann", messages[0].id))
    assert not (await world.store.page(room.id, 2)).has_more


async def test_a_deleted_message_is_left_out_but_still_marks_its_place(world):
    """Somebody who pages from a message that was deleted meanwhile gets what was before it."""
    room = await world.room("ann")
    one, two, three = (world.message(room, "ann", text) for text in ("one", "two", "three"))
    await world.append(one, two, three, world.delete(room, "ann", two.id))
    assert [event.text for event in (await world.store.page(room.id, 10)).events] == ["one", "three"]
    assert [event.text for event in (await world.store.page(room.id, 10, before_id=two.id)).events] == ["one"]


async def test_a_page_of_nothing_known_is_refused(world):
    """An unknown room, and a `before_id` that is unknown, of another room or no message, are told apart."""
    room, other = await world.room("ann"), await world.room("ann")
    elsewhere, message = world.message(other, "ann"), world.message(room, "ann")
    edit = world.edit(room, "ann", message.id, "x")
    await world.append(elsewhere, message, edit)
    with pytest.raises(RoomNotFound):
        await world.store.page("none", 10)
    for unknown in ("none", elsewhere.id, edit.id):
        with pytest.raises(MessageNotFound):
            await world.store.page(room.id, 10, before_id=unknown)


async def test_a_delta_is_contiguous_and_bounded(world):
    """Every event after a position in order, whatever its kind; nothing for a room that is not there."""
    room = await world.room("ann", "bob")
    message = world.message(room, "ann")
    await world.append(message, world.edit(room, "ann", message.id, "x"), world.delete(room, "ann", message.id))
    await world.append(world.left(room, "bob"))
    assert [event.seq for event in await world.store.delta(room.id, 0, 100)] == [1, 2, 3, 4, 5, 6]
    assert [event.seq for event in await world.store.delta(room.id, 2, 3)] == [3, 4, 5]
    assert await world.store.delta(room.id, 6, 100) == await world.store.delta("none", 0, 100) == []


async def test_names_are_the_present_ones(world):
    """A user who is renamed is renamed in old messages too; one the store does not know has no name."""
    await world.user("ann")
    room = await world.room("ann", "ghost")
    await world.append(world.message(room, "ann"), world.message(room, "ghost"))
    assert [event.user_name for event in (await world.store.page(room.id, 10)).events] == ["Ann", ""]
    assert [event.user_name for event in await world.store.delta(room.id, 2, 10)] == ["Ann", ""]


# rooms


async def test_a_room_as_a_user_finds_it(world):
    """The entrance has the room's present top and the user's own membership, for private rooms too."""
    await world.user("ann")
    room = await world.room(public=False)
    await world.append(world.joined(room, "ann", MemberRole.OWNER), world.message(room, "ann"))
    found = await world.second.entrance(room.slug, "ann")
    assert found.room == msgspec.structs.replace(room, last_seq=2)
    assert (found.member.user_name, found.member.role, found.member.joined_at) == ("Ann", MemberRole.OWNER, world.NOW)
    assert (await world.second.entrance(room.slug, "bob")).member is None
    assert await world.store.entrance("no-such-room", "ann") is None


async def test_a_created_room_begins_with_its_owner(world):
    """The first event of the log is the owner's joining, which is no news to the owner."""
    await world.user("ann")
    room = await world.store.create_room(Room("c1", "created", "Created", False, world.NOW, "e", 0), "ann", "ev-1")
    assert room == Room("c1", "created", "Created", False, world.NOW, "e", 1)
    (event,) = await world.log(room)
    assert (event.seq, event.kind, event.id, event.user_id, event.user_name, event.text, event.ref) == (
        1, EventKind.JOINED, "ev-1", "ann", "Ann", "owner", "ann",
    )  # fmt: skip
    (member,) = await world.store.members("c1")
    assert (member.user_id, member.role, member.joined_at) == ("ann", MemberRole.OWNER, world.NOW)
    assert await world.store.set_read("c1", "ann", 0) == 1
    assert world.outcomes(await world.append(world.message(room, "ann"))) == ["2"]


async def test_a_slug_is_taken_once(world):
    """Of concurrent creations one succeeds, the others are a Conflict and leave nothing behind; ensuring finds it."""
    rooms = [Room(f"c{number}", "wanted", "Wanted", True, world.NOW, "e", 0) for number in range(6)]
    stores = [world.store, world.second] * 3
    results = await asyncio.gather(
        *(each.create_room(room, "ann", f"ev{room.id}") for each, room in zip(stores, rooms, strict=True)),
        return_exceptions=True,
    )
    (made,) = [result for result in results if isinstance(result, Room)]
    assert [type(result) for result in results if result is not made] == [Conflict] * 5
    assert [room.id for room in rooms if room.id in await world.store.heads()] == [made.id]
    assert [await world.store.members(room.id) for room in rooms if room.id != made.id] == [[]] * 5
    assert await world.store.ensure_room(Room("c9", "wanted", "Other", False, 0, "x", 0)) == made


async def test_the_list_of_rooms(world):
    """Public rooms for all, private ones for their members, by the time they were made."""
    late = await world.room("ann", created_at=world.NOW * 2)
    hidden = await world.room("ann", public=False, created_at=world.NOW + 1)
    empty = await world.room(created_at=world.NOW)
    ours = {late.id, hidden.id, empty.id}
    for user, expected in (
        ("ann", [(empty.id, False), (hidden.id, True), (late.id, True)]),
        ("bob", [(empty.id, False), (late.id, False)]),
    ):
        views = [view for view in await world.store.rooms_for(user) if view.room.id in ours]
        assert [(view.room.id, view.is_member) for view in views] == expected


async def unread(world, room: Room, user: str) -> int:
    """What the list of rooms says."""
    (view,) = [view for view in await world.store.rooms_for(user) if view.room.id == room.id]
    return view.unread


async def test_unread_counts_what_others_said_since(world):
    """Not what was said before joining, not one's own, not edits or deletes, not what was deleted or read."""
    room = await world.room("ann")
    await world.append(world.message(room, "ann"), world.joined(room, "bob"))
    assert await unread(world, room, "bob") == await unread(world, room, "zoe") == 0
    one, two = world.message(room, "ann"), world.message(room, "ann")
    await world.append(one, two, world.edit(room, "ann", one.id, "x"), world.message(room, "bob"))
    assert await unread(world, room, "bob") == 2
    await world.append(world.delete(room, "ann", two.id))
    assert await unread(world, room, "bob") == 1
    await world.store.set_read(room.id, "bob", 4)
    assert await unread(world, room, "bob") == 0
    assert await unread(world, room, "ann") == 1


async def test_unread_stops_counting_at_many(world):
    """A pointer far behind costs no more than MAX_UNREAD."""
    room = await world.room("ann", "bob")
    await world.append(*(world.message(room, "ann") for _ in range(MAX_UNREAD + 5)))
    assert await unread(world, room, "bob") == MAX_UNREAD


async def test_the_read_pointer_moves_forward_within_the_log(world):
    """Never backwards, never beyond the top, of a member only, from any process."""
    room = await world.room("ann")
    await world.append(*(world.message(room, "ann") for _ in range(5)))
    for asked, there in ((0, 1), (3, 3), (2, 3), (1 << 53, 6), (0, 6)):
        assert await world.second.set_read(room.id, "ann", asked) == there
    for room_id, user in ((room.id, "bob"), ("none", "ann")):
        with pytest.raises(RoomNotFound):
            await world.store.set_read(room_id, user, 1)
    moved = await asyncio.gather(
        *((world.store, world.second)[seq % 2].set_read(room.id, "ann", seq) for seq in range(6))
    )
    assert moved == [6] * 6


async def test_new_epochs_name_the_log_anew(world):
    """The named rooms, or all, get epochs of their own that were never there; the log itself stays."""
    one, two = await world.room("ann"), await world.room("ann")
    assert await world.store.new_epochs([]) == 0
    assert await world.store.new_epochs([one.slug, one.slug, "no-such-room"]) == 1
    heads = await world.second.heads()
    assert heads[one.id] != (one.epoch, 1)
    assert heads[two.id] == (two.epoch, 1)
    assert await world.store.new_epochs() == len(heads)
    after = await world.second.heads()
    assert len({epoch for epoch, _ in after.values()} | {epoch for epoch, _ in heads.values()}) == 2 * len(heads)
    assert {room_id: seq for room_id, (_, seq) in after.items()} == {
        room_id: seq for room_id, (_, seq) in heads.items()
    }
    assert (await world.store.entrance(one.slug, "ann")).room.epoch == after[one.id][0]


async def test_the_summary_counts_since_a_moment(world):
    """Messages, edits, deletes, authors and busy rooms of the log, new users and logins; nothing from before."""
    busy, quiet = await world.room("ann", "bob"), await world.room("ann")
    old, since = world.message(busy, "ann"), world.NOW + 1
    await world.append(old, world.message(quiet, "ann"))
    assert (await world.store.day_summary(world.NOW)).messages == 2
    new = [world.message(busy, user, at=since) for user in ("ann", "ann", "bob")]
    await world.append(
        *new, world.edit(busy, "ann", old.id, "x", at=since), world.edit(busy, "ann", old.id, "y", at=since)
    )
    await world.append(world.delete(busy, "ann", old.id, at=since), world.joined(quiet, "bob", at=since))
    summary = await world.store.day_summary(since)
    assert (summary.messages, summary.edits, summary.deletes, summary.authors, summary.rooms) == (3, 2, 1, 2, 1)
    assert (summary.new_users, summary.logins) == (0, 0)
    nothing = await world.store.day_summary(since + 1)
    assert set(msgspec.structs.astuple(nothing)) == {0}
