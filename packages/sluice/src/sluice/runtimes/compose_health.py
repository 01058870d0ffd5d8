"""A container's own healthcheck, asked when somebody wants to know: the engine asks first after a whole interval."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sluice.model.containers import Container
from sluice.model.errors import StepFailed
from sluice.runtimes.engine import DockerEngine, container_of

ASK_S = 5.0  # healthchecks take milliseconds; the answer of a slower one comes from the engine alone
ENDED = (404, 409)  # the engine's answer about a container that is gone, or does not run any more
SHELL = ("/bin/sh", "-c")  # the engine's own, where the image names no other


async def is_healthy(engine: DockerEngine, document: Mapping[str, Any]) -> bool:
    """What the engine says; where it has not asked often enough to say anything, what the same command says now.

    One success is what the engine waits for too. Raises StepFailed when the engine cannot be asked.
    """
    one = container_of(document)
    if one.health != "starting" or one.state != "running":
        return one.health == "healthy"
    argv = command_of(document)
    if not argv:
        return False
    return not await failure(engine, one.id, argv, ASK_S)


async def failure(engine: DockerEngine, container: str, argv: Sequence[str], timeout_s: float) -> str:
    """How a command in the container failed, as the end of a sentence; empty when it succeeded.

    A container that has ended meanwhile is no error here: whoever looks again sees how.
    """
    try:
        done = await engine.execute(container, argv, timeout_s)
    except StepFailed as error:
        if error.data.get("status") in ENDED:
            return "found no running container"
        raise
    if done.timed_out:
        return f"did not end within {timeout_s:g} s"
    return f"ended with {done.exit_code}" if done.exit_code else ""


async def asked(
    engine: DockerEngine, documents: Sequence[Mapping[str, Any]], found: Sequence[Container]
) -> tuple[Container, ...]:
    """The same containers; one that is `starting` and whose own healthcheck succeeds now is healthy."""
    starting = [one for one in documents if container_of(one).health == "starting"]
    answers = await asyncio.gather(*(is_healthy(engine, one) for one in starting))
    well = {one["Id"] for one, answer in zip(starting, answers, strict=True) if answer}
    return tuple(msgspec.structs.replace(one, health="healthy") if one.id in well else one for one in found)


def command_of(document: Mapping[str, Any]) -> Sequence[str]:
    """The healthcheck's command as the engine would run it; empty where there is none."""
    config = document["Config"]
    match (config.get("Healthcheck") or {}).get("Test") or []:
        case ["CMD", *argv]:
            return [str(word) for word in argv]
        case ["CMD-SHELL", text]:
            return [*(config.get("Shell") or SHELL), str(text)]
        case _:
            return []
