"""The environment's shared services: started when missing, left alone when running, changed only as policy says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sluice.model.errors import Refused
from sluice.model.spec import ChangePolicy, ServiceMode
from sluice.ports import Clock, Progress
from sluice.runtimes.compose_build import Understood
from sluice.runtimes.compose_cli import ComposeCli, Rendered, dotenv
from sluice.runtimes.compose_file import definitions, shared_document, shared_project
from sluice.runtimes.compose_images import twins_of
from sluice.runtimes.compose_ready import Patience, wait_ready
from sluice.runtimes.compose_state import (
    ENVIRONMENT,
    LABEL,
    PROJECT,
    SERVICE,
    Snapshots,
    documents_of,
    labels_of,
    name_of,
    service_of,
)
from sluice.runtimes.compose_values import Placement, ServicePlan
from sluice.runtimes.engine import DockerEngine, container_of

START_S = 120  # a database that recovers from a crash


class Shared:
    """The project `<service>-<env>-shared`."""

    def __init__(self, engine: DockerEngine, cli: ComposeCli, snapshots: Snapshots, folder: Path, clock: Clock) -> None:
        """Touches nothing."""
        self._engine = engine
        self._cli = cli
        self._snapshots = snapshots
        self._folder = folder
        self._clock = clock

    async def documents(self, service: str, environment: str) -> list[dict[str, Any]]:
        """The engine's documents of every shared container."""
        labels = {SERVICE: service, ENVIRONMENT: environment, PROJECT: shared_project(service, environment)}
        return await documents_of(self._engine, labels)

    async def changed(self, known: Understood, service: str, environment: str) -> list[str]:
        """Shared services that run by another definition than this release's."""
        return _changed(known, await self.documents(service, environment))

    async def ensure(
        self, known: Understood, place: Placement, *, ran_before: bool, told: Progress = lambda _text: None
    ) -> None:
        """All of them running and ready. Raises Refused for a changed one that policy protects, or StepFailed.

        `ran_before`: this release was verified here, so it is gone back to. What it protects then stays as a newer
        release left it: a way back that is refused for what the way forward did would be none.
        """
        mine = {name: plan for name, plan in known.plans.items() if plan.mode is ServiceMode.SHARED}
        if not mine:
            return
        documents = await self.documents(place.service, place.environment)
        found = {service_of(one): one for one in documents}
        changed = set(_changed(known, documents))
        # What is built here has the same definition whatever its code is: only the image tells.
        built = {name for name, plan in mine.items() if plan.build} | twins_of(known.plans).keys() & mine.keys()
        changed |= {name for name in built if await self._other_image(name, found, place)}
        refused = sorted(name for name in changed if mine[name].on_change is ChangePolicy.REFUSE)
        if refused and not ran_before:
            raise protected(refused)
        anew = [name for name in mine if name not in found]
        anew += [name for name in sorted(changed) if mine[name].on_change is ChangePolicy.RECREATE]
        if anew:
            await self._make(known, place, anew)
        for document in documents:
            plan = mine.get(service_of(document))
            if plan is not None and plan.name not in anew and _is_down(document, plan):
                await self._engine.start(document["Id"])
        await self._ready(mine, place, told, made=bool(anew))

    async def _make(self, known: Understood, place: Placement, names: Sequence[str]) -> None:
        project = shared_project(place.service, place.environment)
        path = self._cli.write(self._folder / f"{project}.json", shared_document(known.base, known.plans, place))
        defaults = dotenv(place.tree, place.directory)
        rendered = Rendered(path, project, place.directory, place.settings, defaults)
        outside = {name: known.plans[name].outside for name in names if known.plans[name].outside}
        if outside:
            await self._cli.create(rendered, names)
            for one in await self.documents(place.service, place.environment):
                for network in outside.get(service_of(one), ()):
                    await self._engine.connect(network.name, one["Id"], network.aliases)
        await self._cli.up(rendered, names, START_S)

    async def _other_image(self, name: str, found: Mapping[str, Mapping[str, Any]], place: Placement) -> bool:
        if name not in found:
            return False
        image = await self._engine.image(place.images[name])
        return image is not None and image.id != found[name]["Image"]

    async def _ready(self, mine: Mapping[str, Any], place: Placement, told: Progress, *, made: bool) -> None:
        async def documents() -> list[dict[str, Any]]:
            return [one for one in await self.documents(place.service, place.environment) if service_of(one) in mine]

        # What ran before, and does not now, is nobody's fault who comes later.
        await wait_ready(self._engine, mine, documents, Patience(START_S, blame=made, told=told), self._clock)
        project = shared_project(place.service, place.environment)
        before = self._snapshots.read(project)
        if made or not before:
            # What another release has of its own goes on being known.
            found = await self.documents(place.service, place.environment)
            self._snapshots.keep(project, [one for one in found if service_of(one) in mine or name_of(one) in before])


def _changed(known: Understood, found: Sequence[Mapping[str, Any]]) -> list[str]:
    wanted = definitions(known.base, known.plans)
    running = {service_of(one): labels_of(one).get(f"{LABEL}definition", "") for one in found}
    return sorted(
        name
        for name, plan in known.plans.items()
        if plan.mode is ServiceMode.SHARED and name in running and running[name] != wanted[name]
    )


def _is_down(document: Mapping[str, Any], plan: ServicePlan) -> bool:
    one = container_of(document)
    if one.state == "exited" and one.exit_code == 0 and plan.one_shot:
        return False  # it has done its work, and twice may be once too often
    return one.state not in {"running", "restarting"}


def protected(names: list[str]) -> Refused:
    """The definition of a shared service changed, and nobody said what should happen then."""
    return Refused(
        f"The definition of the shared service{'s' if len(names) > 1 else ''} {', '.join(names)} changed; "
        "recreating it interrupts everything that uses it.",
        next=f'say what should happen in sluice.toml: [compose.services.{names[0]}] on_change = "recreate" or "keep"; '
        'or, where each release brings its own (a worker): mode = "recreate"',
    )
