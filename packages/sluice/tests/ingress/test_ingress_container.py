"""The ingress as a container, with a real engine, real slots in containers and requests all the while."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

import pytest

from sluice.model.errors import Refused, StateCorrupted

from .answering import DEADLINE_S, SERVER, ask, until_says

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

RATE = 200  # requests a second


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
