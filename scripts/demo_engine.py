"""What the demo asks of the container engine: whether it is there, the base images, and the removal at the end."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path

from sluice.model.errors import SluiceError
from sluice.model.secret import Redactor
from sluice.runtimes.engine import DockerEngine

SOCKET = "/var/run/docker.sock"
BASES = ("PYTHON_BASE", "NODE_BASE")  # arguments of the Dockerfile
PROJECT = "com.docker.compose.project"
GRACE_S = 10  # the server needs eight at most


class NotThere(Exception):
    """The demo in containers cannot go on; the sentence says why and what to do."""


def socket_path() -> str:
    """Where the engine listens: DOCKER_HOST as for Docker's own commands, where it is a socket of this machine."""
    host = os.environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        raise NotThere(f"DOCKER_HOST is {host}; the demo needs an engine on this machine: unset it")
    return host.removeprefix("unix://") or SOCKET


def require_engine() -> None:
    """Raise NotThere unless an engine answers."""
    path = socket_path()
    try:
        asyncio.run(DockerEngine(path, Redactor()).version())
    except SluiceError as error:
        raise NotThere(
            f"RUNTIME=compose needs Docker, and {error.what.rstrip('.')}. Start it, or be in its group; "
            "`make demo` without RUNTIME needs none"
        ) from error


def base_images(dockerfile: Path, known: dict[str, str]) -> dict[str, str]:
    """The base images, pulled where they are not there: the environment's, else the `known`, else the Dockerfile's.

    Raises NotThere naming what cannot be had.
    """
    official = dict(re.findall(r"(?m)^ARG (\w+)=(\S+)$", dockerfile.read_text()))
    chosen = {name: os.environ.get(name) or known.get(name) or official[name] for name in BASES}
    asyncio.run(_pull(list(chosen.items())))
    return chosen


async def _pull(images: Sequence[tuple[str, str]]) -> None:
    engine = DockerEngine(socket_path(), Redactor())
    for variable, image in images:
        try:
            if await engine.image(image) is None:
                print(f"pulling {image}", flush=True)
                await engine.pull(image, lambda _line: None)
        except SluiceError as error:
            raise NotThere(
                f"the base image {image} is not on this machine and cannot be pulled: {error.what.rstrip('.')}. "
                f"Say another in the variable {variable}: {variable}=IMAGE make demo RUNTIME=compose"
            ) from error


def remove(service: str) -> bool:
    """Stop and remove the containers and networks of this service; volumes and images stay. Whether there were any.

    Raises NotThere when the engine cannot be asked.
    """
    try:
        return asyncio.run(_remove(service))
    except SluiceError as error:
        raise NotThere(f"the demo's containers may still run: {error.what}") from error


async def _remove(service: str) -> bool:
    engine = DockerEngine(socket_path(), Redactor())
    ours = {"dev.sluice.service": service}
    containers = await engine.containers(ours)
    await asyncio.gather(*(engine.stop(one.id, GRACE_S) for one in containers))
    await asyncio.gather(*(engine.remove_container(one.id, anonymous_volumes=True) for one in containers))
    networks = await engine.networks(ours)
    # Of a slot's own network only Compose knows, by the project's name.
    for project in {one.labels[PROJECT] for one in containers if PROJECT in one.labels}:
        networks += await engine.networks({PROJECT: project})
    for name in {one.name for one in networks}:
        await engine.remove_network(name)
    return bool(containers or networks)
