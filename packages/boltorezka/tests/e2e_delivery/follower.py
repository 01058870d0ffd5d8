"""A client that comes back over any number of connections, and what it was told against the stored log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from .servers import DEADLINE_S, Wire

# What one client sends a second: resumes stay below 300 events while a process starts again.
PACE_S = 0.1


class Follower:
    """A client in one room over any number of connections: applies the log, resends what was not acked."""

    def __init__(self, name: str, token: str, slug: str, wires: list[Wire], dice: random.Random) -> None:
        self.name = name
        self.slug = slug
        self._token = token
        self._wires = wires
        self._dice = dice
        self.pending: dict[str, dict] = {}  # by key: frames that no ack has come for
        self.acked: dict[str, dict] = {}  # by key: the ack, with what was sent
        self.log: dict[int, tuple[str, str]] = {}  # by seq: type and id
        self.last = 0
        self.epoch: str | None = None
        self.resets = 0
        self.connections = 0
        self.sending = True
        self.inside = False
        self._made = 0
        self._mine: list[str] = []
        self._again: list[str] = []  # keys that were refused for a while
        self.moved = asyncio.Condition()

    async def run(self) -> None:
        """Connect, follow, and connect again, until cancelled."""
        async with httpx.AsyncClient(timeout=5) as http:
            while True:
                wire = self._dice.choice(self._wires)
                try:
                    async with asyncio.timeout(DEADLINE_S):
                        await wire.slot.up.wait()
                    ticket = await self._ticket(http, wire.slot.port)
                    url = f"ws://127.0.0.1:{wire.port}/v1/realtime/ws?ticket={ticket}"
                    async with connect(url, compression=None, proxy=None, open_timeout=5, close_timeout=0.1) as ws:
                        self.connections += 1
                        await self._follow(ws)
                except (OSError, TimeoutError, WebSocketException, httpx.HTTPError, EOFError):
                    self.inside = False

    async def _ticket(self, http: httpx.AsyncClient, port: int) -> str:
        headers = {"authorization": f"Bearer {self._token}"}
        answer = await http.get(f"http://127.0.0.1:{port}/v1/auth/ws-ticket", headers=headers)
        answer.raise_for_status()
        return str(answer.json()["ticket"])

    async def _follow(self, ws: ClientConnection) -> None:
        after = {} if self.epoch is None else {"after": {"epoch": self.epoch, "seq": self.last}}
        await ws.send(json.dumps({"type": "room.join", "requestId": "j", "payload": {"roomSlug": self.slug, **after}}))
        for frame in self.pending.values():
            await ws.send(json.dumps(frame))
        writer = asyncio.create_task(self._write(ws))
        try:
            async for text in ws:
                frame = json.loads(text)
                self._apply(frame["type"], frame["payload"])
                async with self.moved:
                    self.moved.notify_all()
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, ws: ClientConnection) -> None:
        """A frame of one's own about every tenth of a second, whatever has become of the others."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PACE_S), self.moved:
                    await self.moved.wait_for(lambda: False)
            again, self._again = self._again, []
            for frame in [self.pending[key] for key in again if key in self.pending]:
                await ws.send(json.dumps(frame))
            if self.sending and self.inside:
                await ws.send(json.dumps(self._new()))

    def _new(self) -> dict:
        self._made += 1
        key = f"{self.name}-{self._made}"
        kind = (
            self._dice.choices(["chat.send", "chat.edit", "chat.delete"], [8, 1, 1])[0] if self._mine else "chat.send"
        )
        payload = {} if kind == "chat.delete" else {"text": f"{key} {'x' * self._dice.randint(0, 300)}"}
        if kind != "chat.send":
            payload["messageId"] = self._dice.choice(self._mine)
        if kind == "chat.delete":
            self._mine.remove(payload["messageId"])
        self.pending[key] = {"type": kind, "requestId": key, "idempotencyKey": key, "payload": payload}
        return self.pending[key]

    def _apply(self, kind: str, payload: dict) -> None:
        if kind == "room.joined":
            self.inside = True
            if self.epoch is None:
                self.epoch, self.last = payload["epoch"], payload["lastSeq"]
        elif kind == "room.delta":
            for event in payload["events"]:
                self._event(event["type"], event["payload"])
            assert self.last == payload["toSeq"], (self.name, self.last, payload["toSeq"])
        elif kind == "room.reset":
            self.resets += 1
            self.last = payload["lastSeq"]
        elif kind in {"ack", "nack"}:
            if payload["requestId"] in self.pending:
                self._answered(kind, payload)
        elif "seq" in payload:
            self._event(kind, payload)

    def _answered(self, kind: str, payload: dict) -> None:
        key = payload["requestId"]
        if payload.get("retryable"):
            self._again.append(key)
            return
        frame = self.pending.pop(key)
        if kind == "ack":
            self.acked[key] = {**payload, "sent": frame}
            if frame["type"] == "chat.send":
                self._mine.append(payload["messageId"])
        else:
            # A change whose message was deleted by an earlier, also resent, frame of ours; never a message.
            assert frame["type"] in {"chat.edit", "chat.delete"}, payload
            assert payload["code"] == "MessageNotFound", payload

    def _event(self, kind: str, payload: dict) -> None:
        if payload["seq"] <= self.last:  # the first message of a repeated key, told once more
            assert payload["seq"] not in self.log or self.log[payload["seq"]] == (kind, _id(payload))
            return
        assert payload["seq"] == self.last + 1, (self.name, self.last, kind, payload["seq"])
        self.last = payload["seq"]
        self.log[self.last] = (kind, _id(payload))


def _id(payload: dict) -> str:
    return str(payload.get("id") or payload["userId"])


def check_log(stored, followers) -> None:
    """The stored log against what the clients of its room were told, and what they have."""
    assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
    keys = Counter((event.user_id, event.idempotency_key) for event in stored if event.idempotency_key)
    assert set(keys.values()) <= {1}, "a key was stored twice"
    kinds = {
        "message": "chat.message", "edit": "chat.edited", "delete": "chat.deleted", "joined": "member.joined",
        "left": "member.left",
    }  # fmt: skip
    for follower in followers:
        by_key = {event.idempotency_key: event for event in stored if event.user_id == f"user-{follower.name}"}
        for key, ack in follower.acked.items():
            event = by_key[key]
            assert (event.seq, event.ref or event.id) == (ack["seq"], ack["messageId"]), "acked, and not what is stored"
            if event.kind.value == "message":
                assert event.text in {"", ack["sent"]["payload"]["text"]}
        for seq, (kind, event_id) in follower.log.items():
            event = stored[seq - 1]
            about = event.ref if event.kind.value in {"edit", "delete"} else event.id
            shown = event.user_id if event.kind.value in {"joined", "left"} else about
            assert (kind, event_id) == (kinds[event.kind.value], shown)
