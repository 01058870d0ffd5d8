"""uvicorn's own WebSocket over our store: what the same server costs without picows and without joined frames.

Run as `python uvicorn_peer.py DATABASE`; the database must have been migrated. The identity is the `user` in the
address: signing in is not measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

from boltorezka import protocol
from boltorezka.adapters.sqlite import SqliteStore
from boltorezka.adapters.system import SystemClock, SystemIds
from boltorezka.errors import BoltorezkaError
from boltorezka.ports import NewEvent
from boltorezka.protocol import ChatSend, Payload, Ping, Refused, Request, RoomJoin
from boltorezka.rooms.model import EventKind, Room, Stored

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Said = tuple[Send, Request, NewEvent]

ROOM = "general"


class Peer:
    """An ASGI application: one room, messages stored in groups, each delivered by the `send` of each socket."""

    def __init__(self, store: SqliteStore, room: Room) -> None:
        self._store = store
        self._room = room
        self._clock, self._ids = SystemClock(), SystemIds()
        self._sockets: set[Send] = set()
        self._waiting: list[Said] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one WebSocket."""
        if scope["type"] != "websocket":
            return
        user = urllib.parse.parse_qs(scope["query_string"].decode()).get("user", ["nobody"])[0]
        await receive()
        await send({"type": "websocket.accept"})
        at = protocol.iso_time(self._clock.now())
        await _say(send, protocol.ServerReady(user, user, at, self._ids.new_id(), 25_000))
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await self._received(send, user, (message.get("text") or "").encode())
        finally:
            self._sockets.discard(send)

    async def _received(self, send: Send, user: str, frame: bytes) -> None:
        request = protocol.decode(frame)
        at = protocol.iso_time(self._clock.now())
        room = self._room
        if isinstance(request, Refused):
            await _say(send, protocol.Error(request.error.code, request.error.message, False, at))
            return
        asked = request.request_id or ""
        match request.said:
            case Ping():
                await _say(send, protocol.Pong(at))
                await _say(send, protocol.Ack(asked, "ping", at))
            case RoomJoin():
                self._sockets.add(send)
                await _say(send, protocol.RoomJoined(room.id, room.slug, room.title, room.epoch, room.last_seq))
                await _say(send, protocol.RoomPresence(room.id, room.slug, ()))
                await _say(send, protocol.Ack(asked, "room.join", at, room.id, room.slug))
            case ChatSend(text=text):
                new = NewEvent(
                    room.id, EventKind.MESSAGE, self._ids.new_id(), user, user, text, self._clock.now(),
                    request.request_id, request.idempotency_key,
                )  # fmt: skip
                self._waiting.append((send, request, new))
                if self._worker is None:
                    self._worker = asyncio.create_task(self._work())
            case _:
                await _say(
                    send, protocol.Nack(asked, request.said.EVENT, "UnknownEvent", "Not served here.", False, at)
                )

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                answers = await self._store.append([new for _, _, new in batch])
            except BoltorezkaError as error:
                for send, request, _ in batch:
                    at = protocol.iso_time(self._clock.now())
                    nack = protocol.Nack(request.request_id or "", "chat.send", error.code, error.message, True, at)
                    await _say(send, nack)
                continue
            for (send, request, _), answer in zip(batch, answers, strict=True):
                if isinstance(answer, Stored):
                    await self._deliver(send, request, answer)
        self._worker = None

    async def _deliver(self, send: Send, request: Request, stored: Stored) -> None:
        event, room = stored.event, self._room
        message = protocol.ChatMessage(
            event.id, room.id, room.slug, event.user_id, event.user_name, event.text,
            protocol.iso_time(event.created_at), event.seq, room.epoch, event.request_id,
        )  # fmt: skip
        # Encoded once; uvicorn makes each socket's frame around it.
        frame = {"type": "websocket.send", "text": protocol.encode(message).decode()}
        for socket in (send,) if stored.duplicate else tuple(self._sockets):
            await socket(frame)
        at = protocol.iso_time(self._clock.now())
        key = request.idempotency_key
        ack = protocol.Ack(
            request.request_id or "", "chat.send", at,
            message_id=event.id, seq=event.seq, idempotency_key=key, duplicate=stored.duplicate,
        )  # fmt: skip
        await _say(send, ack)


async def _say(send: Send, payload: Payload) -> None:
    await send({"type": "websocket.send", "text": protocol.encode(payload).decode()})


class _Announcing(uvicorn.Server):
    """Says its port when it listens, as every server of the bench does."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        print(json.dumps({"event": "listening", "port": port}), file=sys.stderr, flush=True)


async def main(database: Path) -> None:
    """Serve until SIGTERM."""
    store = SqliteStore(database, SystemClock())
    await store.open()
    try:
        room = await store.room_by_slug(ROOM)
        assert room is not None, "migrating makes the room"
        config = uvicorn.Config(
            Peer(store, room), host="127.0.0.1", port=0, ws="websockets-sansio", ws_per_message_deflate=False,
            lifespan="off", log_level="warning", access_log=False,
        )  # fmt: skip
        await _Announcing(config).serve()
    finally:
        await store.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(Path(sys.argv[1])))
