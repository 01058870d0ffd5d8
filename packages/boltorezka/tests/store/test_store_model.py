"""Random histories against a model that keeps everything in lists: the store must tell the same story."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boltorezka.errors import Refusal
from boltorezka.rooms.access import CHANGE_WINDOW_US
from boltorezka.rooms.model import EventKind, Page
from boltorezka.voice.model import Seat

# The database is made once for each test, and every example works in rooms and with users of its own.
EXAMPLES = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
USERS = ("ann", "bob")


@dataclass(frozen=True)
class Step:
    """Something a user does. `target` counts the messages back from the newest one; `room` is one of two."""

    kind: EventKind
    user: int
    room: int
    target: int
    text: str
    key: int | None
    late: bool


STEPS = st.builds(
    Step,
    kind=st.sampled_from([EventKind.MESSAGE] * 4 + list(EventKind)),
    user=st.integers(0, 1),
    room=st.sampled_from([0, 0, 0, 1]),
    target=st.integers(0, 3),
    text=st.sampled_from("ab"),
    key=st.sampled_from([None, None, None, 1, 2]),
    late=st.sampled_from([False] * 7 + [True]),
)
# What a store may have a short way for: messages of members in some rooms, and a few of what breaks the rule.
TALK = st.builds(
    Step,
    kind=st.sampled_from([EventKind.MESSAGE] * 30 + list(EventKind)),
    user=st.integers(0, 1),
    room=st.integers(0, 1),
    target=st.integers(0, 3),
    text=st.sampled_from("ab"),
    key=st.sampled_from([None] * 4 + list(range(30))),
    late=st.just(value=False),
)


@dataclass
class Said:
    """An event as the model keeps it."""

    kind: EventKind
    id: str
    user: str
    room: str
    ref: str | None
    sent: str
    shown: str
    at: int
    seq: int = 0
    deleted: bool = False


@dataclass
class Model:
    """What the contract says, in the fewest words."""

    logs: dict[str, list[Said]]
    members: dict[str, list[str]]
    keys: dict[tuple[str, str], Said] = field(default_factory=dict)

    def append(self, new) -> str:
        """The outcome, as World.outcomes tells it."""
        said = Said(new.kind, new.id, new.user_id, new.room_id, new.ref, new.text, new.text, new.created_at)
        if (new.user_id, new.idempotency_key) in self.keys:
            first = self.keys[new.user_id, new.idempotency_key]
            same = (first.kind, first.room, first.ref) == (said.kind, said.room, said.ref)
            return (
                f"again {first.seq}" if same and (first.deleted or first.sent == said.sent) else "IdempotencyConflict"
            )
        refused = self._refused(said)
        if refused:
            return refused
        self.logs[said.room].append(said)
        said.seq = len(self.logs[said.room])
        if new.idempotency_key is not None:
            self.keys[new.user_id, new.idempotency_key] = said
        self._apply(said)
        return str(said.seq)

    def message(self, said: Said) -> Said | None:
        """What an edit or a delete is about, if it is there."""
        found = [each for each in self.logs[said.room] if each.kind is EventKind.MESSAGE and each.id == said.ref]
        return found[0] if found and not found[0].deleted else None

    def _refused(self, said: Said) -> str | None:
        is_member = said.user in self.members[said.room]
        if said.kind is EventKind.JOINED:
            return "Unchanged" if is_member else None
        if said.kind is EventKind.LEFT:
            return None if is_member else "UserNotFound"
        if not is_member:
            return "RoomNotFound"
        return None if said.kind is EventKind.MESSAGE else self._change_refused(said)

    def _change_refused(self, said: Said) -> str | None:
        message = self.message(said)
        if message is None:
            return "MessageNotFound"
        if message.user != said.user:
            return "Forbidden"
        return f"{said.kind.value.title()}WindowExpired" if said.at - message.at > CHANGE_WINDOW_US else None

    def _apply(self, said: Said) -> None:
        if said.kind is EventKind.JOINED:
            self.members[said.room].append(said.user)
        elif said.kind is EventKind.LEFT:
            self.members[said.room].remove(said.user)
        elif said.kind is EventKind.EDIT:
            self.message(said).shown = said.sent
        elif said.kind is EventKind.DELETE:
            for each in self.logs[said.room]:
                if said.ref in (each.id, each.ref) and each.kind is not EventKind.DELETE:
                    each.sent, each.deleted = "", True

    def page(self, room: str) -> list[tuple[int, str]]:
        """What is shown."""
        shown = [each for each in self.logs[room] if each.kind is EventKind.MESSAGE and not each.deleted]
        return [(each.seq, each.shown) for each in shown]


def build(world, step: Step, rooms, users, messages: list[str]):
    """The event of a step; edits and deletes are about one of the newest messages, whoever wrote it."""
    room, user = rooms[step.room], users[step.user]
    key = None if step.key is None else f"k{step.key}"
    at = world.NOW + (CHANGE_WINDOW_US + 1 if step.late else 0)
    if step.kind is EventKind.MESSAGE:
        new = world.message(room, user, step.text, key=key, at=at)
        messages.append(new.id)
        return new
    ref = messages[-1 - step.target % len(messages)] if messages else "none"
    if step.kind is EventKind.EDIT:
        return world.edit(room, user, ref, step.text, key=key, at=at)
    if step.kind is EventKind.DELETE:
        return world.delete(room, user, ref, key=key, at=at)
    return world.joined(room, user) if step.kind is EventKind.JOINED else world.left(room, user)


async def pages(store, room_id: str, size: int) -> list[tuple[int, str]]:
    """All messages of a room, read in pages of this size."""
    seen: list[tuple[int, str]] = []
    page: Page = await store.page(room_id, size)
    while True:
        seen = [*((event.seq, event.text) for event in page.events), *seen]
        if not page.has_more:
            return seen
        page = await store.page(room_id, size, before_seq=page.events[0].seq)


@EXAMPLES
@given(batches=st.lists(st.lists(STEPS, min_size=1, max_size=12), min_size=1, max_size=5), size=st.integers(1, 5))
async def test_any_history_is_the_models(world, batches, size):
    """However steps fall into batches: the same outcomes, logs without holes, and pages, deltas and members agree."""
    await compare(world, batches, size, joined=1)


@EXAMPLES
@given(batches=st.lists(st.lists(TALK, min_size=1, max_size=6), min_size=1, max_size=8))
async def test_any_talk_is_the_models(world, batches):
    """Batches of messages, with a repeated key, an edit or a leaving here and there, are stored as the model does."""
    await compare(world, batches, 5, joined=2)


ORDERS = list(permutations(["message", "again", "conflict", "stranger", "edit", "delete"]))


@pytest.mark.parametrize("chunk", range(6))
async def test_a_mixed_batch_in_every_order(world, chunk):
    """A message, its repetitions, a stranger's, its edit and its delete: in every order what the model says."""
    for order in ORDERS[chunk::6]:
        room, (ann, bob) = await world.room(), (world.fresh(name) for name in USERS)
        model = Model({room.id: []}, {room.id: []})
        message = world.message(room, ann, "a", key="k")
        items = {
            "message": message,
            "again": world.message(room, ann, "a", key="k"),
            "conflict": world.message(room, ann, "b", key="k"),
            "stranger": world.message(room, bob, "a", key="k"),
            "edit": world.edit(room, ann, message.id, "c"),
            "delete": world.delete(room, ann, message.id),
        }
        for batch in ([world.joined(room, ann)], [items[name] for name in order]):
            assert world.outcomes(await world.append(*batch)) == [model.append(new) for new in batch], order
        log = [(event.id, event.text) for event in await world.log(room)]
        assert log == [(said.id, said.sent) for said in model.logs[room.id]], order


async def compare(world, batches: list[list[Step]], size: int, joined: int) -> None:
    """Play the batches to the store and to the model, from a start with both users in the first `joined` rooms."""
    rooms = [await world.room(), await world.room()]
    users = [world.fresh(name) for name in USERS]
    model = Model({room.id: [] for room in rooms}, {room.id: [] for room in rooms})
    messages: list[str] = []
    first = [world.joined(room, user) for room in rooms[:joined] for user in users]
    for batch in [first] + [[build(world, step, rooms, users, messages) for step in steps] for steps in batches]:
        assert world.outcomes(await world.append(*batch)) == [model.append(new) for new in batch]
    for room in rooms:
        log = await world.log(room)
        assert [(event.seq, event.id, event.text) for event in log] == [
            (index, said.id, said.sent) for index, said in enumerate(model.logs[room.id], 1)
        ]
        assert await pages(world.second, room.id, size) == model.page(room.id)
        assert {member.user_id for member in await world.second.members(room.id)} == set(model.members[room.id])
        for user in users:
            (view,) = [view for view in await world.second.rooms_for(user) if view.room.id == room.id]
            assert view.unread == unread(model, room.id, user)


def unread(model: Model, room_id: str, user: str) -> int:
    """Messages of others since the user joined last; nothing for somebody who is no member."""
    if user not in model.members[room_id]:
        return 0
    joined = max(each.seq for each in model.logs[room_id] if each.kind is EventKind.JOINED and each.user == user)
    others = {each.seq for each in model.logs[room_id] if each.user != user}
    return sum(seq > joined and seq in others for seq, _ in model.page(room_id))


@dataclass(frozen=True)
class Move:
    """Something that happens to a voice seat."""

    action: str
    user: int
    room: int
    wait: int


MOVES = st.builds(
    Move,
    action=st.sampled_from(["take", "take", "move", "hold", "drop"]),
    user=st.integers(0, 3),
    room=st.integers(0, 1),
    wait=st.sampled_from([0, 0, 1, 5, 30]),
)


@EXAMPLES
@given(moves=st.lists(MOVES, min_size=1, max_size=25))
async def test_seats_never_break_their_rules(world, moves):
    """Whatever happens: one seat for each user, never more than fit, nobody loses a seat to somebody else."""
    users = [world.fresh("user") for _ in range(4)]
    rooms = [await world.room(*users), await world.room(*users)]
    now, limit = world.NOW, 2
    sat: dict[str, Seat] = {}
    for move in moves:
        now += move.wait
        sat = {user: seat for user, seat in sat.items() if seat.held_until is None or seat.held_until > now}
        user, room = users[move.user], rooms[move.room]
        mine = sat.get(user)
        if move.action in ("take", "move"):
            seat = Seat(world.fresh("seat"), room.id, user, user, "one", now)
            sat.update(await take(world, seat, limit, mine, sat, move=move.action == "move"))
        elif mine is not None and move.action == "hold":
            await world.store.hold_seat(mine.id, "one", now + 10)
            sat[user] = Seat(mine.id, mine.room_id, user, user, "one", mine.taken_at, now + 10)
        elif mine is not None:
            assert await world.store.drop_seat(mine.id)
            del sat[user]
        listed = {seat.user_id: seat for seat in await world.store.seats(now) if seat.user_id in users}
        assert listed == sat


async def take(
    world, seat: Seat, limit: int, mine: Seat | None, sat: dict[str, Seat], *, move: bool
) -> dict[str, Seat]:
    """Ask for a seat, and check the answer against who sits where; the user's seat afterwards."""
    others = sum(each.room_id == seat.room_id and each.user_id != seat.user_id for each in sat.values())
    reclaimed = mine is not None and mine.held_until is not None and mine.room_id == seat.room_id
    if mine is not None and mine.held_until is None and not move:
        expected = "Conflict"
    elif not reclaimed and others >= limit:
        expected = "VoiceFull"
    else:
        expected = "Taken"
    if expected != "Taken":
        with pytest.raises(Refusal) as refused:
            await world.store.take_seat(seat, limit, move=move)
        assert type(refused.value).__name__ == expected
        return {}
    taken = await world.store.take_seat(seat, limit, move=move)
    assert taken.reclaimed == reclaimed
    assert taken.left == (None if reclaimed else mine)
    assert taken.seat.id == (mine.id if reclaimed else seat.id)
    return {seat.user_id: taken.seat}
