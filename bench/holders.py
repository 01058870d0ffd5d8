"""Sockets that hold their place in a room: idle, or cut at once and coming back. A process of its own, and a cheap one.

Run as `python holders.py`; jobs come as JSON lines on stdin and each is answered by one JSON line on stdout:

    {"doors": [[port, token], …], "room": "general"}     a socket through each door joins the room
    {"talk": {"sockets": 4, "per_s": 20}}                the last sockets send on a schedule until they are told to stop
    {"cut": 1000}                                        the first sockets are cut and come back with their positions
    {"settle": true}                                     stop talking; everybody must have everything, once

Each socket checks its own log: a seq that is left out is a lost event, one that comes again a doubled one; both are
counted for the answer of `settle`. Whatever else is not as it must be ends the process with exit code 1.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from typing import Any, cast

import uvloop

import wire
from load import percentiles
from wire import FINAL_CLOSE, FINAL_PING, FINAL_TEXT, TEXT, Door, Wrong

# No answer for this long, on a machine however busy, means that there will be none.
STALL_S = 60.0
CONNECT_AT_ONCE = 64
# A loopback address has some 28,000 ports; tickets use some too, and keep them for a minute.
SOCKETS_PER_SOURCE = 4000
# So many messages are acked before the cut, and as many after the return.
AROUND = 5
# Frames come to all sockets alike: each is decoded once while it is fresh.
FRESH = 256
# Not looked into: presence may be left out or joined together by any server, and its lists are long.
_PASSED_OVER = (b'{"type":"presence.', b'{"type":"room.presence"', b'{"type":"server.heartbeat"')


class Holder(asyncio.Protocol):
    """One socket, and what it has seen of its room."""

    __slots__ = ("_rest", "_transport", "_upgraded", "caught_up", "crowd", "cut", "door", "epoch", "number", "seq",
                 "ticket")  # fmt: skip

    def __init__(self, crowd: Holders, number: int, door: Door) -> None:
        self.crowd, self.number, self.door = crowd, number, door
        self.ticket = ""
        self.epoch: str | None = None
        self.seq: int | None = None
        self.cut = True
        self.caught_up: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._upgraded = False

    async def come(self) -> None:
        """Ticket, socket, join: with a position when there is one. Returns when nothing is missing any more."""
        loop = asyncio.get_running_loop()
        source = f"127.0.2.{1 + self.number // SOCKETS_PER_SOURCE}"
        self.caught_up = loop.create_future()
        self.ticket = await wire.ticket(self.door, source)
        async with asyncio.timeout(STALL_S):
            await loop.create_connection(lambda: self, "127.0.0.1", self.door.port, local_addr=(source, 0))
            await self.caught_up
        self.caught_up = None
        self.ticket = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports keep the interface without the inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._rest, self._upgraded, self.cut = b"", False, False
        self._transport.write(wire.upgrade_request(self.ticket))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.cut:
            self.crowd.fail(f"socket {self.number} was closed: {exc or 'the server ended the connection'}")

    def abort(self) -> None:
        """Cut the connection; whatever is on its way is lost with it."""
        self.cut = True
        assert self._transport is not None
        self._transport.abort()

    def say(self, frame: bytes) -> None:
        """Send one masked frame."""
        assert self._transport is not None
        self._transport.write(frame)

    def data_received(self, data: bytes) -> None:
        if self.cut:
            return
        try:
            self._take(self._rest + data if self._rest else data)
        except Wrong as error:
            self.crowd.fail(f"socket {self.number}: {error}")

    def _take(self, data: bytes) -> None:
        if not self._upgraded:
            data = data[wire.after_upgrade(data) :]
            self._upgraded = True
            after: dict[str, Any] = {} if self.seq is None else {"after": {"epoch": self.epoch, "seq": self.seq}}
            self.say(wire.request("room.join", "join", roomSlug=self.crowd.room, **after))
        at = 0
        for begin, at in wire.frames(data):
            self._frame(data[begin:at])
        self._rest = data[at:]

    def _frame(self, frame: bytes) -> None:
        body = wire.body_of(frame)
        if frame[0] == FINAL_TEXT:
            if not body.startswith(_PASSED_OVER):
                self._told(self.crowd.read(body))
        elif frame[0] == FINAL_PING:
            self.say(wire.masked(0x8A, body))
        else:
            what = "a close" if frame[0] == FINAL_CLOSE else f"frame {frame[0]:#x}"
            raise Wrong(f"{what} came: {body[:80]!r}")

    def _told(self, told: wire.Frame) -> None:
        said = told.payload
        if told.type == "room.joined":
            if self.seq is None:
                self.epoch, self.seq = said.epoch, said.last_seq
        elif told.type == "room.delta":
            for event in said.events or ():
                self._see(wire.durable(event))
            self.crowd.replayed += len(said.events or ())
        elif told.type == "room.reset":
            raise Wrong("it was told to start anew: more was said meanwhile than a delta carries; talk more slowly")
        elif told.type in {"nack", "error"}:
            raise Wrong(f"{told.type} {said.code}: {said.message}")
        elif told.type == "ack":
            self._acked(said)
        elif said.seq is not None and said.epoch is not None:
            self._see(said.seq)

    def _see(self, seq: int | None) -> None:
        if seq is None or self.seq is None:
            raise Wrong("a durable event came without a seq, or before the room was joined")
        if seq <= self.seq:
            self.crowd.doubled += 1
        else:
            self.crowd.lost += seq - self.seq - 1
            self.seq = seq

    def _acked(self, ack: wire.Said) -> None:
        if ack.event_type == "chat.send":
            self.crowd.acked(ack)
        elif self.caught_up is not None and not self.caught_up.done():
            # The delta came before this ack, so everything up to the join is here.
            self.caught_up.set_result(None)


class Holders:
    """All sockets of the process."""

    def __init__(self) -> None:
        self.room = wire.ROOM
        self.lost = self.doubled = self.replayed = 0
        self._loop = asyncio.get_running_loop()
        self._holders: list[Holder] = []
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._fresh: dict[bytes, wire.Frame] = {}
        self._unacked: dict[str, float] = {}
        self._acks = 0
        self._top = 0
        self._heard = asyncio.Condition()
        self._talking: asyncio.Task[None] | None = None
        self._name = os.urandom(6).hex()

    def read(self, body: bytes) -> wire.Frame:
        """The frame, decoded once for all sockets that get the same. Raises Wrong."""
        told = self._fresh.get(body)
        if told is None:
            if len(self._fresh) >= FRESH:
                self._fresh.clear()
            told = self._fresh[body] = wire.decode(body)
        return told

    def acked(self, ack: wire.Said) -> None:
        """A message is stored. Raises Wrong for an ack that was not due."""
        if self._unacked.pop(ack.request_id or "", None) is None or ack.seq is None:
            raise Wrong(f"an ack of {ack.request_id!r} came that was not due")
        self._acks += 1
        self._top = max(self._top, ack.seq)

    def fail(self, sentence: str) -> None:
        """The run is over."""
        if not self._failure.done():
            self._failure.set_exception(Wrong(sentence))

    async def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """One job, unless the run is over before. Raises Wrong."""
        task = asyncio.ensure_future(self._job(job))
        await asyncio.wait((task, self._failure), return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            task.cancel()
            self._failure.result()
        return await task

    async def _job(self, job: dict[str, Any]) -> dict[str, Any]:
        if "doors" in job:
            self.room = job["room"]
            return await self._join([Door(*door) for door in job["doors"]])
        if "talk" in job:
            self._talking = asyncio.create_task(self._talk(job["talk"]["sockets"], job["talk"]["per_s"]))
            await self._acks_to_come(AROUND)
            return {"acks": self._acks}
        return await self._cut(job["cut"]) if "cut" in job else await self._settle()

    async def _join(self, doors: list[Door]) -> dict[str, Any]:
        gate = asyncio.Semaphore(CONNECT_AT_ONCE)

        async def come(holder: Holder) -> None:
            async with gate:
                await holder.come()

        first = len(self._holders)
        self._holders += [Holder(self, first + number, door) for number, door in enumerate(doors)]
        await asyncio.gather(*(come(holder) for holder in self._holders[first:]))
        return {"sockets": len(self._holders)}

    async def _cut(self, sockets: int) -> dict[str, Any]:
        """Cut them all in one moment; answers how long it was until each had everything again."""
        self.replayed = 0
        cut = self._holders[:sockets]
        began, cpu = time.perf_counter(), time.process_time()
        for holder in cut:
            holder.abort()

        async def back(holder: Holder) -> float:
            await holder.come()
            return time.perf_counter() - began

        times = await asyncio.gather(*map(back, cut))
        return {
            "back_ms": percentiles(list(times)),
            "replayed": self.replayed,
            "load_cpu_seconds": time.process_time() - cpu,
        }

    async def _talk(self, sockets: int, per_s: float) -> None:
        """Send on a schedule, whatever the server does meanwhile."""
        began, count = self._loop.time(), 0
        talkers = deque(self._holders[-sockets:])
        while True:
            count += 1
            request_id = f"{self._name}-{count}"
            self._unacked[request_id] = self._loop.time()
            talkers[0].say(wire.request("chat.send", request_id, request_id, text=TEXT))
            talkers.rotate()
            await asyncio.sleep(max(0.0, began + count / per_s - self._loop.time()))

    async def _settle(self) -> dict[str, Any]:
        await self._acks_to_come(AROUND)
        if self._talking is not None:
            self._talking.cancel()
        await self._until(lambda: not self._unacked, "acks are missing")
        await self._until(lambda: all((each.seq or 0) >= self._top for each in self._holders), "messages are missing")
        return {"acked": self._acks, "lost": self.lost, "doubled": self.doubled, "top": self._top}

    async def _acks_to_come(self, count: int) -> None:
        wanted = self._acks + count
        await self._until(lambda: self._talking is None or self._acks >= wanted, "nothing is acked any more")

    async def _until(self, holds: Any, sentence: str) -> None:
        deadline = self._loop.time() + STALL_S
        while not holds():
            if self._loop.time() > deadline:
                behind = sum((each.seq or 0) < self._top for each in self._holders)
                raise Wrong(f"{sentence}: {len(self._unacked)} acks; {behind} sockets below seq {self._top}")
            await asyncio.sleep(0.01)


async def main() -> None:
    """Do the jobs of stdin until it ends."""
    loop = asyncio.get_running_loop()
    holders = Holders()
    loop.set_exception_handler(lambda _loop, context: holders.fail(repr(context.get("exception", context))))
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await holders.do(json.loads(line))), flush=True)


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except (Wrong, OSError, TimeoutError) as error:
        sys.exit(f"holders: {error!r}")
