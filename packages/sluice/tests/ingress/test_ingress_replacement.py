"""An ingress in a container replaced by one of another definition: in a moment, or not at all."""

from __future__ import annotations

import asyncio

import pytest

from sluice.model.errors import Refused

from .answering import DEADLINE_S, ask, until_says

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

CLOSED_S = 6  # on a busy machine; a second and a half is usual: Traefik's last requests, and one start of a container


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
