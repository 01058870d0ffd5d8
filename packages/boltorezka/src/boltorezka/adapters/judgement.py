"""A batch of events judged, whatever database holds the facts: the same rules for every store, in one place.

A store reads the facts of a batch inside its transaction and gives them to a Judgement. The events are judged one after
the other against these facts as the batch itself changes them; then the store writes what came of it.
"""

from __future__ import annotations

import msgspec

from boltorezka.errors import IdempotencyConflict, Refusal, RoomNotFound, UserNotFound, ValidationError
from boltorezka.ports import NewEvent
from boltorezka.rooms import access
from boltorezka.rooms.model import Appended, Event, EventKind, MemberRole, Stored, Unchanged

# The events that change a message.
CHANGES = frozenset({EventKind.EDIT, EventKind.DELETE})


class Membership(msgspec.Struct):
    """What the batch has to know of one user in one room; `dirty` when the batch changed it."""

    banned: bool
    is_member: bool
    role: str = MemberRole.MEMBER.value
    joined_at: int = 0
    read_seq: int = 0
    dirty: bool = False


class Message(msgspec.Struct):
    """A message that the batch stores, edits or deletes."""

    room_id: str
    user_id: str
    created_at: int
    deleted_at: int | None = None
    shown: str | None = None
    edited_at: int | None = None


class Judgement:
    """The facts about a batch, as they are after the events judged so far, and what is to be stored.

    `heads` has the rooms that are there, `members` everybody the batch names in them, `keys` the first event of each
    idempotency key that is there and whether its text was erased since, `messages` those that are edited or deleted.
    """

    def __init__(self) -> None:
        self.heads: dict[str, int] = {}
        self.members: dict[tuple[str, str], Membership] = {}
        self.keys: dict[tuple[str, str], tuple[Event, bool]] = {}
        self.messages: dict[str, Message] = {}
        self.stored: list[Event] = []

    @property
    def changed(self) -> list[tuple[str, Message]]:
        """The messages that were edited or deleted, by id."""
        ids = {event.ref for event in self.stored if event.kind in CHANGES and event.ref is not None}
        return [(message_id, self.messages[message_id]) for message_id in ids]

    @property
    def dirty(self) -> list[tuple[tuple[str, str], Membership]]:
        """The memberships that were changed, by (room, user)."""
        return [(key, member) for key, member in self.members.items() if member.dirty]

    def judge(self, new: NewEvent) -> Appended:
        """What becomes of the next event of the batch."""
        if has_nul(new):
            return ValidationError("Text must not contain the character NUL.")
        key = None if new.idempotency_key is None else (new.user_id, new.idempotency_key)
        if key in self.keys:
            return self._repeated(new, *self.keys[key])
        if new.kind is EventKind.JOINED or new.kind is EventKind.LEFT:
            refusal = self._membership_changed(new)
        else:
            refusal = self._written(new)
        if refusal is not None:
            return refusal
        seq = self.heads[new.room_id] = self.heads[new.room_id] + 1
        event = Event(
            new.room_id, seq, new.kind, new.id, new.user_id, new.user_name, new.text, new.created_at, new.request_id,
            new.idempotency_key, new.ref,
        )  # fmt: skip
        if key is not None:
            self.keys[key] = (event, False)
        self.stored.append(event)
        return Stored(event)

    def _repeated(self, new: NewEvent, first: Event, erased: bool) -> Appended:
        # A message and its edits may have been erased by this very batch.
        message = self.messages.get(first.id if first.kind is EventKind.MESSAGE else first.ref or "")
        if not erased and message is not None and message.deleted_at is not None:
            erased, first = True, msgspec.structs.replace(first, text="")
        same_place = (first.kind, first.room_id, first.ref) == (new.kind, new.room_id, new.ref)
        if same_place and (erased or first.text == new.text):
            return Stored(first, duplicate=True)
        return IdempotencyConflict("This idempotency key was used before with another body.")

    def _written(self, new: NewEvent) -> Refusal | None:
        """Messages, edits and deletes."""
        member = self.members.get((new.room_id, new.user_id))
        refusal = access.written(
            is_member=member is not None and member.is_member, banned=member is not None and member.banned
        )
        if refusal is not None:
            return refusal
        if new.kind is EventKind.MESSAGE:
            self.messages[new.id] = Message(new.room_id, new.user_id, new.created_at)
            return None
        message = self.messages.get(new.ref or "")
        if message is None or message.room_id != new.room_id or message.deleted_at is not None:
            return access.changed(new.kind, None, 0, new.user_id, new.created_at)
        refusal = access.changed(new.kind, message.user_id, message.created_at, new.user_id, new.created_at)
        if refusal is None and new.kind is EventKind.EDIT:
            message.shown, message.edited_at = new.text, new.created_at
        elif refusal is None:
            message.deleted_at = new.created_at
        return refusal

    def _membership_changed(self, new: NewEvent) -> Refusal | Unchanged | None:
        member = self.members.get((new.room_id, new.user_id))
        if member is None:
            return RoomNotFound("There is no such room.")
        if new.kind is EventKind.LEFT:
            if not member.is_member:
                return UserNotFound("This user is no member of the room.")
            member.is_member, member.dirty = False, True
            return None
        if member.is_member:
            return Unchanged()
        member.is_member, member.dirty = True, True
        member.role, member.joined_at = MemberRole(new.text).value, new.created_at
        # The event itself is read too: there is nothing before it that the new member has missed.
        member.read_seq = self.heads[new.room_id] + 1
        return None


def has_nul(new: NewEvent) -> bool:
    """Whether some text of it holds NUL, which PostgreSQL cannot store; such an event is refused, alone."""
    return "\0" in new.text or any(
        part is not None and "\0" in part for part in (new.request_id, new.idempotency_key, new.ref)
    )
