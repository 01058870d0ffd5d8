"""The core without a network: a store in memory executes its effects, when somebody lets it."""

from __future__ import annotations

import functools
import json

import msgspec
import pytest

from boltorezka.auth.model import Session, TicketGrant
from boltorezka.errors import IdempotencyConflict, Refusal
from boltorezka.rooms import access
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import Limits
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.model import (
    Appended,
    Entrance,
    Event,
    EventKind,
    Member,
    MemberRole,
    Role,
    Room,
    Stored,
    Unchanged,
    User,
)

GENERAL = Room("r0", "general", "General", True, 0, "e1", 0)
SECRET = Room("r1", "secret", "Secret", False, 0, "e1", 0)
HOUR = 3600 * 1_000_000


class World:
    """A store in memory and the frames each socket got. Effects wait until somebody lets them happen."""

    GENERAL = GENERAL
    SECRET = SECRET
    HOUR = HOUR

    def __init__(self, limits: Limits | None = None) -> None:
        self.core = RoomsCore(limits or Limits())
        self.rooms = {"general": GENERAL, "secret": SECRET}
        self.log: dict[str, list[Event]] = {"r0": [], "r1": []}
        self.members: set[tuple[str, str]] = set()
        self.banned: set[str] = set()
        self.reads: dict[tuple[str, str], int] = {}
        self.frames: dict[int, list[dict]] = {}
        self.in_voice: dict[int, list[dict]] = {}
        self.inside: dict[str, list[int]] = {"r0": [], "r1": []}
        self.closed: dict[int, int] = {}
        self.waiting: list = []
        self.presence: list[do.PresenceChanged] = []
        self.published: list = []
        self.user = User("u1", "Ann", "", Role.USER, 0)
        self.now = 1
        self.tick = 0.0
        self._made = 0

    # what the shell does

    def run(self, effects) -> None:
        """Do at once what needs no store; keep the rest."""
        for effect in effects:
            act = self._at_once.get(type(effect), self.waiting.append)
            act(effect)

    @functools.cached_property
    def _at_once(self) -> dict:
        return {
            do.Send: self._send,
            do.Broadcast: self._broadcast,
            do.Enter: lambda effect: self.inside[effect.room_id].append(effect.key),
            do.Exit: lambda effect: self.inside[effect.room_id].remove(effect.key),
            do.Close: self._close,
            do.PresenceChanged: self.presence.append,
            do.Publish: lambda effect: self.published.append(effect.hint),
        }

    def _send(self, effect) -> None:
        """Who is in voice is told after every join; only tests of voice look at it."""
        frame = json.loads(effect.frame)
        kept = self.in_voice if frame["type"] == "call.initial_state" else self.frames
        kept.setdefault(effect.key, []).append(frame)

    def _broadcast(self, effect) -> None:
        for key in self.inside[effect.room_id]:
            self.frames[key].append(json.loads(effect.frame))

    def _close(self, effect) -> None:
        if effect.frame is not None:
            self.frames[effect.key].append(json.loads(effect.frame))
        self.closed[effect.key] = effect.code

    # what the store does

    def head(self, room_id: str) -> int:
        return len(self.log[room_id])

    def store(self, asked: do.Append) -> Appended:
        """One event, by the rules of ports.LogStore.append."""
        log = self.log[asked.room_id]
        for event in log:
            if asked.idempotency_key and (event.user_id, event.idempotency_key) == (
                asked.user_id,
                asked.idempotency_key,
            ):
                same = (event.kind, event.ref, event.text) == (asked.kind, asked.ref, asked.text)
                return Stored(event, duplicate=True) if same else IdempotencyConflict("Another body.")
        seat = (asked.room_id, asked.user_id)
        if asked.kind is EventKind.JOINED:
            if seat in self.members:
                return Unchanged()
            self.members.add(seat)
        elif asked.kind is EventKind.LEFT:
            self.members.discard(seat)
        else:
            refusal = access.written(is_member=seat in self.members, banned=asked.user_id in self.banned)
            refusal = refusal or self._changeable(asked)
            if refusal is not None:
                return refusal
        seq = self.head(asked.room_id) + 1
        self._made += 1
        event = Event(
            asked.room_id, seq, asked.kind, f"m{self._made}", asked.user_id, asked.user_name, asked.text, self.now,
            asked.request_id, asked.idempotency_key, asked.ref,
        )  # fmt: skip
        if asked.kind is EventKind.DELETE:
            log[:] = [msgspec.structs.replace(e, text="") if asked.ref in {e.id, e.ref} else e for e in log]
        log.append(event)
        return Stored(event)

    def _changeable(self, asked: do.Append) -> Refusal | None:
        if asked.kind is EventKind.MESSAGE:
            return None
        log = self.log[asked.room_id]
        gone = {event.ref for event in log if event.kind is EventKind.DELETE}
        found = next((e for e in log if e.id == asked.ref and e.kind is EventKind.MESSAGE and e.id not in gone), None)
        author, at = (None, 0) if found is None else (found.user_id, found.created_at)
        return access.changed(asked.kind, author, at, asked.user_id, self.now)

    def commit(self, room_id: str, user: str, text: str, key: str | None = None) -> Appended:
        """Another process stores a message of a member."""
        self.members.add((room_id, user))
        return self.store(do.Append(0, "", EventKind.MESSAGE, room_id, user, user, text, None, key))

    def remove(self, room_id: str, user: str) -> Appended:
        """Another process removes a member."""
        return self.store(do.Append(0, "", EventKind.LEFT, room_id, user, user, "", ref="owner"))

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
        core, times = self.core, (self.now, self.tick)
        if isinstance(effect, do.CheckTicket):
            found = (Session("s1", self.user.id, 1, 0, 0, HOUR), self.user)
            return lambda: core.ticket_checked(effect.key, TicketGrant("s1", "u1", True, HOUR), found, *times)
        if isinstance(effect, do.FindRoom):
            entrance = self.entrance(effect.slug, effect.user_id)
            return lambda: core.room_found(effect.key, entrance, *times)
        if isinstance(effect, do.ReadLog):
            events = self.log[effect.room_id][effect.after : effect.after + 300]
            return lambda: core.log_read(effect, events, *times)
        if isinstance(effect, do.Append):
            stored = self.store(effect)
            return lambda: core.appended([effect], [stored], *times)
        if isinstance(effect, do.SetRead):
            place = (effect.room_id, effect.user_id)
            self.reads[place] = seq = max(self.reads.get(place, 0), min(effect.seq, self.head(effect.room_id)))
            return lambda: core.read_set(effect, seq, self.now)
        return list

    def entrance(self, slug: str, user_id: str) -> Entrance | None:
        """The room as this user finds it now."""
        room = self.rooms.get(slug)
        if room is None:
            return None
        row = msgspec.structs.replace(room, last_seq=self.head(room.id))
        is_member = (room.id, user_id) in self.members
        return Entrance(row, Member(user_id, user_id, MemberRole.MEMBER, 0) if is_member else None)

    def settle(self) -> None:
        """Let everything happen."""
        while self.waiting:
            self.happen()

    # what clients do

    def opened(self, key: int, user: str = "u1", role: Role = Role.USER) -> None:
        """A socket that is let in."""
        self.user = User(user, user.upper(), "", role, 0)
        self.frames[key] = []
        self.run(self.core.opened(key, "ticket", has_origin=True, tick=0.0, jitter=0.5))
        self.settle()

    def joined(self, key: int, user: str = "u1", slug: str = "general") -> None:
        """A socket that is in a room; private ones admit it as a member."""
        self.opened(key, user)
        if slug == "secret":
            self.members.add(("r1", user))
        self.say(key, "room.join", {"roomSlug": slug})
        self.settle()

    def say(self, key: int, kind: str, payload: dict, **more: str) -> None:
        frame = {"type": kind, "payload": payload, **more}
        self.run(self.core.received(key, json.dumps(frame).encode(), self.now, self.tick))

    def kinds(self, key: int) -> list[str]:
        return [frame["type"] for frame in self.frames[key]]

    def last(self, key: int, kind: str | None = None) -> dict:
        """The payload of the last frame (of this type)."""
        return next(f["payload"] for f in reversed(self.frames[key]) if kind in {None, f["type"]})


@pytest.fixture(scope="session")
def worlds() -> type[World]:
    """The class of worlds, for tests that need several or a particular one."""
    return World


@pytest.fixture
def world() -> World:
    """A world of its own."""
    return World()
