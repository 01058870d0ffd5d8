"""The engine's JSON documents as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sluice.model.containers import Container

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NEVER = "0001-01-01T00:00:00Z"  # the engine's way to say that it was not started yet


class Found(msgspec.Struct, frozen=True):
    """A container in the engine's list."""

    id: str
    name: str
    state: str
    image: str
    labels: dict[str, str]
    ports: tuple[int, ...] = ()  # of the host, published


class Network(msgspec.Struct, frozen=True):
    """A network and who is on it."""

    id: str
    name: str
    labels: dict[str, str]
    subnet: str  # CIDR of its IPv4 range; "" where it has none
    containers: tuple[str, ...] = ()  # ids


class Image(msgspec.Struct, frozen=True):
    """An image on this machine."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]  # REPOSITORY@sha256:..., of the registries it came from or went to
    labels: dict[str, str]
    size: int = 0  # bytes
    healthcheck: bool = False  # this and the next: told by a question about this image alone, not by a list
    volumes: tuple[str, ...] = ()  # folders that each container keeps in a volume of its own


def container_of(document: Mapping[str, Any]) -> Container:
    """The engine's inspect document as a value; `service` and `project` come from Compose's own labels."""
    state, config = document["State"], document["Config"]
    labels = config.get("Labels") or {}
    started = str(state.get("StartedAt", ""))
    return Container(
        id=str(document["Id"]),
        name=str(document["Name"]).lstrip("/"),
        service=labels.get(SERVICE, ""),
        project=labels.get(PROJECT, ""),
        image=str(config.get("Image", "")),
        image_id=str(document.get("Image", "")),
        state=str(state["Status"]),
        health=_health(state),
        restarts=int(document.get("RestartCount", 0)),
        exit_code=int(state.get("ExitCode", 0)),
        oom_killed=bool(state.get("OOMKilled")),
        started_at="" if started == NEVER else started,
    )


def split_reference(reference: str) -> tuple[str, str]:
    """(repository, tag or digest); the tag is `latest` where none is said. A registry's port is not a tag."""
    repository, _, digest = reference.partition("@")
    if digest:
        return repository.rpartition(":")[0] if ":" in repository.rpartition("/")[2] else repository, digest
    head, colon, tag = reference.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (reference, "latest")


def _health(state: Mapping[str, Any]) -> str:
    status = str((state.get("Health") or {}).get("Status", ""))
    return "" if status == "none" else status


def label_filter(labels: Mapping[str, str]) -> str:
    """The `filters` of a list: all of these labels; an empty value asks for the label alone."""
    wanted = [f"{key}={value}" if value else key for key, value in labels.items()]
    return msgspec.json.encode({"label": wanted} if wanted else {}).decode()


def found_of(item: Mapping[str, Any]) -> Found:
    """An item of the list of containers."""
    names = item.get("Names") or [""]
    ports = {int(port["PublicPort"]) for port in item.get("Ports") or [] if port.get("PublicPort")}
    return Found(
        str(item["Id"]),
        str(names[0]).lstrip("/"),
        str(item["State"]),
        str(item.get("Image", "")),
        item.get("Labels") or {},
        tuple(sorted(ports)),
    )


def network_of(item: Mapping[str, Any]) -> Network:
    """A network, inspected or from the list."""
    ranges = [str(each.get("Subnet", "")) for each in (item.get("IPAM") or {}).get("Config") or []]
    return Network(
        str(item["Id"]),
        str(item["Name"]),
        item.get("Labels") or {},
        next((each for each in ranges if "." in each), ""),
        tuple(item.get("Containers") or {}),
    )


def image_of(item: Mapping[str, Any]) -> Image:
    """An image, inspected or from the list."""
    config = item.get("Config") or {}
    labels = config.get("Labels") or item.get("Labels") or {}
    tags = tuple(tag for tag in item.get("RepoTags") or [] if tag != "<none>:<none>")
    digests = tuple(digest for digest in item.get("RepoDigests") or [] if digest != "<none>@<none>")
    test = (config.get("Healthcheck") or {}).get("Test") or []
    checked = bool(test) and test[0] != "NONE"
    return Image(
        str(item["Id"]), tags, digests, labels, int(item.get("Size", 0)), checked, tuple(config.get("Volumes") or ())
    )
