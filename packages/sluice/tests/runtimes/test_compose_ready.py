"""When containers are ready, whose fault it is when they are not, and which failures are nobody's. No engine."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.model.errors import StepFailed
from sluice.model.release import Completed
from sluice.model.secret import Redactor
from sluice.model.spec import ServiceMode
from sluice.runner import LocalRunner
from sluice.runtimes.compose_cli import ComposeCli, Rendered
from sluice.runtimes.compose_ready import TELL_S, Patience, wait_ready
from sluice.runtimes.compose_values import ServicePlan

PLANS = {"db": ServicePlan("db", ServiceMode.SHARED)}


class Clock:
    """A minute past the full hour, for ever but for what somebody sleeps."""

    elapsed = 0.0

    def now(self) -> str:
        return "2026-01-01T12:01:00.000+00:00"

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.elapsed += seconds


class Engine:
    """Has nothing to say."""

    redactor = Redactor()

    async def logs(self, _container: str, _tail: int) -> list[str]:
        return []


def container(state: str, restarts: int, started: str) -> dict[str, Any]:
    """The engine's document of a database."""
    return {
        "Id": "1",
        "Name": "/db-1",
        "RestartCount": restarts,
        "Config": {"Labels": {"com.docker.compose.service": "db"}},
        "State": {"Status": state, "StartedAt": f"2026-01-01T{started}.123456789Z", "ExitCode": 0},
        "NetworkSettings": {"Networks": {}},
    }


async def ready(document: dict[str, Any], *, blame: bool = True) -> None:
    """Wait for one container."""

    async def documents() -> list[dict[str, Any]]:
        return [document]

    await wait_ready(Engine(), PLANS, documents, Patience(1, blame=blame), Clock())


async def test_restarts_of_long_ago_are_no_trouble_of_now():
    """The engine counts restarts for ever: one that is up for long is ready, one that crashes again is not."""
    await ready(container("running", 7, "03:00:00"))
    for state, started in (("running", "12:00:58"), ("restarting", "03:00:00")):
        with pytest.raises(StepFailed, match="does not stay up"):
            await ready(container(state, 7, started))


async def test_whoever_looks_on_hears_who_is_waited_for_and_why():
    """A shared service that is unhealthy would be two minutes of silence; a short wait says nothing."""
    document = container("running", 0, "12:00:58")
    document["State"]["Health"] = {"Status": "unhealthy"}
    plans = {"db": ServicePlan("db", ServiceMode.SHARED, healthcheck=True)}
    said: list[str] = []

    async def documents() -> list[dict[str, Any]]:
        return [document]

    for timeout_s, times in ((TELL_S - 1, 0), (3 * TELL_S + 1, 3)):
        with pytest.raises(StepFailed, match="was not ready after"):
            await wait_ready(Engine(), plans, documents, Patience(timeout_s, told=said.append), Clock())
        assert said == ["waiting for db-1 (health: unhealthy)"] * times


@pytest.mark.parametrize("blame", [True, False])
async def test_what_ran_before_the_release_is_not_its_fault(blame):
    """A shared service that is down blames the release only where the release made it."""
    with pytest.raises(StepFailed) as caught:
        await ready(container("exited", 0, "03:00:00"), blame=blame)
    assert caught.value.bad_release is blame


@pytest.mark.parametrize(
    ("words", "blamed", "unreachable"),
    [
        ("dependency failed to start: container db-1 is unhealthy", True, False),
        ('OCI runtime create failed: exec: "serve": executable file not found in $PATH', True, False),
        (
            "driver failed programming external connectivity: listen tcp4 127.0.0.1:1: address already in use",
            False,
            False,
        ),
        ("OCI runtime create failed: mkdir /run/x: no space left on device", False, False),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", False, True),
        ("something nobody has seen before", False, False),
    ],
)
async def test_a_start_that_fails_blames_the_release_only_for_what_is_its_own(tmp_path, words, blamed, unreachable):
    """A port, a disk, the engine: the same commit may be rolled out again without a word."""

    class Runner(LocalRunner):
        async def run(self, argv: Any, **_how: Any) -> Completed:
            return Completed(tuple(argv), 1, "", f"{words}\n", 1)

    cli = ComposeCli(Runner(Redactor()), "/nowhere", dict)
    with pytest.raises(StepFailed) as caught:
        await cli.start(Rendered(tmp_path / "c.json", "p", str(tmp_path)), ["web"], 5)
    assert caught.value.bad_release is blamed
    assert caught.value.data["unreachable"] is unreachable
