"""A slot's containers are started through the engine in the file's order, and whose fault it is when one is not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sluice.model.errors import StepFailed
from sluice.model.release import Completed
from sluice.model.spec import ServiceMode
from sluice.runtimes.compose_cli import Rendered
from sluice.runtimes.compose_health import asked
from sluice.runtimes.compose_start import Project, Starter
from sluice.runtimes.compose_values import Outside, ServicePlan
from sluice.runtimes.engine_documents import Found, container_of

SERVICE = "com.docker.compose.service"
HEALTHY, DONE = {"condition": "service_healthy"}, {"condition": "service_completed_successfully"}


class Clock:
    """Time passes when somebody sleeps."""

    elapsed = 0.0

    def now(self) -> str:
        return "2026-01-01T12:00:00.000+00:00"

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.elapsed += seconds
        await asyncio.sleep(0)


class Engine:
    """One container of each service. `becomes` says how each is once it was started, look by look."""

    def __init__(self, names: Sequence[str]) -> None:
        self.states = dict.fromkeys(names, "created")
        self.becomes: dict[str, list[str]] = {}
        self.checks: dict[str, list[str]] = {}
        self.refuses: dict[str, StepFailed] = {}
        self.said: list[str] = []
        self.answers: dict[str, int] = {}
        self.on: dict[tuple[str, str], tuple[str, ...]] = {}

    async def containers(self, _labels: Mapping[str, str]) -> list[Found]:
        return [Found(name, f"p-{name}-1", "", "", {SERVICE: name}) for name in self.states]

    async def inspect(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        return [self._document(name) for name in ids]

    def _document(self, name: str) -> dict[str, Any]:
        later = self.becomes.get(name, [])
        if later and self.states[name] != "created":
            self.states[name] = later.pop(0)
        status, _, health = self.states[name].partition(" ")
        code = int(health) if status == "exited" else 0
        state = {"Status": status, "ExitCode": code, "StartedAt": "2026-01-01T12:00:00Z"}
        if status == "running" and health:
            state |= {"Health": {"Status": health}}
        config = {"Labels": {SERVICE: name}, "Healthcheck": {"Test": self.checks.get(name, [])}}
        return {"Id": name, "Name": f"/p-{name}-1", "Config": config, "State": state, "NetworkSettings": {}}

    async def start(self, name: str) -> None:
        if name in self.refuses:
            raise self.refuses[name]
        self.said.append(f"start {name}")
        self.states[name] = "running"

    async def execute(self, name: str, argv: Sequence[str], _timeout_s: float) -> Completed:
        self.said.append(f"ask {name} {' '.join(argv)}")
        if name not in self.answers:
            raise StepFailed("it does not run", status=409)
        return Completed(tuple(argv), self.answers[name], "", "", 1)

    async def connect(self, network: str, name: str, aliases: Sequence[str] = ()) -> None:
        self.on[network, name] = tuple(aliases)

    async def logs(self, _name: str, _tail: int) -> list[str]:
        return ["its last words"]


class Compose:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def create(self, _rendered: Rendered, services: Sequence[str]) -> None:
        self.said.append(f"create {' '.join(services)}")

    async def start(self, _rendered: Rendered, services: Sequence[str], _timeout_s: float) -> None:
        self.said.append(f"start {' '.join(services)}")


class Stage:
    """Slotted services as this file says them."""

    def __init__(self, tmp_path: Any, definitions: dict[str, dict[str, Any]], **plans: dict[str, Any]) -> None:
        self.names = list(definitions)
        self.engine, self.compose, self.clock = Engine(self.names), Compose(), Clock()
        known = {name: ServicePlan(name, **{"mode": ServiceMode.SLOTTED} | plans.get(name, {})) for name in self.names}
        rendered = Rendered(tmp_path / "p.json", "p", str(tmp_path))
        self.project = Project("p", "environment", rendered, {"services": definitions}, known, {})
        self.starter = Starter(self.engine, self.compose, self.clock)

    async def start(self, timeout_s: float = 5) -> list[str]:
        """All of them; what was asked of the engine."""
        await self.starter.start(self.project, self.names, timeout_s)
        return self.engine.said


def after(**conditions: dict[str, Any]) -> dict[str, Any]:
    """A service that depends on others."""
    return {"depends_on": conditions}


async def test_each_starts_once_what_it_waits_for_is_as_it_asks(tmp_path):
    """Healthy and ended well are waited for, without a second Compose; what does not wait does not stand behind."""
    stage = Stage(
        tmp_path,
        {"web": after(db=HEALTHY, seed=DONE), "db": {}, "seed": after(db={"condition": "service_started"}), "own": {}},
        db={"healthcheck": True},
        seed={"one_shot": True},
    )
    stage.engine.becomes = {
        "db": ["running starting"] * 9 + ["running healthy"],
        "seed": ["running"] * 3 + ["exited 0"],
    }
    said = await stage.start()
    assert said[-1] == "start web"
    assert said.index("start db") < said.index("start seed")
    assert said.index("start own") < said.index("start web")
    assert stage.compose.said == []


async def test_what_runs_or_has_done_its_work_is_left_alone(tmp_path):
    """Repeated after a kill: the rest is started, and a one-shot that ended well does not run a second time."""
    stage = Stage(tmp_path, {"web": after(seed=DONE), "seed": {}, "side": {}}, seed={"one_shot": True})
    stage.engine.states |= {"side": "running", "seed": "exited 0"}
    assert await stage.start() == ["start web"]


@pytest.mark.parametrize(
    ("seed", "required", "works"),
    [("exited 3", True, False), ("exited 3", False, True), ("running", True, False)],
)
async def test_a_dependant_does_not_start_when_what_it_waits_for_failed(tmp_path, seed, required, works):
    """Ended with an error, or not at all in time: the release is to blame; only who does not require it starts."""
    stage = Stage(tmp_path, {"web": after(seed=DONE | {"required": required}), "seed": {}}, seed={"one_shot": True})
    stage.engine.becomes = {"seed": [seed]}
    with pytest.raises(StepFailed, match="its last words") as caught:
        await stage.start()
    assert caught.value.bad_release
    assert ("start web" in stage.engine.said) is works


@pytest.mark.parametrize("check", [True, False])
async def test_one_that_is_given_up_or_has_no_healthcheck_is_not_waited_for(tmp_path, check):
    """Unhealthy by its healthcheck, or without one: it fails at once and the dependant is never started."""
    stage = Stage(tmp_path, {"web": after(db=HEALTHY), "db": {}}, db={"healthcheck": check})
    stage.engine.becomes = {"db": ["running unhealthy"]}
    with pytest.raises(StepFailed, match="is unhealthy" if check else "no healthcheck") as caught:
        await stage.start(1000)
    assert caught.value.bad_release
    assert stage.clock.elapsed == 0
    assert stage.engine.said == ["start db"]


@pytest.mark.parametrize(
    ("words", "blamed"),
    [("OCI runtime create failed: exec: serve: not found", True), ("listen: address already in use", False)],
)
async def test_the_engine_refuses_to_start_one(tmp_path, words, blamed):
    """The engine's words and the container's name are told; a port that somebody took is not the release's fault."""
    stage = Stage(tmp_path, {"web": {}})
    stage.engine.refuses["web"] = StepFailed(words, unreachable=not blamed)
    with pytest.raises(StepFailed, match=f"p-web-1 failed: {words}") as caught:
        await stage.start()
    assert caught.value.bad_release is blamed
    assert caught.value.data["unreachable"] is not blamed


async def test_a_service_without_a_container_is_said_and_one_without_replicas_is_passed_over(tmp_path):
    """Nothing is waited for that is not there on purpose; what should be there is named."""
    stage = Stage(tmp_path, {"web": after(none=HEALTHY), "none": {}}, none={"replicas": 0, "healthcheck": True})
    del stage.engine.states["none"]
    assert await stage.start() == ["start web"]
    stage = Stage(tmp_path, {"web": {}})
    stage.engine.states.clear()
    with pytest.raises(StepFailed, match="web of p has no container"):
        await stage.start()


async def test_what_only_compose_can_do_is_left_to_it(tmp_path):
    """A hook after the start: Compose starts all of it, and nothing is started behind its back."""
    stage = Stage(tmp_path, {"web": {"post_start": [{"command": ["warm"]}]}, "side": {}})
    stage.engine.states = dict.fromkeys(stage.names, "running")
    assert await stage.start() == []
    assert stage.compose.said == ["start web side"]


async def test_a_slot_has_no_name_on_external_networks_until_it_is_its_turn(tmp_path):
    """A slotted service is connected without its aliases, and with them later; one that runs once has them at once."""
    edge = (Outside("edge", ("shop",)), Outside("plain"))
    stage = Stage(
        tmp_path,
        {"web": {}, "worker": {}, "apart": {}},
        web={"outside": edge, "routed": True},
        worker={"outside": edge, "mode": ServiceMode.RECREATE},
        apart={"connected": False},
    )
    await stage.starter.create(stage.project, stage.names)
    assert stage.engine.on == {
        ("environment", "web"): ("p",),
        ("edge", "web"): (),
        ("plain", "web"): (),
        ("environment", "worker"): (),
        ("edge", "worker"): ("shop",),
        ("plain", "worker"): (),
    }
    await stage.starter.name_outside(stage.project)
    assert stage.engine.on["edge", "web"] == ("shop",)


@pytest.mark.parametrize(
    ("test", "argv"),
    [(["CMD", "ping", "db"], "ping db"), (["CMD-SHELL", "ping db"], "/bin/sh -c ping db")],
)
async def test_a_healthcheck_is_asked_before_the_engine_does(tmp_path, test, argv):
    """Its own command says now what the engine would find after an interval; a failure there decides nothing."""
    stage = Stage(tmp_path, {"db": {}}, db={"healthcheck": True})
    stage.engine.becomes, stage.engine.checks = {"db": ["running starting"]}, {"db": test}
    with pytest.raises(StepFailed, match="health: starting"):
        await stage.start(0.1)  # the container does not take the command yet
    stage.engine.answers["db"] = 1
    with pytest.raises(StepFailed, match="health: starting"):
        await stage.start(0.1)
    stage.engine.answers["db"] = 0
    assert (await stage.start(0.1))[-1] == f"ask db {argv}"


async def test_a_container_that_is_starting_and_well_is_told_as_healthy(tmp_path):
    """By its own healthcheck; one that does not answer stays `starting`, and what the engine says stays as it is."""
    engine = Engine(["well", "slow", "ill"])
    engine.states = {"well": "running starting", "slow": "running starting", "ill": "running unhealthy"}
    engine.checks = {name: ["CMD", "ping"] for name in engine.states}
    engine.answers = {"well": 0, "slow": 1, "ill": 0}
    documents = await engine.inspect(list(engine.states))
    found = await asked(engine, documents, [container_of(one) for one in documents])
    assert {one.id: one.health for one in found} == {"well": "healthy", "slow": "starting", "ill": "unhealthy"}


async def test_a_container_that_ends_while_it_is_asked_is_told_by_how_it_ended(tmp_path):
    """The command finds no container any more: the next look sees why, and the release is to blame."""
    stage = Stage(tmp_path, {"db": {}}, db={"ready_command": ("ping",)})
    stage.engine.becomes = {"db": ["running", "exited 7"]}
    with pytest.raises(StepFailed, match="ended with 7") as caught:
        await stage.start()
    assert caught.value.bad_release
    assert stage.engine.said == ["start db", "ask db ping"]
