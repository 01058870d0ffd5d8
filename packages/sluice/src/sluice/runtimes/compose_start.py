"""A slot's containers: made by Compose, connected and started through the engine, each after what it waits for.

Compose itself would need a second process for starting, and looks twice a second where somebody waits for somebody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sluice.model.errors import StepFailed
from sluice.model.spec import ServiceMode
from sluice.ports import Clock
from sluice.runtimes.compose_cli import ComposeCli, Rendered, is_its_own
from sluice.runtimes.compose_order import Condition, Order, Wait, start_order
from sluice.runtimes.compose_ready import Patience, wait_ready
from sluice.runtimes.compose_state import documents_of, name_of, service_of
from sluice.runtimes.compose_values import Document, Plans, ServicePlan
from sluice.runtimes.engine import DockerEngine, container_of

RUNS = ("running", "restarting")


@dataclass(frozen=True)
class Project:
    """One slot's Compose project."""

    unit: str  # its name, and that of the routed service on the environment's network
    network: str  # the environment's
    rendered: Rendered
    document: Document
    plans: Plans
    labels: Mapping[str, str]  # of all its containers

    def of(self, mode: ServiceMode) -> list[str]:
        """Its services of this mode."""
        return [name for name, plan in self.plans.items() if plan.mode is mode]


class Starter:
    """Makes and starts containers. Each call may be repeated: what is so already stays as it is."""

    def __init__(self, engine: DockerEngine, cli: ComposeCli, clock: Clock) -> None:
        """Touches nothing."""
        self._engine = engine
        self._cli = cli
        self._clock = clock

    async def create(self, project: Project, names: Sequence[str]) -> None:
        """Their containers, connected and not started. Raises StepFailed.

        A slotted service has no alias on external networks yet: until `name_outside` nobody there finds this slot.
        """
        await self._cli.create(project.rendered, names)
        found = await self._containers(project, names)
        await asyncio.gather(*(self._connect(project, one) for each in found.values() for one in each))

    async def name_outside(self, project: Project) -> None:
        """The slotted services answer to their aliases on external networks; whoever had them before keeps them.

        The engine gives no alias to a container that is connected: it is connected anew, at the same address where
        the engine lets it (see DockerEngine.connect).
        """
        names = [
            name for name in project.of(ServiceMode.SLOTTED) if any(o.aliases for o in project.plans[name].outside)
        ]
        for name, found in (await self._containers(project, names)).items():
            # One after the other: of several replicas some answer at any moment.
            for one in found:
                for outside in project.plans[name].outside:
                    await self._engine.connect(outside.name, one["Id"], outside.aliases)

    async def start(self, project: Project, names: Sequence[str], timeout_s: float) -> None:
        """They run and are ready. Raises StepFailed; what is the containers' own fault blames the release."""
        order = start_order(project.document, names)
        if order is None:
            await self._cli.start(project.rendered, names, timeout_s)
        else:
            await self._in_order(project, order, timeout_s)

        async def documents() -> list[dict[str, Any]]:
            found = await self._containers(project, names)
            return [one for each in found.values() for one in each]

        await wait_ready(self._engine, project.plans, documents, Patience(timeout_s), self._clock)

    async def _containers(self, project: Project, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for one in await documents_of(self._engine, project.labels) if names else ():
            if service_of(one) in found:
                found[service_of(one)].append(one)
        return found

    async def _connect(self, project: Project, document: Mapping[str, Any]) -> None:
        plan = project.plans[service_of(document)]
        if plan.connected:
            await self._engine.connect(project.network, document["Id"], [project.unit] if plan.routed else [])
        for outside in plan.outside:
            # What may run only once is started when it is ended elsewhere: it never answers beside another.
            aliases = () if plan.mode is ServiceMode.SLOTTED else outside.aliases
            await self._engine.connect(outside.name, document["Id"], aliases)

    # ------------------------------------------------------------ one after the other

    async def _in_order(self, project: Project, order: Order, timeout_s: float) -> None:
        end = self._clock.monotonic() + timeout_s
        found = await self._containers(project, list(order))
        started: dict[str, asyncio.Task[None]] = {}

        async def one(name: str) -> None:
            for wait in order[name]:
                await started[wait.service]
                await self._met(wait, project.plans[wait.service], found[wait.service], end)
            if project.plans[name].replicas and not found[name]:
                raise StepFailed(f"{name} of {project.unit} has no container to start.")
            await asyncio.gather(*(self._begin(each, project.plans[name]) for each in found[name]))

        for name in order:
            started[name] = asyncio.create_task(one(name))
        try:
            await asyncio.gather(*started.values())
        finally:
            for task in started.values():
                task.cancel()
            await asyncio.gather(*started.values(), return_exceptions=True)

    async def _begin(self, document: Mapping[str, Any], plan: ServicePlan) -> None:
        one = container_of(document)
        if one.state in RUNS or (plan.one_shot and one.state == "exited" and one.exit_code == 0):
            return  # it has done its work in this slot, and twice may be once too often
        try:
            await self._engine.start(one.id)
        except StepFailed as error:
            raise StepFailed(
                f"starting {name_of(document)} failed: {error.what}",
                next=error.next,
                bad_release=is_its_own(error.what),
                unreachable=bool(error.data.get("unreachable")),
            ) from error

    async def _met(self, wait: Wait, plan: ServicePlan, found: Sequence[Mapping[str, Any]], end: float) -> None:
        if wait.condition is Condition.STARTED:
            return
        if wait.condition is Condition.HEALTHY and not plan.healthcheck:
            raise StepFailed(
                f"{plan.name} has no healthcheck, and somebody waits for it to be healthy.",
                bad_release=True,
                next=f"give {plan.name} a healthcheck, or wait for it with condition: service_started",
            )
        # Asked by what the dependant named, whatever else would show that the service is ready.
        by = msgspec.structs.replace(plan, routed=False, one_shot=wait.condition is Condition.COMPLETED)

        async def documents() -> list[dict[str, Any]]:
            return await self._engine.inspect([one["Id"] for one in found])

        left = max(0.0, end - self._clock.monotonic())
        try:
            await wait_ready(self._engine, {plan.name: by}, documents, Patience(left, unhealthy_ends=True), self._clock)
        except StepFailed as error:
            if wait.required or error.data.get("unreachable"):
                raise
