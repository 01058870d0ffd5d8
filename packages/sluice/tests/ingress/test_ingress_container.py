"""The ingress as a container, with a real engine, real slots in containers and requests all the while."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sluice.hosts.state import StatePaths
from sluice.ingress.container import ContainerIngress
from sluice.model.errors import Refused, StateCorrupted
from sluice.model.release import Slot
from sluice.model.secret import Redactor
from sluice.runtimes.engine import DockerEngine

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

RATE = 200  # requests a second
DEADLINE_S = 20
CLOSED_S = 6  # on a busy machine; a second and a half is usual: Traefik's last requests, and one start of a container
SERVER = """
import asyncio, sys
NAME = sys.argv[1].encode()
async def answer(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
            if b"upgrade: websocket" in head:
                writer.write(b"HTTP/1.1 101 Switching Protocols\\r\\n")
                writer.write(b"Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n")
                while line := await reader.readline():
                    writer.write(NAME + line)
                return
            if head.startswith(b"get /stream"):
                writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\n\\r\\n")
                while True:
                    writer.write(NAME + b"\\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            body = NAME
            if head.startswith(b"get /scheme"):
                body = next(line for line in head.splitlines() if line.startswith(b"x-forwarded-proto"))
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
async def main():
    server = await asyncio.start_server(answer, "0.0.0.0", 8000)
    await server.serve_forever()
asyncio.run(main())
"""

Start = Callable[[str], Awaitable[Slot]]


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


async def ask(port: int, path: str = "/", extra: str = "", tls: ssl.SSLContext | None = None) -> tuple[str, str]:
    """One request on a connection of its own: head and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}Connection: close\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.read(), DEADLINE_S)
    finally:
        writer.close()
    head, _, body = raw.decode().partition("\r\n\r\n")
    return head, body


async def until_says(port: int, name: str, tls: ssl.SSLContext | None = None) -> None:
    """Poll until this slot answers."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                if (await ask(port, tls=tls))[1] == name:
                    return
            except OSError:  # not there yet, or still the other certificate
                pass
            await asyncio.sleep(0.01)


async def test_port_taken_by_a_process_or_a_container_is_refused_with_who(make, start, engine, here, port, free_port):
    """The refusal names who listens there, nothing is left behind, and an ingress that runs elsewhere runs on."""
    other = make(f"http://127.0.0.1:{(kept := free_port())}")
    await other.ensure()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        with pytest.raises(Refused, match=rf"pid {os.getpid()} \("):
            await make(f"http://127.0.0.1:{port}").ensure()
    assert (await ask(kept))[0].startswith("HTTP/1.1 404")
    await other.stop()
    slot = await start("one")
    image = (await engine.inspect([slot.unit]))[0]["Config"]["Image"]
    published = {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    spec = {
        "Image": image,
        "Cmd": ["python3", "-c", SERVER, "stranger"],
        "Labels": {"dev.sluice.service": here.service},
        "ExposedPorts": {"8000/tcp": {}},
        "HostConfig": {"PortBindings": published},
    }
    await engine.start(await engine.create_container(f"{here.service}-stranger", spec))
    with pytest.raises(Refused, match=f"the container {here.service}-stranger"):
        await make(f"http://127.0.0.1:{port}").ensure()
    assert await engine.inspect([other.container]) == []


async def test_container_of_somebody_else_is_left_alone(make, engine, here, python_image, port):
    """A container with the ingress's name that Sluice, or this Sluice, did not make is refused and not touched."""
    for labels, whose in (({}, "is not Sluice's"), ({"dev.sluice.state": "/elsewhere"}, "/elsewhere")):
        ingress = make(f"http://127.0.0.1:{port}")
        spec = {"Image": python_image, "Labels": {"dev.sluice.service": here.service} | labels}
        container = await engine.create_container(ingress.container, spec)
        for call in (ingress.ensure, ingress.stop):
            with pytest.raises(Refused, match=whose):
                await call()
        assert len(await engine.inspect([container])) == 1
        await engine.remove_container(container)


async def test_damaged_file_is_refused_before_the_engine_is_asked(make, here, port, engine):
    """A damaged dynamic file stops `ensure` with StateCorrupted; it stays as it is and nothing is started."""
    ingress = make(f"http://127.0.0.1:{port}")
    await ingress.point(None)
    file = here.ingress_dir / "dynamic" / "service.yaml"
    file.write_text("{")
    with pytest.raises(StateCorrupted, match=r"service\.yaml"):
        await ingress.ensure()
    assert file.read_text() == "{"
    assert await engine.inspect([ingress.container]) == []


async def test_switches_under_load_lose_no_request_no_socket_and_no_stream(make, start, engine, port):
    """200 requests/s over three switches: all answered with the right release; socket and stream stay on their slot."""
    ingress = make(f"http://127.0.0.1:{port}")
    await ingress.ensure()
    slots = {name: await start(name) for name in ("one", "two")}
    for name in ("two", "one"):  # both are ready before the load begins
        await ingress.point(slots[name])
        await until_says(port, name)
    started = (await engine.inspect([ingress.container]))[0]["State"]["StartedAt"]
    socket_in, socket_out = await asyncio.open_connection("127.0.0.1", port)
    socket_out.write(b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await socket_in.readuntil(b"\r\n\r\n")
    stream_in, stream_out = await asyncio.open_connection("127.0.0.1", port)
    stream_out.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await stream_in.readuntil(b"one\n")

    results: list[tuple[str, str]] = []
    over = asyncio.Event()

    async def load() -> None:
        loop, requests = asyncio.get_running_loop(), set()
        due = loop.time()
        while not over.is_set():
            requests.add(asyncio.ensure_future(ask(port)))
            due += 1 / RATE
            await asyncio.sleep(max(0, due - loop.time()))
        results.extend(await asyncio.gather(*requests))

    loading = asyncio.create_task(load())
    for name in ("two", "one", "two"):
        await ingress.point(slots[name])
        assert await ingress.current() == slots[name].target
        await until_says(port, name)
        await ingress.ensure()
        await stream_in.readuntil(b"one\n")
    over.set()
    await loading
    assert {head.split(" ")[1] for head, _ in results} == {"200"}
    assert {body for _, body in results} == {"one", "two"}
    assert all(f"Sluice-Release: release-{body}" in head for head, body in results)
    socket_out.write(b" still here\n")
    assert await asyncio.wait_for(socket_in.readline(), DEADLINE_S) == b"one still here\n"
    for writer in (socket_out, stream_out):
        writer.close()
    assert (await engine.inspect([ingress.container]))[0]["State"]["StartedAt"] == started

    await ingress.stop()
    await ingress.stop()
    with pytest.raises(OSError, match="Connect call failed"):
        await ask(port)


async def test_another_definition_takes_over_in_a_moment_and_says_so_before(make, start, engine, port):
    """What will be replaced is told; nobody listens for a moment at most, and requests go where they went."""
    ingress = make(f"http://127.0.0.1:{port}")
    assert await ingress.replacement() == ""
    await ingress.ensure()
    assert await ingress.replacement() == ""
    await ingress.point(await start("one"))
    await until_says(port, "one")
    before = (await engine.inspect([ingress.container]))[0]["Id"]
    socket_in, socket_out = await asyncio.open_connection("127.0.0.1", port)
    socket_out.write(b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await socket_in.readuntil(b"\r\n\r\n")
    other = make("https://rooms.example.org", listen=f"127.0.0.1:{port}")
    assert "replaced" in await other.replacement()
    closed: list[float] = []
    over, loop = asyncio.Event(), asyncio.get_running_loop()

    async def knock() -> None:
        while not over.is_set():
            try:
                assert (await ask(port))[1] == "one"
            except (OSError, AssertionError):
                closed.append(loop.time())
            await asyncio.sleep(0.01)

    knocking = asyncio.create_task(knock())
    await other.ensure()
    await until_says(port, "one")
    over.set()
    await knocking
    assert closed[-1] - closed[0] < CLOSED_S
    assert (await engine.inspect([other.container]))[0]["Id"] != before
    assert await engine.inspect([other.container + "-next"]) == []
    assert await other.replacement() == ""
    socket_out.close()


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_ingress_that_does_not_come_up_gives_the_place_back(
    make, start, engine, port, free_port, monkeypatch, elsewhere
):
    """The new one ends at once: the old one listens again with its own settings, and the error says both."""
    ingress = make(f"http://127.0.0.1:{port}")
    await ingress.ensure()
    await ingress.point(await start("one"))
    await until_says(port, "one")
    before = (await engine.inspect([ingress.container]))[0]["Id"]
    broken = make("https://rooms.example.org", listen=f"127.0.0.1:{free_port() if elsewhere else port}")
    whole = broken._files.settings
    monkeypatch.setattr(broken._files, "settings", lambda *words, **more: b"[]" + whole(*words, **more))
    with pytest.raises(Refused, match="did not listen") as refused:
        await broken.ensure()
    assert "old ingress was started again" in refused.value.world
    await until_says(port, "one")
    assert (await engine.inspect([ingress.container]))[0]["Id"] == before
    assert await engine.inspect([ingress.container + "-next"]) == []
    await ingress.ensure()
    assert (await engine.inspect([ingress.container]))[0]["Id"] == before


async def test_replacement_that_is_interrupted_gives_the_place_back(make, start, engine, port, monkeypatch):
    """Ctrl-C between the old one's end and the new one's start: the old one listens again."""
    ingress = make(f"http://127.0.0.1:{port}")
    await ingress.ensure()
    await ingress.point(await start("one"))
    await until_says(port, "one")
    before = (await engine.inspect([ingress.container]))[0]["Id"]
    other = make("https://rooms.example.org", listen=f"127.0.0.1:{port}")
    waiting, stopped = asyncio.Event(), engine.stop

    async def stop(container: str, grace_s: float) -> None:
        waiting.set()
        await stopped(container, grace_s)

    monkeypatch.setattr(engine, "stop", stop)
    replacing = asyncio.create_task(other.ensure())
    await asyncio.wait_for(waiting.wait(), DEADLINE_S)
    replacing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replacing
    await until_says(port, "one")
    assert (await engine.inspect([ingress.container]))[0]["Id"] == before
    assert await engine.inspect([ingress.container + "-next"]) == []


@pytest.mark.parametrize("done", [(), ("stop",), ("stop", "start"), ("stop", "start", "remove")])
async def test_replacement_that_died_half_way_is_mended(make, start, engine, port, done):
    """Killed after each change of the world: whichever listens stays, under the right name, and the other is gone."""
    ingress = make(f"http://127.0.0.1:{port}")
    await ingress.ensure()
    await ingress.point(await start("one"))
    await until_says(port, "one")
    other = make("https://rooms.example.org", listen=f"127.0.0.1:{port}")
    spec, static = await other._wanted()
    other._static_file(static).write_bytes(static)
    coming = await engine.create_container(f"{ingress.container}-next", spec)
    old = (await engine.inspect([ingress.container]))[0]["Id"]
    if "stop" in done:
        await engine.stop(old, 1)
    if "start" in done:
        await engine.start(coming)
        await until_says(port, "one")
    if "remove" in done:
        await engine.remove_container(old)
    for _ in range(2):
        await ingress.mend()
        await until_says(port, "one")
        left = coming if "start" in done else old
        assert [one["Id"] for one in await engine.inspect([ingress.container])] == [left]
        assert await engine.inspect([f"{ingress.container}-next"]) == []


async def test_container_is_confined_and_comes_back(make, engine, port):
    """Read-only, without capabilities, as Sluice's own user, with bounded logs; a killed one is started again."""
    ingress = make(f"http://127.0.0.1:{port}")
    await ingress.ensure()
    document = (await engine.inspect([ingress.container]))[0]
    settings = document["HostConfig"]
    assert settings["ReadonlyRootfs"]
    assert settings["CapDrop"] == ["ALL"]
    assert settings["SecurityOpt"] == ["no-new-privileges"]
    assert settings["RestartPolicy"]["Name"] == "always"
    assert settings["LogConfig"]["Config"]["max-size"]
    assert all(not mount["RW"] for mount in document["Mounts"])
    assert document["Config"]["User"] == f"{os.geteuid()}:{os.getegid()}"
    assert document["Config"]["Labels"]["dev.sluice.mode"] == "ingress"
    assert settings["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}

    await engine.kill(ingress.container)
    assert await engine.wait(ingress.container, DEADLINE_S) == 137
    await ingress.ensure()
    assert (await ask(port))[0].startswith("HTTP/1.1 404")


async def test_tls_with_a_linked_and_renewed_certificate(make, start, port, free_port, certified, tmp_path):
    """Certificates behind symbolic links work, a renewed one is shown without a restart; plain HTTP is redirected."""
    chain, key = certified("first")
    live = tmp_path / "live"
    live.mkdir()
    for file in (chain, key):
        (live / file.name).symlink_to(f"../{file.parent.name}/{file.name}")
    plain = free_port()
    tls = {"certificate": str(live / chain.name), "certificate_key": str(live / key.name)}
    ingress = make(f"https://127.0.0.1:{port}", redirect_http=f"127.0.0.1:{plain}", **tls)
    await ingress.ensure()
    slot = await start("one")
    await ingress.point(slot)
    trusting = ssl.create_default_context(cafile=str(chain))
    await until_says(port, "one", trusting)
    assert (await ask(port, "/scheme", "X-Forwarded-Proto: http\r\n", tls=trusting))[1] == "x-forwarded-proto: https"
    assert f"Location: https://127.0.0.1:{port}/a" in (await ask(plain, "/a"))[0]
    certified("second")
    await ingress.ensure()
    await until_says(port, "one", ssl.create_default_context(cafile=str(chain)))


@pytest.mark.parametrize(("public", "told"), [("https://rooms.example.org", "https"), ("", "http")])
async def test_the_edge_of_this_machine_says_the_scheme(make, start, port, public, told):
    """Behind an edge on loopback its X-Forwarded-Proto passes the engine's own proxy; otherwise it is dropped."""
    ingress = make(public or f"http://127.0.0.1:{port}", listen=f"127.0.0.1:{port}")
    await ingress.ensure()
    await ingress.point(await start("one"))
    await until_says(port, "one")
    assert (await ask(port, "/scheme", "X-Forwarded-Proto: https\r\n"))[1] == f"x-forwarded-proto: {told}"
