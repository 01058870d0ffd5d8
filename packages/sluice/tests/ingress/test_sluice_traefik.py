"""The ingress with the real Traefik and real servers behind it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sluice.hosts.state import StatePaths
from sluice.ingress.traefik import TraefikIngress
from sluice.model.errors import Refused, StateCorrupted
from sluice.model.release import Slot
from sluice.runtimes.client import SupervisorClient

RATE = 100  # requests a second
ROUNDS = 3
DEADLINE_S = 15


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    """State folders of one environment."""
    made = StatePaths(tmp_path / "state", "tiny", "test")
    made.prepare()
    return made


@pytest.fixture
def supervisor(paths: StatePaths) -> Iterator[SupervisorClient]:
    """Its supervisor, ended with everything it runs."""
    client = SupervisorClient(paths.supervisor_dir)
    yield client
    client.shutdown(grace_s=1)


@pytest.fixture
def port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def slots() -> AsyncIterator[list[Slot]]:
    """Two real HTTP servers that answer their name and keep connections alive; `/socket` upgrades and echoes."""

    def answering(name: bytes):
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    if b"Upgrade: websocket" in head or b"upgrade: websocket" in head:
                        writer.write(
                            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                        )
                        while line := await reader.readline():
                            writer.write(name + line)
                        return
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name))
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            finally:
                writer.close()

        return answer

    servers = [await asyncio.start_server(answering(name), "127.0.0.1", 0) for name in (b"one", b"two")]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    yield [Slot(f"r{n}", f"u{n}", port, f"http://127.0.0.1:{port}") for n, port in enumerate(ports)]
    for server in servers:
        server.close()


async def get(port: int) -> tuple[int, str]:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw = await asyncio.wait_for(reader.read(), DEADLINE_S)
    finally:
        writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode()


async def until_serves(port: int, status: int, body: str | None = None) -> None:
    """Poll until Traefik has followed: it cannot tell us."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await get(port)
            if found[0] == status and body in (None, found[1]):
                return
            await asyncio.sleep(0.01)


async def test_address_taken_by_somebody_else_is_refused_with_who(paths, supervisor, port):
    """The refusal names the process that listens there, and nothing is started."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        with pytest.raises(Refused, match=rf"pid {os.getpid()} \("):
            await TraefikIngress(paths, f"http://127.0.0.1:{port}").ensure()
    assert supervisor.status() == {} or not any(s.running for s in supervisor.status().values())


async def test_damaged_file_is_named_and_not_trusted(paths, port, slots):
    """A cut or hand-edited file raises StateCorrupted with its name; none at all means nobody serves."""
    ingress = TraefikIngress(paths, f"http://127.0.0.1:{port}")
    assert await ingress.current() is None
    await ingress.point(slots[0])
    assert await ingress.current() == slots[0].url
    file = paths.ingress_dir / "dynamic" / "service.yaml"
    whole = file.read_text()
    for damaged in (whole[:-20], "", "[]", whole.replace("PathPrefix", "Path")):
        file.write_text(damaged)
        with pytest.raises(StateCorrupted, match=r"service\.yaml"):
            await ingress.current()
    await ingress.point(None)
    assert await ingress.current() is None


async def test_three_switches_under_load_lose_no_request_and_no_socket(paths, supervisor, port, slots):
    """100 requests/s over three switches: all answered; an open socket stays on its slot; nowhere gives 404."""
    ingress = TraefikIngress(paths, f"http://127.0.0.1:{port}")
    await ingress.point(slots[0])
    await ingress.ensure()
    await until_serves(port, 200, "one")
    pid = supervisor.status()["ingress-tiny-test"].pid
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")

    results: list[tuple[int, str]] = []
    over = asyncio.Event()

    async def load() -> None:
        loop, requests = asyncio.get_running_loop(), set()
        due = loop.time()
        while not over.is_set():
            requests.add(asyncio.ensure_future(get(port)))
            due += 1 / RATE
            await asyncio.sleep(max(0, due - loop.time()))
        results.extend(await asyncio.gather(*requests))

    loading = asyncio.create_task(load())
    for number in range(1, ROUNDS + 1):
        slot = slots[number % 2]
        await ingress.point(slot)
        await until_serves(port, 200, ("one", "two")[number % 2])
        await ingress.ensure()
        await asyncio.sleep(0.5)
    over.set()
    await loading
    assert len(results) > RATE
    assert {status for status, _ in results} == {200}
    assert {body for _, body in results} == {"one", "two"}
    writer.write(b" still here\n")
    assert await asyncio.wait_for(reader.readline(), DEADLINE_S) == b"one still here\n"
    writer.close()
    assert supervisor.status()["ingress-tiny-test"].pid == pid

    await ingress.point(None)
    await until_serves(port, 404)
    await ingress.stop()
    with pytest.raises(OSError, match="Connect call failed"):
        await get(port)
