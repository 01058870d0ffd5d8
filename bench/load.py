"""The load: sockets in rooms, some of which talk, and every delivery verified. A process of its own.

Run as `python load.py`; jobs come as JSON lines on stdin and each is answered by one JSON line on stdout:

    {"room": "general", "doors": [[port, token], …]}     a socket through each door joins the room
    {"in_flight": 4, "seconds": 2.0}                     talk in every room until all has arrived; answers the counts
    {"barrier": true}                                    a ping through every socket: nothing else may come before it

A message is in flight until its sender has the ack and every socket of its room has the message. `in_flight` messages
are kept going in each room, by its first sockets in turn. A message lost, doubled, out of order or changed ends the
process with exit code 1 and a sentence on stderr.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

import wire
from member import Log, Member
from wire import TEXT, Door, Said, Wrong

T = TypeVar("T")

# Nothing arriving for this long, on a machine however busy, means that something was lost.
STALL_S = 20.0
# Connecting all at once would only fill the accept queue.
CONNECT_AT_ONCE = 50


@dataclass
class _Flight:
    """A message on its way."""

    sender: Member
    sent_at: float
    ack: Said | None = None
    delivered: bool = False


class Crowd:
    """All sockets of a room, and the messages they have in flight."""

    def __init__(self, room: str = wire.ROOM) -> None:
        self.log = Log()
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._members: list[Member] = []
        self._flights: dict[str, _Flight] = {}
        self._failure: asyncio.Future[None] = self._loop.create_future()
        # An error in a callback would otherwise only be printed, and the run would wait for nothing.
        self._loop.set_exception_handler(lambda _loop, context: self.fail(repr(context.get("exception", context))))
        self._landed: asyncio.Future[None] | None = None
        self._until = 0.0
        self._looking = False
        self._delivered = 0
        self._count = 0
        self.ack_times: list[float] = []
        self.delivery_times: list[float] = []
        # Keys must be new to a store that another crowd has written to.
        self._name = os.urandom(6).hex()

    async def connect(self, doors: Sequence[Door]) -> int:
        """Come in through each door and join the room. Raises Wrong."""
        gate = asyncio.Semaphore(CONNECT_AT_ONCE)

        async def come(number: int, door: Door) -> Member:
            async with gate:
                ticket = await wire.ticket(door)
                make = lambda: Member(self, number, ticket)  # noqa: E731 - the loop wants a factory
                _, member = await self._loop.create_connection(make, "127.0.0.1", door.port)
                async with asyncio.timeout(STALL_S):
                    await member.upgraded.wait()
                await self._ask(member, "room.join", roomSlug=self._room)
                return member

        self._members = list(await self._or_failure(asyncio.gather(*map(come, range(len(doors)), doors))))
        return len(self._members)

    async def talk(self, in_flight: int, seconds: float) -> tuple[int, int]:
        """Keep this many in flight for a while; answers (messages, deliveries) when all arrived. Raises Wrong."""
        if self._failure.done():
            self._failure.result()
        for member in self._members:
            member.position = 0
        self.log.forget()
        self._delivered = 0
        self.ack_times, self.delivery_times = [], []
        self._landed = self._loop.create_future()
        self._until = time.perf_counter() + seconds
        for number in range(in_flight):
            self._send(self._members[number % len(self._members)])
        await self._or_failure(self._watch(self._landed))
        self._landed = None
        messages = len(self.log.starts)
        return messages, messages * len(self._members)

    def close(self) -> None:
        """Leave without ceremony."""
        self.fail("the crowd has left")
        for member in self._members:
            member.close()
        if not self._failure.cancelled():
            self._failure.exception()

    async def barrier(self) -> int | None:
        """A ping through every socket: whatever the server still had to say has been said. Answers the top seq."""
        size = len(self.log.data)
        asked = [self._ask(member, "ping") for member in self._members]
        await self._or_failure(asyncio.gather(*asked))
        if len(self.log.data) != size or any(member.position != size for member in self._members):
            raise Wrong("a message came after all had arrived")
        return self.log.top

    async def _ask(self, member: Member, kind: str, **payload: Any) -> None:
        member.say(wire.request(kind, kind, **payload))
        try:
            async with asyncio.timeout(STALL_S):
                ack = await member.acks.get()
        except TimeoutError:
            raise Wrong(f"socket {member.number} got no ack of its {kind}") from None
        if ack.request_id != kind:
            raise Wrong(f"socket {member.number} got an ack of {ack.request_id!r} for {kind!r}")

    def _send(self, member: Member) -> None:
        self._count += 1
        request_id = f"{self._name}-{self._count}"
        self._flights[request_id] = _Flight(member, time.perf_counter())
        member.say(wire.request("chat.send", request_id, request_id, text=TEXT))

    def acked(self, member: Member, ack: Said) -> None:
        """A sender learned that its message is stored. Raises Wrong."""
        request_id = ack.request_id or ""
        flight = self._flights.get(request_id)
        if flight is None or flight.sender is not member or flight.ack is not None or ack.duplicate:
            raise Wrong(f"an ack of {request_id!r} came that was not due")
        flight.ack = ack
        self.ack_times.append(time.perf_counter() - flight.sent_at)
        if flight.delivered:
            self._land(request_id, flight)

    def moved(self) -> None:
        """Some socket got something: look once, after everything that came with it."""
        if not self._looking and self._landed is not None:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        low = min(member.position for member in self._members)
        now = time.perf_counter()
        while self._delivered < len(self.log.starts) and self.log.end(self._delivered) <= low:
            request_id = self.log.request_ids[self._delivered]
            self._delivered += 1
            flight = self._flights.get(request_id)
            if flight is None:
                self.fail(f"message {request_id} came, but nobody is waiting for it")
                return
            flight.delivered = True
            self.delivery_times.append(now - flight.sent_at)
            if flight.ack is not None:
                self._land(request_id, flight)

    def _land(self, request_id: str, flight: _Flight) -> None:
        del self._flights[request_id]
        if flight.ack is None or flight.ack.seq != self.log.seqs[request_id]:
            self.fail(f"the ack of {request_id} names another seq than the message")
        if time.perf_counter() < self._until:
            self._send(flight.sender)
        elif not self._flights and self._landed is not None and not self._landed.done():
            self._landed.set_result(None)

    def fail(self, sentence: str) -> None:
        """The run is over."""
        if not self._failure.done():
            self._failure.set_exception(Wrong(sentence))

    async def _watch(self, landed: asyncio.Future[None]) -> None:
        """Wait for it; raise Wrong when nothing more arrives."""
        seen = -1
        while not landed.done():
            await asyncio.wait((landed,), timeout=STALL_S)
            if not landed.done() and len(self.delivery_times) == seen:
                low = min(self._members, key=lambda member: member.position)
                raise Wrong(
                    f"nothing landed for {STALL_S:g} s with {len(self._flights)} in flight; socket {low.number} is"
                    f" {len(self.log.data) - low.position} bytes behind"
                )
            seen = len(self.delivery_times)

    async def _or_failure(self, work: Awaitable[T]) -> T:
        """The result of the work, unless the run is over before."""
        task = asyncio.ensure_future(work)
        await asyncio.wait((task, self._failure), return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            task.cancel()
            self._failure.result()
        return await task


async def talk(crowds: Sequence[Crowd], in_flight: int, seconds: float) -> dict[str, Any]:
    """Talk in every room at once; answers the sums, and the times over all messages. Raises Wrong."""
    cpu, start = time.process_time(), time.perf_counter()
    told = await asyncio.gather(*(crowd.talk(in_flight, seconds) for crowd in crowds))
    return {
        "messages": sum(messages for messages, _ in told),
        "deliveries": sum(deliveries for _, deliveries in told),
        "seconds": time.perf_counter() - start,
        "load_cpu_seconds": time.process_time() - cpu,
        "ack_ms": percentiles([each for crowd in crowds for each in crowd.ack_times]),
        "delivery_ms": percentiles([each for crowd in crowds for each in crowd.delivery_times]),
    }


def percentiles(seconds: list[float]) -> list[float]:
    """p50, p95, p99 and the maximum, in milliseconds."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return [ordered[min(last, len(ordered) * percent // 100)] * 1000 for percent in (50, 95, 99, 100)]


async def main() -> None:
    """Do the jobs of stdin until it ends."""
    loop = asyncio.get_running_loop()
    crowds: list[Crowd] = []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        job = json.loads(line)
        answer: dict[str, Any]
        if "doors" in job:
            crowds.append(Crowd(job["room"]))
            answer = {"sockets": await crowds[-1].connect([Door(*door) for door in job["doors"]])}
        elif "in_flight" in job:
            answer = await talk(crowds, job["in_flight"], job["seconds"])
        else:
            answer = {"seqs": await asyncio.gather(*(crowd.barrier() for crowd in crowds))}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except Wrong as error:
        sys.exit(f"load: {error}")
