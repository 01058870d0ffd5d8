"""What Sluice understood of a Compose file, as values: one ServicePlan per service, and where a release is put.

A plan holds interpolated values (image names, ports, paths of the host). It lives in memory only: what is rendered
from it keeps the file's own `${VARIABLE}` wherever there is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

import msgspec

from sluice.model.errors import ConfigError
from sluice.model.spec import ChangePolicy, ServiceMode

Document = dict[str, Any]  # a Compose file as JSON


class Origin(StrEnum):
    """Whose a mounted file or folder is."""

    TREE = "tree"  # in the repository, part of the release
    DATA = "data"  # a path of the repository that is not in git: the environment's data folder has it
    HOST = "host"  # anywhere else on the machine


class MountKind(StrEnum):
    """What is mounted."""

    VOLUME = "volume"  # a named volume
    ANONYMOUS = "anonymous"  # a volume each container has of its own
    BIND = "bind"
    OTHER = "other"  # tmpfs, npipe, cluster, image: nothing that two containers could share by accident


class Source(msgspec.Struct, frozen=True):
    """A path outside the container."""

    path: str  # absolute, interpolated
    origin: Origin
    relative: str = ""  # to the repository, where it is inside


class Mount(msgspec.Struct, frozen=True):
    """One mount of a service, in the file's order."""

    kind: MountKind
    target: str
    read_only: bool = False
    volume: str = ""  # key of the top-level `volumes`
    source: Source | None = None  # of a bind

    @property
    def state(self) -> bool:
        """Whether writing to it changes what another container of the environment would see."""
        if self.read_only:
            return False
        if self.kind is MountKind.BIND and self.source is not None:
            return self.source.origin is not Origin.TREE and not stateless(self.source.path)
        return self.kind is MountKind.VOLUME


class HostPort(msgspec.Struct, frozen=True, order=True):
    """A port of the host that a container publishes. `ip` empty: on every address."""

    port: int
    protocol: str = "tcp"
    ip: str = ""


class Outside(msgspec.Struct, frozen=True):
    """An external network a service asked for: the runtime connects it, with these aliases and no other."""

    name: str
    aliases: tuple[str, ...] = ()


class ServicePlan(msgspec.Struct, frozen=True):
    """What a rollout does with one service of the file."""

    name: str
    mode: ServiceMode
    routed: bool = False
    port: int = 0  # of the routed service: where it listens in its container
    replicas: int = 1
    one_shot: bool = False  # runs to its end before those who wait for `service_completed_successfully`
    image: str = ""  # interpolated; empty: built, and named by Compose
    build: bool = False
    build_args: tuple[str, ...] = ()  # their names
    healthcheck: bool = False  # the file's, or the image's own
    ready_command: tuple[str, ...] = ()
    ready_port: int = 0
    ready_after_s: float = 0
    on_change: ChangePolicy = ChangePolicy.REFUSE
    publish: bool = False
    connected: bool = True  # False: `network_mode` leaves no network it could be connected to
    ports: tuple[HostPort, ...] = ()  # what the file publishes at fixed ports, whether kept or not
    mounts: tuple[Mount, ...] = ()
    env_files: tuple[Source, ...] = ()
    files: dict[str, Source] = {}  # "secrets.KEY" and "configs.KEY" this service reads from files
    outside: tuple[Outside, ...] = ()


Plans = Mapping[str, ServicePlan]


class World(msgspec.Struct, frozen=True):
    """What the file does not say by itself, and its errors name."""

    environment: str
    tree: str  # the exported commit, absolute
    directory: str  # the project directory: where the first file lies; relative paths start here
    file: str = "compose.yaml"  # for sentences
    profiles: frozenset[str] = frozenset()  # COMPOSE_PROFILES of the env file; "*" is all
    healthchecks: frozenset[str] | None = None  # services whose image has a HEALTHCHECK; None: not built, not known yet
    exists: Callable[[str], bool] = os.path.exists
    stores: Mapping[str, tuple[str, ...]] = {}  # service -> folders its image keeps in a volume of its own


class Placement(msgspec.Struct, frozen=True):
    """Where a release is put."""

    service: str
    environment: str
    release: str
    network: str  # the environment's
    tree: str  # the artifact's exported commit, absolute
    directory: str  # the project directory in it, absolute
    data: str  # the environment's data folder, absolute
    env_file: str = ""  # the environment's; stands in for a required env_file of the repository that is not in git
    settings: dict[str, str] = {}  # [compose] environment, placeholders filled in
    images: dict[str, str] = {}  # service -> digest or id
    # Where the environment's values are not in env_file alone: the names of all. Who asks for that file gets them too.
    names: tuple[str, ...] = ()


def stateless(path: str) -> bool:
    """Whether a path that everybody mounts writable by habit holds nothing a container would write."""
    return path.endswith(".sock") or path in ("/etc/localtime", "/etc/timezone", "/dev", "/sys", "/proc")


def variable(text: object) -> bool:
    """Whether Compose would interpolate something in it."""
    return isinstance(text, str) and "$" in text.replace("$$", "")


def wrong(world: World, path: str, what: str, next_: str) -> ConfigError:
    """An error of the Compose file."""
    return ConfigError(f"{world.file}: {path}: {what}.", next=next_, file=world.file, path=path)


def undeclared(path: str, what: str, next_: str) -> ConfigError:
    """An error of sluice.toml."""
    return ConfigError(f"sluice.toml: {path}: {what}.", next=next_, file="sluice.toml", path=path)


def as_mapping(value: object) -> dict[str, Any]:
    """The map of an entry that may also be a list: of `KEY=VALUE`, or of names, whose value is then None."""
    if isinstance(value, list):
        pairs = (str(item).partition("=") for item in value)
        return {key: (text if equals else None) for key, equals, text in pairs}
    return dict(value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The list of an entry that may also be a single value or missing."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def locate(path: str, world: World) -> Source:
    """Whose a path of the interpolated file is. Relative paths start at the project directory."""
    full = os.path.normpath(PurePosixPath(world.directory, path))
    tree = os.path.normpath(world.tree)
    if full != tree and not full.startswith(tree + os.sep):
        return Source(full, Origin.HOST)
    return Source(full, Origin.TREE if world.exists(full) else Origin.DATA, os.path.relpath(full, tree))
