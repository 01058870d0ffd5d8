"""What is known of images before anything is built or pulled: whether they can bring a healthcheck."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from sluice.runtimes.compose_images import twins_of
from sluice.runtimes.compose_values import Document, Plans, as_mapping
from sluice.runtimes.engine import DockerEngine

OWN = re.compile(r"^\s*HEALTHCHECK\s", re.IGNORECASE | re.MULTILINE)
ARGUMENT = re.compile(r"^\s*ARG\s+(\w+)(?:=(\S*))?", re.IGNORECASE | re.MULTILINE)
FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE | re.MULTILINE)
EMPTY = "scratch"  # Docker's name for no image at all


async def may_have_healthcheck(engine: DockerEngine, plans: Plans, decided: Document) -> frozenset[str]:
    """The services whose image has a healthcheck, or might: one that is not here yet tells nothing.

    `decided` is the interpolated document, whose paths are absolute. Raises StepFailed when the engine cannot be asked.
    """
    services, twins = decided["services"], twins_of(plans)

    async def may(name: str) -> bool:
        plan = plans[twins.get(name, name)]
        if plan.build:
            return await _built(engine, services[plan.name]["build"])
        return await _has(engine, plan.image)

    names = list(plans)
    answers = await asyncio.gather(*(may(name) for name in names))
    return frozenset(name for name, answer in zip(names, answers, strict=True) if answer)


async def _has(engine: DockerEngine, reference: str) -> bool:
    image = await engine.image(reference)
    return image is None or image.healthcheck


async def _built(engine: DockerEngine, build: Mapping[str, Any]) -> bool:
    """Its own instruction, or that of an image it is built upon."""
    text = _dockerfile(build)
    if text is None or OWN.search(text):
        return True
    return any([await _has(engine, base) if base else True for base in _bases(text, as_mapping(build.get("args")))])


def _dockerfile(build: Mapping[str, Any]) -> str | None:
    if build.get("dockerfile_inline"):
        return str(build["dockerfile_inline"])
    try:
        return Path(str(build.get("context", "")), str(build.get("dockerfile") or "Dockerfile")).read_text()
    except (OSError, UnicodeDecodeError):  # a URL, or a file that the build itself will miss
        return None


def _bases(text: str, given: Mapping[str, Any]) -> Iterator[str]:
    """The images a Dockerfile begins with; "" for one that cannot be told."""
    arguments = {name: default for name, default in ARGUMENT.findall(text) if default}
    arguments |= {name: str(value) for name, value in given.items() if value is not None}
    stages = {EMPTY}
    for written, stage in FROM.findall(text):
        base = Template(written).safe_substitute(arguments)
        if base.lower() not in stages:
            yield "" if "$" in base else base
        stages |= {stage.lower()} if stage else set()
