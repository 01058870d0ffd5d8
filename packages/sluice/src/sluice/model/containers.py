"""What the container engine says of an environment, as values: the server checks judge these and nothing else."""

from __future__ import annotations

import msgspec


class Container(msgspec.Struct, frozen=True):
    """One container of the environment, as the engine reported it."""

    id: str
    name: str
    service: str  # its name in the Compose file
    project: str  # the slot's unit, or the environment's shared project
    image: str  # as it was asked for
    image_id: str
    state: str  # created, running, paused, restarting, removing, exited, dead
    health: str = ""  # "" (no healthcheck), starting, healthy, unhealthy
    restarts: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    started_at: str = ""  # ISO 8601
    drift: tuple[str, ...] = ()  # how it differs from what Sluice started, one half-sentence each


class Expected(msgspec.Struct, frozen=True):
    """One service that must run now."""

    service: str
    project: str
    replicas: int = 1


class Containers(msgspec.Struct, frozen=True):
    """Everything an environment should run, and everything it does run."""

    expected: tuple[Expected, ...] = ()
    found: tuple[Container, ...] = ()
    at: str = ""  # when the engine was asked, ISO 8601
    left: tuple[Container, ...] = ()  # shared ones that Sluice started for another release, which this one has not
