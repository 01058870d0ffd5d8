"""Placeholders in argv lists and environment values: {port}, {python.NAME} and the rest listed in model/spec.py."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

from sluice.model.release import Release, Slot
from sluice.model.spec import BuildSpec

HOST = "127.0.0.1"  # slots are private: only the ingress of the same machine reaches them
PLAIN = ("host", "port", "url", "ingress", "artifact", "state", "sha", "tree", "version")
BRACES = re.compile(r"\{([^{}]*)\}")


def known(build: BuildSpec) -> set[str]:
    """Every name that may stand in braces."""
    return {*PLAIN, *(f"python.{name}" for name in build.python), *(f"node.{name}" for name in build.node)}


def unknown_in(text: str, build: BuildSpec) -> str | None:
    """What is wrong with the first bad placeholder of a text, as half a sentence; None when all are known."""
    names = known(build)
    for match in BRACES.finditer(text):
        if match[1] not in names:
            near = difflib.get_close_matches(match[1], sorted(names), n=1)
            return f"unknown placeholder {match[0]}" + (f", did you mean {{{near[0]}}}?" if near else "")
    return None


def values(release: Release, slot: Slot | None, state: Path, ingress: str = f"{HOST}/32") -> dict[str, str]:
    """What each placeholder stands for. Without a slot (migrations) {port} and {url} are empty."""
    artifact, commit = release.artifact, release.commit
    plain = {
        "host": HOST,
        "port": str(slot.port) if slot else "",
        "url": slot.url if slot else "",
        "ingress": ingress,
        "artifact": artifact.path,
        "state": str(state),
        "sha": commit.sha,
        "tree": commit.tree,
        "version": commit.describe,
    }
    python = {f"python.{name}": path for name, path in artifact.python.items()}
    return plain | python | {f"node.{name}": path for name, path in artifact.node.items()}


def render(text: str, known_values: Mapping[str, str]) -> str:
    """Fill the placeholders in, once: a value that itself holds braces stays as it is. KeyError on an unknown one."""
    return BRACES.sub(lambda match: known_values[match[1]], text)
