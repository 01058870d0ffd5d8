"""The logs of containers, and what may be quoted of them: a container keeps the values it was created with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sluice.model.logs import Logs
from sluice.model.release import Release, Slot
from sluice.model.secret import Secret, with_members
from sluice.runtimes.compose_state import PROJECT, labels_of, name_of, service_of
from sluice.runtimes.compose_values import Document, as_list, as_mapping
from sluice.runtimes.engine import DockerEngine
from sluice.runtimes.past import Past

VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_]\w*)[^{}]*\}|([A-Za-z_]\w*))")
INSIDE = ("command", "entrypoint", "healthcheck")  # where a value reaches a container beside its environment
OTHERS = "it may have been started with other values than today's"


class ContainerLogs:
    """Of one environment."""

    def __init__(self, engine: DockerEngine, folder: Path, past: Past) -> None:
        """Touches nothing. `folder` has the documents that the containers were made from, by project."""
        self._engine = engine
        self._folder = folder
        self._past = past

    async def learn(self, release: Release, slot: Slot | None, documents: Sequence[Mapping[str, Any]]) -> list[str]:
        """Teach the redactor what these containers were created with; of each, why that may not be all, or ""."""
        doubt = await asyncio.to_thread(self._past.doubt)
        if doubt:
            return [doubt] * len(documents)
        todays = await asyncio.to_thread(self._past.todays, release)
        return await asyncio.gather(*(self._one(release, slot if todays else None, one) for one in documents))

    async def of(self, release: Release, slot: Slot, documents: Sequence[Mapping[str, Any]], lines: int) -> Logs:
        """The newest lines by service; of several replicas, one after the other."""
        doubts = await self.learn(release, slot, documents)
        logs = await asyncio.gather(*(self._engine.logs(document["Id"], lines) for document in documents))
        found: dict[str, list[str]] = {}
        withheld: dict[str, str] = {}
        for document, told, doubt in zip(documents, logs, doubts, strict=True):
            found.setdefault(service_of(document), []).extend(told)
            if doubt:
                withheld[service_of(document)] = f"{doubt} (docker logs {name_of(document)})"
        return Logs(found, withheld)

    async def _one(self, release: Release, todays: Slot | None, document: Mapping[str, Any]) -> str:
        project = labels_of(document).get(PROJECT, "")
        given = await self._engine.environment(document["Id"])
        made_from = self._made_from(project)
        settings = release.spec.compose.environment.keys()
        secrets, unknown = created_with(made_from, service_of(document), given, settings)
        self._past.learn(secrets)
        own = todays is not None and project == todays.unit
        return OTHERS if not own and (not made_from or unknown & self._past.names()) else ""

    def _made_from(self, project: str) -> Document:
        try:
            found: Document = msgspec.json.decode((self._folder / f"{project}.json").read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError):
            return {}
        return found


def created_with(
    made_from: Document, service: str, given: Mapping[str, Secret], settings: Collection[str]
) -> tuple[list[Secret], set[str]]:
    """What of a container's environment came from the server's values, and the variables whose value is not in it.

    Pure. `made_from`: its project's document, with `${NAME}`; `settings`: the variables of the release's own, which are
    no secret.
    """
    definition = made_from.get("services", {}).get(service) or {}
    written = as_mapping(definition.get("environment"))
    found: dict[str, Secret] = {}
    for name, value in given.items():
        if name not in written and not definition.get("env_file"):
            continue
        template = written.get(name)
        if template is None:
            found[name] = value
        elif parts := {key: part for key, part in _parts(str(template), value) if key not in settings}:
            found |= {**parts, f"{name}=": value}
    return with_members(found), set(_elsewhere(made_from, definition)) - found.keys() - set(settings)


def _parts(template: str, value: Secret) -> Iterator[tuple[str, Secret]]:
    """The variables of the template, each with what stands in its place."""
    pattern, names, end = "", [], 0
    for match in VARIABLE.finditer(template):
        pattern += re.escape(template[end : match.start()]) + (r"\$" if match[1] else "(.*?)")
        names += [match[2] or match[3]] if not match[1] else []
        end = match.end()
    filled = re.fullmatch(pattern + re.escape(template[end:]), value.reveal(), re.DOTALL) if names else None
    if filled is not None:
        yield from zip(names, map(Secret, filled.groups()), strict=True)
    elif names:
        yield "", value


def _elsewhere(made_from: Document, definition: Document) -> Iterator[str]:
    """The variables that reach a container in another way than by its environment."""
    for match in VARIABLE.finditer(msgspec.json.encode([definition.get(key) for key in INSIDE]).decode()):
        if not match[1]:
            yield match[2] or match[3]
    for section in ("secrets", "configs"):
        for entry in as_list(definition.get(section)):
            source = entry.get("source") if isinstance(entry, dict) else entry
            described = (made_from.get(section) or {}).get(source) or {}
            if described.get("environment"):
                yield described["environment"]
