"""Whether containers are ready, each in its own way: healthcheck, command, port, or time without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.model.containers import Container
from sluice.model.errors import StepFailed
from sluice.ports import Clock, Progress
from sluice.runtimes.compose_health import failure, is_healthy
from sluice.runtimes.compose_state import name_of, service_of
from sluice.runtimes.compose_values import ServicePlan
from sluice.runtimes.engine import DockerEngine, container_of

LOOK_S = 0.2  # the engine tells nobody that a container became ready, so we look
COMMAND_S = 10  # a readiness command that takes longer is not a quick look
CONNECT_S = 1.0
TELL_S = 5.0  # silence that is longer than this looks like a tool that hangs
RESTARTS = 3  # a container that was restarted this often while it starts is not going to come up
STEADY_S = 10.0  # the engine counts restarts for ever: those of a container that is up for this long were in its past
LOG_LINES = 10
EXAMINED = 500  # letters of what a healthcheck printed

Documents = Callable[[], Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True)
class Patience:
    """How long containers are waited for, and what is made of one that does not come up."""

    timeout_s: float
    blame: bool = True  # the release
    unhealthy_ends: bool = False  # one that its healthcheck has given up is not waited for any longer
    told: Progress = lambda _text: None  # hears who is waited for, and why, once somebody who looks on would ask


async def wait_ready(
    engine: DockerEngine,
    plans: Mapping[str, ServicePlan],
    documents: Documents,
    patience: Patience,
    clock: Clock,
) -> None:
    """Return once every container is ready. Raises StepFailed with the last lines of its log."""
    begun, blame = clock.monotonic(), patience.blame
    end, tell_at = begun + patience.timeout_s, begun + TELL_S
    while True:
        found = await documents()
        waiting, dead = await _look(engine, plans, found, clock, unhealthy_ends=patience.unhealthy_ends)
        if dead:
            raise await _failed(engine, dead[0], "does not stay up", blame=blame)
        if not waiting:
            return
        if clock.monotonic() >= end:
            raise await _failed(engine, waiting[0], f"was not ready after {patience.timeout_s:g} s", blame=blame)
        if clock.monotonic() >= tell_at:
            patience.told(f"waiting for {'; '.join(f'{name_of(one)} ({reason})' for one, reason in waiting)}")
            tell_at += TELL_S
        await clock.sleep(LOOK_S)


Trouble = tuple[Mapping[str, Any], str]


async def _look(
    engine: DockerEngine,
    plans: Mapping[str, ServicePlan],
    documents: Sequence[Mapping[str, Any]],
    clock: Clock,
    *,
    unhealthy_ends: bool,
) -> tuple[list[Trouble], list[Trouble]]:
    waiting: list[Trouble] = []
    dead: list[Trouble] = []
    for document in documents:
        one, plan = container_of(document), plans[service_of(document)]
        if plan.one_shot and one.state == "exited" and one.exit_code == 0:
            continue
        if _restarts_again(one, clock) or one.state in {"exited", "dead"}:
            dead.append((document, f"ended with {one.exit_code}{', out of memory' if one.oom_killed else ''}"))
        elif unhealthy_ends and plan.healthcheck and one.health == "unhealthy":
            dead.append((document, "is unhealthy"))
        elif one.state != "running":
            waiting.append((document, one.state))
        elif reason := await _unready(engine, plan, document, clock):
            waiting.append((document, reason))
    return waiting, dead


def _restarts_again(one: Container, clock: Clock) -> bool:
    if one.restarts < RESTARTS:
        return False
    return one.state != "running" or _seconds_between(one.started_at, clock.now()) < STEADY_S


async def _unready(engine: DockerEngine, plan: ServicePlan, document: Mapping[str, Any], clock: Clock) -> str:
    one = container_of(document)
    if plan.one_shot:
        return "has not ended yet"
    if plan.healthcheck and not plan.routed:
        return "" if await is_healthy(engine, document) else f"health: {one.health or 'unknown'}"
    if plan.ready_command:
        failed = await failure(engine, one.id, plan.ready_command, COMMAND_S)
        return f"ready_command {failed}" if failed else ""
    if plan.ready_port:
        return await _closed(document, plan.ready_port)
    if plan.ready_after_s:
        up = _seconds_between(one.started_at, clock.now())
        return "" if up >= plan.ready_after_s else f"up for {up:.0f} s of {plan.ready_after_s:g}"
    return ""


async def _closed(document: Mapping[str, Any], port: int) -> str:
    addresses = [end.get("IPAddress") for end in document["NetworkSettings"]["Networks"].values()]
    for address in filter(None, addresses):
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), CONNECT_S)
            writer.close()
            return ""
    return f"port {port} does not accept"


def _seconds_between(earlier: str, later: str) -> float:
    # The engine writes nanoseconds, which fromisoformat does not take.
    begun = dt.datetime.fromisoformat(earlier[:19] + "+00:00")
    return (dt.datetime.fromisoformat(later) - begun).total_seconds()


async def _failed(engine: DockerEngine, trouble: Trouble, what: str, *, blame: bool) -> StepFailed:
    document, reason = trouble
    lines = await engine.logs(document["Id"], LOG_LINES)
    said = "\n".join(lines) if lines else "(it logged nothing)"
    name = name_of(document)
    return StepFailed(
        f"{name} {what}: {reason}.{_examined(document)}\nThe last lines of its log:\n{said}",
        bad_release=blame,
    )


def _examined(document: Mapping[str, Any]) -> str:
    """What the healthcheck printed when it last failed: the log of the service need not show why."""
    checks = ((document["State"].get("Health") or {}).get("Log")) or ()
    failed = [str(one.get("Output", "")).strip() for one in checks if one.get("ExitCode")]
    return f"\nIts healthcheck says: {failed[-1][-EXAMINED:]}" if failed and failed[-1] else ""
