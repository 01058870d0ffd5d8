"""Commands that run once in a container of their own: never two at a time, and never on when nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from sluice.model.errors import StepFailed
from sluice.model.release import Completed
from sluice.runtimes.compose_cli import ComposeCli, Rendered
from sluice.runtimes.engine import DockerEngine

GRACE_S = 10  # for a statement that is being executed; the engine's own default


async def run_once(
    engine: DockerEngine,
    cli: ComposeCli,
    rendered: Rendered,
    labels: Mapping[str, str],
    argv: Sequence[str],
    timeout_s: float,
) -> Completed:
    """Run a command as the service `migrate`. What a kill of Sluice left running is waited for first.

    At the deadline and when cancelled the container is ended too: Compose's own end would leave it running.
    Raises StepFailed when the one that was left does not end within the deadline.
    """
    for one in await engine.containers(labels):
        if one.state == "running" and await engine.wait(one.id, timeout_s) is None:
            raise StepFailed(
                f"{one.name}, which an earlier run started, has not ended within {timeout_s:g} s.",
                next=f"see what it does (docker logs {one.name}); to end it: docker stop {one.name}",
            )
    await _remove(engine, labels, 0)
    try:
        return await cli.run_once(rendered, "migrate", argv, timeout_s)
    finally:
        await asyncio.shield(_remove(engine, labels, GRACE_S))


async def _remove(engine: DockerEngine, labels: Mapping[str, str], grace_s: float) -> None:
    for one in await engine.containers(labels):
        await engine.stop(one.id, grace_s)
        await engine.remove_container(one.id, anonymous_volumes=True)
