"""How rows of the tables become values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from boltorezka.rooms.model import Event, EventKind, Member, MemberRole, Role, Room, User

ROOM = "r.id, r.slug, r.title, r.is_public, r.created_at, r.epoch, r.last_seq"
USER = "id, name, email, role, created_at, banned"
# Needs `members m` and `users u`.
MEMBER = "m.user_id, coalesce(u.name, ''), m.role, m.joined_at"
# Needs `events e` and `users u`.
EVENT = (
    "e.room_id, e.seq, e.kind, e.id, e.user_id, coalesce(u.name, ''), e.text, e.created_at, e.request_id,"
    " e.idempotency_key, e.ref"
)


def room_of(row: Sequence[Any]) -> Room:
    """A row that begins with ROOM."""
    return Room(*row[:7])


def event_of(row: Sequence[Any]) -> Event:
    """A row that begins with EVENT."""
    return Event(row[0], row[1], EventKind(row[2]), *row[3:11])


def member_of(row: Sequence[Any]) -> Member:
    """A row of MEMBER."""
    return Member(row[0], row[1], MemberRole(row[2]), row[3])


def user_of(row: Sequence[Any]) -> User:
    """A row of USER."""
    return User(row[0], row[1], row[2], Role(row[3]), row[4], row[5])
