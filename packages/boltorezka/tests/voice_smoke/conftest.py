"""A small service that speaks the contract's voice part and can be told to do it badly."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from boltorezka.smoke.report import Report
from boltorezka.smoke.target import Target
from boltorezka.smoke.voice import check_voice
from boltorezka.smoke.voice_peer import Microphone

ROOM = "canary"
SIGNALS = ("call.offer", "call.answer", "call.ice")


class Impostor:
    """Answers an offer in the other one's place and plays what it likes, whatever the other one does."""

    def __init__(self, frequency: int) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.microphone = Microphone(frequency)
        self.connection.addTrack(self.microphone)

    async def answer(self, sdp: str) -> tuple[str, list[str]]:
        """The answer to an offer, and its candidates."""
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="offer"))
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        return self._described()

    async def offer(self) -> tuple[str, list[str]]:
        """An offer, and its candidates."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self._described()

    async def accept(self, sdp: str) -> None:
        """The answer to our offer."""
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="answer"))

    async def candidate(self, text: str) -> None:
        """A candidate of the person at the other end; empty: there are no more."""
        found = candidate_from_sdp(text.removeprefix("candidate:")) if text else None
        if found is not None:
            found.sdpMid = "0"
        await self.connection.addIceCandidate(found)

    def _described(self) -> tuple[str, list[str]]:
        lines = self.connection.localDescription.sdp.splitlines()
        found = [line.removeprefix("a=") for line in lines if line.startswith("a=candidate:")]
        bare = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
        return "\r\n".join(bare) + "\r\n", found


@dataclass
class Faults:
    """What the service does badly; nothing, until told otherwise."""

    drops: tuple[str, ...] = ()  # event types that never arrive
    returns_to_sender: bool = False
    mangles_sdp: bool = False
    keeps_seats: bool = False  # in what newcomers are shown
    forgets_participants: bool = False
    refuses_join: str = ""  # a nack's code
    engine: str = "mesh"
    ice_servers: list[dict] = field(default_factory=list)
    impostors: dict[str, int] = field(default_factory=dict)  # user -> the frequency they are made to hear


@dataclass
class Relay:
    """The service: one room, sessions that are the users' own ids, and seats."""

    url: str = ""
    faults: Faults = field(default_factory=Faults)
    heard: list[tuple[str, str, dict]] = field(default_factory=list)  # (user, event type, payload), of every request
    seats: dict[str, str] = field(default_factory=dict)  # user -> seat
    sockets: dict[ServerConnection, str] = field(default_factory=dict)
    impostors: dict[str, Impostor] = field(default_factory=dict)

    async def http(self, _connection: ServerConnection, request: Request) -> Response | None:
        """Everything but the upgrade: a ticket, which is the session itself."""
        if not request.path.startswith("/v1/auth/ws-ticket"):
            return None
        user = request.headers["Authorization"].removeprefix("Bearer ")
        body = json.dumps({"ticket": user, "expiresInSec": 45}).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
        return Response(HTTPStatus.OK, "OK", headers, body)

    async def socket(self, connection: ServerConnection) -> None:
        """One WebSocket until it closes; its seat stays held, as the contract says."""
        user = connection.request.path.rpartition("=")[2]
        self.sockets[connection] = user
        with contextlib.suppress(ConnectionClosed):
            async for raw in connection:
                frame = json.loads(raw)
                self.heard.append((user, frame["type"], frame["payload"]))
                answer = await self._answer(connection, user, frame["type"], frame["payload"])
                kind = "nack" if "code" in answer else "ack"
                await send(connection, kind, answer | {"requestId": frame["requestId"], "eventType": frame["type"]})
        del self.sockets[connection]

    async def _answer(self, connection: ServerConnection, user: str, event: str, payload: dict) -> dict:
        if event == "room.join":
            await self._to(connection, "call.initial_state", {"roomSlug": ROOM, "participants": self._participants()})
            return {"roomSlug": ROOM}
        if event == "call.join":
            return await self._join(user)
        if event == "call.leave":
            seat = self.seats[user] if self.faults.keeps_seats else self.seats.pop(user)
            await self._to_others(user, "call.left", {"userId": user, "seatId": seat, "reason": "left"})
            return {}
        if event == "call.setup":
            return {}
        return await self._relay(user, event, payload)

    async def _relay(self, user: str, event: str, payload: dict) -> dict:
        sender = {"fromUserId": user, "fromUserName": user, "fromSeatId": self.seats[user], "roomSlug": ROOM}
        if event == "call.mic_state":
            await self._to_others(user, event, payload | sender)
            return {}
        if self.faults.impostors:
            await self._impersonate(user, event, payload)
            return {"relayedTo": 1}
        target = user if self.faults.returns_to_sender else payload["targetUserId"]
        if self.faults.mangles_sdp and "sdp" in payload["signal"]:
            payload["signal"]["sdp"] = payload["signal"]["sdp"].replace("m=audio", "m=")
        await self._to_user(target, event, payload | sender)
        return {"relayedTo": 1}

    async def _join(self, user: str) -> dict:
        if self.faults.refuses_join:
            return {"code": self.faults.refuses_join, "message": "No.", "retryable": False}
        self.seats[user] = f"seat-of-{user}"
        others = [each for each in self._participants() if each["userId"] != user]
        await self._to_others(user, "call.joined", {"userId": user, "userName": user, "seatId": self.seats[user]})
        return {
            "seatId": self.seats[user],
            "engine": self.faults.engine,
            "iceServers": self.faults.ice_servers,
            "participants": [] if self.faults.forgets_participants else others,
            "engineData": {},
        }

    def _participants(self) -> list[dict]:
        return [{"userId": user, "userName": user, "seatId": seat} for user, seat in self.seats.items()]

    async def _impersonate(self, user: str, event: str, payload: dict) -> None:
        """Nobody is connected to anybody but to an impostor: one answers who offers, one offers to the other."""
        signal, other = payload["signal"], payload["targetUserId"]
        if event == "call.offer":
            self.impostors = {who: Impostor(frequency) for who, frequency in self.faults.impostors.items()}
            await self._as(user, other, "call.offer", "offer", await self.impostors[other].offer())
            await self._as(other, user, "call.answer", "answer", await self.impostors[user].answer(signal["sdp"]))
        elif event == "call.answer":
            await self.impostors[user].accept(signal["sdp"])
        else:
            await self.impostors[user].candidate(signal["candidate"])

    async def _as(self, user: str, target: str, event: str, kind: str, described: tuple[str, list[str]]) -> None:
        sender = {"fromUserId": user, "fromSeatId": self.seats[user], "roomSlug": ROOM}
        sdp, candidates = described
        await self._to_user(target, event, sender | {"signal": {"type": kind, "sdp": sdp}})
        for candidate in [*candidates, ""]:
            await self._to_user(target, "call.ice", sender | {"signal": {"candidate": candidate}})

    async def _to(self, connection: ServerConnection, kind: str, payload: dict) -> None:
        if kind not in self.faults.drops:
            await send(connection, kind, payload)

    async def _to_user(self, user: str, kind: str, payload: dict) -> None:
        for connection in [each for each, who in self.sockets.items() if who == user]:
            await self._to(connection, kind, payload)

    async def _to_others(self, user: str, kind: str, payload: dict) -> None:
        for connection in [each for each, who in self.sockets.items() if who != user]:
            await self._to(connection, kind, payload)

    async def aclose(self) -> None:
        """Let go of the impostors."""
        for impostor in self.impostors.values():
            impostor.microphone.stop()
            await impostor.connection.close()


async def send(connection: ServerConnection, kind: str, payload: dict) -> None:
    """One frame; a socket that is gone hears nothing."""
    with contextlib.suppress(ConnectionClosed):
        await connection.send(json.dumps({"type": kind, "payload": payload}))


@dataclass
class VoicePlace:
    """The service and the credentials of its two smoke users."""

    relay: Relay
    credentials: Path

    async def smoke(self, deadline_s: float = 30.0, check=check_voice, **changes: object) -> dict:
        """The verdict of the check."""
        target = Target(
            **{
                "url": self.relay.url,
                "public_url": self.relay.url,
                "old_url": "",
                "expect_sso_host": "",
                "release": "r1",
                "deadline": time.monotonic() + deadline_s,
                "credentials": self.credentials,
            }
            | changes
        )
        out = io.StringIO()
        await check(target, Report(out))
        (line,) = out.getvalue().splitlines()
        return json.loads(line)


@pytest.fixture
async def voice_place(tmp_path: Path) -> AsyncIterator[VoicePlace]:
    """A good service, until its faults are set."""
    relay = Relay()
    server: Server
    async with serve(relay.socket, "127.0.0.1", 0, process_request=relay.http) as server:
        port = server.sockets[0].getsockname()[1]
        relay.url = f"http://127.0.0.1:{port}"
        path = tmp_path / "credentials.json"
        users = [{"userId": user, "token": user} for user in ("u1", "u2")]
        calls = {"new": {"room": ROOM, "users": users}}
        path.write_text(json.dumps({"users": users, "canaryRoom": ROOM, "calls": calls}))
        try:
            yield VoicePlace(relay, path)
        finally:
            await asyncio.wait_for(relay.aclose(), 10)
