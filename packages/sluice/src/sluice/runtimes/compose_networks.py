"""Which networks a service of a Compose file is on, and what is left of them in a slot."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from sluice.runtimes.compose_values import Document, as_mapping

BRIDGE_NAME = "com.docker.network.bridge.name"  # a name of the host's, which two slots cannot both have
KEPT = ("priority", "gw_priority", "driver_opts")  # of a service on a network; fixed addresses cannot be had twice


class Attachment(msgspec.Struct, frozen=True):
    """A service on one network of the file that is not external."""

    network: str  # key of the top-level `networks`
    how: Mapping[str, Any]
    aliases: tuple[str, ...]


def attached(base: Document, name: str) -> list[Attachment]:
    """The service's networks, external ones left out; where it has only those, the default one instead.

    A container_name is an alias: others may have used it as a host name.
    """
    definition = base["services"][name]
    own = [definition["container_name"]] if definition.get("container_name") else []
    declared = base.get("networks") or {}
    found = []
    for key, how in (as_mapping(definition.get("networks")) or {"default": None}).items():
        if not (declared.get(key) or {}).get("external"):
            aliases = dict.fromkeys([*((how or {}).get("aliases") or ()), *own])
            found.append(Attachment(key, how or {}, tuple(aliases)))
    return found or [Attachment("default", {}, tuple(own))]


def private(base: Document, name: str) -> dict[str, Any]:
    """`networks` of a service in a slot."""
    networks: dict[str, Any] = {}
    for one in attached(base, name):
        how = {key: copy.deepcopy(value) for key, value in one.how.items() if key in KEPT}
        networks[one.network] = (how | ({"aliases": list(one.aliases)} if one.aliases else {})) or None
    return networks


def own_network(declared: Mapping[str, Any]) -> dict[str, Any]:
    """A top-level network of a slot: what the file says, without names and address ranges of the host's."""
    if declared.get("external"):
        return {}
    own = {key: copy.deepcopy(value) for key, value in declared.items() if key not in ("name", "ipam")}
    if isinstance(own.get("driver_opts"), dict):
        own["driver_opts"].pop(BRIDGE_NAME, None)
    return own
