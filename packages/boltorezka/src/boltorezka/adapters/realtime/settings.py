"""What can be set about the sockets; every default has its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from boltorezka import protocol
from boltorezka.rooms.connection import DEFAULT_FRAMES, DEFAULT_RATES
from boltorezka.rooms.limits import Rate
from boltorezka.voice.engine import MediaEngine
from boltorezka.voice.mesh import MeshEngine
from boltorezka.voice.turn import IceServers


class RealtimeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds and intervals of one process. Seconds and bytes."""

    allowed_origins: tuple[str, ...] = ()
    # Below the 30 s after which home routers and proxies forget an idle connection.
    heartbeat_s: float = 25.0
    # Who comes back costs some 15 ms of two cores, proxy and client included: faster, and they wait for each other.
    drain_spread_s: float = 3.0
    # A ticket check is one write; five seconds is a client that never meant to come in.
    auth_timeout_s: float = 5.0
    max_frame: int = protocol.MAX_FRAME
    # What an eager client sends with its ticket: a join, a resume, a few messages of its outbox.
    pre_auth_frames: int = 32
    pre_auth_bytes: int = 64 * 1024
    # A megabyte is several thousand messages behind: such a client is better off coming back with its position.
    send_queue_bytes: int = 1 << 20
    # Messages of one socket waiting for their commit; the rest is refused with a time to come back.
    unanswered: int = 256
    # Messages of all sockets waiting for their commit: about a second of work.
    append_queue: int = 4096
    # All frames of one socket, and those of each kind; the reasons are with the defaults.
    frames: Rate = DEFAULT_FRAMES
    rates: Mapping[str, Rate] = msgspec.field(default_factory=lambda: DEFAULT_RATES)
    # Three renewals may fail before others take our presence down.
    lease_renew_s: float = 2.0
    lease_expires_s: float = 6.0
    # After our close frame the peer has this long to answer it; then the connection is cut.
    close_grace_s: float = 5.0
    # What carries the sound: made once for a process.
    engine: Callable[[], MediaEngine] = MeshEngine
    # The STUN and TURN servers a seat is told; none is needed where everybody can reach everybody.
    ice: IceServers = IceServers()
