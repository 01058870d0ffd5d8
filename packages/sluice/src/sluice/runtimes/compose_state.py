"""What runs for an environment, and how it differs from what Sluice started: read from the engine, never guessed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sluice.hosts.state import write_file
from sluice.journal import canonical
from sluice.model.containers import Container
from sluice.model.release import Release
from sluice.runtimes.engine import DockerEngine, container_of

LABEL = "dev.sluice."
SERVICE, ENVIRONMENT, MODE = f"{LABEL}service", f"{LABEL}environment", f"{LABEL}mode"
STATE = f"{LABEL}state"  # of an ingress: the state folder it belongs to
PROJECT, COMPOSE_SERVICE = "com.docker.compose.project", "com.docker.compose.service"
STRANGER = ("was not started by Sluice",)
UNIT_LETTERS = 48  # of a unit: Compose adds service and number, and a name on a network has at most 63


class Started(msgspec.Struct, frozen=True):
    """One container as Sluice left it."""

    id: str
    image_id: str
    settings: str  # hash of what `docker update` and `docker network` could change


class Snapshots:
    """What Sluice started, by project: one small file each."""

    def __init__(self, folder: Path) -> None:
        """Touches nothing."""
        self._folder = folder

    def keep(self, project: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """Remember these containers as they are now."""
        started = {name_of(one): _started(one) for one in documents}
        write_file(self._path(project), msgspec.json.encode(started))

    def read(self, project: str) -> dict[str, Started]:
        """Empty when nothing was kept."""
        try:
            return msgspec.json.decode(self._path(project).read_bytes(), type=dict[str, Started])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def forget(self, project: str) -> None:
        """The project is gone."""
        self._path(project).unlink(missing_ok=True)

    def _path(self, project: str) -> Path:
        return self._folder / f"{project}.started.json"


async def documents_of(engine: DockerEngine, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The engine's documents of every container with these labels, one-off ones left out."""
    found = await engine.containers(labels)
    return await engine.inspect([one.id for one in found if one.labels.get("com.docker.compose.oneoff") != "True"])


def judged(documents: Sequence[Mapping[str, Any]], snapshots: Snapshots) -> tuple[Container, ...]:
    """The containers as values, with what is not as Sluice left it."""
    known: dict[str, dict[str, Started]] = {}
    containers = []
    for document in documents:
        one = container_of(document)
        if one.project not in known:
            known[one.project] = snapshots.read(one.project)
        drift = _drift(document, known[one.project].get(one.name))
        containers.append(msgspec.structs.replace(one, drift=drift))
    return tuple(sorted(containers, key=lambda one: (one.project, one.service, one.name)))


def unit_of(release: Release) -> str:
    """The name of a new slot of this release, which is its Compose project."""
    plain = re.sub(r"[^a-z0-9]+", "-", f"{release.service}-{release.environment}-{release.id}".lower()).strip("-")
    if len(plain) <= UNIT_LETTERS:
        return plain
    return f"{plain[: UNIT_LETTERS - 13]}-{hashlib.sha256(plain.encode()).hexdigest()[:12]}"


def apart(
    found: Sequence[Container], shared: str, services: Collection[str]
) -> tuple[tuple[Container, ...], tuple[Container, ...]]:
    """Those that are a release's business, and the shared ones that Sluice started for another release.

    One release may drop a shared service that the other still uses; nobody but a person knows when none does.
    """
    left = [c for c in found if c.project == shared and c.service not in services and c.drift != STRANGER]
    return tuple(c for c in found if c not in left), tuple(left)


def labels_of(document: Mapping[str, Any]) -> dict[str, str]:
    """The labels of an inspected container."""
    return dict(document["Config"].get("Labels") or {})


def name_of(document: Mapping[str, Any]) -> str:
    """The name of an inspected container."""
    return str(document["Name"]).lstrip("/")


def service_of(document: Mapping[str, Any]) -> str:
    """Its name in the Compose file."""
    return labels_of(document).get(COMPOSE_SERVICE, name_of(document))


def _started(document: Mapping[str, Any]) -> Started:
    return Started(str(document["Id"]), str(document["Image"]), _settings(document))


def _settings(document: Mapping[str, Any]) -> str:
    host = {key: value for key, value in document["HostConfig"].items() if value not in (None, "", 0, [], {}, False)}
    networks = sorted(document["NetworkSettings"]["Networks"])
    return hashlib.sha256(canonical({"host": host, "networks": networks})).hexdigest()


def _drift(document: Mapping[str, Any], started: Started | None) -> tuple[str, ...]:
    if started is None:
        return STRANGER
    if started.id != document["Id"]:
        return ("was recreated by hand",)
    if started.image_id != document["Image"]:
        return ("runs another image",)
    if started.settings != _settings(document):
        return ("its limits, restart policy or networks were changed by hand",)
    return ()
