"""One tab of a web client: comes back, resumes, sends again what was not acknowledged, and asks for what it missed."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from seen import Cut

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import wire

if TYPE_CHECKING:
    from crowd import Crowd

ROOM = "general"
SEND_EVERY_S = 1.0
ANSWER_S = 10.0  # a request that takes longer has failed
FIRST_BACKOFF_S = 0.5  # the web client's


class Line:
    """One connection that is kept alive."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, token: str) -> tuple[int, bytes]:
        """Raises OSError, EOFError or TimeoutError."""
        async with asyncio.timeout(ANSWER_S):
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            length = "Content-Length: 0\r\n" if method == "POST" else ""
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {token}\r\n"
            writer.write(f"{head}{length}\r\n".encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            size = int(answer.partition("content-length: ")[2].partition("\r")[0] or 0)
            body = await reader.readexactly(size) if method != "HEAD" else b""
        if "\r\nconnection: close" in answer:
            self.close()
        return int(answer.split(" ", 2)[1]), body

    def close(self) -> None:
        """The next request makes a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Visitor(asyncio.Protocol):
    """One tab: a socket that comes back whenever it is cut."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd, self.number = crowd, number
        self.person = crowd.people[number % len(crowd.people)]
        self.next = 0  # the seq that is due; 0: not in the room yet
        self.epoch = ""
        self.unacked: dict[str, str] = {}
        self.joined = False
        self._gone = asyncio.Event()
        self._asked = False  # for what was missed
        self._upgraded = False
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._code = 0
        self._retry_s: float | None = None
        self._ticket = ""
        # The last cut: when, with which code, in which phase.
        self._since, self._cut_code, self._phase = 0.0, 0, ""

    def settled(self) -> bool:
        """Nothing of ours is unanswered, and we heard what anybody heard."""
        return self.joined and not self.unacked and self.next == self.crowd.top() + 1 and not self.crowd.talking

    async def stay(self) -> None:
        """Connect, and again after each cut."""
        attempt = 0
        while self.crowd.staying:
            self._retry_s = None
            try:
                await self._connect()
                await self._gone.wait()
                attempt = 0
            except (OSError, EOFError, TimeoutError, wire.Wrong) as error:
                self.crowd.seen.fail(f"socket {self.number} could not come back: {error!r}")
            backoff = FIRST_BACKOFF_S * 2**attempt * random.uniform(0.5, 1)
            attempt += 1
            await asyncio.sleep(backoff if self._retry_s is None else self._retry_s)

    async def _connect(self) -> None:
        self._gone.clear()
        self._upgraded, self._rest, self._code, self._asked = False, b"", 0, False
        token = await self.crowd.token(self.person)
        line = Line(self.crowd.port)
        status, body = await line.ask("GET", "/v1/auth/ws-ticket", token)
        line.close()
        if status != 200:
            raise wire.Wrong(f"a ticket was refused: {status} {body[:200]!r}")
        self._ticket = str(json.loads(body)["ticket"])
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.crowd.port)

    async def talk(self) -> None:
        """Numbered messages; what is not acknowledged when a socket is cut is sent again by the next."""
        number = 0
        while self.crowd.talking:
            number += 1
            key, text = str(uuid.uuid4()), f"from {self.number}: {number} {uuid.uuid4().hex[:8]}"
            self.crowd.seen.sent[key] = text
            self.unacked[key] = text
            if self.joined:
                self._send(key, text)
            await asyncio.sleep(SEND_EVERY_S)

    def _send(self, key: str, text: str) -> None:
        self._say(wire.request("chat.send", key, key, text=text))

    def _say(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def leave(self) -> None:
        """Close without ceremony."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ what the socket says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        transport.write(wire.upgrade_request(self._ticket))  # type: ignore[attr-defined]

    def connection_lost(self, _exc: Exception | None) -> None:
        self._cut(1006)
        self._gone.set()

    def _cut(self, code: int) -> None:
        """The moment users notice."""
        if self._code == 0:
            self._code = code
            if self.joined:
                self._since = asyncio.get_running_loop().time()
                self._phase, self._cut_code = self.crowd.seen.phase, code
            self.joined = False

    def data_received(self, data: bytes) -> None:
        try:
            self._received(self._rest + data)
        except wire.Wrong as error:
            self.crowd.seen.fail(f"socket {self.number}: {error}")
            self.leave()

    def _received(self, data: bytes) -> None:
        if not self._upgraded:
            if b"\r\n\r\n" not in data:
                self._rest = data
                return
            data = data[wire.after_upgrade(data) :]
            self._upgraded = True
            place = {"after": {"epoch": self.epoch, "seq": self.next - 1}} if self.next else {}
            self._say(wire.request("room.join", "join", roomSlug=ROOM, **place))
        at = 0
        for begin, at in wire.frames(data):
            self._frame(data[begin:at])
        self._rest = data[at:]

    def _frame(self, frame: bytes) -> None:
        body = wire.body_of(frame)
        if frame[0] == wire.FINAL_PING:
            self._say(wire.masked(0x8A, body))
        elif frame[0] == wire.FINAL_CLOSE:
            self._cut(int.from_bytes(body[:2], "big"))
            self._say(wire.masked(wire.FINAL_CLOSE, body[:2]))
            if self._transport is not None:
                self._transport.close()
        elif frame[0] == wire.FINAL_TEXT:
            told = wire.decode(body)
            self._told(told.type, told.payload, body)

    def _told(self, kind: str, said: wire.Said, body: bytes) -> None:
        if kind == "ack":
            self._acked(said)
        elif kind == "room.joined":
            if not self.next:
                self.next, self.epoch = (said.last_seq or 0) + 1, said.epoch or ""
        elif kind == "room.delta":
            self._delta(said)
        elif kind == "server.draining":
            self._retry_s = json.loads(body)["payload"]["retryAfterMs"] / 1000 * random.uniform(1, 1.25)
        elif kind == "server.heartbeat":
            tops = [room["lastSeq"] for room in json.loads(body)["payload"]["rooms"]]
            if max(tops, default=0) >= self.next:
                self._resume()
        elif kind in {"nack", "error", "room.reset"}:
            self.crowd.seen.fail(f"socket {self.number}: {kind} {said.code} {said.message}")
        elif said.seq is not None:
            self._event(said.seq, said.text if kind == "chat.message" and said.text else kind)

    def _acked(self, said: wire.Said) -> None:
        if said.event_type == "chat.send":
            self.unacked.pop(said.request_id or "", None)
        elif said.event_type == "resume":
            self._asked = False
        elif said.event_type == "room.join":
            self.joined = True
            if self._since:
                away = asyncio.get_running_loop().time() - self._since
                self.crowd.seen.cuts.append(Cut(self._phase, self._cut_code, away))
                self._since = 0.0
            for key, text in self.unacked.items():
                self._send(key, text)
        self.crowd.moved.set()

    def _event(self, seq: int, text: str) -> None:
        if seq > self.next:
            self._resume()
        elif seq < self.next:
            self.crowd.seen.fail(f"socket {self.number} heard {seq} again, {self.next} was due")
        else:
            self._hear(seq, text)

    def _delta(self, said: wire.Said) -> None:
        for event in said.events or ():
            kind, payload = event["type"], event["payload"]
            seq = payload["seq"]
            if seq > self.next:
                self.crowd.seen.fail(f"socket {self.number}: a delta goes on with {seq}, {self.next} was due")
            elif seq == self.next:
                self.crowd.seen.healed += self._asked
                self._hear(seq, payload["text"] if kind == "chat.message" else kind)

    def _hear(self, seq: int, text: str) -> None:
        if self.crowd.seen.heard.setdefault(seq, text) != text:
            self.crowd.seen.fail(f"socket {self.number} heard {text!r} as {seq}, others {self.crowd.seen.heard[seq]!r}")
        self.next = seq + 1
        if not self.crowd.talking:
            self.crowd.moved.set()

    def _resume(self) -> None:
        if not self._asked and self.joined:
            self._asked = True
            position = {"roomSlug": ROOM, "epoch": self.epoch, "seq": self.next - 1}
            self._say(wire.request("resume", "resume", rooms=[position]))
