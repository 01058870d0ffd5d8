"""In which order the services of a rendered document start, and what each waits for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from sluice.runtimes.compose_values import Document, as_list, as_mapping, variable

# What Compose does itself when it starts a container: the engine knows none of it.
ITS_DOING = ("pre_start", "post_start", "provider", "use_api_socket")
NAMESPACES = ("network_mode", "pid", "ipc")


class Condition(StrEnum):
    """When somebody who depends on a service may start."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class Wait(msgspec.Struct, frozen=True):
    """For another service of the same document."""

    service: str
    condition: Condition = Condition.STARTED
    required: bool = True  # False: when it fails, its dependant starts all the same


Order = Mapping[str, tuple[Wait, ...]]


class _OnlyCompose(Exception):
    """Something that only Compose can do, or has the words for."""


def start_order(document: Document, names: Iterable[str]) -> Order | None:
    """Each of these services with what it waits for, those it waits for before it. None: Compose has to start them.

    That is so where Compose does more than start (hooks, files it writes into containers), where a variable decides
    what waits for what, and for a circle, which it refuses in its own words.
    """
    try:
        waits = {name: tuple(_waits(name, document)) for name in names}
        if any(wait.service not in waits for each in waits.values() for wait in each):
            return None
        sorter = TopologicalSorter({name: {wait.service for wait in each} for name, each in waits.items()})
        return {name: waits[name] for name in sorter.static_order()}
    except (_OnlyCompose, CycleError):
        return None


def _waits(name: str, document: Document) -> Iterator[Wait]:
    definition: Mapping[str, Any] = document["services"][name]
    if any(definition.get(key) for key in ITS_DOING) or _given_by_compose(definition, document):
        raise _OnlyCompose
    for other, how in as_mapping(definition.get("depends_on")).items():
        yield _declared(other, how or {})
    links = [str(link).partition(":")[0] for link in as_list(definition.get("links"))]
    volumes = [str(entry) for entry in as_list(definition.get("volumes_from"))]
    links += [entry.partition(":")[0] for entry in volumes if not entry.startswith("container:")]
    for key in NAMESPACES:
        kind, _, other = str(definition.get(key) or "").partition(":")
        links += [other] if kind == "service" else []
        if variable(kind):
            raise _OnlyCompose
    yield from (Wait(other) for other in links)


def _declared(other: str, how: Mapping[str, Any]) -> Wait:
    condition, required = how.get("condition", Condition.STARTED), how.get("required", True)
    if condition not in list(Condition) or not isinstance(required, bool):
        raise _OnlyCompose
    return Wait(other, Condition(condition), required)


def _given_by_compose(definition: Mapping[str, Any], document: Document) -> bool:
    """Whether it is given a secret or a config that is no file of the host: Compose writes those itself."""
    for section in ("secrets", "configs"):
        for grant in as_list(definition.get(section)):
            key = grant["source"] if isinstance(grant, dict) else grant
            if not ((document.get(section) or {}).get(key) or {}).get("file"):
                return True
    return False
