"""A real handshake with real servers, good and bad."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import serve
from websockets.utils import accept_key

from sluice.checks import websocket as module
from sluice.checks.websocket import websocket
from sluice.model.spec import ChecksSpec
from sluice.model.verdict import Verdict

OPEN = ChecksSpec(websocket_path="/ws")


async def test_without_a_path_it_is_skipped():
    """A service without a WebSocket is not asked, and that is said."""
    finding = await websocket("http://127.0.0.1:1", "http://x", ChecksSpec())
    assert finding.verdict is Verdict.SKIPPED
    assert "websocket_path" in finding.detail


def raw(answer: bytes, *, proof: bool = False):
    """A server that reads a request and answers this; with `proof` the right Sec-WebSocket-Accept is put in."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        accept = accept_key(key).encode() if proof else b"bm90IHRoZSBwcm9vZg=="
        writer.write(answer.replace(b"ACCEPT", accept))
        await writer.drain()

    return one


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "it answered 200, expected 101"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "it answered 302"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "it answered 502"),
        (SWITCH + b"\r\n", "not as a WebSocket"),
        (SWITCH + b"Sec-WebSocket-Accept: ACCEPT\r\n\r\n", "not as a WebSocket"),
        (b"HTTP/1.1 101 X\r\nConnection: close\r\n\r\n", "not as a WebSocket"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "did not answer the handshake in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "/ws"),
        (b"", "/ws"),
    ],
)
async def test_whatever_is_not_a_websocket_fails(listen, answer, says):
    """Another status, a 101 that proves nothing, nonsense, a closed connection."""
    async with listen(raw(answer)) as port:
        finding = await websocket(f"http://127.0.0.1:{port}", "http://x", OPEN)
    assert finding.verdict is Verdict.FAIL
    assert says in finding.detail


async def test_nobody_there_fails():
    """A refused connection is a fail, not an exception."""
    finding = await websocket("http://127.0.0.1:1", "http://x", OPEN)
    assert (finding.verdict, "ConnectionRefusedError" in finding.detail) == (Verdict.FAIL, True)


async def test_a_silent_server_fails_at_the_deadline(listen, monkeypatch):
    """A person does not wait for ever, and neither does the check."""
    monkeypatch.setattr(module, "HANDSHAKE_S", 0.05)
    quiet = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await quiet.wait()

    async with listen(silent) as port:
        finding = await websocket(f"http://127.0.0.1:{port}", "http://x", OPEN)
    assert finding.verdict is Verdict.FAIL
    assert "did not answer the handshake within 0.05 s" in finding.detail


async def test_an_endless_answer_is_not_read_for_ever(listen):
    """A server gone wrong does not fill our memory."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Y: " + b"z" * 1000 + b"\r\n")
            await writer.drain()

    async with listen(endless) as port:
        assert (await websocket(f"http://127.0.0.1:{port}", "http://x", OPEN)).verdict is Verdict.FAIL


async def test_a_service_that_should_demand_credentials_and_does_not_fails(listen):
    """101 where a refusal is expected is a hole, not a success."""
    async with listen(raw(SWITCH + b"Sec-WebSocket-Accept: ACCEPT\r\n\r\n", proof=True)) as port:
        refusing = ChecksSpec(websocket_path="/ws", websocket_expect=401)
        finding = await websocket(f"http://127.0.0.1:{port}", "http://x", refusing)
    assert finding.verdict is Verdict.FAIL
    assert "without credentials is let in, expected 401" in finding.detail


async def test_the_expected_refusal_passes(listen):
    """A service that demands a ticket refuses a stranger, with the status it promised."""
    async with listen(raw(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")) as port:
        refusing = ChecksSpec(websocket_path="/ws", websocket_expect=401)
        finding = await websocket(f"http://127.0.0.1:{port}", "http://x", refusing)
    assert finding.verdict is Verdict.PASS


@pytest.mark.parametrize("secure", [False, True])
async def test_a_real_server_passes_in_the_clear_and_over_tls(authority, secure):
    """The page's own origin and the query go along; the socket is closed properly."""
    seen = []

    async def handle(socket) -> None:
        seen.append((socket.request.path, socket.request.headers["Origin"]))
        await socket.wait_closed()
        seen.append(socket.close_code)

    async with serve(handle, "127.0.0.1", 0, ssl=authority.server() if secure else None) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
        checks = ChecksSpec(websocket_path="/ws?v=1")
        finding = await websocket(url, "https://x/", checks, str(authority.file) if secure else "")
    assert finding.verdict is Verdict.PASS, finding.detail
    assert seen[0] == ("/ws?v=1", "https://x")
    assert seen[1:] == [1000]


async def test_an_untrusted_certificate_fails(authority, listen):
    """TLS is judged here too."""
    async with listen(raw(b""), authority.server()) as port:
        finding = await websocket(f"https://127.0.0.1:{port}", "https://x", OPEN)
    assert finding.verdict is Verdict.FAIL
    assert "SSLCertVerificationError" in finding.detail
