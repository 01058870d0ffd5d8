"""The socket's messages and their codec: what may be said on `/v1/realtime/ws`, and how it looks in bytes.

Used by the server, by the smoke plug-in and by the tests; the golden vectors in `wire/` pin it for other languages.
Unknown fields are ignored everywhere. Times are ISO 8601 UTC with milliseconds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import msgspec

from boltorezka.errors import Refusal, UnknownEvent, ValidationError

PATH = "/v1/realtime/ws"

# A message of 4000 characters is at most 24 kB as JSON (\uXXXX each); 64 KiB leaves room for call signals (SDP).
MAX_FRAME = 64 * 1024
# People paste; more than this belongs in a file. Counted in Unicode characters, as the contract says.
MAX_TEXT = 4000
# A resume larger than this is cheaper to draw anew from the history page than to replay.
MAX_DELTA = 300
# Room names in addresses (contract.md: 3..48); the lower bound is checked where rooms are made.
MAX_SLUG = 48
# Clients use UUIDs (36) with a prefix at most; both are echoed and one is stored, so they must not carry a payload.
MAX_ID = 128
# Our tickets have 43 characters; anything much longer is not one and is not worth hashing.
MAX_TICKET = 512
# A seq travels as a JSON number: 2^53 is where JavaScript stops counting by one.
MAX_SEQ = (1 << 53) - 1


class CloseCode(IntEnum):
    """Why the server closes a socket. 4012 and 4008: come back; 4001..4003 and 4009: sign in or fetch a ticket."""

    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    TRY_LATER = 1013
    MISSING_TICKET = 4001
    INVALID_TICKET = 4002
    BANNED = 4003
    SLOW_CONSUMER = 4008
    SESSION_ENDED = 4009
    DRAINING = 4012


# The code of the `error` frame that goes before a close, and the label of the metric.
REASONS: dict[int, str] = {
    1002: "ValidationError", 1003: "ValidationError", 1008: "RateLimited", 1009: "PayloadTooLarge",
    1011: "ServerError", 1013: "ServerError", 4001: "MissingTicket", 4002: "InvalidTicket", 4003: "Banned",
    4008: "SlowConsumer", 4009: "SessionEnded", 4012: "Draining",
}  # fmt: skip

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
_Slug = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SLUG)]
_Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
_Ticket = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TICKET)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]


class Payload(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The inside of a frame; `EVENT` is its type on the wire."""

    EVENT: ClassVar[str] = ""


class Position(msgspec.Struct, frozen=True, rename="camel"):
    """A place in a room's log: everything up to and including `seq` of this `epoch` has been seen."""

    epoch: _Id
    seq: _Seq


class Ping(Payload, frozen=True):
    """Asks for a `pong`."""

    EVENT: ClassVar[str] = "ping"


class Auth(Payload, frozen=True):
    """The ticket, when it is not in the address; must be the first frame."""

    EVENT: ClassVar[str] = "auth"
    ticket: _Ticket


class RoomJoin(Payload, frozen=True):
    """Enter a room; with `after` everything since that position is sent first."""

    EVENT: ClassVar[str] = "room.join"
    room_slug: _Slug
    after: Position | None = None


class RoomLeave(Payload, frozen=True):
    """Leave the joined room."""

    EVENT: ClassVar[str] = "room.leave"


class ChatSend(Payload, frozen=True):
    """Say something in the joined room."""

    EVENT: ClassVar[str] = "chat.send"
    text: _Text


Said = Ping | Auth | RoomJoin | RoomLeave | ChatSend


class Request(msgspec.Struct, frozen=True):
    """A well-formed frame of a client."""

    said: Said
    request_id: str | None = None
    idempotency_key: str | None = None


class Refused(msgspec.Struct, frozen=True):
    """A frame that cannot be obeyed, with whatever of it could still be read."""

    error: Refusal
    event_type: str = ""
    request_id: str | None = None


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
    request_id: _Id | None = None
    idempotency_key: _Id | None = None
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_envelope = msgspec.json.Decoder(_Envelope)
_CLIENT: dict[str, msgspec.json.Decoder[Any]] = {
    kind.EVENT: msgspec.json.Decoder(kind) for kind in (Ping, Auth, RoomJoin, RoomLeave, ChatSend)
}

# Also the bounded set of labels a metric may have.
CLIENT_EVENTS = frozenset(_CLIENT)


def decode(frame: bytes) -> Request | Refused:
    """Read a client's frame. Never raises: what is wrong comes back as a sentence that names the place."""
    try:
        envelope = _envelope.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _refuse_envelope(frame, error)
    decoder = _CLIENT.get(envelope.type)
    if decoder is None:
        # The type is the client's own text and at most 128 characters: safe to repeat to it.
        unknown = UnknownEvent(f"This server does not know the event type {envelope.type!r}.")
        return Refused(unknown, envelope.type, envelope.request_id)
    try:
        said = decoder.decode(b"{}" if (raw := bytes(envelope.payload)) == b"null" else raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        sentence = f"The payload of {envelope.type} is malformed: {_place(error, 'payload')}"
        return Refused(ValidationError(sentence), envelope.type, envelope.request_id)
    return Request(said, envelope.request_id, envelope.idempotency_key)


def _refuse_envelope(frame: bytes, error: Exception) -> Refused:
    """Malformed JSON, or JSON that is not an envelope: then a usable requestId still earns a nack."""
    try:
        loose = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refused(ValidationError(f"The frame is not JSON: {error}."))
    sentence = f"The frame is malformed: {_place(error, 'frame')}"
    if not isinstance(loose, dict):
        return Refused(ValidationError(sentence))
    request_id, event_type = loose.get("requestId"), loose.get("type")
    short_type = event_type if isinstance(event_type, str) and len(event_type) <= MAX_ID else ""
    short_id = request_id if isinstance(request_id, str) and 0 < len(request_id) <= MAX_ID else None
    return Refused(ValidationError(sentence), short_type, short_id)


def _place(error: Exception, root: str) -> str:
    """Msgspec names the place as `$.text`; a person reads `payload.text`."""
    return str(error).replace("`$", f"`{root}") + "."


# What the server says


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


class DeltaEvent(Payload, frozen=True):
    """One event of a delta, in the envelope it would have had live."""

    type: str
    payload: ChatMessage


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


class ServerHeartbeat(Payload, frozen=True):
    """The tops of the joined rooms: a client that has less has lost something and resumes."""

    EVENT: ClassVar[str] = "server.heartbeat"
    rooms: tuple[RoomHead, ...]


class ServerDraining(Payload, frozen=True):
    """This process is going; come back after this many milliseconds."""

    EVENT: ClassVar[str] = "server.draining"
    retry_after_ms: int


_SERVER: dict[str, type[Payload]] = {
    kind.EVENT: kind
    for kind in (
        ServerReady, Pong, Ack, Nack, Error, RoomJoined, RoomDelta, RoomReset, RoomPresence, RoomLeft,
        PresenceJoined, PresenceLeft, ChatMessage, ServerHeartbeat, ServerDraining,
    )
}  # fmt: skip


_encoder = msgspec.json.Encoder()


def encode(payload: Payload) -> bytes:
    """The frame of a server payload."""
    return b'{"type":"' + payload.EVENT.encode() + b'","payload":' + _encoder.encode(payload) + b"}"


def encode_request(said: Said, request_id: str | None = None, idempotency_key: str | None = None) -> bytes:
    """The frame of a client's request, for clients written in Python (the smoke plug-in, tests, benches)."""
    ids = {"requestId": request_id, "idempotencyKey": idempotency_key}
    given = {name: value for name, value in ids.items() if value is not None}
    return _encoder.encode({"type": said.EVENT, **given, "payload": said})


def decode_server(frame: bytes | str) -> Payload | None:
    """Read a server's frame as a client does: None for a type this version does not know. Raises ValidationError."""
    try:
        outer = _envelope.decode(frame)
        kind = _SERVER.get(outer.type)
        return None if kind is None else msgspec.json.decode(outer.payload, type=kind)
    except msgspec.DecodeError as error:
        raise ValidationError(f"The server sent a malformed frame: {error}.") from error


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=64)  # the acks of a batch share one time, and formatting it was a tenth of their cost
def iso_time(at: int) -> str:
    """Microseconds since the Unix epoch as ISO 8601 UTC with milliseconds: `2026-01-02T03:04:05.678Z`."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="milliseconds")[:-6] + "Z"
