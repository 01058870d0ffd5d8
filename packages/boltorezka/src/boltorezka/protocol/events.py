"""What the server says, its encoder, and the decoder for clients written in Python."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import msgspec

from boltorezka.errors import ValidationError
from boltorezka.protocol.calls import (
    CallInitialState,
    CallJoined,
    CallLeft,
    IceServer,
    Moderated,
    Participant,
    RelayedAnswer,
    RelayedHangup,
    RelayedIce,
    RelayedMicState,
    RelayedOffer,
    RelayedReject,
)
from boltorezka.protocol.requests import Envelope
from boltorezka.protocol.wire import Payload


class ServerReady(Payload, frozen=True):
    """The ticket was good; requests are answered from now on."""

    EVENT: ClassVar[str] = "server.ready"
    user_id: str
    user_name: str
    connected_at: str
    connection_id: str
    heartbeat_ms: int


class Pong(Payload, frozen=True):
    """The answer to `ping`."""

    EVENT: ClassVar[str] = "pong"
    ts: str


class Ack(Payload, frozen=True):
    """The request was done; for `chat.send` only after the message is durable."""

    EVENT: ClassVar[str] = "ack"
    request_id: str
    event_type: str
    ts: str
    room_id: str | None = None
    room_slug: str | None = None
    message_id: str | None = None
    seq: int | None = None
    idempotency_key: str | None = None
    duplicate: bool = False
    relayed_to: int | None = None
    seat_id: str | None = None
    engine: str | None = None
    ice_servers: tuple[IceServer, ...] | None = None
    participants: tuple[Participant, ...] | None = None
    # Any and not Raw: in a union with None, msgspec reads a Raw as nothing but null.
    engine_data: Any = None


class Nack(Payload, frozen=True):
    """The request was not done; `retryable` says whether the same request can succeed later."""

    EVENT: ClassVar[str] = "nack"
    request_id: str
    event_type: str
    code: str
    message: str
    retryable: bool
    ts: str
    retry_after_ms: int | None = None


class Error(Payload, frozen=True):
    """Something was wrong that no requestId can name, or the reason of the close that follows."""

    EVENT: ClassVar[str] = "error"
    code: str
    message: str
    retryable: bool
    ts: str


class RoomJoined(Payload, frozen=True):
    """The room and the top of its log; live events follow the ack."""

    EVENT: ClassVar[str] = "room.joined"
    room_id: str
    room_slug: str
    room_title: str
    epoch: str
    last_seq: int


class ChatMessage(Payload, frozen=True, omit_defaults=False):
    """A message; also the shape of events inside `room.delta`."""

    EVENT: ClassVar[str] = "chat.message"
    id: str
    room_id: str
    room_slug: str
    user_id: str
    user_name: str
    text: str
    created_at: str
    seq: int
    epoch: str
    sender_request_id: str | None = None


class ChatEdited(Payload, frozen=True):
    """A message has another text now."""

    EVENT: ClassVar[str] = "chat.edited"
    id: str
    room_id: str
    room_slug: str
    text: str
    edited_at: str
    edited_by_user_id: str
    seq: int
    epoch: str


class ChatDeleted(Payload, frozen=True):
    """A message was taken back."""

    EVENT: ClassVar[str] = "chat.deleted"
    id: str
    room_id: str
    room_slug: str
    deleted_by_user_id: str
    ts: str
    seq: int
    epoch: str


class MemberJoined(Payload, frozen=True):
    """Somebody became a member of the room: by joining it for the first time, or because they were added."""

    EVENT: ClassVar[str] = "member.joined"
    room_id: str
    room_slug: str
    user_id: str
    user_name: str
    role: str
    by_user_id: str
    ts: str
    seq: int
    epoch: str


class MemberLeft(Payload, frozen=True):
    """Somebody is no longer a member of the room."""

    EVENT: ClassVar[str] = "member.left"
    room_id: str
    room_slug: str
    user_id: str
    user_name: str
    by_user_id: str
    ts: str
    seq: int
    epoch: str


# Every durable event of a room's log, as it is seen live.
Durable = ChatMessage | ChatEdited | ChatDeleted | MemberJoined | MemberLeft


class DeltaEvent(Payload, frozen=True):
    """One event of a delta, in the envelope it would have had live."""

    type: str
    payload: msgspec.Raw


class RoomDelta(Payload, frozen=True):
    """Everything after a position, contiguous: `fromSeq` is the first seq in it, `toSeq` the last (or both the top)."""

    EVENT: ClassVar[str] = "room.delta"
    room_slug: str
    epoch: str
    from_seq: int
    to_seq: int
    events: tuple[DeltaEvent, ...]


class RoomReset(Payload, frozen=True):
    """The position is of no use any more: load the history page and go on from `lastSeq`."""

    EVENT: ClassVar[str] = "room.reset"
    room_slug: str
    epoch: str
    last_seq: int


class PresentUser(Payload, frozen=True):
    """Somebody who is in the room."""

    user_id: str
    user_name: str


class RoomPresence(Payload, frozen=True):
    """Everybody in the room, each once however many tabs they have."""

    EVENT: ClassVar[str] = "room.presence"
    room_id: str
    room_slug: str
    users: tuple[PresentUser, ...]


class RoomLeft(Payload, frozen=True):
    """The socket is no longer in the room."""

    EVENT: ClassVar[str] = "room.left"
    room_id: str
    room_slug: str


class PresenceJoined(PresentUser, frozen=True):
    """Somebody came: their first socket in the room, over all processes."""

    EVENT: ClassVar[str] = "presence.joined"
    room_slug: str
    presence_count: int


class PresenceLeft(PresenceJoined, frozen=True):
    """Somebody went: their last socket in the room."""

    EVENT: ClassVar[str] = "presence.left"


class RoomHead(Payload, frozen=True):
    """The top of a room's log."""

    room_id: str
    last_seq: int


class Typing(PresentUser, frozen=True):
    """Somebody is typing; forget it after some seconds."""

    EVENT: ClassVar[str] = "chat.typing"
    room_id: str
    room_slug: str


class RoomWasRead(Payload, frozen=True):
    """Another tab of the same user has read the room up to here."""

    EVENT: ClassVar[str] = "room.read"
    room_id: str
    room_slug: str
    seq: int


class ServerHeartbeat(Payload, frozen=True):
    """The tops of the joined rooms: a client that has less has lost something and resumes."""

    EVENT: ClassVar[str] = "server.heartbeat"
    rooms: tuple[RoomHead, ...]


class ServerDraining(Payload, frozen=True):
    """This process is going; come back after this many milliseconds."""

    EVENT: ClassVar[str] = "server.draining"
    retry_after_ms: int


SERVER_PAYLOADS: dict[str, type[Payload]] = {
    kind.EVENT: kind
    for kind in (
        ServerReady, Pong, Ack, Nack, Error, RoomJoined, RoomDelta, RoomReset, RoomPresence, RoomLeft, RoomWasRead,
        PresenceJoined, PresenceLeft, Typing, ChatMessage, ChatEdited, ChatDeleted, MemberJoined, MemberLeft,
        ServerHeartbeat, ServerDraining, CallInitialState, CallJoined, CallLeft, RelayedOffer, RelayedAnswer,
        RelayedIce, RelayedReject, RelayedHangup, RelayedMicState, Moderated,
    )
}  # fmt: skip

_encoder = msgspec.json.Encoder()
_envelope = msgspec.json.Decoder(Envelope)


def encode(payload: Payload) -> bytes:
    """The frame of a server payload."""
    return b'{"type":"' + payload.EVENT.encode() + b'","payload":' + _encoder.encode(payload) + b"}"


@lru_cache(maxsize=16_384)
def _present(user_id: str, user_name: str) -> bytes:
    return _encoder.encode(PresentUser(user_id, user_name))


def encode_presence(room_id: str, room_slug: str, users: Mapping[str, str]) -> bytes:
    """The frame of `RoomPresence` for these names by user id.

    When everybody comes back at once the list is made for each of them: people are encoded once, not once for each.
    """
    frame = encode(RoomPresence(room_id, room_slug, ()))
    people = b",".join(_present(user_id, name) for user_id, name in users.items())
    return frame[: -len(b"]}}")] + people + b"]}}"


def in_delta(event: Durable) -> DeltaEvent:
    """A durable event as it stands inside a delta."""
    return DeltaEvent(event.EVENT, msgspec.Raw(_encoder.encode(event)))


def decode_server(frame: bytes | str) -> Payload | None:
    """Read a server's frame as a client does: None for a type this version does not know. Raises ValidationError."""
    try:
        outer = _envelope.decode(frame)
        return decode_payload(outer.type, outer.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValidationError(f"The server sent a malformed frame: {error}.") from error


def decode_payload(event: str, payload: msgspec.Raw) -> Payload | None:
    """The inside of a frame, or of one event of a delta; None for an unknown type. Raises msgspec.DecodeError."""
    kind = SERVER_PAYLOADS.get(event)
    return None if kind is None else msgspec.json.decode(payload, type=kind)
