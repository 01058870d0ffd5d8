"""Rows as HTTP shows them: snake_case."""

from __future__ import annotations

import msgspec

from boltorezka.protocol import iso_time
from boltorezka.rooms.model import Event, Room, RoomView, User


class UserRow(msgspec.Struct, frozen=True):
    """Somebody as they see themselves."""

    id: str
    email: str
    name: str
    role: str
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
    """The room a page of history belongs to."""

    id: str
    slug: str
    title: str
    is_public: bool
    created_at: str


class MessageRow(msgspec.Struct, frozen=True):
    """A message of the history."""

    id: str
    room_id: str
    user_id: str
    user_name: str
    text: str
    created_at: str
    edited_at: str | None
    seq: int


def user_row(user: User) -> UserRow:
    """The row of a user."""
    return UserRow(user.id, user.email, user.name, user.role.value, iso_time(user.created_at))


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
    """The row of a message as it was sent."""
    return MessageRow(
        id=event.id,
        room_id=event.room_id,
        user_id=event.user_id,
        user_name=event.user_name,
        text=event.text,
        created_at=iso_time(event.created_at),
        edited_at=None,
        seq=event.seq,
    )
