"""Who may enter a room: the one place where this is decided."""

from __future__ import annotations

from boltorezka.errors import RoomNotFound
from boltorezka.rooms.model import Room


def entered(room: Room | None, *, is_member: bool) -> Room:
    """The room, if this caller may enter it: public ones are for all, private ones for members.

    Raises RoomNotFound, the same for a room that does not exist and for one the caller must not learn about.
    """
    if room is None or not (room.is_public or is_member):
        raise RoomNotFound("There is no such room.")
    return room
