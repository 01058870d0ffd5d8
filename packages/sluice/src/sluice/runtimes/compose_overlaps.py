"""What two environments, or an environment and somebody else's project, would share on one host."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import msgspec

from sluice.runtimes.compose_file import data_path, shared_project, volume_name
from sluice.runtimes.compose_values import Document, HostPort, MountKind, Origin, Placement, Plans

EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104  compared, never bound: each meets every other address


class Volume(msgspec.Struct, frozen=True):
    """A volume the environment's containers mount."""

    name: str
    external: bool = False  # the file says somebody else makes it
    driver: str = ""
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}


class Footprint(msgspec.Struct, frozen=True):
    """What somebody has, or would have, of the host."""

    owner: str  # for sentences: "test", "the Compose project shop"
    foreign: bool = False  # not Sluice's: made from what the engine says of running containers
    projects: frozenset[str] = frozenset()
    ports: frozenset[HostPort] = frozenset()
    volumes: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()  # its own
    external_networks: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()  # names
    binds: frozenset[str] = frozenset()  # absolute paths it writes to


def volumes_of(base: Document, document: Document, plans: Plans, place: Placement) -> list[Volume]:
    """The volumes these services mount, by name; all but the external ones are made before anything starts.

    `document` is the interpolated one: drivers and fixed names are used, not written down.
    """
    used = {m.volume for plan in plans.values() for m in plan.mounts if m.kind is MountKind.VOLUME}
    found = []
    for key in sorted(used):
        kept = (base.get("volumes") or {}).get(key) or {}
        declared = (document.get("volumes") or {}).get(key) or {}
        external = bool(declared.get("external") or kept.get("external"))
        fixed = str(declared.get("name") or "") if kept.get("name") else ""
        name = fixed or (key if external else volume_name(place.service, place.environment, key))
        options = {k: str(v) for k, v in (declared.get("driver_opts") or {}).items()}
        labels = {k: str(v) for k, v in (declared.get("labels") or {}).items()}
        found.append(Volume(name, external, str(declared.get("driver") or ""), options, labels))
    return found


def footprint(plans: Plans, volumes: Iterable[Volume], place: Placement, ports: Iterable[HostPort] = ()) -> Footprint:
    """What a release of this environment would have of the host.

    `ports` are the ones that are not in the file: the ingress's and the environment's range for slots.
    """
    volumes = list(volumes)
    binds = {
        _bind(mount.source.path, mount.source.origin, data_path(mount.source, place))
        for plan in plans.values()
        for mount in plan.mounts
        if mount.state and mount.source is not None
    }
    devices = {
        os.path.normpath(volume.driver_opts["device"])
        for volume in volumes
        if volume.driver_opts.get("o", "").split(",")[0] in ("bind", "rbind") and volume.driver_opts.get("device")
    }
    published = {port for plan in plans.values() if plan.publish for port in plan.ports}
    return Footprint(
        owner=place.environment,
        projects=frozenset({shared_project(place.service, place.environment)}),
        ports=frozenset(published | set(ports)),
        volumes=frozenset(volume.name for volume in volumes),
        networks=frozenset({place.network}),
        external_networks=frozenset(outside.name for plan in plans.values() for outside in plan.outside),
        binds=frozenset(binds | devices),
    )


def _bind(path: str, origin: Origin, in_data: str) -> str:
    return in_data if origin is Origin.DATA else path


def overlaps(mine: Footprint, others: Iterable[Footprint]) -> list[str]:
    """One sentence for everything `mine` would share, in a stable order; empty when nothing.

    An external network or volume of a foreign project is shared on purpose where it is a network; a volume that a
    running container of somebody else mounts is reported all the same, since two would write to it.
    """
    return [sentence for other in others for sentence in sorted(_between(mine, other))]


def _between(mine: Footprint, other: Footprint) -> Iterator[str]:
    who = f"{mine.owner} and {other.owner}"
    for project in mine.projects & other.projects:
        yield f"{who} would share the Compose project {project}: one of the two services needs another name"
    for port, theirs in _meeting(mine.ports, other.ports):
        where = f"{port.ip or theirs.ip}:{port.port}/{port.protocol}".removeprefix(":")
        yield f"{who} would share the host port {where}: publish another one, or take `publish` away"
    for volume in mine.volumes & other.volumes:
        yield f"{who} would share the volume {volume}: take its fixed `name` or `external` away, or put {{env}} into it"
    for network in mine.networks & (other.networks | other.external_networks):
        yield f"{who} would share the network {network}: one of the two needs another name"
    for network in mine.external_networks & (frozenset() if other.foreign else other.networks):
        yield f"{who} would share the network {network}: it is {other.owner}'s own, take it out of the Compose file"
    for network in mine.external_networks & (frozenset() if other.foreign else other.external_networks):
        yield f"{who} would share the external network {network}: each needs one of its own"
    for name in mine.containers & other.containers:
        yield f"{who} would share the container name {name}: remove the other container"
    for path, theirs_path in _nested(mine.binds, other.binds):
        inside = "" if path == theirs_path else f" ({other.owner} writes to {theirs_path})"
        yield f"{who} would both write to {path}{inside}: give each a folder of its own"


def _meeting(mine: Iterable[HostPort], theirs: Iterable[HostPort]) -> Iterator[tuple[HostPort, HostPort]]:
    by_number: dict[tuple[int, str], list[HostPort]] = {}
    for port in theirs:
        by_number.setdefault((port.port, port.protocol), []).append(port)
    for port in mine:
        for their in by_number.get((port.port, port.protocol), ()):
            if port.ip == their.ip or port.ip in EVERY_ADDRESS or their.ip in EVERY_ADDRESS:
                yield port, their
                break


def _nested(mine: Iterable[str], theirs: Iterable[str]) -> Iterator[tuple[str, str]]:
    others = list(theirs)
    for path in mine:
        for other in others:
            if path == other or path.startswith(other.rstrip("/") + "/") or other.startswith(path.rstrip("/") + "/"):
                yield path, other
