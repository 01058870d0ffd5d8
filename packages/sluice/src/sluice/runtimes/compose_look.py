"""What a release would share with others on this host, looked at before anything is touched."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sluice.hosts.sources import ServerValues, sources_of
from sluice.hosts.state import StatePaths
from sluice.ingress.files import public_address
from sluice.model.errors import Refused
from sluice.model.release import Commit
from sluice.model.spec import ChangePolicy, HostEnvironment, RuntimeName, ServiceSpec
from sluice.runtimes.compose_binds import must_have_files
from sluice.runtimes.compose_build import ComposeBuilder, Understood, files_of
from sluice.runtimes.compose_cli import ComposeCli
from sluice.runtimes.compose_file import base_document
from sluice.runtimes.compose_foretold import may_have_healthcheck
from sluice.runtimes.compose_modes import services_of
from sluice.runtimes.compose_overlaps import Footprint, footprint, overlaps, volumes_of
from sluice.runtimes.compose_shared import Shared, protected
from sluice.runtimes.compose_state import ENVIRONMENT, PROJECT, SERVICE, STATE, name_of
from sluice.runtimes.compose_values import HostPort, Placement
from sluice.runtimes.data_places import databases_of
from sluice.runtimes.engine import DockerEngine


@dataclass(frozen=True)
class Neighbour:
    """Another environment on this host."""

    service: str
    environment: str
    host: HostEnvironment


class Look:
    """One environment's look around."""

    def __init__(
        self,
        paths: StatePaths,
        host: HostEnvironment,
        engine: DockerEngine,
        cli: ComposeCli,
        builder: ComposeBuilder,
        neighbours: list[Neighbour],
    ) -> None:
        """Touches nothing."""
        self._paths = paths
        self._host = host
        self._engine = engine
        self._cli = cli
        self._builder = builder
        self._neighbours = neighbours

    async def overlaps(self, commit: Commit, spec: ServiceSpec, shared: Shared) -> list[str]:
        """One sentence for everything it would share. Raises ConfigError when the Compose files cannot be run.

        Raises Refused when a protected shared service changed.
        """
        with await self._builder.exported(commit) as folder:
            tree = Path(folder) / "tree"
            here = (self._paths.environment, self._host, self._cli)
            own, mine = await self._footprint(tree, commit, spec, *here)
            must_have_files(own.plans, self._place(tree, self._paths.environment, own.directory))
            await self._seen_ready(tree, spec, own)
            changed = await shared.changed(own, self._paths.service, self._paths.environment)
            refused = [name for name in changed if own.plans[name].on_change is ChangePolicy.REFUSE]
            if refused:
                raise protected(refused)
            others = await self._others()
            for sibling in self._siblings():
                cli = ComposeCli(
                    self._cli.runner, self._engine.socket_path, ServerValues(sources_of(sibling.host)).values
                )
                name = sibling.environment
                others.append((await self._footprint(tree, commit, spec, name, sibling.host, cli))[1])
        found = [*await self._elsewhere(), *overlaps(mine, others)]
        return [*found, *await asyncio.to_thread(self._data, own)]

    async def _seen_ready(self, tree: Path, spec: ServiceSpec, own: Understood) -> None:
        """Raises ConfigError, before the build, for a service that nobody could see become ready."""
        files = files_of(spec.compose, self._paths.environment, tree)
        read = await self._builder.read(tree, files, spec.compose, self._paths.environment, self._cli)
        may = await may_have_healthcheck(self._engine, own.plans, read.decided)
        services_of(read.decided, spec.compose, msgspec.structs.replace(read.world, healthchecks=may))

    async def _elsewhere(self) -> list[str]:
        """The same environment out of another state folder: its releases, workers and data would be taken for ours."""
        labels = {SERVICE: self._paths.service, ENVIRONMENT: self._paths.environment, STATE: ""}
        folders = {one.labels[STATE] for one in await self._engine.containers(labels)} - {str(self._paths.root)}
        who = f"{self._paths.service}/{self._paths.environment}"
        return [f"{who} runs here already, out of the state folder {one}: use that (SLUICE_STATE)" for one in folders]

    def _siblings(self) -> Iterator[Neighbour]:
        """The same service's other environments, where their values can be read."""
        for one in self._neighbours:
            if one.service == self._paths.service and one.host.runtime is RuntimeName.COMPOSE:
                try:
                    ServerValues(sources_of(one.host)).values()
                except Refused:
                    continue  # not prepared yet, or not ours to read: what runs of it is looked at all the same
                yield one

    async def _footprint(
        self, tree: Path, commit: Commit, spec: ServiceSpec, environment: str, host: HostEnvironment, cli: ComposeCli
    ) -> tuple[Understood, Footprint]:
        files = files_of(spec.compose, environment, tree)
        known = await self._builder.read(tree, files, spec.compose, environment, cli, commit.tree)
        plans = services_of(known.decided, spec.compose, known.world)
        base = base_document(known.kept, plans)
        place = self._place(tree, environment, known.world.directory)
        found = footprint(plans, volumes_of(base, known.decided, plans, place), place, _slot_ports(host))
        return Understood(base, known.decided, plans, known.pinned, known.world.directory), found

    def _place(self, tree: Path, environment: str, directory: str) -> Placement:
        return Placement(
            service=self._paths.service,
            environment=environment,
            release="",
            network=network_name(self._paths.service, environment),
            tree=str(tree),
            directory=directory,
            data=str(self._paths.root / self._paths.service / "data" / environment),
        )

    async def _others(self) -> list[Footprint]:
        """What is on this engine and is not this environment's."""
        mine = {SERVICE: self._paths.service, ENVIRONMENT: self._paths.environment}
        found = await self._engine.containers()
        # A stranger that is stopped may be the very predecessor whose volume is being taken over.
        others = [
            one
            for one in found
            if any(one.labels.get(key) != value for key, value in mine.items())
            and (SERVICE in one.labels or one.state == "running")
        ]
        documents = await self._engine.inspect([one.id for one in others])
        groups: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
        for document in documents:
            groups.setdefault(_owner(document), []).append(document)
        return [_running(owner, foreign, members) for (owner, foreign), members in sorted(groups.items())]

    def _data(self, own: Understood) -> list[str]:
        """The same env file, or the same database outside both environments' containers."""
        found = []
        mine = _databases(self._host, own)
        for one in self._neighbours:
            who = f"{one.service}/{one.environment}"
            if Path(one.host.env_file).resolve() == Path(self._host.env_file).resolve():
                found.append(f"the env file {self._host.env_file} is also that of {who}")
                continue
            theirs = _databases(one.host, own)
            found += [
                f"{variable} names the database that {their} of {who} names"
                for variable, place in sorted(mine.items())
                for their, its in sorted(theirs.items())
                if its == place
            ]
        return found


def network_name(service: str, environment: str) -> str:
    """The environment's own network."""
    return f"sluice-{service}-{environment}"


def _slot_ports(host: HostEnvironment) -> list[HostPort]:
    """Of the slots, and of the ingress in front of them."""
    first, last = host.ports
    public = public_address(host)
    listens = HostPort(public.port, "tcp", public.host) if _is_literal(public.host) else HostPort(public.port)
    return [listens] + [HostPort(port, "tcp", "127.0.0.1") for port in range(first, last + 1)]


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _databases(host: HostEnvironment, own: Understood) -> dict[str, tuple[str, ...]]:
    try:
        values = ServerValues(sources_of(host)).values()
    except Refused:
        return {}
    places = databases_of({name: value.reveal() for name, value in values.items()})
    # A name of the Compose file is another container in each environment, and a file another volume.
    return {n: p for n, p in places.items() if p[0] != "sqlite" and p[1] not in own.plans}


def _owner(document: Mapping[str, Any]) -> tuple[str, bool]:
    labels = document["Config"].get("Labels") or {}
    if SERVICE in labels:
        return f"{labels[SERVICE]}/{labels.get(ENVIRONMENT, '')}", False
    if PROJECT in labels:
        return f"the Compose project {labels[PROJECT]}", True
    return f"the container {name_of(document)}", True


def _running(owner: str, foreign: bool, members: list[Mapping[str, Any]]) -> Footprint:
    labels = [member["Config"].get("Labels") or {} for member in members]
    mounts = [mount for member in members for mount in member.get("Mounts") or () if mount.get("RW")]
    return Footprint(
        owner=owner,
        foreign=foreign,
        projects=frozenset(one[PROJECT] for one in labels if PROJECT in one),
        ports=frozenset(port for member in members for port in _published(member)),
        volumes=frozenset(mount["Name"] for mount in mounts if mount.get("Type") == "volume"),
        networks=frozenset(name for member in members for name in member["NetworkSettings"]["Networks"]),
        containers=frozenset(name_of(member) for member in members),
        binds=frozenset(
            mount["Source"] for mount in mounts if mount.get("Type") == "bind" and not mount["Source"].endswith(".sock")
        ),
    )


def _published(document: Mapping[str, Any]) -> Iterator[HostPort]:
    for inside, bindings in (document["HostConfig"].get("PortBindings") or {}).items():
        for binding in bindings or ():
            if str(binding.get("HostPort", "")).isdecimal():
                yield HostPort(int(binding["HostPort"]), inside.partition("/")[2] or "tcp", binding.get("HostIp", ""))
