"""One person in voice: a real WebRTC peer whose microphone plays a tone and whose ear listens.

Importing this loads aiortc with its codecs, about a second: only the checks `voice` and `call` do.
"""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import math
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import aioice.ice
import httpx
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from av import AudioFrame
from websockets.exceptions import WebSocketException

from boltorezka.smoke.report import CheckFailed, CheckInconclusive
from boltorezka.smoke.socket import Frame, Socket, fetch_ticket
from boltorezka.smoke.target import Person, Target
from boltorezka.smoke.tones import FRAME, RATE, WINDOW, Ear, silence, tone

# One relayed signal: a round trip through the service, and whatever its neighbours do to the machine.
SIGNAL_S = 5.0
# Who answers collects their addresses first; aioice waits this long for a STUN or TURN server that says nothing.
GATHER_S = 5.0
# From both descriptions known to both connected; a relay over TCP takes half a second.
CONNECT_S = 8.0
# Letting go must not hold up the verdict.
GOODBYE_S = 2.0
SIGNALS = ("call.offer", "call.answer", "call.ice")
# What aiortc raises for a description or a candidate that it cannot read.
UNREADABLE = (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError)


@contextmanager
def addresses_for(*, loopback: bool) -> Iterator[None]:
    """Offer 127.0.0.1 and nothing else while inside, where the service itself is asked over loopback.

    aioice leaves loopback out, rightly: it is no address for two people. On one machine it is the only sure one.
    """
    real = aioice.ice.get_host_addresses
    if loopback:
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # noqa: ARG005
    try:
        yield
    finally:
        aioice.ice.get_host_addresses = real


class Microphone(MediaStreamTrack):
    """Plays one tone for ever, in real time; silence while `muted`, as a browser's disabled track does."""

    kind = "audio"

    def __init__(self, frequency: int) -> None:
        """`frequency` is in whole Hz: a second of it, or the part in which it starts again, repeats without a click."""
        super().__init__()
        per_second = RATE // FRAME
        samples = tone(frequency, RATE // math.gcd(frequency, per_second))
        self._packets = [samples[n : n + FRAME].tobytes() for n in range(0, len(samples), FRAME)]
        self._silence = silence(FRAME).tobytes()
        self._sent = 0
        self._started = 0.0
        self.muted = False

    async def recv(self) -> AudioFrame:
        """The next 20 ms, when their time has come."""
        self._started = self._started or time.monotonic()
        await asyncio.sleep(max(0.0, self._started + self._sent * FRAME / RATE - time.monotonic()))
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME)
        frame.planes[0].update(self._silence if self.muted else self._packets[self._sent % len(self._packets)])
        frame.sample_rate = RATE
        frame.pts = self._sent * FRAME
        frame.time_base = fractions.Fraction(1, RATE)
        self._sent += 1
        return frame


class VoicePeer:
    """Open with `async with open_peer(…)`; then `take_seat`, and `offer_to` or `answer` the other one."""

    def __init__(self, name: str, person: Person, socket: Socket, frequency: int) -> None:
        """Use `open_peer`."""
        self.name, self.person, self.socket, self.frequency = name, person, socket, frequency
        self.microphone = Microphone(frequency)
        self.ear = Ear()
        self.seat_id = ""
        self.participants: list[Frame] = []
        self.relay = ""  # the TURN server that gave us an address
        self.first_audio_at: float | None = None  # on the monotonic clock
        self._ice_servers: list[RTCIceServer] = []
        self._connection: RTCPeerConnection | None = None
        self._changed = asyncio.Condition()
        self._listening: asyncio.Task[None] | None = None

    async def take_seat(self) -> None:
        """`call.join`, to a new seat: one that a killed run left behind is given back first. Raises CheckFailed."""
        kind = "call.initial_state"
        state = await self.socket.wait_for(kind, lambda frame: frame.get("type") == kind, SIGNAL_S)
        if self.person.user_id in {each.get("userId") for each in state["payload"].get("participants", [])}:
            # the server would hand it back as it was and, as it must, tell nobody
            await self.socket.request("call.join", {"move": True})
            await self.socket.request("call.leave", {})
        ack = await self.socket.request("call.join", {"move": True})
        if ack.get("engine") != "mesh":
            raise CheckInconclusive(f"voice runs on the engine {ack.get('engine')!r}; this smoke speaks mesh only")
        if not isinstance(ack.get("seatId"), str) or not ack["seatId"]:
            raise CheckFailed("the ack of call.join names no seat")
        self.seat_id = ack["seatId"]
        self.participants = ack.get("participants") or []
        self._ice_servers = [
            RTCIceServer(urls=list(each["urls"]), username=each.get("username"), credential=each.get("credential"))
            for each in ack.get("iceServers") or []
        ]

    async def offer_to(self, other: VoicePeer) -> None:
        """Ask the other one for a connection."""
        connection = self._connect()
        await connection.setLocalDescription(await connection.createOffer())
        await self._send_description("call.offer", other)

    async def answer(self, other: VoicePeer) -> None:
        """Answer the offer of the other one. Raises CheckFailed when it, or a candidate, does not come."""
        connection = self._connect()
        await self._take_description("call.offer", other, SIGNAL_S)
        await connection.setLocalDescription(await connection.createAnswer())
        await self._send_description("call.answer", other)

    async def take_answer(self, other: VoicePeer) -> None:
        """Wait for the answer to our offer. Raises CheckFailed when it, or a candidate, does not come."""
        await self._take_description("call.answer", other, SIGNAL_S + GATHER_S)

    async def connected(self) -> None:
        """Wait until audio can flow. Raises CheckFailed with the state it stayed in."""
        connection = self._connection
        if connection is None:
            raise CheckFailed(f"{self.name} has no connection")
        ended = ("connected", "failed", "closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_S), self._changed:
                await self._changed.wait_for(lambda: connection.connectionState in ended)
        if connection.connectionState != "connected":
            raise CheckFailed(
                f"{self.name} was not connected within {CONNECT_S:.0f} s: the signals came through, the connection is "
                f"{connection.connectionState} (ICE {connection.iceConnectionState})"
            )

    async def first_audio(self, within_s: float) -> None:
        """Wait until anything at all was heard. Raises CheckFailed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self.first_audio_at is not None)
        if self.first_audio_at is None:
            raise CheckFailed(f"{self.name} is connected and hears nothing: no audio came for {within_s:.0f} s")

    async def until(self, judged: Callable[[Ear], bool], within_s: float) -> str | None:
        """Listen until the ear agrees on what came after this call; None then, else what was heard instead."""
        fresh_at = self.ear.samples + WINDOW
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self.ear.samples >= fresh_at and judged(self.ear))
                return None
        return self.ear.describe() if self.ear.samples >= fresh_at else "no more audio at all"

    async def mute(self) -> None:
        """Silence our microphone and say so."""
        self.microphone.muted = True
        await self.socket.request("call.mic_state", {"muted": True, "speaking": False, "audioMuted": False})

    async def report_setup(self, setup_ms: int | None) -> None:
        """Tell the service how the setup went, as every client does: None when no sound came through."""
        if setup_ms is None:
            await self.socket.send("call.setup", {"connected": False})
        else:
            await self.socket.request("call.setup", {"connected": True, "setupMs": setup_ms})

    async def leave(self) -> None:
        """Give the seat back."""
        await self.socket.request("call.leave", {})
        self.seat_id = ""

    async def close(self) -> None:
        """Leave no seat and no socket behind, whatever happened before."""
        with contextlib.suppress(TimeoutError, CheckFailed, WebSocketException, OSError):
            async with asyncio.timeout(GOODBYE_S):
                if self.seat_id:
                    await self.leave()
        if self._connection is not None:
            await self._connection.close()
        self.microphone.stop()
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        await self.socket.close()

    def heard_from(self, other: VoicePeer, kinds: tuple[str, ...]) -> Callable[[Frame], bool]:
        """Whether a frame is such a signal of the other one's seat. It raises CheckFailed on one of our own."""

        def wanted(frame: Frame) -> bool:
            kind, payload = frame.get("type"), frame.get("payload", {})
            if kind in SIGNALS and payload.get("fromUserId") == self.person.user_id:
                raise CheckFailed(f"{self.name}'s own {kind} came back to {self.name}: the relay mixes people up")
            return kind in kinds and payload.get("fromSeatId") == other.seat_id

        return wanted

    def _connect(self) -> RTCPeerConnection:
        try:
            # always a list: without one aiortc asks a public STUN server
            connection = RTCPeerConnection(RTCConfiguration(iceServers=self._ice_servers))
            connection.addTrack(self.microphone)
        except ValueError as malformed:
            raise CheckFailed(f"the iceServers of call.join cannot be used: {malformed}") from None
        connection.on("track", self._listen_to)
        connection.on("connectionstatechange", self._notify)
        self._connection = connection
        return connection

    async def _send_description(self, kind: str, other: VoicePeer) -> None:
        """As a browser does it: the description without addresses, then each of them, then the end of them."""
        local = self._connection.localDescription if self._connection else None
        if local is None:
            raise CheckFailed(f"{self.name} has nothing to send as {kind}")
        lines = local.sdp.splitlines()
        found = [line.removeprefix("a=") for line in lines if line.startswith("a=candidate:")]
        self._expect_relay(found)
        bare = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
        target = {"targetUserId": other.person.user_id, "targetSeatId": other.seat_id}
        sdp = "\r\n".join(bare) + "\r\n"
        await self.socket.request(kind, target | {"signal": {"type": local.type, "sdp": sdp}})
        for candidate in [*found, ""]:
            signal = {"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0}
            await self.socket.request("call.ice", target | {"signal": signal})

    def _expect_relay(self, candidates: list[str]) -> None:
        """A TURN server that gives no address is found here: aiortc itself would go on without a word."""
        urls = [url for server in self._ice_servers for url in server.urls if url.startswith("turn")]
        if not urls:
            return
        self.relay = urls[0].split("?")[0]  # aiortc uses the first one only
        if not any(" typ relay" in candidate for candidate in candidates):
            raise CheckFailed(
                f"{self.relay} gave {self.name} no relay address: "
                "it cannot be reached, or refuses the credentials of call.join"
            )

    async def _take_description(self, kind: str, other: VoicePeer, within_s: float) -> None:
        connection = self._connection
        if connection is None:
            raise CheckFailed(f"{self.name} has no connection")
        what = f"{other.name}'s {kind} to {self.name}"
        frame = await self.socket.wait_for(what, self.heard_from(other, (kind,)), within_s)
        is_ice = self.heard_from(other, ("call.ice",))
        await self.socket.wait_for(
            f"the last call.ice of {other.name} to {self.name}",
            lambda each: is_ice(each) and not each["payload"]["signal"].get("candidate"),
            SIGNAL_S,
        )
        try:
            signal = frame["payload"]["signal"]
            await connection.setRemoteDescription(RTCSessionDescription(sdp=signal["sdp"], type=signal["type"]))
            for text in [each["payload"]["signal"]["candidate"] for each in self.socket.frames if is_ice(each)]:
                candidate = candidate_from_sdp(text.removeprefix("candidate:")) if text else None
                if candidate is not None:
                    candidate.sdpMid = "0"
                await connection.addIceCandidate(candidate)
        except UNREADABLE as error:
            raise CheckFailed(f"{what} cannot be read as it was relayed: {type(error).__name__}") from None

    def _listen_to(self, track: MediaStreamTrack) -> None:
        self._listening = asyncio.create_task(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                if isinstance(frame, AudioFrame):
                    self.first_audio_at = self.first_audio_at or time.monotonic()
                    self.ear.take(one_channel(frame))
                    await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def one_channel(frame: AudioFrame) -> array[int]:
    """The first channel of what was decoded; a plane may be longer than what is in it."""
    channels = frame.layout.nb_channels
    samples = array("h", bytes(frame.planes[0])[: 2 * channels * frame.samples])
    return samples[::channels]


@asynccontextmanager
async def open_peer(
    http: httpx.AsyncClient, target: Target, name: str, person: Person, room: str, frequency: int
) -> AsyncIterator[VoicePeer]:
    """A person in the room with a socket of their own, not in voice yet. Raises CheckFailed."""
    ticket = await fetch_ticket(http, target.url, person.token)
    peer = VoicePeer(name, person, await Socket.open(target.url, ticket, target.remaining()), frequency)
    try:
        await peer.socket.request("room.join", {"roomSlug": room})
        yield peer
    finally:
        await peer.close()
