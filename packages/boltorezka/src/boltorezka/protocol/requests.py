"""What a client may say, and the decoder of it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from boltorezka.errors import Refusal, UnknownEvent, ValidationError
from boltorezka.protocol.calls import (
    CallAnswer,
    CallHangup,
    CallIce,
    CallJoin,
    CallLeave,
    CallMicState,
    CallModerate,
    CallOffer,
    CallReject,
    CallSetup,
)
from boltorezka.protocol.wire import MAX_ID, MAX_RESUME, Id, Payload, Position, Seq, Slug, Text, Ticket


class Ping(Payload, frozen=True):
    """Asks for a `pong`."""

    EVENT: ClassVar[str] = "ping"


class Auth(Payload, frozen=True):
    """The ticket, when it is not in the address; must be the first frame."""

    EVENT: ClassVar[str] = "auth"
    ticket: Ticket


class RoomJoin(Payload, frozen=True):
    """Enter a room; with `after` everything since that position is sent first."""

    EVENT: ClassVar[str] = "room.join"
    room_slug: Slug
    after: Position | None = None


class RoomLeave(Payload, frozen=True):
    """Leave the joined room."""

    EVENT: ClassVar[str] = "room.leave"


class RoomRead(Payload, frozen=True):
    """Everything up to this seq of the joined room has been read; never goes backwards."""

    EVENT: ClassVar[str] = "room.read"
    seq: Seq


class ChatSend(Payload, frozen=True):
    """Say something in the joined room."""

    EVENT: ClassVar[str] = "chat.send"
    text: Text


class ChatEdit(Payload, frozen=True):
    """Put another text in the place of an own message."""

    EVENT: ClassVar[str] = "chat.edit"
    message_id: Id
    text: Text


class ChatDelete(Payload, frozen=True):
    """Take an own message back."""

    EVENT: ClassVar[str] = "chat.delete"
    message_id: Id


class ChatTyping(Payload, frozen=True):
    """The user is typing in the joined room."""

    EVENT: ClassVar[str] = "chat.typing"


class Seen(Position, frozen=True, rename="camel"):
    """How far a client has seen one room."""

    room_slug: Slug


class Resume(Payload, frozen=True):
    """Send what these rooms have after these positions, or say that it has to be loaded anew."""

    EVENT: ClassVar[str] = "resume"
    rooms: Annotated[tuple[Seen, ...], msgspec.Meta(max_length=MAX_RESUME)]


Said = (
    Ping | Auth | RoomJoin | RoomLeave | RoomRead | ChatSend | ChatEdit | ChatDelete | ChatTyping | Resume
    | CallJoin | CallLeave | CallOffer | CallAnswer | CallIce | CallReject | CallHangup | CallMicState | CallSetup
    | CallModerate
)  # fmt: skip


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


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """The outside of a frame, of either direction."""

    type: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
    request_id: Id | None = None
    idempotency_key: Id | None = None
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_envelope = msgspec.json.Decoder(Envelope)
CLIENT_PAYLOADS: dict[str, type[Payload]] = {kind.EVENT: kind for kind in Said.__args__}
_CLIENT: dict[str, msgspec.json.Decoder[Any]] = {
    event: msgspec.json.Decoder(kind) for event, kind in CLIENT_PAYLOADS.items()
}

# Also the bounded set of labels a metric may have.
CLIENT_EVENTS = frozenset(_CLIENT)


def decode(frame: bytes) -> Request | Refused:
    """Read a client's frame. Never raises: what is wrong comes back as a sentence that names the place."""
    try:
        if not frame.isascii():
            # What is passed over (a signal, an unknown field) is not looked at, but a signal goes to others as it came,
            # and one byte that is not UTF-8 would make their browsers end the connection.
            frame.decode()
        envelope = _envelope.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refuse_envelope(frame, error)
    decoder = _CLIENT.get(envelope.type)
    if decoder is None:
        # The type is the client's own text and at most 128 characters: safe to repeat to it.
        unknown = UnknownEvent(f"This server does not know the event type {envelope.type!r}.")
        return Refused(unknown, envelope.type, envelope.request_id)
    try:
        said = decoder.decode(b"{}" if (raw := bytes(envelope.payload)) == b"null" else raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        sentence = f"The payload of {envelope.type} is malformed: {_place(error, 'payload')}"
        return Refused(ValidationError(sentence), envelope.type, envelope.request_id)
    return Request(said, envelope.request_id, envelope.idempotency_key)


def _refuse_envelope(frame: bytes, error: Exception) -> Refused:
    """Malformed JSON, or JSON that is not an envelope: then a usable requestId still earns a nack."""
    try:
        loose = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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


_encoder = msgspec.json.Encoder()


def encode_request(said: Said, request_id: str | None = None, idempotency_key: str | None = None) -> bytes:
    """The frame of a client's request, for clients written in Python (the smoke plug-in, tests, benches)."""
    ids = {"requestId": request_id, "idempotencyKey": idempotency_key}
    given = {name: value for name, value in ids.items() if value is not None}
    return _encoder.encode({"type": said.EVENT, **given, "payload": said})
