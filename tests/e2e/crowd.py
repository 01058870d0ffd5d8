"""Users by the hundred: sockets that listen and talk in one room, and steady requests, every answer judged.

Cheap, so that they fit beside the servers they use. They behave as the web client does: come back when they are told
to, resume from their position, send again what was not acknowledged, and ask for what they missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import wire

ROOM = "general"
SOCKETS = 200
REQUESTS_PER_SECOND = 200
LINES = 20  # connections the requests share, as browsers and proxies keep them
SENDERS = 10
SEND_EVERY_S = 1.0
ANSWER_S = 10.0  # a request that takes longer has failed
SETTLE_S = 30.0  # until everything sent was heard by everybody, once nothing more is sent
FRESH_S = 240.0  # tokens live ten minutes
FIRST_BACKOFF_S = 0.5  # the web client's
SIGN_IN_AT_ONCE = 8
DRAINED = 4012


@dataclass
class Cut:
    """One socket that was closed, and how long until it was in the room again."""

    phase: str
    code: int
    seconds: float


@dataclass
class Seen:
    """What the users saw."""

    phase: str = ""
    requests: int = 0
    rate: float = 0.0  # of requests, a second
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    sent: dict[str, str] = field(default_factory=dict)  # idempotency key -> text
    heard: dict[int, str] = field(default_factory=dict)  # seq -> text; the same for everybody
    cuts: list[Cut] = field(default_factory=list)
    served: list[tuple[float, str]] = field(default_factory=list)  # since when (UNIX time), which commit
    healed: int = 0  # messages a server kept back, and a socket that noticed the gap asked for

    def fail(self, what: str) -> None:
        """Something a user would have noticed."""
        self.failures.append(f"[{self.phase}] {what}")

    def serves(self, sha: str) -> None:
        """A commit that answered just now."""
        if not self.served or self.served[-1][1] != sha:
            self.served.append((time.time(), sha))

    def doubled(self) -> list[str]:
        """Texts stored more than once."""
        mine = set(self.sent.values())
        return [text for text, count in Counter(self.heard.values()).items() if count > 1 and text in mine]

    def lost(self) -> list[str]:
        """Texts that were sent and stand nowhere in the room."""
        return sorted(set(self.sent.values()) - set(self.heard.values()))

    def times(self, phase: str = "") -> str:
        """How long sockets were away, as a sentence."""
        chosen = [cut for cut in self.cuts if cut.phase.startswith(phase)]
        if not chosen:
            return "no socket was cut"
        away = [cut.seconds for cut in chosen]
        codes = dict(Counter(cut.code for cut in chosen))
        return f"{len(away)} cut {codes}, back after {statistics.median(away):.2f} s (median), {max(away):.2f} s (max)"

    def report(self) -> str:
        """The numbers."""
        phases = list(dict.fromkeys(cut.phase for cut in self.cuts))
        lines = [
            f"requests {self.requests} ({self.rate:.0f} a second, slowest {self.slowest_s * 1000:.0f} ms)",
            f"failures {len(self.failures)}",
            f"messages {len(self.sent)} to {SOCKETS} sockets, lost {len(self.lost())}, doubled {len(self.doubled())}",
            f"deliveries that a server kept back and a client asked for: {self.healed}",
            *(f"{phase}: {self.times(phase)}" for phase in phases),
        ]
        return "\n".join(f"  {line}" for line in lines)


@dataclass
class Person:
    """Somebody with a session."""

    token: str
    since: float


class Crowd:
    """All users of one server behind `port`. Use `async with`; leaving settles, and raises what was never settled."""

    def __init__(self, port: int, people: list[Person]) -> None:
        self.port = port
        self.people = people
        self.seen = Seen()
        self.talking = True
        self.staying = True
        self.moved = asyncio.Event()
        self.visitors = [Visitor(self, number) for number in range(SOCKETS)]
        self._begun = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._requests: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(each.stay()) for each in self.visitors]
        await self._until(lambda: all(each.joined for each in self.visitors), "everybody is in the room")
        self._tasks += [asyncio.create_task(each.talk()) for each in self.visitors[:SENDERS]]
        self._requests = [asyncio.create_task(self._ask_steadily(number)) for number in range(LINES)]
        self._begun = asyncio.get_running_loop().time()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self.talking = False
        try:
            await asyncio.gather(*self._requests)
            self.seen.rate = self.seen.requests / (asyncio.get_running_loop().time() - self._begun)
            if kind is None:
                await self._until(lambda: all(each.settled() for each in self.visitors), "everybody heard everything")
        finally:
            self.staying = False
            for each in self.visitors:
                each.leave()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def top(self) -> int:
        """The newest seq anybody has heard."""
        return max(self.seen.heard, default=0)

    async def _until(self, condition: Any, what: str) -> None:
        try:
            async with asyncio.timeout(SETTLE_S):
                while not condition():
                    self.moved.clear()
                    await self.moved.wait()
        except TimeoutError:
            behind = [(v.number, v.next, v.joined, len(v.unacked)) for v in self.visitors if not v.settled()]
            raise AssertionError(f"{what}: not within {SETTLE_S} s; top {self.top()}; {behind[:5]}") from None

    async def _ask_steadily(self, number: int) -> None:
        """A fixed schedule: an answer that is late does not make the next request late."""
        loop = asyncio.get_running_loop()
        person = self.people[number]
        kinds = [
            ("GET", "/health", 200),
            ("GET", "/v1/rooms", 200),
            ("HEAD", "/health", 200),
            ("POST", "/v1/auth/login", 410),
            ("GET", "/version", 200),
            ("GET", f"/v1/rooms/{ROOM}/messages?limit=10", 200),
        ]
        line = Line(self.port)
        due, turn = loop.time() + number / REQUESTS_PER_SECOND, number
        while self.talking:
            await asyncio.sleep(max(0.0, due - loop.time()))
            method, path, wanted = kinds[turn % len(kinds)]
            begun = loop.time()
            self.seen.requests += 1
            try:
                status, body = await line.ask(method, path, person.token)
                if path == "/version" and status == 200:
                    self.seen.serves(json.loads(body)["sha"])
                if status != wanted:
                    self.seen.fail(f"{method} {path} answered {status}")
            except (OSError, EOFError, TimeoutError) as error:
                self.seen.fail(f"{method} {path}: {error!r}")
                line.close()
            self.seen.slowest_s = max(self.seen.slowest_s, loop.time() - begun)
            due, turn = due + LINES / REQUESTS_PER_SECOND, turn + 1
        line.close()

    async def token(self, person: Person) -> str:
        """A token that is good for a while yet."""
        now = asyncio.get_running_loop().time()
        if now - person.since > FRESH_S:
            line = Line(self.port)
            status, body = await line.ask("POST", "/v1/auth/refresh", person.token)
            line.close()
            if status == 200:
                person.token, person.since = str(json.loads(body)["token"]), now
        return person.token


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


async def signed_in(url: str, sso: str, count: int) -> list[Person]:
    """Sessions of so many people, through the development SSO's own form."""
    gate = asyncio.Semaphore(SIGN_IN_AT_ONCE)
    async with httpx.AsyncClient(timeout=ANSWER_S) as client:

        async def enter(number: int) -> Person:
            async with gate:
                form = {"name": f"Visitor {number}", "returnUrl": f"{url}/"}
                chosen = await client.post(f"{sso}/auth/google/choose", data=form, headers={"Origin": sso})
                assert chosen.status_code == 302, chosen.text
                cookie = chosen.cookies["sso_session"]
                client.cookies.clear()
                answer = await client.get(f"{url}/v1/auth/sso/session", headers={"Cookie": f"sso_session={cookie}"})
                client.cookies.clear()
                assert answer.status_code == 200, answer.text
                return Person(str(answer.json()["token"]), asyncio.get_running_loop().time())

        return list(await asyncio.gather(*(enter(number) for number in range(count))))


@contextlib.asynccontextmanager
async def crowd(url: str, sso: str) -> Any:
    """A crowd of as many people as sockets."""
    people = await signed_in(url, sso, SOCKETS)
    async with Crowd(int(url.rpartition(":")[2]), people) as made:
        yield made
