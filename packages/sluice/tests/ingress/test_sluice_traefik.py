"""The ingress with the real Traefik and real servers behind it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest

from sluice.ingress.process import ProcessIngress
from sluice.model.errors import Refused
from sluice.model.release import Slot

from .answering import ask

RATE = 100  # requests a second
ROUNDS = 3
DEADLINE_S = 15


async def get(port: int) -> tuple[int, str]:
    """One request: status and body."""
    head, body = await ask(port)
    return int(head.split(" ")[1]), body


async def until_serves(port: int, status: int, body: str | None = None) -> None:
    """Poll until Traefik has followed: it cannot tell us."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await get(port)
            if found[0] == status and body in (None, found[1]):
                return
            await asyncio.sleep(0.01)


async def until_trusted(port: int, chain: Path) -> ssl.SSLContext:
    """Poll until the certificate of this file is shown and requests are routed."""
    trusting = ssl.create_default_context(cafile=str(chain))
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                if (await ask(port, tls=trusting))[1] == "one":
                    return trusting
            except OSError:  # not there yet, or still the other certificate
                pass
            await asyncio.sleep(0.01)


async def test_address_taken_by_somebody_else_is_refused_with_who(paths, supervisor, port, host):
    """The refusal names the process that listens there, and nothing is started."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        with pytest.raises(Refused, match=rf"pid {os.getpid()} \("):
            await ProcessIngress(paths, host(f"http://127.0.0.1:{port}")).ensure()
    assert supervisor.status() == {} or not any(s.running for s in supervisor.status().values())


@pytest.mark.parametrize("trouble", ["settings", "settings elsewhere", "address"])
@pytest.mark.usefixtures("supervisor")
async def test_what_does_not_listen_gives_the_place_back(paths, port, free_port, slots, host, monkeypatch, trouble):
    """New settings that Traefik does not take, or an address somebody else has: the old ingress serves on."""
    ingress = ProcessIngress(paths, host(f"http://127.0.0.1:{port}"))
    await ingress.ensure()
    await ingress.point(slots[0])
    await until_serves(port, 200, "one")
    assert await ingress.replacement() == ""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        if trouble == "address":
            other = ProcessIngress(paths, host(f"http://127.0.0.1:{stranger.getsockname()[1]}"))
        else:
            there = free_port() if trouble == "settings elsewhere" else port
            other = ProcessIngress(paths, host("https://rooms.example.org", listen=f"127.0.0.1:{there}"))
            whole = other._files.settings
            monkeypatch.setattr(other._files, "settings", lambda *words, **more: b"[]" + whole(*words, **more))
            monkeypatch.setattr("sluice.ingress.process.LISTEN_S", 2)
        assert "replaced" in await other.replacement()
        with pytest.raises(Refused) as refused:
            await other.ensure()
    if trouble != "address":
        assert "old settings again" in refused.value.world
    monkeypatch.undo()
    await ingress.ensure()
    await until_serves(port, 200, "one")


async def test_three_switches_under_load_lose_no_request_and_no_socket(paths, supervisor, port, slots, host):
    """100 requests/s over three switches: all answered; an open socket stays on its slot; nowhere gives 404."""
    ingress = ProcessIngress(paths, host(f"http://127.0.0.1:{port}"))
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


async def test_tls_ends_here_and_plain_http_is_sent_to_it(paths, supervisor, port, free_port, slots, host, certified):
    """TLS with the given certificate, also with a renewed one; below 1.2 refused; plain HTTP goes to our own name."""
    chain, key = certified("first")
    plain = free_port()
    tls = {"certificate": str(chain), "certificate_key": str(key), "redirect_http": f"127.0.0.1:{plain}"}
    ingress = ProcessIngress(paths, host(f"https://127.0.0.1:{port}", **tls))
    await ingress.point(slots[0])
    await ingress.ensure()
    trusting = await until_trusted(port, chain)
    head, body = await ask(port, "/scheme", tls=trusting)
    assert body == "x-forwarded-proto: https"
    assert "Sluice-Release: r0" in head
    head, _ = await ask(plain, "/a?b=c")
    assert head.startswith("HTTP/1.1 301")
    assert f"Location: https://127.0.0.1:{port}/a?b=c" in head
    old = ssl.create_default_context(cafile=str(chain))
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await ask(port, tls=old))[1] == "one"

    certified("second")
    await ingress.ensure()
    await until_trusted(port, chain)


@pytest.mark.parametrize(("public", "told"), [("https://rooms.example.org", "https"), ("", "http")])
async def test_the_edge_says_the_scheme_and_nobody_else(paths, supervisor, port, slots, host, public, told):
    """Behind an edge its X-Forwarded-Proto reaches the service; where users ask the ingress itself it is dropped."""
    settings = host(public or f"http://127.0.0.1:{port}", listen=f"127.0.0.1:{port}")
    ingress = ProcessIngress(paths, settings)
    await ingress.point(slots[0])
    await ingress.ensure()
    await until_serves(port, 200, "one")
    assert (await ask(port, "/scheme", "X-Forwarded-Proto: https\r\n"))[1] == f"x-forwarded-proto: {told}"


async def test_private_address(paths, port, host):
    """A slot's target goes before its URL."""
    ingress = ProcessIngress(paths, host(f"http://127.0.0.1:{port}"))
    assert await ingress.current() is None
    await ingress.point(Slot("r", "u", 1, "http://127.0.0.1:1", "http://u:8000"))
    assert await ingress.current() == "http://u:8000"
