"""`containers-up` and `compose-complete`: what the container engine says, judged. Only `ask_containers` asks."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Awaitable, Callable

from sluice.checks.together import sentence
from sluice.model.containers import Container, Containers
from sluice.model.release import Release, Slot
from sluice.model.verdict import Finding, Verdict, counted
from sluice.ports import Clock

UP, COMPLETE, SERVED = "containers-up", "compose-complete", "served-release"
RECENTLY_S = 60.0  # "no restart in the last minute"
# The engine restarts a crashing container after 100 ms, 200 ms, ...: one that dies in its first seconds shows within
# this. One that lives longer is caught by `compose-complete`, which sees any restart of the last minute.
GROWING_S = 0.5
STARTING_EVERY_S = 0.5
NO_CONTAINERS = "the runtime `process` has no containers"
MEANINGS = {
    125: "the engine could not start it",
    126: "its command cannot be executed",
    127: "its command does not exist",
    134: "aborted",
    137: "killed",
    139: "segmentation fault",
    143: "told to stop",
}


def containers_up(now: Containers, earlier: Containers | None = None) -> Finding:
    """Whether every container runs, is healthy and stays up. Pure.

    `earlier` is the same question a moment before: with it, restarts that do not grow are no fault. Only `starting`
    is `inconclusive`. A job that has ended well and a container nobody has started yet are passed over, unless they
    are expected to run.
    """
    if not now.expected:
        return Finding(UP, Verdict.INCONCLUSIVE, detail="Nothing is known that should run here.")
    if not now.found:
        return Finding(UP, Verdict.FAIL, detail="No container runs, but some should.", fix="sluice status")
    before = {container.id: container.restarts for container in earlier.found} if earlier is not None else {}
    expected = {(one.project, one.service) for one in now.expected}
    judged = [c for c in now.found if (c.project, c.service) in expected or not _idle(c)]
    problems = [f"{c.name} {problem}" for c in judged if (problem := _down(c, before.get(c.id)))]
    if problems:
        fix = "`docker logs NAME` shows what it said last; `docker inspect NAME` shows how it ended"
        return Finding(UP, Verdict.FAIL, detail=sentence(problems), fix=fix)
    starting = [f"{c.name} is still starting by its own healthcheck" for c in judged if c.health == "starting"]
    if starting:
        fix = "ask again, or shorten `start_period` or `interval` of its healthcheck"
        return Finding(UP, Verdict.INCONCLUSIVE, detail=sentence(starting), fix=fix)
    restarted = [f"{c.name} restarted {counted(c.restarts, 'time')} before and is stable" for c in judged if c.restarts]
    detail = f"{counted(len(judged), 'container')} running, none unhealthy" + (
        f"; {'; '.join(restarted[:3])}" if restarted else ""
    )
    return Finding(UP, Verdict.PASS, detail=f"{detail}.")


def _idle(container: Container) -> bool:
    return container.state == "created" or (container.state == "exited" and container.exit_code == 0)


def _down(container: Container, restarts_before: int | None) -> str:
    """Why this container is not up, as the rest of a sentence that begins with its name; "" when it is."""
    if container.oom_killed:
        return f"ran out of memory ({_ended(container)})" if container.state != "running" else "ran out of memory"
    if container.state != "running":
        ended = container.state in {"restarting", "exited", "dead"}
        return f"is {container.state}" + (f": {_ended(container)}, restart {container.restarts}" if ended else "")
    if container.health == "unhealthy":
        return "is unhealthy by its own healthcheck"
    if restarts_before is not None and container.restarts > restarts_before:
        return f"restarts again and again ({counted(container.restarts, 'time')})"
    return ""


def _ended(container: Container) -> str:
    meaning = MEANINGS.get(container.exit_code)
    return f"exit code {container.exit_code}" + (f", {meaning}" if meaning else "")


def compose_complete(now: Containers, touched: float) -> Finding:
    """Whether exactly what should run does, as Sluice started it, and nothing restarted in the last minute. Pure.

    `touched` (Unix seconds) is when Sluice itself last acted here: what began before it was begun by Sluice. The
    engine's own restarts are counted by the engine and never excused.
    """
    if not now.expected:
        return Finding(COMPLETE, Verdict.INCONCLUSIVE, detail="Nothing is known that should run here.")
    running = [c for c in now.found if c.state in {"running", "restarting"}]
    problems = _counted(now, running)
    at = moment(now.at)
    for container in running:
        began = moment(container.started_at)
        if at - began < RECENTLY_S and (container.restarts or began > touched):
            problems.append(f"{container.name} was restarted {max(0, at - began):.0f} s ago")
    for container in now.found:
        problems += [f"{container.name} is not as Sluice started it: {how}" for how in container.drift]
    if problems:
        fix = "`docker ps -a` shows what runs; a rollout of what serves now sets everything right again"
        return Finding(COMPLETE, Verdict.FAIL, detail=sentence(problems), fix=fix)
    services = len({(one.project, one.service) for one in now.expected})
    whole = f"{counted(services, 'service')}, {counted(len(running), 'container')}, none changed"
    left = [f"{c.name} is left of another release: `docker rm -f {c.name}` once none needs it" for c in now.left]
    return Finding(COMPLETE, Verdict.PASS, detail=sentence([whole, *left]))


def _counted(now: Containers, running: list[Container]) -> list[str]:
    wanted: Counter[tuple[str, str]] = Counter()
    for one in now.expected:
        wanted[one.project, one.service] += one.replicas
    have = Counter((c.project, c.service) for c in running)
    problems = []
    for (project, service), count in sorted(wanted.items()):
        if have[project, service] < count:
            problems.append(f"{service} of {project} is missing: {have[project, service]} of {count} run")
    for (project, service), count in sorted(have.items()):
        if count > wanted[project, service]:
            problems.append(f"{service} of {project} is surplus: {count} run, expected {wanted[project, service]}")
    return problems


def served_by_containers(now: Containers, release: Release, slot: Slot) -> Finding:
    """`served-release` of a service that does not name its release: the images of its slot prove it. Pure."""
    pinned = release.artifact.images
    here = [c for c in now.found if c.project == slot.unit and c.state == "running"]
    if not here:
        return Finding(SERVED, Verdict.FAIL, detail=f"No container of {slot.unit} runs.", fix="sluice status")
    problems = [f"{c.name} is not as Sluice started it: {how}" for c in here for how in c.drift]
    for container in here:
        wanted = pinned.get(container.service)
        if wanted is None:
            problems.append(f"no image is recorded for {container.service}")
        elif not _is_image(container, wanted):
            problems.append(f"{container.name} runs image {container.image_id[:19]}, not {wanted[-71:][:19]}")
    if problems:
        fix = "roll the branch out again; nothing but Sluice should start containers of a slot"
        return Finding(SERVED, Verdict.FAIL, detail=sentence(problems), fix=fix)
    names = ", ".join(sorted({c.service for c in here}))
    detail = f"The images of {names} are those of release {release.id}; the service itself names no release."
    return Finding(SERVED, Verdict.PASS, detail=detail)


def _is_image(container: Container, wanted: str) -> bool:
    # Pinned by id: the engine's own id of the image. Pinned by digest: the name the container was asked for with.
    return wanted in {container.image_id, container.image} or (
        wanted.startswith("sha256:") and container.image.endswith(f"@{wanted}")
    )


async def ask_containers(
    ask: Callable[[], Awaitable[Containers | None]], clock: Clock, touched: float, patience_s: float
) -> tuple[list[Finding], Containers | None]:
    """Both findings, and what they were judged by. Waits for `starting` at most `patience_s`; 0 does not wait."""
    now = await ask()
    if now is None:
        return [Finding(name, Verdict.SKIPPED, detail=f"Not judged: {NO_CONTAINERS}.") for name in (UP, COMPLETE)], None
    until = clock.monotonic() + patience_s
    while _only_starting(now) and clock.monotonic() < until:
        await clock.sleep(STARTING_EVERY_S)
        now = await ask() or Containers()
    earlier = None
    if any(container.restarts for container in now.found):
        await clock.sleep(GROWING_S)
        earlier, now = now, await ask() or Containers()
    return [containers_up(now, earlier), compose_complete(now, touched)], now


def _only_starting(now: Containers) -> bool:
    return containers_up(now).verdict is Verdict.INCONCLUSIVE and bool(now.expected)


def moment(text: str) -> float:
    """ISO 8601 as Unix seconds; the engine writes nanoseconds, and year 1 for what never began."""
    return dt.datetime.fromisoformat(text).timestamp()
