"""The `compose` runtime: each slot is a Compose project of its own, beside the environment's shared services.

Slots see each other on no network by a service's name: a slot's containers are created on its private network,
connected to the environment's network without that name, and only then started (docs/decisions/0007).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice.hosts.sources import sources_of
from sluice.hosts.state import StatePaths, write_file
from sluice.hosts.system import port_is_free
from sluice.model.containers import Containers, Expected
from sluice.model.errors import Refused, SluiceError, StepFailed
from sluice.model.logs import Logs, quotable
from sluice.model.release import Artifact, Commit, Completed, Release, Slot
from sluice.model.spec import HostEnvironment, ServiceMode, ServiceSpec
from sluice.ports import Clock, Progress
from sluice.runtimes.compose_binds import make_folders
from sluice.runtimes.compose_build import ComposeBuilder, Understood
from sluice.runtimes.compose_cli import ComposeCli, Rendered, dotenv
from sluice.runtimes.compose_file import migrate_document, migrate_project, shared_project, slot_document
from sluice.runtimes.compose_health import asked
from sluice.runtimes.compose_logs import ContainerLogs
from sluice.runtimes.compose_look import Look, network_name
from sluice.runtimes.compose_once import run_once
from sluice.runtimes.compose_overlaps import volumes_of
from sluice.runtimes.compose_shared import Shared
from sluice.runtimes.compose_start import Project, Starter
from sluice.runtimes.compose_state import (
    ENVIRONMENT,
    MODE,
    PROJECT,
    SERVICE,
    Snapshots,
    apart,
    documents_of,
    judged,
    labels_of,
    service_of,
    unit_of,
)
from sluice.runtimes.compose_values import Placement
from sluice.runtimes.credentials import CREDENTIALS_S, keep_credentials
from sluice.runtimes.engine import DockerEngine
from sluice.runtimes.migration import migrated
from sluice.runtimes.past import Past
from sluice.runtimes.placeholders import HOST, render, values
from sluice.runtimes.prune import prune_artifacts


@dataclass(frozen=True)
class Means:
    """What the runtime works with."""

    engine: DockerEngine
    cli: ComposeCli
    builder: ComposeBuilder
    look: Look
    clock: Clock
    past: Past


class ComposeRuntime:
    """ports.Runtime over Compose projects."""

    def __init__(self, paths: StatePaths, host: HostEnvironment, means: Means) -> None:
        """Touches nothing."""
        self._paths = paths
        self._host = host
        self._network = network_name(paths.service, paths.environment)
        self._engine = means.engine
        self._cli = means.cli
        self._builder = means.builder
        self._look = means.look
        self._clock = means.clock
        self._folder = paths.env_dir / "slots"
        self._snapshots = Snapshots(self._folder)
        self._shared = Shared(means.engine, means.cli, self._snapshots, self._folder, means.clock)
        self._service = {SERVICE: paths.service}
        self._ours = {SERVICE: paths.service, ENVIRONMENT: paths.environment}
        self._starter = Starter(means.engine, means.cli, means.clock)
        self._logs = ContainerLogs(means.engine, self._folder, means.past)
        self._waiting: dict[str, set[str]] = {}  # by slot: what this process made and has not started
        self._holder = self._folder / "holder"  # the slot that runs what may run only once

    async def overlaps(self, commit: Commit, spec: ServiceSpec) -> list[str]:
        """See ports.Runtime."""
        return await self._look.overlaps(commit, spec, self._shared)

    async def build(
        self, commit: Commit, spec: ServiceSpec, progress: Progress, images: Mapping[str, str] | None = None
    ) -> Artifact:
        """See ports.Runtime. Raises ConfigError when the Compose files say too little."""
        return await self._builder.build(commit, spec, progress, images or {})

    async def changed(self, artifact: Artifact) -> str:
        """See ports.Runtime. Images are known by what they hold; this is about the files beside them."""
        return await self._builder.changed(artifact)

    async def migrate(self, release: Release, progress: Progress) -> str:
        """See ports.Runtime. Starts the shared services first: migrations need the database."""
        compose = release.spec.compose
        known, place = await self._prepared(release, None, progress)
        if not compose.migrate and not compose.head:
            return ""
        project = migrate_project(release.service, release.environment)
        rendered = self._rendered(project, migrate_document(known.base, known.plans, place), place)
        filled = values(release, None, self._paths.data_dir, await self._cidr())
        means = (self._engine, self._cli, rendered, {**self._ours, PROJECT: project})

        async def run(argv: Sequence[str], timeout_s: float) -> Completed:
            return await run_once(*means, [render(part, filled) for part in argv], timeout_s)

        return await migrated(run, compose.migrate, release.spec.migrate.timeout_s, compose.head, progress)

    def choose_slot(self, release: Release, taken: Sequence[Slot]) -> Slot:
        """See ports.Runtime. The caller records the slot before it starts anything in it."""
        first, last = self._host.ports
        count = self._builder.replicas(release.artifact)
        # As many ports as replicas: the engine gives one to each.
        used = {port for slot in taken for port in range(slot.port, slot.port + count)}
        for port in range(first, last - count + 2):
            wanted = range(port, port + count)
            if used.isdisjoint(wanted) and all(port_is_free(HOST, one) for one in wanted):
                unit = unit_of(release)
                target = f"http://{unit}:{release.spec.compose.port}"
                return Slot(release.id, unit, port, f"http://{HOST}:{port}", target)
        raise Refused(
            f"too few ports of {first}-{last} are free for a new slot, which needs {count}.",
            world="Nothing was started; what serves goes on serving.",
            next="widen `ports` in host.toml, or stop what listens there",
        )

    async def start(self, release: Release, slot: Slot) -> None:
        """See ports.Runtime. What the routed service depends on is ready; it itself is the caller's to ask.

        Raises StepFailed, blaming the release, for a container that does not come up.
        """
        project = await self._project(release, slot)
        names = project.of(ServiceMode.SLOTTED)
        there = {service_of(one) for one in await self._documents(slot)}
        # What runs only once is made with them, so that it is away for as short as can be when it is handed over. What
        # is there of it may run: it is left alone.
        waiting = [name for name in project.of(ServiceMode.RECREATE) if name not in there]
        await self._starter.create(project, [*names, *waiting])
        self._waiting[slot.unit] = set(waiting)
        await self._starter.start(project, names, release.spec.run.ready_timeout_s)
        self._snapshots.keep(slot.unit, await self._documents(slot))

    async def startable(self, release: Release, same_values: bool) -> str:
        """See ports.Runtime. Reads its files with today's values, and looks for its images."""
        try:
            if not same_values:
                await self._builder.understood(release.artifact, release.spec.compose)
            missing = await self._builder.missing_images(release.artifact)
        except SluiceError as error:
            return error.what
        return f"the image of {', '.join(missing)} is not on this machine any more" if missing else ""

    async def alive(self, slot: Slot) -> bool:
        """See ports.Runtime. A container between a crash and its restart is not alive.

        One that ended well may be a one-shot; the routed one, which has the slot's port while it runs, is none.
        """
        found = [one for one in await self._engine.containers(self._in(slot)) if one.labels.get(MODE) == "slotted"]
        down = [one for one in found if one.state != "running"]
        ended = await self._engine.inspect([one.id for one in down])
        routed = any(slot.port in one.ports for one in found)
        return routed and len(ended) == len(down) and all(_has_done_its_work(one) for one in ended)

    async def restarts(self, slot: Slot) -> int:
        """See ports.Runtime. As the engine counts them."""
        return sum(int(one.get("RestartCount", 0)) for one in await self._documents(slot))

    async def hand_over(self, release: Release, slot: Slot, other: Slot | None) -> None:  # noqa: ARG002 - whoever has it
        """See ports.Runtime. Made here, ended wherever else they run, then started here and ready.

        The slot also takes its names on external networks; another slot keeps them until it is stopped.
        """
        project = await self._project(release, slot)
        names = project.of(ServiceMode.RECREATE)
        found = await documents_of(self._engine, {**self._ours, MODE: "recreate"})
        elsewhere = [one for one in found if labels_of(one).get(PROJECT) != slot.unit]
        there = Counter(service_of(one) for one in found if labels_of(one).get(PROJECT) == slot.unit)
        made = self._waiting.pop(slot.unit, set())
        if any(name not in made or there[name] != project.plans[name].replicas for name in names):
            await self._starter.create(project, names)
        await self._starter.name_outside(project)
        await asyncio.gather(*(self._end(one, release.spec.run.stop_grace_s) for one in elsewhere))
        if names:
            await self._starter.start(project, names, release.spec.run.ready_timeout_s)
            self._snapshots.keep(slot.unit, await self._documents(slot))
        write_file(self._holder, slot.unit.encode())

    async def notify_drain(self, release: Release, slot: Slot) -> None:
        """See ports.Runtime. The signal goes to the routed service's containers."""
        name = release.spec.run.drain_notify
        if name:
            routed = [one for one in await self._documents(slot) if service_of(one) == release.spec.compose.route]
            await asyncio.gather(*(self._engine.kill(one["Id"], name) for one in routed))

    async def stop(self, release: Release, slot: Slot) -> None:
        """See ports.Runtime. The slot's containers and networks are gone afterwards; volumes stay."""
        documents = await self._documents(slot)
        await asyncio.gather(*(self._end(one, release.spec.run.stop_grace_s) for one in documents))
        for network in await self._engine.networks({PROJECT: slot.unit}):
            await self._engine.remove_network(network.id)
        self._snapshots.forget(slot.unit)
        (self._folder / f"{slot.unit}.json").unlink(missing_ok=True)

    async def credentials(self, release: Release, slot: Slot) -> Path | None:
        """See ports.Runtime. The redactor knows every long string in them before anybody else does."""
        argv = release.spec.compose.credentials
        if not argv:
            return None
        filled = values(release, slot, self._paths.data_dir, await self._cidr())
        document = self._folder / f"{slot.unit}.json"
        tree = Path(release.artifact.path, "tree")
        defaults = dotenv(tree, tree.joinpath(release.spec.compose.files[0]).parent)
        rendered = Rendered(document, slot.unit, str(self._folder), _settings(release, filled), defaults)
        words = [render(part, filled) for part in argv]
        raw = await self._cli.execute(rendered, release.spec.compose.route, words, CREDENTIALS_S)
        return keep_credentials(raw, self._cli.runner.redactor, self._paths.credentials_dir / f"{slot.unit}.json")

    async def containers(self, release: Release, slot: Slot) -> Containers | None:
        """See ports.Runtime. What another slot runs is no business of this one."""
        known = await self._builder.understood(release.artifact, release.spec.compose)
        shared = shared_project(release.service, release.environment)
        holds = self._holder.exists() and self._holder.read_bytes() == slot.unit.encode()
        place = {ServiceMode.SLOTTED: slot.unit, ServiceMode.SHARED: shared}
        place |= {ServiceMode.RECREATE: slot.unit} if holds else {}
        expected = [
            Expected(name, place[plan.mode], plan.replicas)
            for name, plan in known.plans.items()
            if plan.mode in place and plan.replicas and not plan.one_shot
        ]
        once = {name for name, plan in known.plans.items() if plan.one_shot}
        documents = [one for one in await self._all(slot, shared) if service_of(one) not in once]
        found = await asked(self._engine, documents, judged(documents, self._snapshots))
        here, left = apart(found, shared, _shared(known))
        return Containers(tuple(expected), here, self._clock.now(), left)

    async def logs(self, release: Release, slot: Slot, lines: int) -> Logs:
        """See ports.Runtime."""
        shared = shared_project(release.service, release.environment)
        mine = _shared(await self._builder.understood(release.artifact, release.spec.compose))
        found = await self._all(slot, shared)
        documents = [one for one in found if labels_of(one)[PROJECT] == slot.unit or service_of(one) in mine]
        return await self._logs.of(release, slot, documents, lines)

    async def tail(self, release: Release, slot: Slot, lines: int) -> list[str]:
        """See ports.Runtime. Of every service of the slot, each line with the service's name."""
        logs = await self._logs.of(release, slot, await self._documents(slot), lines)
        return quotable(logs, lines)

    async def prune(self, keep: Sequence[Release], progress: Progress) -> None:
        """See ports.Runtime. Of images only those Sluice built for this service, and never by force."""
        try:
            # Containers mount files of the artifact they were started from, shared ones for long after.
            mounted = {key for one in await self._engine.containers(self._service) for key in _folders(one.labels)}
            await prune_artifacts(self._paths.artifacts, keep, progress, mounted)
            # In this order: what was built before the list was made is noted by now, or its builder is at work still.
            images = await self._engine.images(self._builder.marks)
            if await asyncio.to_thread(self._builder.at_work):
                progress("images stay: a build is under way")
                return
            needed = await asyncio.to_thread(self._builder.noted_images)
            for image in images:
                if needed.isdisjoint({image.id, *image.digests}):
                    for name in image.tags or (image.id,):
                        if await self._engine.remove_image(name):
                            progress(f"removed the image {name}, which no kept release needs")
            await self._builder.prune_layers(progress)
        except SluiceError as error:
            progress(f"images stay: {error.what}")

    # ------------------------------------------------------------ shared by the above

    async def _prepared(
        self, release: Release, slot: Slot | None, told: Progress = lambda _text: None
    ) -> tuple[Understood, Placement]:
        """The environment's network, volumes, folders and shared services are there afterwards."""
        known = await self._builder.understood(release.artifact, release.spec.compose)
        missing, place = await asyncio.gather(
            self._builder.missing_images(release.artifact), self._place(release, known, slot)
        )
        if missing:
            raise StepFailed(
                f"The image of {', '.join(missing)} is not on this machine any more.",
                next=f"sluice rollout --env {release.environment} --branch {release.commit.branch}",
            )
        mine = [one for one in volumes_of(known.base, known.decided, known.plans, place) if not one.external]
        made = (
            self._engine.ensure_volume(one.name, {**one.labels, **self._ours}, one.driver, one.driver_opts)
            for one in mine
        )
        await asyncio.gather(*made)
        for sentence in make_folders(known.plans, place):
            told(sentence)
        self._folder.mkdir(exist_ok=True, mode=0o700)
        # What went on running since other values were valid is quoted where it is in the way.
        await self._logs.learn(release, slot, await self._shared.documents(place.service, place.environment))
        await self._shared.ensure(known, place, ran_before=release.verified, told=told)
        return known, place

    async def _project(self, release: Release, slot: Slot) -> Project:
        known, place = await self._prepared(release, slot)
        document = slot_document(known.base, known.plans, place, slot)
        rendered = self._rendered(slot.unit, document, place)
        return Project(slot.unit, self._network, rendered, document, known.plans, self._in(slot))

    async def _place(self, release: Release, known: Understood, slot: Slot | None) -> Placement:
        network = await self._engine.ensure_network(self._network, self._ours)
        filled = values(release, slot, self._paths.data_dir, network.subnet)
        return Placement(
            service=release.service,
            environment=release.environment,
            release=release.id,
            network=self._network,
            tree=str(Path(release.artifact.path) / "tree"),
            directory=known.directory,
            data=str(self._paths.data_dir),
            env_file=self._host.env_file,
            names=self._cli.names() if sources_of(self._host).beside else (),
            settings=_settings(release, filled),
            images=release.artifact.images,
        )

    async def _cidr(self) -> str:
        network = await self._engine.network(self._network)
        return network.subnet if network else ""

    def _rendered(self, project: str, document: Mapping[str, Any], place: Placement) -> Rendered:
        path = self._cli.write(self._folder / f"{project}.json", document)
        defaults = dotenv(place.tree, place.directory)
        return Rendered(path, project, place.directory, place.settings, defaults)

    async def _end(self, document: Mapping[str, Any], grace_s: float) -> None:
        own = document["Config"].get("StopTimeout") or 0
        await self._engine.stop(document["Id"], max(grace_s, own))
        await self._engine.remove_container(document["Id"], anonymous_volumes=True)

    def _in(self, slot: Slot) -> dict[str, str]:
        return {**self._ours, PROJECT: slot.unit}

    async def _documents(self, slot: Slot) -> list[dict[str, Any]]:
        return await documents_of(self._engine, self._in(slot))

    async def _all(self, slot: Slot, shared: str) -> list[dict[str, Any]]:
        found = await documents_of(self._engine, self._ours)
        return [one for one in found if labels_of(one).get(PROJECT) in {slot.unit, shared}]


def _shared(known: Understood) -> set[str]:
    return {name for name, plan in known.plans.items() if plan.mode is ServiceMode.SHARED}


def _settings(release: Release, filled: Mapping[str, str]) -> dict[str, str]:
    return {name: render(text, filled) for name, text in release.spec.compose.environment.items()}


def _folders(labels: Mapping[str, str]) -> Sequence[str]:
    """The names on the way to the project directory, one of which is the artifact's folder."""
    return Path(labels.get("com.docker.compose.project.working_dir", "")).parts


def _has_done_its_work(document: Mapping[str, Any]) -> bool:
    policy = (document["HostConfig"].get("RestartPolicy") or {}).get("Name", "")
    state = document["State"]
    return policy in {"", "no"} and state["Status"] == "exited" and state["ExitCode"] == 0
