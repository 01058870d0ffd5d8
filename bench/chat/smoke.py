"""Whether the chat works: `smoke.py all` once, `smoke.py canary` while it is watched. A plug-in of Sluice, or by hand.

By hand: SLUICE_URL=http://127.0.0.1:8000 python3 smoke.py all; the exit code says it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.request
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

ANSWER_S = 5.0
SENDERS, LISTENERS = 2, 4
SEND_EVERY_S = 0.5
AGAIN_S = 0.2  # before coming back
LATE_S = 2.0  # a message that was not heard for so long is lost
STOP_BEFORE_S = 3.5  # of the deadline
RESTART = 1012


def report(name: str, verdict: str, began: float, detail: str, **more: object) -> None:
    """One line for one check."""
    ms = round((time.monotonic() - began) * 1000)
    print(json.dumps({"name": name, "verdict": verdict, "ms": ms, "detail": detail, **more}), flush=True)


async def opened(url: str, position: int = -1) -> tuple[ClientConnection, int]:
    """A socket that hears everything after a number, or from now on; and the newest number."""
    address = url.replace("http", "ws", 1) + "/v1/realtime/ws"
    socket = await connect(address, open_timeout=ANSWER_S, close_timeout=1, compression=None, proxy=None)
    await socket.send(json.dumps({"resume": position}))
    top = int(json.loads(await asyncio.wait_for(socket.recv(), ANSWER_S))["joined"])
    return socket, top if position < 0 else position


async def heard(socket: ClientConnection, key: str) -> int:
    """The number under which a message came."""
    async with asyncio.timeout(ANSWER_S):
        while True:
            for seq, found, _ in json.loads(await socket.recv()).get("messages", ()):
                if found == key:
                    return int(seq)


async def acked(socket: ClientConnection, key: str) -> int:
    """The number that a sender is told."""
    await socket.send(json.dumps({"key": key, "text": "smoke"}))
    async with asyncio.timeout(ANSWER_S):
        while True:
            said = json.loads(await socket.recv())
            if said.get("ack") == key:
                return int(said["seq"])


async def health(url: str) -> str:
    """GET answers 200."""

    def ask() -> int:
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_S) as reply:  # noqa: S310 - the address to judge
            return int(reply.status)

    return f"answers {await asyncio.to_thread(ask)}"


async def message(url: str) -> str:
    """What one says the other hears."""
    (there, _), (here, _) = await opened(url), await opened(url)
    async with there, here:
        key = uuid.uuid4().hex
        stored = await acked(here, key)
        if await heard(there, key) != stored:
            raise ValueError("the number that was heard is not the one that was acked")
        return f"stored and heard as {stored}"


async def message_retry(url: str) -> str:
    """Said again with the same key, it is the same message."""
    here, _ = await opened(url)
    async with here:
        key = uuid.uuid4().hex
        numbers = {await acked(here, key), await acked(here, key)}
        if len(numbers) != 1:
            raise ValueError(f"stored twice, as {numbers}")
        return f"stored once, as {numbers.pop()}"


CHECKS: dict[str, Callable[[str], Awaitable[str]]] = {
    "health": health,
    "message": message,
    "message-retry": message_retry,
}


async def smoke(url: str) -> int:
    """All checks; 1 when one does not hold."""
    failed = False
    for name, check in CHECKS.items():
        began = time.monotonic()
        try:
            report(name, "pass", began, await check(url))
        except (OSError, TimeoutError, ValueError, WebSocketException) as error:
            failed = True
            report(name, "fail", began, f"{type(error).__name__}: {error}")
    return int(failed)


@dataclass
class Side:
    """The canary's sockets on one slot, and what they saw."""

    url: str
    stopped: bool = False
    sent: dict[str, float] = field(default_factory=dict)
    ears: list[dict[str, int]] = field(default_factory=lambda: [{} for _ in range(LISTENERS)])
    ready: set[int] = field(default_factory=set)  # listeners that were there once; what is said before is nobody's loss
    open: int = 0
    cut: int = 0
    drained: int = 0
    received: int = 0
    reordered: int = 0

    async def listen(self, number: int) -> None:
        """Hear, and come back."""
        position, out = -1, False
        while not self.stopped:
            try:
                socket, position = await opened(self.url, position)
                self.ready.add(number)
                self.open, out = self.open + 1, False
                try:
                    while True:
                        position = self._hear(number, json.loads(await socket.recv()), position)
                except ConnectionClosed:
                    drained = socket.close_code == RESTART
                    self.drained, self.cut, out = self.drained + drained, self.cut + (not drained), True
                finally:
                    self.open -= 1
            except (OSError, TimeoutError, WebSocketException):
                self.cut, out = self.cut + (not out), True  # once for each outage
            await asyncio.sleep(AGAIN_S)

    def _hear(self, number: int, said: dict[str, list[tuple[int, str, str]]], position: int) -> int:
        for seq, key, _ in said.get("messages", ()):
            self.reordered += seq <= position
            position = max(position, seq)
            ear = self.ears[number]
            ear[key] = ear.get(key, 0) + 1
            self.received += key in self.sent
        return position

    async def talk(self) -> None:
        """Say something steadily, once everybody listens."""
        while not self.stopped:
            try:
                socket, _ = await opened(self.url)
                async with socket:
                    while not self.stopped:
                        if len(self.ready) == LISTENERS:
                            key = uuid.uuid4().hex
                            self.sent[key] = time.monotonic()
                            await acked(socket, key)
                        await asyncio.sleep(SEND_EVERY_S)
            except (OSError, TimeoutError, WebSocketException):
                await asyncio.sleep(AGAIN_S)

    def counts(self) -> dict[str, int]:
        """Totals since the start."""
        due = [key for key, at in self.sent.items() if time.monotonic() - at > LATE_S]
        return {
            "sent": len(self.sent),
            "received": self.received,
            "lost": sum(any(key not in ear for ear in self.ears) for key in due),
            "duplicated": sum(ear[key] - 1 for ear in self.ears for key in self.sent if key in ear),
            "reordered": self.reordered,
            "senders": SENDERS,
            "listeners": LISTENERS,
            "connected": self.open,
            "cut": self.cut,
            "drained": self.drained,
        }


async def canary() -> int:
    """A line a second until shortly before the deadline."""
    urls = {"new": os.environ["SLUICE_URL"], "old": os.environ.get("SLUICE_OLD_URL", "")}
    sides = {name: Side(url) for name, url in urls.items() if url}
    tasks = [asyncio.create_task(side.listen(number)) for side in sides.values() for number in range(LISTENERS)]
    tasks += [asyncio.create_task(side.talk()) for side in sides.values() for _ in range(SENDERS)]
    until = float(os.environ["SLUICE_DEADLINE"]) - STOP_BEFORE_S
    while time.time() < until:
        began = time.monotonic()
        await asyncio.sleep(min(1, max(0, until - time.time())))
        counts = {name: side.counts() for name, side in sides.items()}
        report("messages", "pass", began, f"{counts['new']['sent']} sent", metrics=counts)
    for side in sides.values():
        side.stopped = True
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return 0


if __name__ == "__main__":
    watching = sys.argv[1:] == ["canary"]
    sys.exit(asyncio.run(canary() if watching else smoke(os.environ["SLUICE_URL"])))
