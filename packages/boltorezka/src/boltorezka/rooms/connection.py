"""One socket as the core sees it, and the frames it answers with."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from boltorezka import protocol
from boltorezka.errors import Refusal
from boltorezka.rooms.effects import Close, Effect, Send

if TYPE_CHECKING:
    from boltorezka.rooms.live import LiveRoom


class Stage(Enum):
    """How far a socket has come."""

    EXPECTING = "expecting"  # no ticket yet: the first frame must bring it
    CHECKING = "checking"  # frames wait
    OPEN = "open"
    CLOSED = "closed"  # the close is on its way; nothing more is said or heard


class Limits(msgspec.Struct, frozen=True):
    """The bounds of one socket; the reasons are with `RealtimeSettings`."""

    pre_auth_frames: int = 32
    pre_auth_bytes: int = 64 * 1024
    heartbeat_s: float = 25.0
    unanswered: int = 256


class Connection:
    """The mutable state of one socket."""

    __slots__ = (
        "busy", "expires_at", "has_origin", "joining", "key", "next_beat", "paused", "request_id", "room", "session_id",
        "since", "stage", "unanswered", "user_id", "user_name", "waiting", "waiting_bytes",
    )  # fmt: skip

    def __init__(self, key: int, *, has_origin: bool, since: float, next_beat: float) -> None:
        self.key = key
        self.has_origin = has_origin
        self.since = since
        self.next_beat = next_beat
        self.stage = Stage.EXPECTING
        self.user_id = ""
        self.user_name = ""
        self.session_id = ""
        self.expires_at = 0
        self.request_id: str | None = None  # of the auth frame
        self.room: LiveRoom | None = None
        self.joining: protocol.Request | None = None
        self.busy = False  # a request is being served that later ones must not overtake
        self.paused = False
        self.unanswered = 0  # messages given to the store
        self.waiting: list[bytes] | None = None
        self.waiting_bytes = 0

    def wait(self, frame: bytes) -> None:
        """Keep a frame for later."""
        if self.waiting is None:
            self.waiting = []
        self.waiting.append(frame)
        self.waiting_bytes += len(frame)

    def overfull(self, limits: Limits) -> bool:
        """Whether more frames wait than a socket may make wait."""
        waiting = 0 if self.waiting is None else len(self.waiting)
        return waiting > limits.pre_auth_frames or self.waiting_bytes > limits.pre_auth_bytes


def ack(key: int, request_id: str | None, event_type: str, now: int, **more: object) -> list[Effect]:
    """The ack of a request; nothing when the request has no id."""
    if request_id is None:
        return []
    payload = protocol.Ack(request_id, event_type, protocol.iso_time(now), **more)  # type: ignore[arg-type]
    return [Send(key, protocol.encode(payload), event_type)]


def refuse(key: int, request_id: str | None, event_type: str, error: Refusal, now: int) -> Send:
    """The nack of a request; an `error` frame when there is no request id to answer to."""
    ts = protocol.iso_time(now)
    label = event_type if event_type in protocol.CLIENT_EVENTS else "unknown"
    if request_id is None:
        return Send(key, error_frame(error.code, error.message, now, retryable=error.retryable), label, error.code)
    after = error.data.get("retry_after_ms")
    frame = protocol.encode(
        protocol.Nack(request_id, event_type, error.code, error.message, error.retryable, ts, after)
    )
    return Send(key, frame, label, error.code)


def close(key: int, code: protocol.CloseCode, message: str, now: int, *, refused: bool = False) -> Close:
    """An `error` frame that says why, then the close."""
    retryable = code in {protocol.CloseCode.SLOW_CONSUMER, protocol.CloseCode.DRAINING, protocol.CloseCode.TRY_LATER}
    return Close(key, code, error_frame(protocol.REASONS[code], message, now, retryable=retryable), refused)


def error_frame(code: str, message: str, now: int, *, retryable: bool) -> bytes:
    """An `error` frame."""
    return protocol.encode(protocol.Error(code, message, retryable, protocol.iso_time(now)))
