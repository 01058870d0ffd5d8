"""The credentials we mint, against a real coturn: it relays for them, and for nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aioice.ice
import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection

from boltorezka.voice.turn import IceServers

pytestmark = pytest.mark.e2e

SECRET = "the-secret-of-the-turn-server-under-test"
DEADLINE_S = 30.0
# Loopback peers are for this test alone: in production loopback and private ranges are denied.
CONFIG = """
listening-ip=127.0.0.1
relay-ip=127.0.0.1
listening-port={port}
min-port=49152
max-port=49251
realm=rooms.example
use-auth-secret
static-auth-secret={secret}
fingerprint
allow-loopback-peers
no-tls
no-dtls
no-cli
userdb={directory}/turn.sqlite3
pidfile={directory}/turn.pid
log-file={directory}/turn.log
simple-log
"""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
async def turn_port(tmp_path: Path) -> AsyncIterator[int]:
    """A running coturn; its secret is in a file only we can read, not in the list of processes."""
    program = shutil.which("turnserver")
    assert program is not None, "coturn is missing: apt-get install --no-install-recommends coturn"
    port = free_port()
    config = tmp_path / "turnserver.conf"
    config.touch(mode=0o600)
    config.write_text(CONFIG.format(port=port, secret=SECRET, directory=tmp_path))
    quiet = asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(program, "-c", str(config), stdout=quiet, stderr=quiet)
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await answers(port):
                assert child.returncode is None, (tmp_path / "turn.log").read_text()
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers of this test have no other address."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])


def minted(port: int, now: int, transport: str = "udp", secret: str = SECRET) -> RTCIceServer:
    """What the server says in `iceServers`, as a client takes it over."""
    (server,) = IceServers([f"turn:127.0.0.1:{port}?transport={transport}"], secret, 60).mint("ann", now)
    return RTCIceServer(list(server.urls), server.username, server.credential)


def relay_only(server: RTCIceServer) -> RTCPeerConnection:
    """A peer with `iceTransportPolicy: "relay"`, which this library has one layer further down."""
    peer = RTCPeerConnection(RTCConfiguration([server]))
    peer.createDataChannel("voice")
    assert peer.sctp is not None
    peer.sctp.transport.transport.iceGatherer._connection._transport_policy = aioice.ice.TransportPolicy.RELAY
    return peer


async def candidates(server: RTCIceServer) -> list[str]:
    """The types of candidates a peer gets with these credentials."""
    peer = relay_only(server)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await peer.setLocalDescription(await peer.createOffer())
        assert peer.sctp is not None
        return [each.type for each in peer.sctp.transport.transport.iceGatherer.getLocalCandidates()]
    finally:
        await peer.close()


def now_us() -> int:
    """Wall time, as the server counts it."""
    return time.time_ns() // 1000


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_wrong_secret_and_an_expired_credential_are_refused(turn_port: int, transport: str) -> None:
    """No relay for a credential signed with another secret, nor for one whose hour is over; a good one gets one."""
    wrong = minted(turn_port, now_us(), transport, secret="another-secret-of-nobody")
    assert await candidates(wrong) == []
    expired = minted(turn_port, now_us() - 120 * 1_000_000, transport)
    assert await candidates(expired) == []
    assert await candidates(minted(turn_port, now_us(), transport)) == ["relay"]


async def test_two_peers_talk_through_the_relay_with_minted_credentials(turn_port: int) -> None:
    """With nothing but relay candidates two peers connect, and what one says reaches the other."""
    caller, callee = relay_only(minted(turn_port, now_us())), relay_only(minted(turn_port, now_us()))
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    try:

        @callee.on("datachannel")
        def arrived(channel) -> None:
            channel.on("message", lambda message: heard.done() or heard.set_result(message))

        channel = caller.createDataChannel("greeting")
        channel.on("open", lambda: channel.send("through the relay"))
        async with asyncio.timeout(DEADLINE_S):
            await caller.setLocalDescription(await caller.createOffer())
            await callee.setRemoteDescription(caller.localDescription)
            await callee.setLocalDescription(await callee.createAnswer())
            await caller.setRemoteDescription(callee.localDescription)
            assert await heard == "through the relay"
        for peer in (caller, callee):
            assert peer.sctp is not None
            pairs = peer.sctp.transport.transport.iceGatherer._connection._nominated
            assert {pair.local_candidate.type for pair in pairs.values()} == {"relay"}
    finally:
        await caller.close()
        await callee.close()
