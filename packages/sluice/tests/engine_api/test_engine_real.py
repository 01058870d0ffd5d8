"""The client against the engine of this machine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest

from sluice.model.errors import StepFailed
from sluice.model.secret import Redactor, Secret
from sluice.runtimes.engine import DockerEngine, container_of

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

NAME = f"engapi{os.getpid()}"
LABELS = {"dev.sluice.service": NAME}
SECRET = "hunter2-swordfish"


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    """The engine; what a test made under its label is removed afterwards."""
    client = DockerEngine("/var/run/docker.sock", Redactor([Secret(SECRET)]))
    yield client
    for container in await client.containers(LABELS):
        await client.remove_container(container.id)
    for network in await client.networks(LABELS):
        await client.remove_network(network.id)
    for image in await client.images(LABELS):
        for tag in image.tags:
            await client.remove_image(tag)


def command(image: str, *argv: str, **more: object) -> dict[str, object]:
    """A container that runs this."""
    return {"Image": image, "Cmd": list(argv), "Labels": LABELS, **more}


async def until_logged(engine: DockerEngine, container: str, line: str) -> None:
    """Poll the log until this line is in it."""
    async with asyncio.timeout(20):
        while True:
            if line in await engine.logs(container, 10):
                return
            await asyncio.sleep(0.05)


async def test_a_start_that_cannot_work_says_why(engine, python_image):
    """A missing image, a missing program and a taken name are errors in the engine's own words."""
    with pytest.raises(StepFailed, match="No such image") as caught:
        await engine.create_container(f"{NAME}-a", command("sluice-none/none:1", "x"))
    assert caught.value.data["status"] == 404
    await engine.create_container(f"{NAME}-a", command(python_image, "/no/such/program"))
    with pytest.raises(StepFailed, match="/no/such/program"):
        await engine.start(f"{NAME}-a")
    with pytest.raises(StepFailed, match="already in use"):
        await engine.create_container(f"{NAME}-a", command(python_image, "x"))
    with pytest.raises(StepFailed, match="No such container"):
        await engine.start(f"{NAME}-none")
    with pytest.raises(StepFailed, match="connection refused"):
        await engine.pull("127.0.0.1:9/none:1", lambda _: None)


@pytest.mark.parametrize("tty", [False, True])
async def test_logs_of_both_outputs_and_of_a_terminal(engine, python_image, tty):
    """Lines of stdout and stderr, the newest only, redacted, whether or not the container has a terminal."""
    script = f"import sys\nfor n in range(50): print('out', n, flush=True)\nprint('{SECRET}', file=sys.stderr)"
    container = await engine.create_container(f"{NAME}-l", command(python_image, "python3", "-c", script, Tty=tty))
    await engine.start(container)
    assert await engine.wait(container, 20) == 0
    # The engine copies the two outputs side by side: only within one of them the order is the container's own.
    assert len(await engine.logs(container, 5)) == 5
    lines = await engine.logs(container, 1000)
    assert [line for line in lines if line != "[redacted]"] == [f"out {number}" for number in range(50)]
    assert len(lines) == 51


async def test_the_life_of_a_container(engine, python_image):
    """Running, asked, executed in, signalled, stopped within its grace, gone: each step is seen in the document."""
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('told', flush=True))\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    container = await engine.create_container(
        f"{NAME}-c", command(python_image, "python3", "-c", script, Env=[f"A={SECRET}"])
    )
    (document,) = await engine.inspect([container])
    assert container_of(document).state == "created"
    assert f"A={SECRET}" not in document["Config"]["Env"]
    await engine.start(container)
    await engine.start(container)

    await until_logged(engine, container, "ready")
    assert await engine.wait(container, 0.1) is None
    assert await engine.kill(container, "SIGUSR1")
    await until_logged(engine, container, "told")
    done = await engine.execute(
        container, ["python3", "-c", "import os, sys; print(os.environ['A']); sys.stderr.write('e'); sys.exit(4)"], 20
    )
    assert (done.exit_code, done.stdout, done.stderr, done.timed_out) == (4, "[redacted]\n", "e", False)
    late = await engine.execute(container, ["python3", "-c", "import signal; signal.pause()"], 0.5)
    assert late.timed_out
    (listed,) = await engine.containers(LABELS | {"dev.sluice.service": NAME})
    assert (listed.id, listed.name, listed.state) == (container, f"{NAME}-c", "running")
    await engine.stop(container, 10)
    (document,) = await engine.inspect([container])
    found = container_of(document)
    assert (found.state, found.exit_code, found.restarts) == ("exited", 3, 0)
    assert found.started_at
    assert not await engine.kill(container)
    await engine.remove_container(container)
    await engine.remove_container(container)
    assert await engine.inspect([container]) == []


async def test_networks_aliases_and_volumes(engine, python_image):
    """Found under its alias, also when the alias changes on a running container; nobody is cut when nothing changes."""
    network = await engine.ensure_network(f"{NAME}-net", LABELS)
    assert (await engine.ensure_network(f"{NAME}-net", LABELS)).id == network.id
    assert network.subnet
    on_it = {"HostConfig": {"NetworkMode": network.name}}
    waiting = "import signal; signal.pause()"
    for name in ("a", "b"):
        await engine.create_container(f"{NAME}-{name}", command(python_image, "python3", "-c", waiting, **on_it))
        await engine.connect(network.name, f"{NAME}-{name}", ["first"] if name == "b" else [])
        await engine.start(f"{NAME}-{name}")

    async def finds(alias: str) -> bool:
        look = f"import socket; socket.gethostbyname('{alias}')"
        return (await engine.execute(f"{NAME}-a", ["python3", "-c", look], 20)).exit_code == 0

    async def address() -> str:
        (document,) = await engine.inspect([f"{NAME}-b"])
        return document["NetworkSettings"]["Networks"][network.name]["EndpointID"]

    endpoint = await address()
    await engine.connect(network.name, f"{NAME}-b", ["first"])
    assert await address() == endpoint
    assert await finds("first")
    await engine.connect(network.name, f"{NAME}-b", ["second"])
    assert await finds("second")
    assert not await finds("first")
    with pytest.raises(StepFailed, match="active endpoints"):
        await engine.remove_network(network.name)
    await engine.disconnect(network.name, f"{NAME}-b")
    await engine.disconnect(network.name, f"{NAME}-b")
    found = await engine.network(network.name)
    assert found is not None
    assert len(found.containers) == 1
    assert await engine.volume_labels(f"{NAME}-none") is None


async def test_images_are_made_tagged_and_kept_while_needed(engine):
    """Imported with its labels, found by label and id; removed by name, and not while a container needs it."""
    empty_tar = bytes(1024)
    made = await engine.import_tar(empty_tar, f"{NAME}/x:1", [f"LABEL dev.sluice.service={NAME}", 'ENTRYPOINT ["/x"]'])
    await engine.tag(made, f"{NAME}/y:2")
    image = await engine.image(made)
    assert image is not None
    assert (image.id, set(image.tags), image.labels) == (made, {f"{NAME}/x:1", f"{NAME}/y:2"}, LABELS)
    assert [found.id for found in await engine.images(LABELS)] == [made]
    assert await engine.remove_image(f"{NAME}/y:2")
    container = await engine.create_container(f"{NAME}-i", command(made))
    assert not await engine.remove_image(made)
    await engine.remove_container(container)
    assert await engine.remove_image(f"{NAME}/x:1")
    assert await engine.image(made) is None


async def test_twenty_containers_are_inspected_in_well_under_a_second(engine, python_image):
    """What quick-check needs for twenty containers leaves most of its three seconds to the checks."""
    ids = [await engine.create_container(f"{NAME}-m{number}", command(python_image, "x")) for number in range(20)]
    begun = time.monotonic()
    documents = await engine.inspect([found.id for found in await engine.containers(LABELS)])
    assert {document["Id"] for document in documents} == set(ids)
    assert time.monotonic() - begun < 1
