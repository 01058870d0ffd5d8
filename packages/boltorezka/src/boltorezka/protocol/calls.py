"""The messages of voice, in both directions. A `signal` is the clients' own business and is relayed as it came."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from boltorezka.protocol.wire import Id, Payload, Reason

# Nobody waits ten minutes for a voice; a larger number is a clock that jumped.
SetupMs = Annotated[int, msgspec.Meta(ge=0, le=600_000)]


class CallJoin(Payload, frozen=True):
    """Take a voice seat in the joined room. `move` takes it over from another tab of the same user."""

    EVENT: ClassVar[str] = "call.join"
    move: bool = False


class CallLeave(Payload, frozen=True):
    """Give the voice seat back."""

    EVENT: ClassVar[str] = "call.leave"


class Signal(Payload, frozen=True):
    """Something for one seat, for all seats of one user, or (with neither) for everybody in voice in the room."""

    signal: msgspec.Raw
    target_user_id: Id | None = None
    target_seat_id: Id | None = None


class CallOffer(Signal, frozen=True):
    """A session description that asks."""

    EVENT: ClassVar[str] = "call.offer"


class CallAnswer(Signal, frozen=True):
    """A session description that answers."""

    EVENT: ClassVar[str] = "call.answer"


class CallIce(Signal, frozen=True):
    """A candidate address."""

    EVENT: ClassVar[str] = "call.ice"


class Parting(Payload, frozen=True):
    """No connection with one user, or (without a target) with anybody."""

    target_user_id: Id | None = None
    reason: Reason | None = None


class CallReject(Parting, frozen=True):
    """An offer is not wanted."""

    EVENT: ClassVar[str] = "call.reject"


class CallHangup(Parting, frozen=True):
    """A connection ends; the seat stays."""

    EVENT: ClassVar[str] = "call.hangup"


class CallMicState(Payload, frozen=True):
    """What the user's microphone and ears do; coalesced, and dropped when nothing changed."""

    EVENT: ClassVar[str] = "call.mic_state"
    muted: bool = False
    speaking: bool = False
    audio_muted: bool = False


class CallSetup(Payload, frozen=True):
    """How the first connection went: whether sound came through, and how long after `call.join`. For the counters."""

    EVENT: ClassVar[str] = "call.setup"
    connected: bool
    setup_ms: SetupMs | None = None


class CallModerate(Payload, frozen=True):
    """Silence somebody, let them speak again, or send them out of voice."""

    EVENT: ClassVar[str] = "call.moderate"
    target_user_id: Id
    action: Literal["mute", "unmute", "kick"]


class Participant(Payload, frozen=True, omit_defaults=False):
    """Somebody in voice. `muted` is what they say themselves, `moderated` that a moderator silenced them."""

    user_id: str
    user_name: str
    seat_id: str
    muted: bool = False
    speaking: bool = False
    audio_muted: bool = False
    moderated: bool = False


class IceServer(Payload, frozen=True):
    """A STUN or TURN server, in the shape of RTCIceServer."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None


class CallInitialState(Payload, frozen=True):
    """Who is in voice in the room that was just joined."""

    EVENT: ClassVar[str] = "call.initial_state"
    room_slug: str
    participants: tuple[Participant, ...]


class CallJoined(Participant, frozen=True, omit_defaults=False):
    """Somebody took a voice seat."""

    EVENT: ClassVar[str] = "call.joined"
    room_id: str = ""
    room_slug: str = ""


class CallLeft(Payload, frozen=True):
    """A voice seat is free again; `reason` is left, lost, moved or kicked."""

    EVENT: ClassVar[str] = "call.left"
    room_id: str
    room_slug: str
    user_id: str
    user_name: str
    seat_id: str
    reason: Literal["left", "lost", "moved", "kicked"]


class Relayed(Payload, frozen=True, omit_defaults=False):
    """From one seat, as the server saw it: the sender cannot say who they are. Without a target it is for everybody."""

    from_user_id: str
    from_user_name: str
    from_seat_id: str
    room_id: str
    room_slug: str
    ts: str
    target_user_id: str | None = None


class RelayedSignal(Relayed, frozen=True):
    """A signal as it came. The server passes a `msgspec.Raw`; a client reads whatever JSON it is."""

    # Any and not Raw: in a union with None, msgspec reads a Raw as nothing but null.
    signal: Any = None


class RelayedParting(Relayed, frozen=True):
    """No connection any more, and why, when that was said."""

    reason: str | None = None


class RelayedOffer(RelayedSignal, frozen=True):
    """An offer, delivered."""

    EVENT: ClassVar[str] = "call.offer"


class RelayedAnswer(RelayedSignal, frozen=True):
    """An answer, delivered."""

    EVENT: ClassVar[str] = "call.answer"


class RelayedIce(RelayedSignal, frozen=True):
    """A candidate address, delivered."""

    EVENT: ClassVar[str] = "call.ice"


class RelayedReject(RelayedParting, frozen=True):
    """A rejection, delivered."""

    EVENT: ClassVar[str] = "call.reject"


class RelayedHangup(RelayedParting, frozen=True):
    """A hang-up, delivered."""

    EVENT: ClassVar[str] = "call.hangup"


class RelayedMicState(Relayed, frozen=True):
    """What somebody's microphone and ears do now."""

    EVENT: ClassVar[str] = "call.mic_state"
    muted: bool = False
    speaking: bool = False
    audio_muted: bool = False
    moderated: bool | msgspec.UnsetType = msgspec.UNSET


class Moderated(Relayed, frozen=True):
    """A moderator silenced somebody, let them speak again, or sent them out."""

    EVENT: ClassVar[str] = "call.moderate"
    action: Literal["mute", "unmute", "kick"] = "mute"
