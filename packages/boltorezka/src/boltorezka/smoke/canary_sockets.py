"""The canary's sockets: who sends numbered messages through a slot, who listens, and how often a socket was cut."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
import time
import uuid
from dataclasses import dataclass, field

import httpx
import websockets
from websockets.exceptions import WebSocketException

from boltorezka.smoke.report import CheckFailed, describe
from boltorezka.smoke.socket import Frame, connect, fetch_ticket
from boltorezka.smoke.target import Person

SEND_EVERY_S = 0.5
# A message that is not there after this long is lost to a person who is talking; no answer takes longer either.
LOST_AFTER_S = 3.0
# A socket that was cut comes back this soon, as people's do.
RECONNECT_AFTER_S = 0.25
# One that cannot tries ever more rarely: a session may have one ticket a second, and has up to three sockets here.
RECONNECT_AT_MOST_S = 3.0
# Saying goodbye must not outlast the margin before the deadline.
GOODBYE_S = 0.2
DRAINING = 4012
# What a slot may do to a socket; anything else is a defect of the canary.
TROUBLES = (CheckFailed, httpx.HTTPError, WebSocketException, OSError, TimeoutError, ValueError, KeyError, TypeError)


@dataclass
class Track:
    """What one listener should hear of one sender, and did. Its size is what is missing, not what was heard."""

    newest: int = 0  # sent
    missing: dict[int, float] = field(default_factory=dict)  # number -> when it was first tried
    heard: int = 0  # different ones
    duplicated: int = 0  # deliveries beyond the first
    reordered: int = 0
    highest: int = 0  # heard

    def expect(self, number: int, at: float) -> None:
        """It is being sent for the first time."""
        self.newest = number
        self.missing[number] = at

    def hear(self, number: int) -> None:
        """One delivery."""
        if self.missing.pop(number, None) is None:
            self.duplicated += 1
            return
        self.heard += 1
        self.reordered += number < self.highest
        self.highest = max(self.highest, number)

    def lost(self, now: float) -> set[int]:
        """Overtaken by a later one, or not there in time. A late arrival is taken back from it."""
        return {n for n, at in self.missing.items() if n < self.highest or now - at > LOST_AFTER_S}


class RoomSocket(abc.ABC):
    """One person's socket in the room through one slot, made anew whenever it ends. `run` connects."""

    def __init__(self, url: str, person: Person, room: str) -> None:
        """`cut` counts outages without notice and `drained` those with one; tries that fail belong to their outage."""
        self.url, self.person, self.room = url, person, room
        self.connected = False
        self.cut = 0
        self.drained = 0
        self.trouble = ""  # the newest reason of a cut
        self.settled = asyncio.Event()  # it is in the room, or it was refused once
        self._told = False  # server.draining came
        self._counted = False  # this outage is one already

    async def run(self, http: httpx.AsyncClient) -> None:
        """Until cancelled."""
        wait_s = RECONNECT_AFTER_S
        while True:
            self._told = False
            try:
                await self._live(http)
            except TROUBLES as error:
                self._ended(error)
            lived, self.connected = self.connected or self._told, False
            self.settled.set()
            wait_s = RECONNECT_AFTER_S if lived else min(2 * wait_s, RECONNECT_AT_MOST_S)
            await asyncio.sleep(wait_s)

    async def _live(self, http: httpx.AsyncClient) -> None:
        ticket = await fetch_ticket(http, self.url, self.person.token)
        connection = await connect(self.url, ticket, LOST_AFTER_S, goodbye_s=GOODBYE_S)
        try:
            await self._speak(connection)
        except websockets.ConnectionClosed:
            self._told = self._told or connection.close_code == DRAINING
            raise
        finally:
            await connection.close()

    def _ended(self, error: Exception) -> None:
        if self._told:
            self.drained += self.connected
        elif not self._counted:
            silence = f"no answer came within {LOST_AFTER_S:.0f} s"
            self._cut(silence if isinstance(error, TimeoutError) else describe(error))
            self._counted = True

    def _cut(self, why: str) -> None:
        self.cut += 1
        self.trouble = why

    def _joined(self) -> None:
        self.connected, self._counted = True, False
        self.settled.set()

    async def _frame(self, connection: websockets.ClientConnection) -> Frame:
        frame: Frame = json.loads(await connection.recv())
        self._told = self._told or frame["type"] == "server.draining"
        return frame

    @abc.abstractmethod
    async def _speak(self, connection: websockets.ClientConnection) -> None:
        """Join, call `_joined`, and go on until the socket ends."""


class Listener(RoomSocket):
    """Hears everything in the canary room through one slot, over however many sockets that takes."""

    def __init__(self, url: str, person: Person, room: str) -> None:
        """`tracks` are filled by the senders it is given to."""
        super().__init__(url, person, room)
        self.tracks: dict[str, Track] = {}
        self._position: Frame | None = None

    async def _speak(self, connection: websockets.ClientConnection) -> None:
        payload = {"roomSlug": self.room} | ({"after": self._position} if self._position else {})
        await connection.send(request("room.join", payload, "join"))
        async with asyncio.timeout(LOST_AFTER_S):
            while not self.connected:
                self._take(await self._frame(connection))
        while True:
            self._take(await self._frame(connection))

    def _take(self, frame: Frame) -> None:
        kind, payload = frame["type"], frame.get("payload", {})
        if kind == "room.joined" and self._position is None:
            self._position = {"epoch": payload["epoch"], "seq": payload["lastSeq"]}
        elif kind == "chat.message":
            self._hear(payload)
        elif kind == "room.delta":
            for event in payload["events"]:
                self._hear(event["payload"])
        elif kind == "room.reset":
            self._cut("room.reset: the log could not be continued")
        elif kind == "nack":
            raise CheckFailed(f"room.join was refused: {payload.get('code')}")
        elif kind == "ack":
            self._joined()

    def _hear(self, message: Frame) -> None:
        self._position = {"epoch": message["epoch"], "seq": message["seq"]}
        run, _, number = str(message["text"]).rpartition(" ")
        if run in self.tracks:
            self.tracks[run].hear(int(number))


class Sender(RoomSocket):
    """Sends one numbered message after another through one slot."""

    def __init__(self, url: str, person: Person, room: str, listeners: list[Listener]) -> None:
        """`name` marks this sender's messages in the room."""
        super().__init__(url, person, room)
        self.name = f"canary {uuid.uuid4().hex[:12]}"
        self.tracks = [listener.tracks.setdefault(self.name, Track()) for listener in listeners]
        self.number = 0
        self.stopped = False  # what is under way is still finished, and the socket stays
        self._pending: tuple[int, str] | None = None  # sent and not answered: sent again under its key

    async def _speak(self, connection: websockets.ClientConnection) -> None:
        await self._request(connection, "room.join", {"roomSlug": self.room})
        self._joined()
        while True:
            if not self.stopped or self._pending:
                number, key = self._pending = self._pending or self._next()
                await self._request(connection, "chat.send", {"text": f"{self.name} {number}"}, key)
                self._pending = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEND_EVERY_S):
                    while True:
                        await self._frame(connection)

    async def _request(
        self, connection: websockets.ClientConnection, event: str, payload: Frame, key: str = ""
    ) -> None:
        request_id = str(uuid.uuid4())
        await connection.send(request(event, payload, request_id, key))
        async with asyncio.timeout(LOST_AFTER_S):
            while True:
                frame = await self._frame(connection)
                if frame["type"] in ("ack", "nack") and frame["payload"].get("requestId") == request_id:
                    break
        if frame["type"] == "nack":
            raise CheckFailed(f"{event} was refused: {frame['payload'].get('code')}")

    def _ended(self, error: Exception) -> None:
        """The next message counts as sent from its first try: a slot that takes none must not look like a quiet one."""
        super()._ended(error)
        if not self._told and not self.stopped:
            self._pending = self._pending or self._next()

    def _next(self) -> tuple[int, str]:
        self.number += 1
        for track in self.tracks:
            track.expect(self.number, time.monotonic())
        return self.number, str(uuid.uuid4())


def request(event: str, payload: Frame, request_id: str, key: str = "") -> str:
    """One request as text."""
    frame = {"type": event, "requestId": request_id, "payload": payload}
    return json.dumps(frame | ({"idempotencyKey": key} if key else {}))
