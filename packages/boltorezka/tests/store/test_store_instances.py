"""What processes know of each other: leases, presence and voice seats."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from boltorezka.errors import Conflict, Forbidden, RoomNotFound, VoiceFull
from boltorezka.ports import SEAT_HOLD_US, Presence
from boltorezka.rooms.model import Room
from boltorezka.voice.model import Seat

NOW = 1_800_000_000_000_000


async def leases(world, *instances: str, until: int = NOW + 6) -> None:
    """Make these processes live."""
    for instance in instances:
        await world.store.renew_lease(instance, NOW, until)


def seat(room: Room, user: str, *, id: str | None = None, instance: str = "one", at: int = NOW) -> Seat:  # noqa: A002
    """A seat that somebody wants."""
    return Seat(id or f"seat-{user}", room.id, user, user.title(), instance, at)


async def test_leases_expire_with_their_presence(world):
    """A process that stops renewing is dropped together with its people; giving back does it at once."""
    await leases(world, "one", "two", "three")
    for instance in ("one", "two", "three"):
        await world.store.set_presence(instance, [Presence("r", "u", "U", instance)], [])
    assert await world.store.renew_lease("one", NOW + 5, NOW + 11) == ["three", "two"]
    await world.second.renew_lease("two", NOW + 5, NOW + 11)
    assert await world.store.renew_lease("one", NOW + 7, NOW + 13) == ["two"]
    assert {row.instance for row in await world.second.presence()} == {"one", "two"}
    await world.store.set_presence("one", [], [Presence("r", "u", "U", "one")])
    await world.store.release_lease("two", NOW + 8)
    assert await world.second.presence() == []
    assert await world.store.renew_lease("one", NOW + 8, NOW + 14) == []


async def test_presence_is_each_processes_own(world):
    """One user through two processes is there until both let go; repeating what is known changes nothing."""
    await leases(world, "one", "two")
    for instance in ("one", "two"):
        for _ in range(2):
            await world.store.set_presence(instance, [Presence("r", "u", "U", instance)], [])
    await world.store.set_presence("one", [Presence("q", "u", "U", "one")], [Presence("r", "u", "U", "one")])
    rows = [(row.room_id, row.user_id, row.user_name, row.instance) for row in await world.second.presence()]
    assert sorted(rows) == [("q", "u", "U", "one"), ("r", "u", "U", "two")]


# seats: who gets none


async def test_only_members_take_a_seat(world):
    """A stranger learns nothing of the room, a banned member is told; no seat is taken."""
    await world.user("ann")
    room = await world.room("ann")
    with pytest.raises(RoomNotFound):
        await world.store.take_seat(seat(room, "zoe"), 6, move=False)
    await world.store.set_banned("ann", banned=True, at=NOW)
    with pytest.raises(Forbidden):
        await world.store.take_seat(seat(room, "ann"), 6, move=False)
    assert await world.store.seats(NOW) == []


async def test_a_connected_user_has_to_move(world):
    """A second seat, in whichever room, is a Conflict unless asked to move; then the first one is given up."""
    one, two = await world.room("ann"), await world.room("ann")
    first = (await world.store.take_seat(seat(one, "ann"), 6, move=False)).seat
    for room in (one, two):
        with pytest.raises(Conflict):
            await world.second.take_seat(seat(room, "ann", id="again"), 6, move=False)
    assert await world.store.seats(NOW) == [first]
    for room, name in ((one, "same"), (two, "other")):
        taken = await world.second.take_seat(seat(room, "ann", id=name, instance="two"), 6, move=True)
        assert (taken.seat.id, taken.reclaimed, taken.left) == (name, False, first)
        assert await world.store.seats(NOW) == [taken.seat]
        first = taken.seat


async def test_a_full_room_is_full_for_others_only(world):
    """Held seats count too; who is refused keeps what they had; who sits there may move within it."""
    room, other = await world.room("ann", "bob", "eve"), await world.room("eve")
    await world.store.take_seat(seat(room, "ann"), 2, move=False)
    await world.store.take_seat(seat(room, "bob"), 2, move=False)
    await world.store.hold_seat("seat-bob", "one", NOW + 30)
    mine = (await world.store.take_seat(seat(other, "eve"), 2, move=False)).seat
    with pytest.raises(VoiceFull):
        await world.store.take_seat(seat(room, "eve", id="new"), 2, move=True)
    assert mine in await world.store.seats(NOW)
    assert (await world.store.take_seat(seat(room, "ann", id="tab"), 2, move=True)).left.id == "seat-ann"
    taken = await world.store.take_seat(seat(room, "eve", id="new", at=NOW + 30), 2, move=True)
    assert taken.left == mine, "the hold of bob's seat has passed"


async def test_the_last_seat_is_taken_once(world):
    """Of many who come at once through two processes exactly as many get a seat as there are."""
    users = [f"user{number}" for number in range(8)]
    room = await world.room(*users)
    results = await asyncio.gather(
        *(
            (world.store, world.second)[index % 2].take_seat(seat(room, user), 3, move=False)
            for index, user in enumerate(users)
        ),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Taken"] * 3 + ["VoiceFull"] * 5
    assert len(await world.store.seats(NOW)) == 3


async def test_one_user_from_many_tabs_gets_one_seat(world):
    """Of one user's concurrent attempts through two processes one wins, the others are a Conflict."""
    room = await world.room("ann")
    stores = [world.store, world.second] * 3
    results = await asyncio.gather(
        *(each.take_seat(seat(room, "ann", id=f"tab{index}"), 6, move=False) for index, each in enumerate(stores)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 5 + ["Taken"]


# seats: held, reclaimed, given up


async def test_a_held_seat_is_reclaimed_as_it_was(world):
    """Who comes back in time, through any process, has the same seat with all that was said of it."""
    room = await world.room("ann")
    await world.store.take_seat(seat(room, "ann"), 1, move=False)
    await world.store.set_seat("seat-ann", muted=True, audio_muted=False, moderated=True)
    await world.store.hold_seat("seat-ann", "one", NOW + 30)
    (held,) = await world.second.seats(NOW + 29)
    assert held == Seat("seat-ann", room.id, "ann", "Ann", "one", NOW, NOW + 30, True, False, True)
    taken = await world.second.take_seat(seat(room, "ann", id="new", instance="two", at=NOW + 29), 1, move=False)
    assert taken.reclaimed
    assert taken.left is None
    assert taken.seat == msgspec.structs.replace(held, instance="two", held_until=None)
    assert await world.store.seats(NOW + 99) == [taken.seat]


async def test_a_hold_that_has_passed_is_no_seat(world):
    """At its end the seat is not there: not listed, not reclaimed, not in the way."""
    room = await world.room("ann")
    await world.store.take_seat(seat(room, "ann"), 1, move=False)
    await world.store.hold_seat("seat-ann", "one", NOW + 30)
    assert await world.store.seats(NOW + 30) == []
    taken = await world.store.take_seat(seat(room, "ann", id="new", at=NOW + 30), 1, move=False)
    assert (taken.seat.id, taken.reclaimed, taken.left) == ("new", False, None)


async def test_a_held_seat_is_given_up_for_another_room(world):
    """No move is asked for: the held seat elsewhere is answered as left."""
    one, two = await world.room("ann"), await world.room("ann")
    await world.store.take_seat(seat(one, "ann"), 6, move=False)
    await world.store.hold_seat("seat-ann", "one", NOW + 30)
    taken = await world.store.take_seat(seat(two, "ann", id="new"), 6, move=False)
    assert (taken.seat.id, taken.left.id, taken.left.room_id, taken.reclaimed) == ("new", "seat-ann", one.id, False)
    assert [each.id for each in await world.store.seats(NOW)] == ["new"]


async def test_only_the_process_that_has_a_seat_holds_it(world):
    """A late word of the process that lost a seat does not touch it, nor does one about a seat that is gone."""
    room = await world.room("ann")
    taken = await world.store.take_seat(seat(room, "ann", instance="two"), 6, move=False)
    await world.store.hold_seat("seat-ann", "one", NOW + 30)
    await world.store.hold_seat("none", "one", NOW + 30)
    await world.store.set_seat("none", muted=True, audio_muted=True, moderated=True)
    assert await world.store.seats(NOW + 99) == [taken.seat]


async def test_a_seat_is_given_up_once(world):
    """Dropping tells whether there was anything to drop."""
    room = await world.room("ann")
    await world.store.take_seat(seat(room, "ann"), 6, move=False)
    assert await world.second.drop_seat("seat-ann")
    assert not await world.store.drop_seat("seat-ann")
    assert await world.store.seats(NOW) == []


async def test_a_ban_and_a_removal_take_the_seat_along(world):
    """Who is no member any more, or banned, has no seat from that commit on; others keep theirs."""
    await world.user("bob")
    room = await world.room("ann", "bob", "cid")
    for user in ("ann", "bob", "cid"):
        await world.store.take_seat(seat(room, user), 6, move=False)
    await world.store.append([world.left(room, "ann")])
    await world.second.set_banned("bob", banned=True, at=NOW)
    assert [each.user_id for each in await world.store.seats(NOW)] == ["cid"]


async def test_a_user_and_a_moderator_write_without_knowing_of_each_other(world):
    """What is not named stays as the other wrote it."""
    room = await world.room("ann")
    await world.store.take_seat(seat(room, "ann"), 6, move=False)
    await world.store.set_seat("seat-ann", moderated=True)
    await world.second.set_seat("seat-ann", muted=True, audio_muted=False)
    (found,) = await world.store.seats(NOW)
    assert (found.muted, found.audio_muted, found.moderated) == (True, False, True)


async def test_seats_are_listed_by_room_and_time(world):
    """Whoever sat down first comes first."""
    rooms = [await world.room("ann", "bob", "eve"), await world.room("zoe")]
    await world.store.take_seat(seat(rooms[1], "zoe"), 6, move=False)
    for late, user in ((3, "ann"), (1, "bob"), (2, "eve")):
        await world.store.take_seat(seat(rooms[0], user, at=NOW + late), 6, move=False)
    listed = [(each.room_id, each.user_id) for each in await world.store.seats(NOW)]
    expected = {rooms[0].id: ["bob", "eve", "ann"], rooms[1].id: ["zoe"]}
    assert listed == [(room_id, user) for room_id in sorted(expected) for user in expected[room_id]]


async def test_a_process_that_ends_leaves_its_seats_held(world):
    """Whether it gives its lease back or just dies: its seats are held from then on, the others' are not touched."""
    room = await world.room("ann", "bob", "eve")
    await leases(world, "one", "two", "three")
    for user, instance in (("ann", "one"), ("bob", "two"), ("eve", "three")):
        await world.store.take_seat(seat(room, user, instance=instance), 6, move=False)
    await world.store.hold_seat("seat-bob", "two", NOW + 4 * SEAT_HOLD_US)
    await world.store.release_lease("three", NOW + 2)
    await world.second.renew_lease("one", NOW + 7, NOW + 4 * SEAT_HOLD_US)
    held = {each.user_id: each.held_until for each in await world.store.seats(NOW + 7)}
    assert held == {"ann": None, "bob": NOW + 4 * SEAT_HOLD_US, "eve": NOW + 2 + SEAT_HOLD_US}
    await world.second.renew_lease("one", NOW + 2 + SEAT_HOLD_US, NOW + 4 * SEAT_HOLD_US)
    assert [each.user_id for each in await world.store.seats(0)] == ["ann", "bob"]


async def test_giving_a_lease_back_lengthens_no_hold(world):
    """A seat that was held already when its process ended is kept until the moment that was promised."""
    room = await world.room("ann")
    await leases(world, "one")
    await world.store.take_seat(seat(room, "ann"), 6, move=False)
    await world.store.hold_seat("seat-ann", "one", NOW + 3)
    await world.store.release_lease("one", NOW + 2)
    assert [each.held_until for each in await world.store.seats(NOW + 2)] == [NOW + 3]


async def test_seats_of_a_dead_process_are_held(world):
    """Its lease has run out: whoever notices first holds its seats from that moment, and only once."""
    room = await world.room("ann", "bob")
    await leases(world, "one", "two")
    for user, instance in (("ann", "one"), ("bob", "two")):
        await world.store.take_seat(seat(room, user, instance=instance), 6, move=False)
    for at in (NOW + 7, NOW + 9):
        await world.store.renew_lease("one", at, at + 6)
    held = {each.user_id: each.held_until for each in await world.second.seats(NOW + 9)}
    assert held == {"ann": None, "bob": NOW + 7 + SEAT_HOLD_US}
