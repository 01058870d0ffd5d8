"""The core without a network: a model of store and sockets executes its effects, in any order hypothesis likes."""

from __future__ import annotations

import json
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltorezka.auth.model import Session, TicketGrant
from boltorezka.errors import RoomNotFound, Unavailable
from boltorezka.protocol import CloseCode
from boltorezka.rooms import effects as do
from boltorezka.rooms.access import entered
from boltorezka.rooms.connection import Limits
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.hall import UNLOAD_AFTER_S
from boltorezka.rooms.model import Conflicting, Event, EventKind, Role, Room, Stored, User

GENERAL = Room("r0", "general", "General", True, 0, "e1", 0)
SECRET = Room("r1", "secret", "Secret", False, 0, "e1", 0)
HOUR = 3600 * 1_000_000


class World:
    """A store in memory and the frames each socket got. Effects wait until somebody lets them happen."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.core = RoomsCore(limits or Limits())
        self.rooms = {"general": GENERAL, "secret": SECRET}
        self.log: dict[str, list[Event]] = {"r0": [], "r1": []}
        self.members: set[tuple[str, str]] = set()
        self.frames: dict[int, list[dict]] = {}
        self.inside: dict[str, list[int]] = {"r0": [], "r1": []}
        self.closed: dict[int, int] = {}
        self.waiting: list = []
        self.presence: list[do.PresenceChanged] = []
        self.user = User("u1", "Ann", "", Role.USER, 0)

    def run(self, effects) -> None:
        """Do at once what needs no store; keep the rest."""
        for effect in effects:
            if isinstance(effect, do.Send):
                self.frames[effect.key].append(json.loads(effect.frame))
            elif isinstance(effect, do.Broadcast):
                for key in self.inside[effect.room_id]:
                    self.frames[key].append(json.loads(effect.frame))
            elif isinstance(effect, do.Enter):
                self.inside[effect.room_id].append(effect.key)
            elif isinstance(effect, do.Exit):
                self.inside[effect.room_id].remove(effect.key)
            elif isinstance(effect, do.Close):
                if effect.frame is not None:
                    self.frames[effect.key].append(json.loads(effect.frame))
                self.closed[effect.key] = effect.code
            elif isinstance(effect, do.PresenceChanged):
                self.presence.append(effect)
            else:
                self.waiting.append(effect)

    def head(self, room_id: str) -> int:
        return len(self.log[room_id])

    def commit(self, room_id: str, user: str, text: str, key: str | None = None) -> Stored | Conflicting:
        """Store a message, as this or another process does."""
        for event in self.log[room_id]:
            if key is not None and event.idempotency_key == key and event.user_id == user:
                return Stored(event, duplicate=True) if event.text == text else Conflicting(event)
        seq = self.head(room_id) + 1
        event = Event(room_id, seq, EventKind.MESSAGE, f"m{seq}", user, user, text, seq, None, key)
        self.log[room_id].append(event)
        return Stored(event)

    def ask(self, index: int) -> None:
        """Let the store act on one waiting effect, and keep its answer: the world goes on before it arrives."""
        effect = self.waiting[index]
        if not callable(effect):
            self.waiting[index] = self._answer(effect)

    def happen(self, index: int = 0) -> None:
        """Let one answer arrive (asking for it now, if nobody did before)."""
        self.ask(index)
        answer = self.waiting.pop(index)
        assert callable(answer)
        self.run(answer())

    def _answer(self, effect):
        core = self.core
        if isinstance(effect, do.CheckTicket):
            found = (Session("s1", self.user.id, 1, 0, 0, HOUR), self.user)
            return lambda: core.ticket_checked(effect.key, TicketGrant("s1", "u1", True, HOUR), found, 1, 1)
        if isinstance(effect, do.FindRoom):
            room = self.rooms.get(effect.slug)
            row = room and msgspec.structs.replace(room, last_seq=self.head(room.id))
            member = row is not None and (row.id, effect.user_id) in self.members
            return lambda: core.room_found(effect.key, row, 1, is_member=member)
        if isinstance(effect, do.AddMember):
            self.members.add((effect.room_id, effect.user_id))
            row = msgspec.structs.replace(self.rooms[effect.slug], last_seq=self.head(effect.room_id))
            return lambda: core.room_found(effect.key, row, 1, is_member=True)
        if isinstance(effect, do.ReadLog):
            events = self.log[effect.room_id][effect.after : effect.after + 300]
            return lambda: core.log_read(effect, events, 1)
        if isinstance(effect, do.Append):
            stored = self.commit(effect.room_id, effect.user_id, effect.text, effect.idempotency_key)
            return lambda: core.appended([effect], [stored], 1)
        return list

    def settle(self) -> None:
        """Let everything happen."""
        while self.waiting:
            self.happen()

    def opened(self, key: int, user: str = "u1") -> None:
        """A socket that is let in."""
        self.user = User(user, user.upper(), "", Role.USER, 0)
        self.frames[key] = []
        self.run(self.core.opened(key, "ticket", has_origin=True, tick=0.0, jitter=0.5))
        self.settle()

    def say(self, key: int, kind: str, payload: dict, **more: str) -> None:
        frame = {"type": kind, "payload": payload, **more}
        self.run(self.core.received(key, json.dumps(frame).encode(), 1))

    def kinds(self, key: int) -> list[str]:
        return [frame["type"] for frame in self.frames[key]]

    def seqs(self, key: int) -> list[int]:
        """What the socket has of the log, from joins and live."""
        found: list[int] = []
        for frame in self.frames[key]:
            if frame["type"] == "chat.message":
                found.append(frame["payload"]["seq"])
            elif frame["type"] == "room.delta":
                found += [event["payload"]["seq"] for event in frame["payload"]["events"]]
        return found


@pytest.mark.parametrize(
    ("grant", "session", "user", "code"),
    [
        (None, None, {}, CloseCode.INVALID_TICKET),
        ({"expires_at": 5}, {}, {}, CloseCode.INVALID_TICKET),
        ({"via_bearer": False}, {}, {}, CloseCode.INVALID_TICKET),
        ({}, None, {}, CloseCode.SESSION_ENDED),
        ({}, {"revoked_at": 1}, {}, CloseCode.SESSION_ENDED),
        ({}, {"expires_at": 9}, {}, CloseCode.SESSION_ENDED),
        ({}, {}, {"banned": True}, CloseCode.BANNED),
    ],
)
def test_tickets_that_let_nobody_in(grant, session, user, code):
    """Each way a ticket can be bad ends in its close code, before anything else is said."""
    world = World()
    world.frames[1] = []
    world.run(world.core.opened(1, "ticket", has_origin=False, tick=0.0, jitter=0.0))
    base = TicketGrant("s1", "u1", True, HOUR)
    found = (
        msgspec.structs.replace(Session("s1", "u1", 1, 0, 0, HOUR), **(session or {})),
        msgspec.structs.replace(world.user, **user),
    )
    taken = None if grant is None else msgspec.structs.replace(base, **grant)
    world.run(world.core.ticket_checked(1, taken, None if session is None else found, 10, 10))
    assert (world.kinds(1), world.closed[1]) == (["error"], code)
    world.run(world.core.received(1, b'{"type":"ping"}', 1))
    assert world.kinds(1) == ["error"]


def test_a_session_that_ends_while_its_ticket_is_checked_does_not_slip_in():
    """The logout is seen between the check's reading and its answer: the socket is refused."""
    world = World()
    world.frames[1] = []
    world.run(world.core.opened(1, "ticket", has_origin=True, tick=5.0, jitter=0.0))
    world.run(world.core.ended("s1", CloseCode.SESSION_ENDED, 1, 6.0))
    world.settle()
    assert world.closed[1] == CloseCode.SESSION_ENDED


def test_a_private_room_does_not_exist_for_others():
    """A non-member gets the same RoomNotFound for a private room as for none, and is not made a member."""
    with pytest.raises(RoomNotFound) as private:
        entered(SECRET, is_member=False)
    with pytest.raises(RoomNotFound) as none:
        entered(None, is_member=False)
    assert private.value.message == none.value.message
    world = World()
    world.opened(1)
    world.say(1, "room.join", {"roomSlug": "secret"}, requestId="j")
    world.settle()
    assert world.frames[1][-1]["payload"]["code"] == "RoomNotFound"
    world.members.add(("r1", "u1"))
    world.say(1, "room.join", {"roomSlug": "secret"}, requestId="j")
    world.settle()
    assert world.frames[1][-1]["type"] == "ack"


def test_what_is_sent_during_a_join_waits_for_it():
    """A message right behind the join goes to the joined room, and reading pauses when too much waits."""
    world = World(Limits(pre_auth_frames=2))
    world.opened(1)
    world.say(1, "room.join", {"roomSlug": "general"}, requestId="j")
    for number in range(4):
        world.say(1, "chat.send", {"text": str(number)}, requestId=f"m{number}")
    assert do.PauseReading(1) in world.waiting
    world.settle()
    assert [event.text for event in world.log["r0"]] == ["0", "1", "2", "3"]
    assert [frame["payload"]["requestId"] for frame in world.frames[1] if frame["type"] == "ack"] == [
        "j", "m0", "m1", "m2", "m3",
    ]  # fmt: skip


def test_a_log_that_cannot_be_read_fails_the_join_and_is_tried_again():
    """The join is refused as retryable; the socket stays; the next regular look asks for the log again."""
    world = World()
    world.opened(1)
    world.say(1, "room.join", {"roomSlug": "general"}, requestId="j")
    while not isinstance(world.waiting[0], do.ReadLog):
        world.happen()
    world.run(world.core.log_failed(world.waiting.pop(), Unavailable("The database is gone."), 1))
    assert (world.frames[1][-1]["type"], world.frames[1][-1]["payload"]["retryable"]) == ("nack", True)
    world.run(world.core.look_again(1, 1.0))
    assert isinstance(world.waiting[0], do.ReadLog)


def test_a_new_epoch_resets_everybody():
    """When the log was rebuilt, those who are in are told to begin anew, and the newcomer gets the new epoch."""
    world = World()
    for key in (1, 2):
        world.opened(key, f"u{key}")
    world.say(1, "room.join", {"roomSlug": "general"})
    world.settle()
    world.rooms["general"] = msgspec.structs.replace(GENERAL, epoch="e2")
    world.say(2, "room.join", {"roomSlug": "general"})
    world.settle()
    assert world.frames[1][-2]["payload"]["epoch"] == "e2"
    assert world.kinds(1)[-2:] == ["room.reset", "presence.joined"]
    assert next(f for f in world.frames[2] if f["type"] == "room.joined")["payload"]["epoch"] == "e2"


def test_too_many_unanswered_messages_are_refused():
    """Beyond the bound a message is refused with a time to come back; after an ack there is room again."""
    world = World(Limits(unanswered=1))
    world.opened(1)
    world.say(1, "room.join", {"roomSlug": "general"})
    world.settle()
    for number in range(2):
        world.say(1, "chat.send", {"text": "x"}, requestId=str(number))
    nack = world.frames[1][-1]["payload"]
    assert (nack["code"], nack["retryAfterMs"]) == ("RateLimited", 250)
    world.settle()
    world.say(1, "chat.send", {"text": "x"}, requestId="again")
    world.settle()
    assert world.frames[1][-1]["type"] == "ack"


def test_a_session_that_runs_out_ends_at_the_next_heartbeat():
    """A socket does not outlive its session by more than one heartbeat."""
    world = World()
    world.opened(1)
    world.run(world.core.look_again(HOUR - 1, 20.0))
    assert world.kinds(1)[-1] == "server.heartbeat"
    world.run(world.core.look_again(HOUR, 50.0))
    assert world.closed[1] == CloseCode.SESSION_ENDED


def test_an_empty_room_is_forgotten_after_a_while_and_loads_again():
    """Five minutes after the last socket a room is unloaded; whoever comes then reads the log again."""
    world = World()
    world.opened(1)
    world.say(1, "room.join", {"roomSlug": "general"})
    world.settle()
    assert world.core.hall.recent("r0", 10) == ("e1", 0, ())
    world.run(world.core.closed(1))
    for tick in (1.0, UNLOAD_AFTER_S + 2):
        world.run(world.core.look_again(1, tick))
    assert world.core.hall.recent("r0", 10) is None


STEP = st.sampled_from(["join", "join after", "move", "send", "leave", "foreign", "hint", "ask", "happen", "settle"])


class Story:
    """Steps of clients, of other processes and of the store, each in the middle of any other."""

    def __init__(self, dice: random.Random) -> None:
        self.world = World()
        self.dice = dice
        self.sent = 0

    def step(self, kind: str, key: int) -> None:
        """Do one step."""
        getattr(self, kind.replace(" ", "_"))(key)

    def join(self, key: int, **payload: object) -> None:
        self.world.say(key, "room.join", {"roomSlug": "general", **payload}, requestId="j")

    def join_after(self, key: int) -> None:
        self.join(key, after={"epoch": "e1", "seq": max(self.world.seqs(key), default=0)})

    def move(self, key: int) -> None:
        """The client saw the top of the log through another process."""
        self.join(key, after={"epoch": "e1", "seq": self.world.head("r0")})

    def send(self, key: int) -> None:
        self.sent += 1
        ids = {"requestId": f"s{self.sent}", "idempotencyKey": f"k{self.sent}"}
        self.world.say(key, "chat.send", {"text": str(self.sent)}, **ids)

    def leave(self, key: int) -> None:
        self.world.say(key, "room.leave", {}, requestId="l")

    def foreign(self, _key: int) -> None:
        self.world.commit("r0", "stranger", "elsewhere")

    def hint(self, _key: int) -> None:
        self.world.run(self.world.core.heads({"r0": self.world.head("r0")}, 1))

    def ask(self, _key: int) -> None:
        if self.world.waiting:
            self.world.ask(self.dice.randrange(len(self.world.waiting)))

    def happen(self, _key: int) -> None:
        if self.world.waiting:
            self.world.happen(self.dice.randrange(len(self.world.waiting)))

    def settle(self, _key: int = 0) -> None:
        self.world.settle()


def heard(frames: list[dict]) -> int | None:
    """Follow the frames as a client does and check every position; the last seq when it is in the room at the end."""
    last, inside = -1, False
    for frame in frames:
        payload = frame["payload"]
        assert frame["type"] != "room.reset"
        if frame["type"] == "room.joined":
            last, inside = payload["lastSeq"], True
        elif frame["type"] == "room.delta":
            found = [event["payload"]["seq"] for event in payload["events"]]
            assert found == list(range(last - len(found) + 1, last + 1))
        elif frame["type"] == "room.left":
            inside = False
        elif frame["type"] == "chat.message":
            assert inside
            assert payload["seq"] == last + 1
            last = payload["seq"]
    return last if inside else None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(STEP, st.integers(1, 3)), max_size=80), st.randoms(use_true_random=False))
def test_every_client_has_a_gapless_log_whatever_happens(steps, dice: random.Random):
    """Joins, messages, foreign commits and late answers of the store in any order: nobody misses, doubles or reorders.

    Nobody is told to begin anew either, and every message is answered exactly once.
    """
    story = Story(dice)
    for key, user in {1: "u1", 2: "u2", 3: "u1"}.items():
        story.world.opened(key, user)
    for kind, key in steps:
        story.step(kind, key)
    story.settle()
    story.hint(0)
    story.settle()
    for key in (1, 2, 3):
        assert heard(story.world.frames[key]) in {None, story.world.head("r0")}
    answers = [f["payload"] for key in (1, 2, 3) for f in story.world.frames[key] if f["type"] in {"ack", "nack"}]
    mine = [each["requestId"] for each in answers if each["eventType"] == "chat.send"]
    assert sorted(mine) == sorted(f"s{number + 1}" for number in range(story.sent))
