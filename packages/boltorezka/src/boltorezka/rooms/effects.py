"""What the core wants done: values, executed by the shell in order. A `key` names a socket of this process."""

from __future__ import annotations

from typing import Literal

import msgspec

from boltorezka.rooms.hints import AnyHint
from boltorezka.rooms.model import EventKind


class Send(msgspec.Struct, frozen=True):
    """One frame to one socket. `event_type` is set for an ack, with `code` for a nack: the shell counts them.

    A `droppable` one is not sent to a socket that is behind.
    """

    key: int
    frame: bytes
    event_type: str = ""
    code: str = ""
    droppable: bool = False


class Broadcast(msgspec.Struct, frozen=True):
    """One frame to every socket that entered the room; `soon` when nobody waits for it: together with others."""

    room_id: str
    frame: bytes
    soon: bool = False


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
    """Read the room and this user's membership; answer with `room_found`."""

    key: int
    slug: str
    user_id: str


class ReadLog(msgspec.Struct, frozen=True):
    """Read the log after a position; answer with `log_read`."""

    room_id: str
    epoch: str
    after: int


class Append(msgspec.Struct, frozen=True):
    """An event to be stored; answer with `appended`. `event_type` is the request that is acked or refused.

    `key` 0 is nobody's socket: somebody else waits for the answer.
    """

    key: int
    event_type: str
    kind: EventKind
    room_id: str
    user_id: str
    user_name: str
    text: str
    request_id: str | None = None
    idempotency_key: str | None = None
    ref: str | None = None


class SetRead(msgspec.Struct, frozen=True):
    """Move a read pointer; answer with `read_set`."""

    key: int
    room_id: str
    room_slug: str
    user_id: str
    seq: int
    request_id: str | None


class Publish(msgspec.Struct, frozen=True):
    """Tell the other processes."""

    hint: AnyHint


class PresenceChanged(msgspec.Struct, frozen=True):
    """The store should say whether this user is in this room through us."""

    room_id: str
    user_id: str
    user_name: str
    present: bool


class TakeSeat(msgspec.Struct, frozen=True):
    """Take a voice seat for a socket's user; answer with `seats.taken` or `seats.refused`.

    `again`: nobody asked for it; the socket has the seat, and the store has to know.
    """

    key: int
    room_id: str
    user_id: str
    user_name: str
    move: bool = False
    again: bool = False


class HoldSeat(msgspec.Struct, frozen=True):
    """Keep a seat whose socket is gone, for ports.SEAT_HOLD_US; answer with `seats.settled`."""

    seat_id: str
    user_id: str


class SetSeat(msgspec.Struct, frozen=True):
    """Keep what is said of a seat, None being unchanged; answer with `seats.settled`."""

    seat_id: str
    user_id: str
    muted: bool | None = None
    audio_muted: bool | None = None
    moderated: bool | None = None


class DropSeat(msgspec.Struct, frozen=True):
    """Give a seat up; answer with `seats.settled`."""

    seat_id: str
    user_id: str
    kicked: bool = False


class LookSeats(msgspec.Struct, frozen=True):
    """Read all seats; answer with `seats.seen`."""


class FindModerator(msgspec.Struct, frozen=True):
    """Read the membership of somebody who wants to moderate; answer with `seats.judged`."""

    key: int
    user_id: str
    room_slug: str
    target_user_id: str
    action: str
    request_id: str | None


class AskEngine(msgspec.Struct, frozen=True):
    """A signal of a seat for the engine; its answers come by `seats.engine_said`."""

    seat_id: str
    signal: Literal["offer", "answer", "ice"]
    body: str


class WakeMic(msgspec.Struct, frozen=True):
    """Call `seats.mic_due` after so many seconds."""

    seat_id: str
    after_s: float


class CountSetup(msgspec.Struct, frozen=True):
    """A voice setup started or ended; `seconds` from taking the seat to the first sound, when the client said it."""

    outcome: str
    seconds: float | None = None


class CountRelayed(msgspec.Struct, frozen=True):
    """A signal went to so many seats."""

    event_type: str
    seats: int


Effect = (
    Send | Broadcast | Enter | Exit | Close | PauseReading | ResumeReading
    | CheckTicket | FindRoom | ReadLog | Append | SetRead | Publish | PresenceChanged
    | TakeSeat | HoldSeat | SetSeat | DropSeat | LookSeats | FindModerator | AskEngine
    | WakeMic | CountSetup | CountRelayed
)  # fmt: skip
