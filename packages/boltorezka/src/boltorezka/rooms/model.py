"""What rooms are made of: values only. Times are integer microseconds since the Unix epoch, UTC."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """What a user may do on the whole server."""

    USER = "user"
    ADMIN = "admin"
    SUPER_ADMIN = "super_admin"


class User(msgspec.Struct, frozen=True):
    """A person, known by (driver, issuer, subject) of the SSO; an e-mail never links two of them."""

    id: str
    name: str
    email: str
    role: Role
    created_at: int
    banned: bool = False


class Room(msgspec.Struct, frozen=True):
    """A room and the top of its log. `epoch` changes when the log is rebuilt; a seq means nothing without it."""

    id: str
    slug: str
    title: str
    is_public: bool
    created_at: int
    epoch: str
    last_seq: int


class RoomView(msgspec.Struct, frozen=True):
    """A room as one user sees it in the list of rooms."""

    room: Room
    is_member: bool
    unread: int


class EventKind(StrEnum):
    """The durable events of a room's log. Each takes one seq."""

    MESSAGE = "message"


class Event(msgspec.Struct, frozen=True):
    """One row of a room's append-only log. `id` is the message id for messages; it never changes."""

    room_id: str
    seq: int
    kind: EventKind
    id: str
    user_id: str
    user_name: str
    text: str
    created_at: int
    request_id: str | None = None
    idempotency_key: str | None = None


class Page(msgspec.Struct, frozen=True):
    """A page of history, oldest first. `room` was read before the events, so nothing between them can be lost."""

    room: Room
    events: tuple[Event, ...]
    has_more: bool


class Stored(msgspec.Struct, frozen=True):
    """The event is committed. `duplicate` is True when its key was there before: then `event` is the first one."""

    event: Event
    duplicate: bool = False


class Conflicting(msgspec.Struct, frozen=True):
    """The idempotency key was used before with another text or room; nothing was stored."""

    first: Event


class Missing(msgspec.Struct, frozen=True):
    """The room is gone; nothing was stored."""

    room_id: str


Appended = Stored | Conflicting | Missing
