"""What voice is made of: values only. Times are integer microseconds since the Unix epoch, UTC."""

from __future__ import annotations

import msgspec


class Seat(msgspec.Struct, frozen=True):
    """One user's place in voice, on the whole server at most one each, held through one process (`instance`).

    `held_until` is None while its socket is connected; else the seat is kept for its user until then. `moderated` is
    what a moderator decided, the rest what the user's client says.
    """

    id: str
    room_id: str
    user_id: str
    user_name: str
    instance: str
    taken_at: int
    held_until: int | None = None
    muted: bool = False
    audio_muted: bool = False
    moderated: bool = False


class Taken(msgspec.Struct, frozen=True):
    """A seat was taken. `reclaimed`: it is the user's held one, as it was. `left`: another seat that was given up."""

    seat: Seat
    reclaimed: bool = False
    left: Seat | None = None
