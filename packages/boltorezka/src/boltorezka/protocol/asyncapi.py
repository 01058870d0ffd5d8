"""The socket described for machines: an AsyncAPI 3.0 document, made from the very types that decode and encode.

The golden vectors of `wire/` are checked against it, so that it cannot say what the server does not do.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import msgspec

from boltorezka.errors import (
    Conflict,
    DeleteWindowExpired,
    EditWindowExpired,
    Forbidden,
    IdempotencyConflict,
    MessageNotFound,
    NoActiveRoom,
    RateLimited,
    Refusal,
    RoomNotFound,
    TargetNotInRoom,
    Unavailable,
    UnknownEvent,
    ValidationError,
    VoiceFull,
)
from boltorezka.protocol import wire
from boltorezka.protocol.calls import Participant
from boltorezka.protocol.events import SERVER_PAYLOADS
from boltorezka.protocol.requests import CLIENT_PAYLOADS
from boltorezka.protocol.wire import REASONS, CloseCode, Payload

# Everything a nack may say. `ServerError` is what Unavailable is called on the wire.
NACKS: Final[tuple[type[Refusal], ...]] = (
    UnknownEvent, ValidationError, NoActiveRoom, RoomNotFound, Forbidden, MessageNotFound, EditWindowExpired,
    DeleteWindowExpired, IdempotencyConflict, RateLimited, TargetNotInRoom, VoiceFull, Conflict, Unavailable,
)  # fmt: skip

# What the ack of an event always has beside requestId, eventType and ts.
ACK_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "room.join": ("roomId", "roomSlug"),
    "chat.send": ("messageId", "seq"),
    "call.join": ("seatId", "engine", "iceServers", "participants", "engineData"),
    "call.offer": ("relayedTo",),
    "call.answer": ("relayedTo",),
    "call.ice": ("relayedTo",),
}

# What the asking socket gets beside its ack or nack, in this order.
ANSWERS: Final[dict[str, tuple[str, ...]]] = {
    "auth": ("server.ready",),
    "ping": ("pong",),
    "room.join": ("room.joined", "room.delta", "room.reset", "room.presence", "call.initial_state"),
    "room.leave": ("room.left",),
    "resume": ("room.delta", "room.reset"),
    "chat.send": ("chat.message",),
    "chat.edit": ("chat.edited",),
    "chat.delete": ("chat.deleted",),
    "call.join": ("call.joined",),
}

CLOSES: Final[dict[CloseCode, str]] = {
    CloseCode.PROTOCOL_ERROR: "The framing is broken.",
    CloseCode.UNSUPPORTED: "A message of bytes; messages are text.",
    CloseCode.POLICY: "Too much was sent before the ticket was checked.",
    CloseCode.TOO_BIG: "A message over the limit of a frame.",
    CloseCode.INTERNAL: "A fault of the server: come back.",
    CloseCode.TRY_LATER: "The ticket could not be checked now: come back with a new one.",
    CloseCode.MISSING_TICKET: "No ticket in the address, and none in the first frame.",
    CloseCode.INVALID_TICKET: "The ticket is unknown, used or expired: fetch another.",
    CloseCode.BANNED: "The user is banned.",
    CloseCode.SLOW_CONSUMER: "Too much waits for this client: come back and resume.",
    CloseCode.SESSION_ENDED: "The session was revoked or has run out: sign in again.",
    CloseCode.DRAINING: "The process is going: come back after the `retryAfterMs` of `server.draining`.",
}

BOUNDS: Final[dict[str, int]] = {
    "frameBytes": wire.MAX_FRAME,
    "textCharacters": wire.MAX_TEXT,
    "deltaEvents": wire.MAX_DELTA,
    "resumeRooms": wire.MAX_RESUME,
    "slugCharacters": wire.MAX_SLUG,
    "idCharacters": wire.MAX_ID,
    "ticketCharacters": wire.MAX_TICKET,
    "reasonCharacters": wire.MAX_REASON,
    "seq": wire.MAX_SEQ,
}

_CHANNEL = "#/channels/realtime"
_SCHEMAS = "#/components/schemas/"

ABOUT = """\
The socket of Boltorezka's rooms. A client fetches a ticket (`GET /v1/auth/ws-ticket`) and brings it in the address or
in its first frame. Every request with a `requestId` gets exactly one `ack` or `nack`. Durable events carry `seq` and
`epoch`; a client that has missed some resumes. Unknown fields and unknown event types must be ignored."""


def asyncapi_document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of `/v1/realtime/ws`, as JSON types; the application is the server."""
    client = {f"client.{event}": _client_message(event, kind) for event, kind in CLIENT_PAYLOADS.items()}
    server = {f"server.{event}": _server_message(event, kind) for event, kind in SERVER_PAYLOADS.items()}
    acks = {f"server.ack.{event}": _ack_message(event) for event in CLIENT_PAYLOADS}
    messages = {**client, **server, **acks}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Boltorezka realtime",
            "version": "1",
            "description": ABOUT.replace("\n", " "),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"self": _server()},
        "channels": {"realtime": _channel(messages)},
        "operations": {
            **{f"on.{event}": _receive(event) for event in CLIENT_PAYLOADS},
            **{f"say.{event}": _send(event) for event in SERVER_PAYLOADS if event not in {"ack", "nack"}},
        },
        "components": {"messages": messages, "schemas": _schemas(client, server)},
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{host}",
        "protocol": "wss",
        "description": "The public origin of the installation; `ws` where it has no TLS.",
        "variables": {"host": {"description": "host[:port] of the public origin"}},
    }


def _channel(messages: dict[str, Any]) -> dict[str, Any]:
    ticket = {"type": "string", "maxLength": wire.MAX_TICKET, "description": "One use, for 45 seconds."}
    closes = {
        str(int(code)): {"error": REASONS[code], "description": sentence} for code, sentence in sorted(CLOSES.items())
    }
    return {
        "address": wire.PATH,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": {"ticket": ticket}},
                "bindingVersion": "0.1.0",
            }
        },
        "x-close-codes": closes,
        "x-bounds": BOUNDS,
    }


def _receive(event: str) -> dict[str, Any]:
    answers = [f"server.{answer}" for answer in ANSWERS.get(event, ())]
    return {
        "action": "receive",
        "channel": {"$ref": _CHANNEL},
        "summary": _sentence(CLIENT_PAYLOADS[event]),
        "messages": [{"$ref": f"{_CHANNEL}/messages/client.{event}"}],
        "reply": {
            "channel": {"$ref": _CHANNEL},
            "messages": [
                {"$ref": f"{_CHANNEL}/messages/{name}"} for name in (*answers, f"server.ack.{event}", "server.nack")
            ],
        },
    }


def _send(event: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": _CHANNEL},
        "summary": _sentence(SERVER_PAYLOADS[event]),
        "messages": [{"$ref": f"{_CHANNEL}/messages/server.{event}"}],
    }


def _client_message(event: str, kind: type[Payload]) -> dict[str, Any]:
    payload: dict[str, Any] = {"$ref": _SCHEMAS + kind.__name__}
    required = ["type", "payload"]
    if not any(field.required for field in msgspec.structs.fields(kind)):
        payload, required = {"anyOf": [payload, {"type": "null"}]}, ["type"]
    ident = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": wire.MAX_ID}, {"type": "null"}]}
    properties = {"type": {"const": event}, "requestId": ident, "idempotencyKey": ident, "payload": payload}
    return _message(event, _sentence(kind), properties, required)


def _server_message(event: str, kind: type[Payload]) -> dict[str, Any]:
    properties = {"type": {"const": event}, "payload": {"$ref": _SCHEMAS + kind.__name__}}
    return _message(event, _sentence(kind), properties, ["type", "payload"])


def _ack_message(event: str) -> dict[str, Any]:
    narrowed = {"properties": {"eventType": {"const": event}}, "required": list(ACK_FIELDS.get(event, ()))}
    payload = {"allOf": [{"$ref": _SCHEMAS + "Ack"}, narrowed]}
    return _message("ack", f"`{event}` was done.", {"type": {"const": "ack"}, "payload": payload}, ["type", "payload"])


def _message(event: str, summary: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "name": event,
        "summary": summary,
        "payload": {"type": "object", "properties": properties, "required": required},
    }


def _schemas(client: dict[str, Any], server: dict[str, Any]) -> dict[str, Any]:
    """The payloads by the names of their types, and one schema for any frame of each direction."""
    kinds = [*CLIENT_PAYLOADS.values(), *SERVER_PAYLOADS.values()]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS + "{name}")
    sent: list[type[Payload]] = [*SERVER_PAYLOADS.values(), Participant]
    for kind in sent:
        if not kind.__struct_config__.omit_defaults:
            # Such a kind sends its defaults too; only what is UNSET is left out.
            fields = msgspec.structs.fields(kind)
            always = [field.encode_name for field in fields if field.default is not msgspec.UNSET]
            schemas[kind.__name__]["required"] = always
    schemas["Nack"]["properties"]["code"]["examples"] = list(dict.fromkeys(kind.code for kind in NACKS))
    for name, messages in (("ClientFrame", client), ("ServerFrame", server)):
        frames = [{"$ref": f"#/components/messages/{message}/payload"} for message in messages]
        schemas[name] = {"title": name, "description": "Any frame of this direction.", "oneOf": frames}
    return schemas


def _sentence(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split())
