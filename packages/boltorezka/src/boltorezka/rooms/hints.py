"""What processes on one database tell each other. Hints: a lost one costs time, never a message.

They travel as JSON on a bus that may drop, repeat and reorder between publishers.
"""

from __future__ import annotations

import msgspec

from boltorezka.rooms.model import Event


class Hint(msgspec.Struct, frozen=True, tag_field="kind"):
    """One message between processes."""


class Committed(Hint, frozen=True, tag="committed"):
    """These events are in the log of this room, in order of seq; between them may be others."""

    room_id: str
    epoch: str
    events: tuple[Event, ...]


class Look(Hint, frozen=True, tag="look"):
    """Presence, seats, sessions or users changed, or hints were lost: the store knows what."""


class Relay(Hint, frozen=True, tag="relay"):
    """An ephemeral frame (JSON text) for sockets of this room, droppable.

    With `seats` it goes to the sockets that hold these voice seats, with `users` to all sockets of these users, else to
    everybody in the room; never to sockets of the user `but`.
    """

    room_id: str
    frame: str
    seats: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    but: str | None = None


AnyHint = Committed | Look | Relay
_decoder: msgspec.json.Decoder[AnyHint] = msgspec.json.Decoder(AnyHint)


def encode(hint: AnyHint) -> bytes:
    """The hint as it travels."""
    return msgspec.json.encode(hint)


def decode(body: bytes) -> AnyHint:
    """Read a hint. Raises msgspec.DecodeError."""
    return _decoder.decode(body)
