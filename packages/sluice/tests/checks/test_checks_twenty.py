"""Twenty real containers, and how long everything worth knowing of them takes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sluice.checks import Target, server_probes
from sluice.checks.host import disk
from sluice.checks.together import probe_of
from sluice.cli.quick import DEADLINE_S, within
from sluice.hosts.system import SystemClock
from sluice.model.containers import Containers, Expected
from sluice.model.logs import Logs
from sluice.model.release import Release, Slot
from sluice.model.secret import Redactor
from sluice.model.verdict import Finding, Verdict
from sluice.runtimes.compose_state import service_of
from sluice.runtimes.engine import DockerEngine, container_of

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

COUNT = 20
BAR_S = 3.0
SOCKET = "/var/run/docker.sock"
NAME = f"checks{os.getpid()}"
LABELS = {"dev.sluice.service": NAME}
TALKS = "import signal; [print('request', n, 'done, 0 errors', flush=True) for n in range(200)]; signal.pause()"


@dataclass
class Running:
    """The runtime's answers, straight from the engine."""

    engine: DockerEngine

    async def documents(self) -> list[dict]:
        return await self.engine.inspect([found.id for found in await self.engine.containers(LABELS)])

    async def containers(self, _release: Release, slot: Slot) -> Containers | None:
        expected = tuple(Expected(f"s{number}", slot.unit) for number in range(COUNT))
        found = tuple(container_of(document) for document in await self.documents())
        return Containers(expected, found, SystemClock().now())

    async def logs(self, _release: Release | None, _slot: Slot | None, lines: int) -> Logs:
        documents = await self.documents()
        told = await asyncio.gather(*(self.engine.logs(one["Id"], lines) for one in documents))
        return Logs(dict(zip(map(service_of, documents), told, strict=True)))

    async def alive(self, _slot: Slot) -> bool:
        return True


async def until_all_have_talked(running: Running) -> None:
    """Wait for the logs, at most a minute."""
    async with asyncio.timeout(60):
        while True:
            logs = await running.logs(None, None, 120)
            if all(len(lines) == 120 for lines in logs.lines.values()):
                return
            await asyncio.sleep(0.1)


@pytest.fixture
async def twenty(python_image) -> AsyncIterator[Running]:
    """Twenty containers that have said 200 lines each; all gone afterwards."""
    engine = DockerEngine(SOCKET, Redactor())
    try:
        for number in range(COUNT):
            labels = LABELS | {"com.docker.compose.service": f"s{number}", "com.docker.compose.project": "svc-test-r1"}
            body = {"Image": python_image, "Cmd": ["python3", "-c", TALKS], "Labels": labels}
            await engine.start(await engine.create_container(f"{NAME}-{number}", body))
        running = Running(engine)
        await until_all_have_talked(running)
        yield running
    finally:
        for found in await engine.containers(LABELS):
            await engine.remove_container(found.id)


async def measured(target: Target, state: Path) -> tuple[list[Finding], float]:
    """Every question of a quick check about one environment and its disks, and how many seconds they took."""

    async def prepare():
        return [*server_probes(target), probe_of("disk", lambda: disk(state, SOCKET, 0), DEADLINE_S)]

    began = time.monotonic()
    return await within(DEADLINE_S, prepare, target.redact), time.monotonic() - began


async def test_twenty_containers_are_seen_whole_within_the_bar(target, twenty, tmp_path, site):
    """State, restarts, completeness and 120 lines of log of each, with health, domain and disks, in three seconds."""
    public = replace(target, public=True, runtime=twenty, clock=SystemClock(), touched=time.time())
    findings, seconds = await measured(public, tmp_path)
    verdicts = {f.name: f.verdict for f in findings}
    for name in ("containers-up", "compose-complete", "logs", "http-health", "served-release", "disk"):
        assert verdicts[name] is Verdict.PASS, findings
    assert seconds < BAR_S
    assert "20 containers run" in next(f.detail for f in findings if f.name == "containers-up")
    print({f.name: f.ms for f in findings}, round(seconds, 2))
