"""What the core wants done: values, executed by the shell in order. A `key` names a socket of this process."""

from __future__ import annotations

import msgspec


class Send(msgspec.Struct, frozen=True):
    """One frame to one socket. `event_type` is set for an ack, with `code` for a nack: the shell counts them."""

    key: int
    frame: bytes
    event_type: str = ""
    code: str = ""


class Broadcast(msgspec.Struct, frozen=True):
    """One frame to every socket that entered the room."""

    room_id: str
    frame: bytes


class Enter(msgspec.Struct, frozen=True):
    """From here on the socket gets the room's broadcasts, and none that were made before."""

    key: int
    room_id: str


class Exit(msgspec.Struct, frozen=True):
    """From here on the socket gets no broadcasts of the room; those made before still reach it."""

    key: int
    room_id: str


class Close(msgspec.Struct, frozen=True):
    """Send the frame, then close with this code. `refused` when the socket was never let in."""

    key: int
    code: int
    frame: bytes | None = None
    refused: bool = False


class PauseReading(msgspec.Struct, frozen=True):
    """The socket sends faster than it can be served: stop reading it for a while."""

    key: int


class ResumeReading(msgspec.Struct, frozen=True):
    """Read the socket again."""

    key: int


class CheckTicket(msgspec.Struct, frozen=True):
    """Consume the ticket and look up its session; answer with `ticket_checked`."""

    key: int
    ticket_hash: bytes


class FindRoom(msgspec.Struct, frozen=True):
    """Read the room and whether the user is a member; answer with `room_found`."""

    key: int
    slug: str
    user_id: str


class AddMember(msgspec.Struct, frozen=True):
    """Make the user a member of the room that was found; answer with `room_found` again."""

    key: int
    room_id: str
    slug: str
    user_id: str


class ReadLog(msgspec.Struct, frozen=True):
    """Read the log after a position; answer with `log_read`."""

    room_id: str
    epoch: str
    after: int


class Append(msgspec.Struct, frozen=True):
    """A message to be stored; answer with `appended`."""

    key: int
    room_id: str
    user_id: str
    user_name: str
    text: str
    request_id: str | None
    idempotency_key: str | None


class PresenceChanged(msgspec.Struct, frozen=True):
    """The store should say whether this user is in this room through us."""

    room_id: str
    user_id: str
    user_name: str
    present: bool


Effect = (
    Send | Broadcast | Enter | Exit | Close | PauseReading | ResumeReading
    | CheckTicket | FindRoom | AddMember | ReadLog | Append | PresenceChanged
)  # fmt: skip
