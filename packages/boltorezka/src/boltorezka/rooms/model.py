"""What rooms are made of: values only. Times are integer microseconds since the Unix epoch, UTC."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from boltorezka.errors import Refusal


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
    EDIT = "edit"
    DELETE = "delete"
    JOINED = "joined"
    LEFT = "left"


class MemberRole(StrEnum):
    """What a member may do in one room."""

    OWNER = "owner"
    MEMBER = "member"


class Member(msgspec.Struct, frozen=True):
    """A user who has joined a room once, or was added to it."""

    user_id: str
    user_name: str
    role: MemberRole
    joined_at: int


class Entrance(msgspec.Struct, frozen=True):
    """A room as one user finds it: `member` is None when they are not one. Rights are judged by `access`."""

    room: Room
    member: Member | None


class Event(msgspec.Struct, frozen=True):
    """One row of a room's append-only log. `id` never changes; for messages it is the message id.

    `ref` is the message of an edit or a delete; of a membership event (`user_id` is the member, `text` the role) who
    caused it. A message that was deleted has an empty text, and so have its edits. `edited_at` is set in pages only:
    there `text` is the newest one.
    """

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
    ref: str | None = None
    edited_at: int | None = None


class Page(msgspec.Struct, frozen=True):
    """A page of history, oldest first. `room` was read before the events, so nothing between them can be lost."""

    room: Room
    events: tuple[Event, ...]
    has_more: bool


class Stored(msgspec.Struct, frozen=True):
    """The event is committed. `duplicate` is True when its key was there before: then `event` is the first one."""

    event: Event
    duplicate: bool = False


class Unchanged(msgspec.Struct, frozen=True):
    """Nothing had to be stored: the user is a member already."""


# What became of one event: it is stored, it was not needed, or it was refused and why.
Appended = Stored | Unchanged | Refusal


class DaySummary(msgspec.Struct, frozen=True):
    """What the log and the sessions say about the time since a moment."""

    messages: int
    edits: int
    deletes: int
    authors: int
    new_users: int
    logins: int
    rooms: int
