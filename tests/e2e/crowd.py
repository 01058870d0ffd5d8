"""Users by the hundred: sockets that listen and talk in one room, and steady requests, every answer judged.

Cheap, so that they fit beside the servers they use. They behave as the web client does: come back when they are told
to, resume from their position, send again what was not acknowledged, and ask for what they missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any, Self

import httpx
from seen import SOCKETS, Seen
from visitor import ANSWER_S, ROOM, Line, Visitor

REQUESTS_PER_SECOND = 200
LINES = 20  # connections the requests share, as browsers and proxies keep them
SENDERS = 10
SETTLE_S = 30.0  # until everything sent was heard by everybody, once nothing more is sent
FRESH_S = 240.0  # tokens live ten minutes
SIGN_IN_AT_ONCE = 8
DRAINED = 4012


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
