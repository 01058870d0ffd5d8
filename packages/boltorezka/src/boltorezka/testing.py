"""For tests and benches: a virtual clock, countable ids, real servers on loopback, and signing in like a person."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from boltorezka import config
from boltorezka.adapters.database import migrate
from boltorezka.app import Server, running_server
from boltorezka.auth.sessions import SECOND
from boltorezka.dev_sso import dev_sso_server
from boltorezka.ports import Clock, Ids

# Starting a process on a busy machine; a test that waits this long has failed.
DEADLINE_S = 30.0

JWT_SECRET = "a-secret-for-tests-that-is-long-enough"  # noqa: S105 - signs nothing outside tests
METRICS_TOKEN = "a-metrics-token-for-tests"  # noqa: S105


class VirtualClock:
    """Time that moves only when told to (ports.Clock)."""

    def __init__(self, now: int = 1_800_000_000 * SECOND) -> None:
        self._start = self._now = now

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start) / SECOND

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += round(seconds * SECOND)


class CountingIds:
    """Ids in the order they were asked for, the same in every run (ports.Ids)."""

    def __init__(self) -> None:
        self._count = 0

    def new_id(self) -> str:
        self._count += 1
        return f"{self._count:032x}"

    def new_secret(self) -> str:
        self._count += 1
        return f"secret-{self._count:036d}"


def environment(directory: Path, sso_url: str, public_origin: str, **settings: str) -> dict[str, str]:
    """A complete environment for a server whose database is in `directory`; `settings` by their names."""
    values = {
        "DATABASE_URL": f"sqlite:///{directory / 'boltorezka.sqlite3'}",
        "ENVIRONMENT": "test",
        "PUBLIC_ORIGIN": public_origin,
        "AUTH_SSO_BASE_URL": sso_url,
        "JWT_SECRET": JWT_SECRET,
        "METRICS_TOKEN": METRICS_TOKEN,
        "DRAIN_SPREAD_S": "0.1",
        **settings,
    }
    return {config.PREFIX + name: value for name, value in values.items()}


def loopback_listener() -> tuple[socket.socket, str]:
    """A bound socket on a free loopback port, and its origin."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@dataclass(frozen=True)
class InProcess:
    """A server in this process."""

    url: str
    settings: config.Settings
    server: Server


@asynccontextmanager
async def dev_sso() -> AsyncGenerator[str]:
    """A development SSO in this process; yields its address."""
    listener, url = loopback_listener()
    async with _serving(dev_sso_server(), listener):
        yield url


@asynccontextmanager
async def in_process_server(
    directory: Path, sso_url: str, clock: Clock | None = None, ids: Ids | None = None, **settings: str
) -> AsyncGenerator[InProcess]:
    """The real server over a real SQLite file in `directory`, migrated first."""
    listener, url = loopback_listener()
    with listener:
        loaded = config.load(environment(directory, sso_url, url, **settings))
        await asyncio.to_thread(migrate, loaded.database_url)
        async with running_server(loaded, clock, ids) as server, _serving(server.uvicorn, listener):
            yield InProcess(url, loaded, server)


@contextlib.contextmanager
def server_in_thread(directory: Path, **settings: str) -> Generator[str]:
    """A server with its development SSO in a thread, for tools that are not asynchronous; yields its address.

    The bounds on signing in are out of the way.
    """
    generous = {"LOGINS_PER_MINUTE": "1000000", "TICKETS_PER_MINUTE": "1000000"}
    started: Future[str] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        values = {**generous, **settings}
        async with dev_sso() as sso, in_process_server(directory, sso, None, None, **values) as running:
            started.set_result(running.url)
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="boltorezka")
    thread.start()
    try:
        yield started.result(DEADLINE_S)
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE_S)


@asynccontextmanager
async def _serving(server: uvicorn.Server, listener: socket.socket) -> AsyncIterator[None]:
    listener.listen()
    task = asyncio.create_task(server._serve(sockets=[listener]))  # noqa: SLF001 - without its signal handling
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, DEADLINE_S)


@dataclass
class Subprocess:
    """A `boltorezka` command that runs on its own."""

    process: asyncio.subprocess.Process
    url: str = ""
    lines: list[str] = field(default_factory=list)
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def event(self, name: str) -> dict[str, Any]:
        """The first log line with this event, waited for. Raises AssertionError when the process ends without it."""
        async with asyncio.timeout(DEADLINE_S), self._grown:
            while True:
                for line in self.lines:
                    if line.startswith("{") and (record := json.loads(line)).get("event") == name:
                        return dict(record)
                if self.process.stderr is not None and self.process.stderr.at_eof():
                    raise AssertionError(f"no event {name!r}; stderr: {self.lines}")
                await self._grown.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """The exit code, waited for."""
        return await asyncio.wait_for(self.process.wait(), DEADLINE_S)

    async def read(self) -> None:
        """Collect stderr until its end."""
        assert self.process.stderr is not None  # noqa: S101 - it was asked for
        async for line in self.process.stderr:
            async with self._grown:
                self.lines.append(line.decode().rstrip())
                self._grown.notify_all()
        async with self._grown:
            self._grown.notify_all()


@asynccontextmanager
async def command(*argv: str, env: Mapping[str, str]) -> AsyncGenerator[Subprocess]:
    """Run `boltorezka ARGV` with these settings and no others; killed at the end if it still runs."""
    base = {name: value for name, value in os.environ.items() if not name.startswith(config.PREFIX)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "boltorezka.cli",
        *argv,
        env={**base, **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Subprocess(process)
    reader = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        await reader
        # Read to its end, so that the pipe is closed with the test and not by the garbage collector.
        assert process.stdout is not None  # noqa: S101 - it was asked for
        await process.stdout.read()


@asynccontextmanager
async def server_process(env: Mapping[str, str]) -> AsyncGenerator[Subprocess]:
    """`boltorezka serve` on a free port, over a database migrated here; yields when it listens."""
    await asyncio.to_thread(migrate, config.database(env))
    async with command("serve", "--host", "127.0.0.1", "--port", "0", env=env) as running:
        listening = await running.event("listening")
        running.url = f"http://127.0.0.1:{listening['port']}"
        yield running


async def sign_in(client: httpx.AsyncClient, url: str, user: str = "ann") -> dict[str, Any]:
    """Sign in as a person would: to the SSO, choose, come back, ask for the session. Answers the session body."""
    start = await client.get(f"{url}/v1/auth/sso/start", params={"provider": "google", "returnUrl": f"{url}/"})
    page = start.headers["location"]
    choose = page.partition("?")[0] + "/choose"
    chosen = await client.post(choose, data={"user": user, "returnUrl": f"{url}/"})
    assert chosen.headers["location"] == f"{url}/", chosen.text  # noqa: S101 - this module serves tests
    session = await client.get(f"{url}/v1/auth/sso/session")
    body: dict[str, Any] = session.json()
    return body


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"authorization": f"Bearer {token}"}


def signed_in(url: str, user: str = "ann") -> dict[str, Any]:
    """The session body of a person, for tools that are not asynchronous."""

    async def coming_in() -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await sign_in(client, url, user)

    return asyncio.run(coming_in())
