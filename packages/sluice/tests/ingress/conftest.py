"""Folders, ports, a certificate and real little servers for both kinds of ingress."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice.hosts.state import StatePaths
from sluice.ingress.container import ContainerIngress
from sluice.model.release import Slot
from sluice.model.secret import Redactor
from sluice.model.spec import HostEnvironment
from sluice.runtimes.client import SupervisorClient
from sluice.runtimes.engine import DockerEngine

from .answering import SERVER

Pair = tuple[Path, Path]
Start = Callable[[str], Awaitable[Slot]]


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
def free_port() -> Callable[[], int]:
    """Gives ports nobody listens on."""

    def give() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return give


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    """A port nobody listens on."""
    return free_port()


@pytest.fixture
def host() -> Callable[..., HostEnvironment]:
    """Makes the environment's part of host.toml."""

    def make(public_url: str, **more: str) -> HostEnvironment:
        return HostEnvironment(public_url=public_url, env_file="/etc/tiny.env", ports=(20000, 20009), **more)

    return make


@pytest.fixture
def certified(tmp_path: Path) -> Callable[[str], Pair]:
    """Makes a self-signed certificate for 127.0.0.1 under a name, over the one that is there."""

    def make(name: str) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=90))
            .add_extension(address, critical=False)
            .sign(key, hashes.SHA256())
        )
        folder = tmp_path / "tls"
        folder.mkdir(exist_ok=True)
        plain = serialization.NoEncryption()
        pem = serialization.Encoding.PEM
        (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        (folder / "chain.pem").write_bytes(certificate.public_bytes(pem))
        return folder / "chain.pem", folder / "key.pem"

    return make


@pytest.fixture
async def slots() -> AsyncIterator[list[Slot]]:
    """Two real HTTP servers that answer their name, or at `/scheme` what they were told of the scheme.

    They keep connections alive; `/socket` upgrades and echoes.
    """
    servers = [await asyncio.start_server(_answering(name), "127.0.0.1", 0) for name in (b"one", b"two")]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    yield [Slot(f"r{n}", f"u{n}", port, f"http://127.0.0.1:{port}") for n, port in enumerate(ports)]
    for server in servers:
        server.close()


def _answering(name: bytes):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if b"upgrade: websocket" in head:
                    writer.write(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                    )
                    while line := await reader.readline():
                        writer.write(name + line)
                    return
                body = name
                if head.startswith(b"get /scheme"):
                    body = next(line for line in head.splitlines() if line.startswith(b"x-forwarded-proto"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    return answer


@pytest.fixture
def engine() -> DockerEngine:
    """The engine of this machine."""
    return DockerEngine("/var/run/docker.sock", Redactor())


@pytest.fixture
async def here(tmp_path: Path, engine: DockerEngine) -> AsyncIterator[StatePaths]:
    """State folders of an environment of this test alone; every container and the network are removed afterwards."""
    paths = StatePaths(tmp_path / "state", f"ingr{os.getpid()}", "test")
    paths.prepare()
    yield paths
    for container in await engine.containers({"dev.sluice.service": paths.service}):
        await engine.remove_container(container.id)
    await engine.remove_network(f"sluice-{paths.service}-test")


@pytest.fixture
def make(here: StatePaths, engine: DockerEngine, host) -> Callable[..., ContainerIngress]:
    """Makes the ingress for a public URL and other settings of host.toml."""

    def ingress(public_url: str, **more: str) -> ContainerIngress:
        return ContainerIngress(here, host(public_url, **more), engine, f"sluice-{here.service}-test")

    return ingress


@pytest.fixture
def start(here: StatePaths, engine: DockerEngine, python_image: str) -> Start:
    """Starts a slot of this name on the environment's network, once the network is there."""

    async def run(name: str) -> Slot:
        container = f"{here.service}-{name}"
        spec = {
            "Image": python_image,
            "Cmd": ["python3", "-c", SERVER, name],
            "Labels": {"dev.sluice.service": here.service},
            "HostConfig": {"NetworkMode": f"sluice-{here.service}-test"},
        }
        await engine.create_container(container, spec)
        await engine.start(container)
        return Slot(f"release-{name}", container, 1, "http://127.0.0.1:1", f"http://{container}:8000")

    return run
