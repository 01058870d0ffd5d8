"""Users during a rollout and a rollback: no request fails, no message is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid

import httpx
import pytest
import websockets

pytestmark = pytest.mark.drill

REQUESTS_PER_SECOND = 100
MESSAGES_PER_SECOND = 20
REQUEST_DEADLINE_S = 5
SETTLE_DEADLINE_S = 15  # what an open socket may take to come back and catch up: drain spread, backoff, one heartbeat


class Pool:
    """Kept connections for one GET, at a tenth of a client library's cost: the load must not starve what it loads."""

    def __init__(self, url: str, path: str) -> None:
        address = httpx.URL(url)
        self._address = address.host, address.port
        self._asked = f"GET {path} HTTP/1.1\r\nHost: {address.netloc.decode()}\r\n\r\n".encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self) -> int:
        """The answer's status, once all of it is here. Raises OSError, EOFError."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                break
            writer.close()
        else:
            reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(self._asked)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"(?i)\r\ncontent-length: *(\d+)\r\n", head)
            assert length, head
            await reader.readexactly(int(length[1]))
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return int(head.split(" ", 2)[1])

    def close(self) -> None:
        """Drop the idle ones."""
        for _, writer in self._idle:
            writer.close()


class Users:
    """Load from outside: steady requests, one socket that sends, one that listens; both come back when they are cut."""

    def __init__(self, world, token_sender: str, token_listener: str) -> None:
        self.url = world.url
        self.tokens = {"sender": token_sender, "listener": token_listener}
        self.stopping = asyncio.Event()  # no more requests and new messages
        self.caught_up = asyncio.Event()  # everything sent was heard, and nothing more will be sent
        self.silent = asyncio.Event()  # the listener may leave
        self.requests = 0
        self.rate = 0.0
        self.failures: list[str] = []
        self.unacked: dict[str, str] = {}  # idempotency key -> text, in order
        self.sent: list[str] = []
        self.heard: list[tuple[int, str]] = []
        self.position: dict[str, object] | None = None
        self.reconnects = 0

    async def request_steadily(self) -> None:
        """100 requests a second, each judged; kept connections, as a browser or a proxy keeps them."""
        pool = Pool(self.url, "/health")
        pending: set[asyncio.Task[None]] = set()
        clock = asyncio.get_running_loop().time
        begun = due = clock()
        while not self.stopping.is_set():
            task = asyncio.create_task(self._request(pool))
            pending.add(task)
            task.add_done_callback(pending.discard)
            due += 1 / REQUESTS_PER_SECOND  # a fixed schedule: a late request does not make the next ones late
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), max(0.0, due - clock()))
        self.rate = self.requests / (clock() - begun)
        await asyncio.gather(*pending)
        pool.close()

    async def _request(self, pool: Pool) -> None:
        self.requests += 1
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S):
                status = await pool.get()
            if status != 200:
                self.failures.append(f"answered {status}")
        except (OSError, EOFError) as error:  # a deadline that is over is an OSError too
            self.failures.append(repr(error))

    async def _connect(self, who: str) -> websockets.ClientConnection:
        async with httpx.AsyncClient(timeout=5) as client:
            headers = {"Authorization": f"Bearer {self.tokens[who]}"}
            ticket = (await client.get(f"{self.url}/v1/auth/ws-ticket", headers=headers)).json()["ticket"]
        address = self.url.replace("http", "ws") + f"/v1/realtime/ws?ticket={ticket}"
        return await websockets.connect(address, compression=None)

    async def listen(self, ready: asyncio.Event) -> None:
        """Hear everything once, in order, over however many sockets it takes."""
        while not self.silent.is_set():
            socket = await self._connect("listener")
            after = {"after": self.position} if self.position else {}
            join = {"type": "room.join", "requestId": "j", "payload": {"roomSlug": "general"} | after}
            await socket.send(json.dumps(join))
            stop = asyncio.create_task(self._close_on_stop(socket))
            with contextlib.suppress(websockets.ConnectionClosed):
                async for raw in socket:
                    self._hear(json.loads(raw), ready)
            stop.cancel()
            self.reconnects += not self.silent.is_set()

    async def _close_on_stop(self, socket: websockets.ClientConnection) -> None:
        await self.silent.wait()
        await socket.close()

    def _hear(self, frame: dict, ready: asyncio.Event) -> None:
        payload = frame.get("payload", {})
        if frame["type"] == "room.joined" and self.position is None:
            self.position = {"epoch": payload["epoch"], "seq": payload["lastSeq"]}
        events = {"chat.message": [payload], "room.delta": [e.get("payload", e) for e in payload.get("events", [])]}
        for event in events.get(frame["type"], []):
            self.heard.append((event["seq"], event["text"]))
            self.position = {"epoch": event["epoch"], "seq": event["seq"]}
        if self.stopping.is_set() and not self.unacked and self.heard and self.heard[-1][1] == self.sent[-1]:
            self.caught_up.set()
        assert frame["type"] != "room.reset", "a client that was away for a second must get a delta, not a reset"
        if frame["type"] == "ack" and payload.get("eventType") == "room.join":
            ready.set()

    async def send(self) -> None:
        """Numbered messages; what was not acknowledged before a cut is sent again under its key."""
        number = 0
        while not self.stopping.is_set() or self.unacked:
            socket = await self._connect("sender")
            await socket.send(json.dumps({"type": "room.join", "requestId": "j", "payload": {"roomSlug": "general"}}))
            for key, text in self.unacked.items():
                await self._send_one(socket, key, text)
            reader = asyncio.create_task(self._read_acks(socket))
            while not reader.done() and not (self.stopping.is_set() and not self.unacked):
                if not self.stopping.is_set():
                    number += 1
                    key, text = str(uuid.uuid4()), f"drill {number}"
                    self.sent.append(text)
                    self.unacked[key] = text
                    with contextlib.suppress(websockets.ConnectionClosed):
                        await self._send_one(socket, key, text)
                await asyncio.wait([reader], timeout=1 / MESSAGES_PER_SECOND)
            await socket.close()
            await reader

    async def _send_one(self, socket: websockets.ClientConnection, key: str, text: str) -> None:
        frame = {"type": "chat.send", "requestId": key, "idempotencyKey": key, "payload": {"text": text}}
        await socket.send(json.dumps(frame))

    async def _read_acks(self, socket: websockets.ClientConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for raw in socket:
                frame = json.loads(raw)
                if frame["type"] == "ack" and frame["payload"]["eventType"] == "chat.send":
                    self.unacked.pop(frame["payload"]["requestId"], None)
                    if self.stopping.is_set() and not self.unacked and self.heard[-1][1] == self.sent[-1]:
                        self.caught_up.set()
                assert frame["type"] not in ("nack", "error"), frame


def sign_in(world, user: str) -> str:
    """A session token, through the development SSO's own form."""
    with httpx.Client(follow_redirects=True, timeout=10) as client:
        page = client.get(f"{world.url}/v1/auth/sso/start?provider=google&returnUrl={world.url}/")
        hidden = dict(re.findall(r'name="([^"]+)"[^>]*value="([^"]*)"', page.text))
        fields = {name: value for name, value in hidden.items() if name not in ("user", "name")}
        origin = f"{page.url.scheme}://{page.url.netloc.decode()}"
        chosen = client.post(
            f"{origin}/auth/google/choose",
            data=fields | {"user": user},
            headers={"Origin": origin},
            follow_redirects=False,
        )
        assert chosen.status_code == 302, chosen.text
        answer = client.get(f"{world.url}/v1/auth/sso/session").json()
        assert answer["authenticated"] is True
        token: str = answer["token"]
        return token


async def under_load(world, commands) -> Users:
    """Run commands one after another while users use the service; return what they saw."""
    users = Users(world, sign_in(world, "smoke-1"), sign_in(world, "smoke-2"))
    ready = asyncio.Event()
    tasks = [asyncio.create_task(users.listen(ready)), asyncio.create_task(users.request_steadily())]
    await asyncio.wait_for(ready.wait(), 10)
    sender = asyncio.create_task(users.send())
    for command in commands:
        done = await asyncio.to_thread(command)
        assert done.returncode == 0, done.stdout + done.stderr
    users.stopping.set()
    await asyncio.wait_for(asyncio.gather(tasks[1], sender), SETTLE_DEADLINE_S)
    await asyncio.wait_for(users.caught_up.wait(), SETTLE_DEADLINE_S)
    users.silent.set()
    await asyncio.wait_for(tasks[0], SETTLE_DEADLINE_S)
    return users


FIVE = dict.fromkeys(("health", "ws-disconnects", "call-setup", "auth", "messages"), "pass")


async def test_rollout_and_rollback_under_traffic(served_world):
    """All five criteria pass under load, no request fails at 100 a second, each message is heard once and in order."""
    world = served_world
    before = world.version()["sha"]
    world.watch_in_full()
    candidate = world.branch("feature/traffic", "changes/traffic.md", "Under traffic.\n")
    seen: list[str] = []

    def roll_out():
        done = world.rollout("feature/traffic")
        seen.append(world.version()["sha"])
        return done

    def roll_back():
        done = world.run("rollback", "--env", "test", "--service", "boltorezka")
        seen.append(world.version()["sha"])
        return done

    users = await under_load(world, [roll_out, roll_back])
    assert seen == [candidate, before]
    rolled_out = next(record for record in reversed(world.ledger()) if record["type"] == "rollout")
    assert {finding["name"]: finding["verdict"] for finding in rolled_out["watch"]} == FIVE
    assert users.requests > 5 * REQUESTS_PER_SECOND
    assert users.rate > 0.9 * REQUESTS_PER_SECOND
    assert users.failures == []
    drill = [text for _, text in users.heard if text.startswith("drill ")]
    assert drill == users.sent
    assert [seq for seq, _ in users.heard] == sorted({seq for seq, _ in users.heard})
    assert users.reconnects >= 2, "the sockets never moved: the drain was not exercised"
    kept_out = world.rollout("feature/traffic")
    assert kept_out.returncode == 6, kept_out.stdout + kept_out.stderr
    where = ("--env", "test", "--service", "boltorezka")
    assert world.run("unlock", *where, "--reason", "the drill is over").returncode == 0
