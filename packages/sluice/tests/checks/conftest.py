"""Real servers whose answers a test chooses, a release to look for, and certificates made on the spot."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice.checks import Target
from sluice.model.containers import Containers
from sluice.model.logs import Logs
from sluice.model.release import Artifact, Commit, Release, Slot
from sluice.model.spec import ChecksSpec, HostEnvironment, RunSpec, ServiceSpec

COMMIT = Commit("a" * 40, "b" * 40, "feature/x", "v1", "Ann", "2026-01-01T00:00:00Z")


class Site:
    """Answers by (method, path); counts what it was asked. `answer` may be changed at any time."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.answer: Callable[[str, str], tuple[int, bytes]] = lambda _method, path: (
            (200, json.dumps({"sha": COMMIT.sha, "tree": COMMIT.tree}).encode()) if path == "/version" else (200, b"{}")
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
            self.asked.append(f"{method} {path}")
            status, body = self.answer(method, path)
            lines = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            writer.write(lines + (b"" if method == "HEAD" else body))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.asked.append("broken connection")
        finally:
            writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A healthy site that serves COMMIT."""
    made = Site()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


@pytest.fixture
def release() -> Release:
    """What should be served."""
    spec = ServiceSpec(name="svc", run=RunSpec(command=("serve",)))
    artifact = Artifact("key", "/artifact", COMMIT.tree)
    return Release("r1", "svc", "test", COMMIT, artifact, spec, "fingerprint")


class VirtualClock:
    """Time that passes only while somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> str:
        return "2026-01-01T00:00:00.000Z"

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> VirtualClock:
    """A clock of the test's own."""
    return VirtualClock()


@dataclass
class Told:
    """A runtime that says what the test wants, or raises it."""

    now: Containers | Exception | None = None
    lines: dict[str, list[str]] | Exception = field(default_factory=lambda: {"svc": ["INFO: up"]})
    runs: bool = True
    asked: int = 0
    asked_lines: int = 0

    async def containers(self, _release: Release, _slot: Slot) -> Containers | None:
        self.asked += 1
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    async def logs(self, _release: Release, _slot: Slot, lines: int) -> Logs:
        self.asked_lines = lines
        if isinstance(self.lines, Exception):
            raise self.lines
        return Logs(self.lines)

    async def alive(self, _slot: Slot) -> bool:
        return self.runs


@pytest.fixture
def runtime() -> Told:
    """A runtime without containers whose slot is well."""
    return Told()


@pytest.fixture
def target(site, release, runtime, clock) -> Target:
    """The private address of the release at the healthy site."""
    host = HostEnvironment(public_url=site.url, env_file="/env", ports=(18100, 18119), expect_sso_host="sso:1")
    slot = Slot(release.id, "svc-test-r1", 18100, site.url)
    return Target(site.url, False, release, slot, runtime, ChecksSpec(), host, clock)


class Authority:
    """A certificate authority of one test, and the certificates it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Authority")])
        made = self._builder(self._name, self._key, 3650).add_extension(x509.BasicConstraints(True, None), True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._own = made.add_extension(usage, True).sign(self._key, hashes.SHA256())
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._own.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: float) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=365))
        made = made.not_valid_after(now + dt.timedelta(days=days))
        return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)

    def server(self, days: float = 90, names: Sequence[str] = ("localhost", "127.0.0.1")) -> ssl.SSLContext:
        """A server's context with a certificate for these names that ends in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        made = self._builder(subject, key, days).add_extension(x509.SubjectAlternativeName(alternatives), False)
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = made.add_extension(own, False).sign(self._key, hashes.SHA256())
        file = self.folder / f"server-{signed.serial_number}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that nobody but this test trusts."""
    return Authority(tmp_path)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def listening(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A raw server on loopback; gives its port. Connections still open at the end are cut."""
    open_now: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(one(reader, writer))
        open_now.add(task)
        task.add_done_callback(open_now.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for task in list(open_now):
            task.cancel()
        if open_now:
            await asyncio.wait(open_now, timeout=5)


@pytest.fixture
def listen():
    """A server as a context: its port, from how one connection is served."""
    return listening
