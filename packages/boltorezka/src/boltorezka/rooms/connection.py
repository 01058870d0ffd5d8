"""One socket as the core sees it, and the frames it answers with."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from boltorezka import protocol
from boltorezka.errors import Refusal
from boltorezka.rooms.effects import Close, Effect, Send
from boltorezka.rooms.limits import Rate, TokenBucket
from boltorezka.rooms.model import Role

# What draws on one bucket: a person's messages, looking into rooms, small signs of life.
CHAT, ROOMS, SIGNS, CALLS, SIGNALS = "chat", "rooms", "signs", "calls", "signals"
DEFAULT_RATES: Mapping[str, Rate] = {
    # A fast typist sends two a second; a paste of a list, or an outbox after a tunnel, comes at once.
    CHAT: Rate(10, 100),
    # Each is a read of the database; a client with 32 rooms may look into all of them at once.
    ROOMS: Rate(5, 40),
    SIGNS: Rate(5, 20),
    # Taking and giving back a seat, moderating: each is a write and told to everybody.
    CALLS: Rate(1, 5),
    # Offers and candidates to five people at once, then the changes of a microphone.
    SIGNALS: Rate(50, 200),
}
# All frames together. A call to five people begins with some hundred candidates.
DEFAULT_FRAMES = Rate(100, 400)


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
    frames: Rate = DEFAULT_FRAMES
    rates: Mapping[str, Rate] = msgspec.field(default_factory=lambda: DEFAULT_RATES)


class Connection:
    """The mutable state of one socket."""

    __slots__ = (
        "buckets", "busy", "expires_at", "frames", "has_origin", "key", "next_beat", "overrun", "paused", "request_id",
        "role", "room_id", "session_id", "since", "stage", "unanswered", "user_id", "user_name", "visit", "waiting",
        "waiting_bytes",
    )  # fmt: skip

    def __init__(self, key: int, *, has_origin: bool, since: float, next_beat: float) -> None:
        self.key = key
        self.has_origin = has_origin
        self.since = since
        self.next_beat = next_beat
        self.stage = Stage.EXPECTING
        self.user_id = ""
        self.user_name = ""
        self.role = Role.USER
        self.session_id = ""
        self.expires_at = 0
        self.request_id: str | None = None  # of the auth frame
        self.room_id: str | None = None
        self.visit: Visit | None = None
        self.busy = False  # a request is being served that later ones must not overtake
        self.paused = False
        self.unanswered = 0  # events given to the store
        self.waiting: list[bytes] | None = None
        self.waiting_bytes = 0
        self.frames: TokenBucket | None = None
        self.buckets: dict[str, TokenBucket] | None = None
        self.overrun = 0  # frames in a row that came too fast

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

    def bucket(self, name: str, rates: Mapping[str, Rate]) -> TokenBucket:
        """The bucket of this name, made full at first use: most sockets never need one."""
        if self.buckets is None:
            self.buckets = {}
        bucket = self.buckets.get(name)
        if bucket is None:
            rate = rates[name]
            bucket = self.buckets[name] = TokenBucket(rate.per_s, rate.burst)
        return bucket


class Visit:
    """A request that looks into rooms, one after the other: a join into one, a resume into several."""

    __slots__ = ("known", "missing", "request", "wanted")

    def __init__(self, request: protocol.Request, wanted: list[protocol.Seen | protocol.RoomJoin]) -> None:
        self.request = request
        self.wanted = wanted  # the first is being looked for
        # Where the log was when the right to look into this room was read: what it says later decides over it.
        self.known = protocol.Position("-", 0)
        self.missing = False  # some room was not there, or not for this user

    @property
    def slug(self) -> str:
        """The room that is being looked for."""
        return self.wanted[0].room_slug

    @property
    def after(self) -> protocol.Position | None:
        """How far the client has seen it."""
        first = self.wanted[0]
        return first.after if isinstance(first, protocol.RoomJoin) else first


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
