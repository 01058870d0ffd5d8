"""The users of a service that is being replaced: steady requests, and sockets that come back. A process of its own.

Run as `python rollout_load.py`; jobs come as JSON lines on stdin and each is answered by one JSON line on stdout:

    {"port": 19000, "sockets": 200, "rate": 200}    everybody is there and asks and talks from now on
    {"phase": "rollout"}                            what happens from now on belongs to this phase
    {"end": true}                                   no more is asked or said; answers what was seen, phase by phase

Users behave as browsers do: a GET or HEAD on a kept connection that was closed before a byte of the answer came is
asked once more on a new one; whoever is cut waits a moment that grows, and comes back with the last number they have
heard; what was not acked is said again with the same key. Nothing ends this process but its own mistakes: losses are
counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import uvloop

import wire
from wire import Wrong

LINES = 20  # connections that the requests share, as browsers and proxies keep them
SPEAKERS = 10
SAY_EVERY_S = 1.0
ANSWER_S = 10.0  # a request that takes longer has failed
COME_S = 30.0
SETTLE_S = 10.0  # everybody hears everything within so long after the last word, or it is lost
LOOK_S = 0.05
# Whoever is cut comes back after half to whole of this, and doubles it while nobody lets them in.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 2.0
CONNECT_AT_ONCE = 50

# (method, path, status): the POST is never asked twice.
KINDS = (
    ("GET", "/health", 200),
    ("GET", "/messages", 200),
    ("HEAD", "/health", 200),
    ("POST", "/typing", 204),
    ("GET", "/version", 200),
)


@dataclass
class Phase:
    """What users saw in one phase."""

    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    answers_s: list[float] = field(default_factory=list)
    away_s: list[float] = field(default_factory=list)  # of each socket that was cut in it
    codes: Counter[int] = field(default_factory=Counter)
    never_back: int = 0
    turned_away: int = 0  # tries to come back that nobody answered
    marks: list[float] = field(default_factory=list)  # when a bad release said that it begins
    said: set[str] = field(default_factory=set)  # keys

    def as_record(self, lost: int, doubled: int) -> dict[str, Any]:
        """Plain data."""
        return {
            "requests": self.requests,
            "failed": self.failed.total(),
            "why": dict(self.failed.most_common(5)),
            "slowest_ms": max(self.answers_s, default=0) * 1000,
            "cut": len(self.away_s) + self.never_back,
            "never_back": self.never_back,
            "codes": {str(code): count for code, count in self.codes.items()},
            "away_s": self.away_s,
            "turned_away": self.turned_away,
            "marks": self.marks,
            "messages": len(self.said),
            "lost": lost,
            "doubled": doubled,
        }


class Users:
    """Everybody behind one port."""

    def __init__(self, port: int, sockets: int, rate: float) -> None:
        self.port, self.rate = port, rate
        self.phases: dict[str, Phase] = {"": Phase()}
        self.now = self.phases[""]
        self.talking, self.staying = True, True
        self.doubled: Counter[str] = Counter()  # phase -> deliveries that came again
        self.numbers: dict[str, int] = {}  # key -> the number it was heard as
        self.name = os.urandom(4).hex()
        self.gate = asyncio.Semaphore(CONNECT_AT_ONCE)
        self.listeners = [Listener(self, number) for number in range(sockets)]
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self) -> None:
        """Everybody is there. Raises Wrong."""
        self._tasks = [asyncio.create_task(each.stay()) for each in self.listeners]
        await self._until(lambda: all(each.joined for each in self.listeners), COME_S)
        if not all(each.joined for each in self.listeners):
            came = sum(each.joined for each in self.listeners)
            raise Wrong(
                f"{came} of {len(self.listeners)} came in within {COME_S:g} s, {self.now.turned_away} tries failed"
            )
        self._tasks += [asyncio.create_task(each.talk()) for each in self.listeners[:SPEAKERS]]
        self._tasks += [asyncio.create_task(self._ask(number)) for number in range(LINES)]

    def begin(self, phase: str) -> None:
        """What happens from now on belongs to it."""
        self.now = self.phases.setdefault(phase, Phase())

    async def end(self) -> dict[str, Any]:
        """Say no more, wait until everybody has heard everything or it is lost; answers what was seen."""
        self.talking = False
        await self._until(self._settled, SETTLE_S)
        for each in self.listeners:
            each.give_up()
        told = {
            name: phase.as_record(
                sum(any(key not in each.heard for each in self.listeners) for key in phase.said), self.doubled[name]
            )
            for name, phase in self.phases.items()
        }
        self.staying = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in self.listeners:
            each.leave()
        return told

    def _settled(self) -> bool:
        said = set().union(*(phase.said for phase in self.phases.values()))
        return all(each.joined and said <= each.heard for each in self.listeners)

    async def _until(self, condition: Any, deadline_s: float) -> None:
        end = time.monotonic() + deadline_s
        while not condition() and time.monotonic() < end:  # noqa: ASYNC110 - of two hundred sockets, seldom
            await asyncio.sleep(LOOK_S)

    async def _ask(self, number: int) -> None:
        """A fixed schedule: an answer that is late does not make the next one late."""
        line = Line(self.port)
        due, turn = time.monotonic() + number / self.rate, number
        while self.talking:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            method, path, wanted = KINDS[turn % len(KINDS)]
            phase, began = self.now, time.monotonic()
            phase.requests += 1
            try:
                status = await line.ask(method, path)
                if status != wanted:
                    phase.failed[f"{method} {status}"] += 1
            except (OSError, EOFError, TimeoutError) as error:
                phase.failed[f"{method} {type(error).__name__}"] += 1
                line.close()
            phase.answers_s.append(time.monotonic() - began)
            due, turn = due + LINES / self.rate, turn + 1
        line.close()


class Line:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str) -> int:
        """The status. Raises OSError, EOFError or TimeoutError."""
        kept = self._streams is not None
        try:
            return await self._once(method, path)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.close()
            began = isinstance(error, asyncio.IncompleteReadError) and error.partial
            if not kept or began or method == "POST":
                raise
            return await self._once(method, path)

    async def _once(self, method: str, path: str) -> int:
        async with asyncio.timeout(ANSWER_S):
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            length = "Content-Length: 0\r\n" if method == "POST" else ""
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{length}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            size = int(head.partition("content-length: ")[2].partition("\r")[0] or 0)
            if method != "HEAD":
                await reader.readexactly(size)
        if "\r\nconnection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1])

    def close(self) -> None:
        """The next request makes a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Listener(asyncio.Protocol):
    """One tab: a socket that comes back whenever it is cut."""

    def __init__(self, users: Users, number: int) -> None:
        self.users, self.number = users, number
        self.joined = False
        self.heard: set[str] = set()
        self._last = -1
        self._unacked: dict[str, str] = {}
        self._transport: asyncio.Transport | None = None
        self._in_or_gone, self._gone = asyncio.Event(), asyncio.Event()
        self._rest, self._upgraded, self._code = b"", False, 0
        self._cut: tuple[Phase, float, int] | None = None  # when, and with which code

    async def stay(self) -> None:
        """Connect, and again after each cut."""
        wait = FIRST_WAIT_S
        while self.users.staying:
            self._in_or_gone.clear()
            self._gone.clear()
            self._rest, self._upgraded, self._code = b"", False, 0
            try:
                async with self.users.gate, asyncio.timeout(ANSWER_S):
                    await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.users.port)
                async with asyncio.timeout(ANSWER_S):
                    await self._in_or_gone.wait()
            except (OSError, TimeoutError):
                self.leave()
            else:
                await self._gone.wait()
            if self._code:
                wait = FIRST_WAIT_S
            else:
                self.users.now.turned_away += 1
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, LONGEST_WAIT_S)

    async def talk(self) -> None:
        """Say something steadily, wherever everybody is."""
        count = 0
        await asyncio.sleep(self.number / SPEAKERS * SAY_EVERY_S)
        while self.users.talking:
            count += 1
            key = f"{self.users.name}-{self.number}-{count}"
            self.users.now.said.add(key)
            self._unacked[key] = wire.TEXT
            self._say(key)
            await asyncio.sleep(SAY_EVERY_S)

    def _say(self, key: str) -> None:
        if self.joined:
            self._send({"key": key, "text": self._unacked[key]})

    def _send(self, said: dict[str, Any]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire.masked(wire.FINAL_TEXT, json.dumps(said).encode()))

    def give_up(self) -> None:
        """Who is still away at the end never came back."""
        if self._cut is not None and not self.joined:
            self._cut[0].never_back += 1

    def leave(self) -> None:
        """Close without ceremony."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ what the socket says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        transport.write(wire.upgrade_request("none"))  # type: ignore[attr-defined]

    def connection_lost(self, _exc: Exception | None) -> None:
        self._out(1006)
        self._in_or_gone.set()
        self._gone.set()

    def _out(self, code: int) -> None:
        """The moment users notice."""
        if self.joined:
            self.joined, self._code = False, code
            self._cut = (self.users.now, time.monotonic(), code)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        try:
            if not self._upgraded:
                data = data[wire.after_upgrade(data) :]
                self._upgraded = True
                self._send({"resume": self._last})
        except Wrong:
            self.leave()  # somebody answered who is no chat, 502 for one: come back later
            return
        end = 0
        for begin, end in wire.frames(data):
            self._frame(data[begin:end])
        self._rest = data[end:]

    def _frame(self, frame: bytes) -> None:
        body = wire.body_of(frame)
        if frame[0] == wire.FINAL_CLOSE:
            self._out(int.from_bytes(body[:2], "big") or 1005)
            self.leave()
        elif frame[0] == wire.FINAL_PING:
            assert self._transport is not None
            self._transport.write(wire.masked(0x8A, body))
        elif frame[0] == wire.FINAL_TEXT:
            self._heard(json.loads(body))

    def _heard(self, said: dict[str, Any]) -> None:
        for seq, key, _ in said.get("messages", ()):
            self._message(seq, key)
        if "ack" in said:
            self._unacked.pop(said["ack"], None)
        if "mark" in said and said["mark"] not in self.users.now.marks:
            self.users.now.marks.append(said["mark"])
        if "joined" in said:
            self.joined = True
            self._in_or_gone.set()
            self._last = said["joined"] if self._last < 0 else self._last
            if self._cut is not None:
                phase, since, code = self._cut
                phase.away_s.append(time.monotonic() - since)
                phase.codes[code] += 1
                self._cut = None
            for key in self._unacked:
                self._say(key)

    def _message(self, seq: int, key: str) -> None:
        if not key.startswith(self.users.name):
            self._last = max(self._last, seq)
            return
        if seq <= self._last or key in self.heard or self.users.numbers.setdefault(key, seq) != seq:
            phase = next(name for name, each in self.users.phases.items() if key in each.said)
            self.users.doubled[phase] += 1
        self._last = max(self._last, seq)
        self.heard.add(key)


def _end(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    print(repr(context.get("exception", context)), file=sys.stderr, flush=True)
    os._exit(1)


async def main() -> int:
    """One job after the other."""
    # An error in a callback would otherwise only be printed, and the run would wait for nothing.
    asyncio.get_running_loop().set_exception_handler(_end)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    users: Users | None = None
    while line := await reader.readline():
        job = json.loads(line)
        answer: dict[str, Any] = {}
        if "port" in job:
            users = Users(job["port"], job["sockets"], job["rate"])
            await users.come()
        elif users is not None and "phase" in job:
            users.begin(job["phase"])
        elif users is not None:
            answer = await users.end()
            users = None
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(uvloop.run(main()))
    except Wrong as error:
        sys.exit(str(error))
