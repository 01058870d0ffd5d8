"""Rows and bodies as HTTP has them: rows in snake_case, envelopes in camelCase. The API document is made of them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from boltorezka.protocol import iso_time
from boltorezka.protocol.wire import MAX_SLUG, Id
from boltorezka.rooms.model import Event, Member, Room, RoomView, User

MIN_SLUG = 3
MIN_TITLE, MAX_TITLE = 3, 120


class UserRow(msgspec.Struct, frozen=True):
    """Somebody as they see themselves."""

    id: str
    email: str
    name: str
    role: str
    created_at: str


class AccountRow(msgspec.Struct, frozen=True):
    """Somebody as an admin sees them."""

    id: str
    email: str
    name: str
    role: str
    banned: bool
    created_at: str


class RoomRow(msgspec.Struct, frozen=True):
    """A room in the list of one person's rooms."""

    id: str
    slug: str
    title: str
    is_public: bool
    created_at: str
    is_member: bool
    unread: int
    last_seq: int


class RoomHead(msgspec.Struct, frozen=True):
    """A room without what differs from person to person."""

    id: str
    slug: str
    title: str
    is_public: bool
    created_at: str


class MessageRow(msgspec.Struct, frozen=True):
    """A message of the history with its newest text; `edited_at` is when that was written."""

    id: str
    room_id: str
    user_id: str
    user_name: str
    text: str
    created_at: str
    edited_at: str | None
    seq: int


class MemberRow(msgspec.Struct, frozen=True):
    """A member of a room."""

    user_id: str
    user_name: str
    role: str
    joined_at: str


class NewRoom(msgspec.Struct, frozen=True):
    """A room to make."""

    slug: Annotated[str, msgspec.Meta(min_length=MIN_SLUG, max_length=MAX_SLUG, pattern="^[a-z0-9-]+$")]
    title: Annotated[str, msgspec.Meta(min_length=MIN_TITLE, max_length=MAX_TITLE)]
    is_public: bool = True


class NewMember(msgspec.Struct, frozen=True, rename="camel"):
    """A user to add to a room."""

    user_id: Id


class RoomsBody(msgspec.Struct, frozen=True):
    """Rooms by the time they were made."""

    rooms: list[RoomRow]


class RoomBody(msgspec.Struct, frozen=True):
    """One room."""

    room: RoomRow


class MembersBody(msgspec.Struct, frozen=True):
    """Members by the time they joined."""

    members: list[MemberRow]


class MemberBody(msgspec.Struct, frozen=True):
    """One member."""

    member: MemberRow


class MessageCursor(msgspec.Struct, frozen=True, rename="camel"):
    """The place before which the next page ends."""

    before_created_at: str
    before_id: str
    before_seq: int


class MessagePagination(msgspec.Struct, frozen=True, rename="camel"):
    """Whether older messages are there, and how to ask for them."""

    has_more: bool
    next_cursor: MessageCursor | None


class MessagesBody(msgspec.Struct, frozen=True, rename="camel"):
    """A page of history, oldest first, and the top of the log it was read at."""

    room: RoomHead
    messages: list[MessageRow]
    pagination: MessagePagination
    epoch: str
    last_seq: int


class AccountCursor(msgspec.Struct, frozen=True):
    """The place after which the next page begins."""

    after: str


class AccountPagination(msgspec.Struct, frozen=True, rename="camel"):
    """Whether more users are there, and how to ask for them."""

    has_more: bool
    next_cursor: AccountCursor | None


class AccountsBody(msgspec.Struct, frozen=True):
    """Users by id, which is by the time they first signed in."""

    users: list[AccountRow]
    pagination: AccountPagination


class AccountBody(msgspec.Struct, frozen=True):
    """One user."""

    user: AccountRow


class DayRow(msgspec.Struct, frozen=True):
    """What was written since the day began, by every process of the database."""

    messages: int
    edits: int
    deletes: int
    authors: int
    new_users: int
    logins: int
    rooms: int


class ProcessRow(msgspec.Struct, frozen=True):
    """What the process that answers has counted since it began; `sockets` is how many are open now."""

    sockets: int
    sockets_opened: int
    sockets_closed: dict[str, int]
    sockets_refused: dict[str, int]
    slow_consumers: int
    deliveries: int
    dropped: dict[str, int]
    acks: int
    nacks: dict[str, int]
    auth_failures: dict[str, int]
    logins: int


class SummaryBody(msgspec.Struct, frozen=True):
    """The counters of a day (UTC) up to `ts`. Keys of the maps are reasons and codes, each a fixed set."""

    day: str
    since: str
    ts: str
    today: DayRow
    process: ProcessRow


class ErrorIssue(msgspec.Struct, frozen=True):
    """One thing that is wrong with a request, and where."""

    field: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every refusal over HTTP."""

    error: str
    message: str
    retryable: bool
    issues: list[ErrorIssue] | None = None


def user_row(user: User) -> UserRow:
    """The row of a user."""
    return UserRow(user.id, user.email, user.name, user.role.value, iso_time(user.created_at))


def account_row(user: User) -> AccountRow:
    """The row of a user for an admin."""
    return AccountRow(user.id, user.email, user.name, user.role.value, user.banned, iso_time(user.created_at))


def room_row(view: RoomView) -> RoomRow:
    """The row of a room for whom the view was made."""
    room = view.room
    return RoomRow(
        id=room.id,
        slug=room.slug,
        title=room.title,
        is_public=room.is_public,
        created_at=iso_time(room.created_at),
        is_member=view.is_member,
        unread=view.unread,
        last_seq=room.last_seq,
    )


def room_head(room: Room) -> RoomHead:
    """The room without what differs from person to person."""
    return RoomHead(room.id, room.slug, room.title, room.is_public, iso_time(room.created_at))


def message_row(event: Event) -> MessageRow:
    """The row of a message as a page holds it."""
    return MessageRow(
        id=event.id,
        room_id=event.room_id,
        user_id=event.user_id,
        user_name=event.user_name,
        text=event.text,
        created_at=iso_time(event.created_at),
        edited_at=None if event.edited_at is None else iso_time(event.edited_at),
        seq=event.seq,
    )


def member_row(member: Member) -> MemberRow:
    """The row of a member."""
    return MemberRow(member.user_id, member.user_name, member.role.value, iso_time(member.joined_at))
