"""The Compose documents Sluice keeps and runs, rendered from a file nobody prepared for it (docs/reference/compose.md).

Everything here is pure: plain documents in, new documents out. The document to start from is what
`docker-compose config --format json --no-interpolate --no-env-resolution --no-path-resolution` prints: each
`${VARIABLE}` stays as it is written, so nothing rendered holds a secret, and relative paths stay relative (Compose
would glue the project directory even before a `${VARIABLE}` that is an absolute path).
Rendered documents are run with `--project-directory` set to Placement.directory.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from sluice.model.errors import ConfigError, Refused
from sluice.model.release import Slot
from sluice.model.spec import ServiceMode
from sluice.runtimes.compose_networks import attached, own_network, private
from sluice.runtimes.compose_values import (
    Document,
    Mount,
    MountKind,
    Origin,
    Placement,
    Plans,
    ServicePlan,
    Source,
    as_list,
    as_mapping,
    variable,
)

LOOPBACK = "127.0.0.1"  # what Sluice itself dials; users come through the ingress
OURS = ("container_name", "ports", "profiles", "build", "develop")  # of a service: never in a rendered document
PLACED = ("networks", "depends_on", "links")  # rendered anew for where the service is put
UNHASHED = ("build", "develop", "depends_on", "profiles", "pull_policy", "container_name")


def shared_project(service: str, environment: str) -> str:
    """The Compose project of the environment's shared services."""
    return f"{service}-{environment}-shared"


def migrate_project(service: str, environment: str) -> str:
    """The Compose project migrations run in."""
    return f"{service}-{environment}-migrate"


def volume_name(service: str, environment: str, volume: str) -> str:
    """The environment's volume for a key of the file's `volumes`."""
    return f"{service}-{environment}_{volume}"


# ---------------------------------------------------------------- what is kept with the artifact


def base_document(kept: Document, plans: Plans) -> Document:
    """The document kept with the artifact: the services that are planned for, not pinned, with their builds.

    Valid for Compose. Gone: `name`, `x-…`, services no profile asks for, names Compose would have made up. Lists of
    KEY=VALUE are maps; a mount whose source is a variable has the type it turned out to be; build arguments without a
    value are there again. Raises ConfigError when the two documents are not of one file.
    """
    project = kept.get("name", "")
    base: Document = {
        key: copy.deepcopy(value) for key, value in kept.items() if key != "name" and not key.startswith("x-")
    }
    for section in ("networks", "volumes", "secrets", "configs"):
        for key, value in (base.get(section) or {}).items():
            if value and value.get("name") == f"{project}_{key}" and not value.get("external"):
                del value["name"]
    services = base.get("services", {})
    missing = sorted(set(plans) - set(services))
    if missing:
        raise ConfigError(
            f"the kept Compose document has no service {missing[0]!r}.",
            next="ask Compose for both documents with the same -f",
            file="compose.yaml",
            path=f"services.{missing[0]}",
        )
    base["services"] = {name: _kept_service(services[name], plan) for name, plan in plans.items()}
    return base


def _kept_service(definition: Document, plan: ServicePlan) -> Document:
    for key in ("environment", "labels"):
        if isinstance(definition.get(key), list):
            definition[key] = as_mapping(definition[key])
    build = definition.get("build")
    if isinstance(build, dict) and plan.build_args:
        # Compose leaves out the arguments without a value, which it would take from its environment.
        build["args"] = dict.fromkeys(plan.build_args) | as_mapping(build.get("args"))
    mounts = as_list(definition.get("volumes"))
    if len(mounts) != len(plan.mounts):
        raise _odd_mount(plan, "it has another number of mounts with its variables than without")
    for entry, mount in zip(mounts, plan.mounts, strict=True):
        _settle(entry, mount, plan)
    return definition


def _settle(entry: dict[str, Any], mount: Mount, plan: ServicePlan) -> None:
    """Give a mount whose source is a variable the type it has with its value."""
    if not entry.get("source") and mount.kind in (MountKind.VOLUME, MountKind.BIND):
        raise _odd_mount(plan, f"{entry.get('target')!r} is a whole mount in one variable")
    written = str(entry.get("source") or "")
    relative = not written.startswith(("/", "~")) and not variable(written)
    if mount.source is not None and mount.source.origin is Origin.HOST and relative:
        raise _odd_mount(
            plan, f"{written} is outside the repository, and so in a folder of Sluice's", "an absolute path"
        )
    if mount.kind is MountKind.BIND and entry.get("type") == "volume":
        entry.pop("volume", None)
        entry["type"] = "bind"


def _odd_mount(plan: ServicePlan, what: str, better: str = "source and target apart: ${SOURCE}:/target") -> ConfigError:
    path = f"services.{plan.name}.volumes"
    return ConfigError(f"compose.yaml: {path}: {what}.", next=f"write {better}", file="compose.yaml", path=path)


def pin(document: Document, images: Mapping[str, str]) -> Document:
    """The same document with these images (by service), which are then never pulled or built by Compose."""
    pinned = copy.deepcopy(document)
    for name, definition in pinned.get("services", {}).items():
        if name in images:
            definition["image"] = images[name]
            definition["pull_policy"] = "never"
            definition.pop("build", None)
    return pinned


# ---------------------------------------------------------------- definitions


def definition_hash(definition: Document) -> str:
    """SHA-256 of what makes a container of this definition, whatever was built for it or pinned."""
    kept = {key: value for key, value in definition.items() if key not in UNHASHED}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def definitions(base: Document, plans: Plans) -> dict[str, str]:
    """The hash of every service's definition, as its label `dev.sluice.definition` says it.

    Of the file alone: the same in every slot and release, however images were pinned, until somebody edits the service
    or the name of its image (with its variables filled in).
    """
    hashes = {}
    for name, plan in plans.items():
        definition = {**base["services"][name], "image": plan.image}
        if not plan.publish:
            definition.pop("ports", None)
        # Another fixed name is another volume: its data would be gone for a service that is merely left running.
        named = {m.volume: (base.get("volumes") or {}).get(m.volume) or {} for m in plan.mounts if m.volume}
        fixed = {key: how["name"] for key, how in sorted(named.items()) if how.get("name")}
        if fixed:
            definition["x-volumes"] = fixed
        hashes[name] = definition_hash(definition)
    return hashes


# ---------------------------------------------------------------- what runs


def slot_document(base: Document, plans: Plans, place: Placement, slot: Slot) -> Document:
    """The slot's own Compose project: its slotted services and, started by name when it is their turn, `recreate` ones.

    All on the slot's private networks. The caller creates the containers, connects them to the environment's network
    without an alias of their service name, to the networks of ServicePlan.outside, and then starts them. The routed
    service publishes 127.0.0.1:{slot.port} and as many ports after it as it has further replicas.
    Raises Refused when an image is missing.
    """
    document = _document(base, plans, place, slot.unit, (ServiceMode.SLOTTED, ServiceMode.RECREATE), slot.unit)
    for name, definition in document["services"].items():
        plan = plans[name]
        if plan.connected:
            definition["networks"] = private(base, name)
        _add_settings(definition, place)
        if plan.routed:
            last = slot.port + plan.replicas - 1
            published = str(slot.port) if last == slot.port else f"{slot.port}-{last}"
            definition["ports"] = [
                {"mode": "ingress", "host_ip": LOOPBACK, "target": plan.port, "published": published, "protocol": "tcp"}
            ]
    used = {key for definition in document["services"].values() for key in definition.get("networks", ())}
    document["networks"] = {key: own_network((base.get("networks") or {}).get(key) or {}) for key in sorted(used)}
    return document


def shared_document(base: Document, plans: Plans, place: Placement) -> Document:
    """The environment's shared services: on its network under their names (and aliases), and on nothing else.

    Raises Refused when an image is missing.
    """
    project = shared_project(place.service, place.environment)
    document = _document(base, plans, place, project, (ServiceMode.SHARED,), "shared")
    for name, definition in document["services"].items():
        if plans[name].connected:
            aliases = sorted({alias for network in attached(base, name) for alias in network.aliases})
            definition["networks"] = {"environment": {"aliases": aliases} if aliases else None}
    document["networks"] = {"environment": {"external": True, "name": place.network}}
    return document


def migrate_document(base: Document, plans: Plans, place: Placement) -> Document:
    """One service `migrate`: the routed one's definition on the environment's network, run once and never restarted.

    Raises Refused when the image is missing.
    """
    plan = next(plan for plan in plans.values() if plan.routed)
    project = migrate_project(place.service, place.environment)
    document = _document(base, {plan.name: plan}, place, project, (ServiceMode.SLOTTED,), "migrate")
    definition = document["services"].pop(plan.name)
    deploy = {k: v for k, v in (definition.pop("deploy", None) or {}).items() if k in ("resources", "labels")}
    for key in ("scale", "volumes_from", "network_mode", "pid", "ipc", "expose"):
        definition.pop(key, None)
    definition |= {
        "restart": "no",
        "healthcheck": {"disable": True},  # an image's own would be inherited otherwise
        "networks": {"environment": None},
        "labels": definition["labels"] | {"dev.sluice.mode": "migrate"},
    }
    if deploy:
        definition["deploy"] = deploy
    _add_settings(definition, place)
    document["services"] = {"migrate": definition}
    document["networks"] = {"environment": {"external": True, "name": place.network}}
    return document


def literal(text: str) -> str:
    """A text Compose will not interpolate."""
    return text.replace("$", "$$")


def _document(
    base: Document, plans: Plans, place: Placement, project: str, modes: Iterable[ServiceMode], slot: str
) -> Document:
    """Services of these modes, with everything that is the same wherever they run. Networks are the caller's."""
    mine = {name: plan for name, plan in plans.items() if plan.mode in tuple(modes)}
    hashes = definitions(base, mine)
    services = {}
    for name, plan in mine.items():
        definition = _service(base, plan, plans, place)
        definition["labels"] = as_mapping(definition.get("labels")) | {
            "dev.sluice.service": literal(place.service),
            "dev.sluice.environment": place.environment,
            "dev.sluice.release": place.release,
            "dev.sluice.slot": slot,
            "dev.sluice.mode": str(plan.mode),
            "dev.sluice.definition": hashes[name],
        }
        services[name] = definition
    document: Document = {"name": project, "services": services}
    _add_volumes(document, base, mine, place)
    for section in ("secrets", "configs"):
        _add_grants(document, section, base, mine, place)
    rest = ("name", "version", "services", "networks", "volumes", "secrets", "configs")
    document |= {key: copy.deepcopy(value) for key, value in base.items() if key not in rest}
    return pin(document, place.images)


def _service(base: Document, plan: ServicePlan, plans: Plans, place: Placement) -> Document:
    original: Document = base["services"][plan.name]
    if plan.name not in place.images:
        raise Refused(
            f"there is no image for the service {plan.name}.",
            next="build the artifact again: sluice rollout",
        )
    definition = {k: copy.deepcopy(v) for k, v in original.items() if k not in (*OURS, *PLACED)}
    if plan.publish and original.get("ports"):
        definition["ports"] = copy.deepcopy(original["ports"])
    waits = {
        name: how
        for name, how in as_mapping(original.get("depends_on")).items()
        if name in plans and plans[name].mode is plan.mode
    }
    if waits:
        definition["depends_on"] = copy.deepcopy(waits)
    links = [link for link in as_list(original.get("links")) if _together(plan, plans, str(link).split(":")[0])]
    if links:
        definition["links"] = links
    if "restart" not in definition and "restart_policy" not in (definition.get("deploy") or {}):
        # Not `unless-stopped`: an engine that was killed takes what it finds running for stopped by somebody.
        definition["restart"] = "no" if plan.one_shot else "always"
    for entry, mount in zip(as_list(definition.get("volumes")), plan.mounts, strict=True):
        if mount.kind is MountKind.BIND and mount.source is not None:
            entry["source"] = _path(entry["source"], mount.source, place)
    if definition.get("env_file"):
        # Filled by Compose from its environment, as `${NAME}` is: no value is written down for it.
        if place.names and any(map(_stands_in, as_list(definition["env_file"]), plan.env_files)):
            definition["environment"] = dict.fromkeys(place.names) | as_mapping(definition.get("environment"))
        definition["env_file"] = _env_files(definition["env_file"], plan, place)
    return definition


def _together(plan: ServicePlan, plans: Plans, other: str) -> bool:
    """Whether two services run in one group, so that what the file says of both can stay."""
    return other in plans and plans[other].mode is plan.mode


def _add_settings(definition: Document, place: Placement) -> None:
    if place.settings:
        added = {key: literal(value) for key, value in place.settings.items()}
        definition["environment"] = as_mapping(definition.get("environment")) | added


# ---------------------------------------------------------------- volumes, secrets, paths


def _add_volumes(document: Document, base: Document, mine: Plans, place: Placement) -> None:
    used = {mount.volume for plan in mine.values() for mount in plan.mounts if mount.kind is MountKind.VOLUME}
    volumes = {}
    for key in sorted(used):
        declared = (base.get("volumes") or {}).get(key) or {}
        made = volume_name(place.service, place.environment, key)
        name = declared.get("name") or (key if declared.get("external") else made)
        volumes[key] = {"external": True, "name": name}
    if volumes:
        document["volumes"] = volumes


def _add_grants(document: Document, section: str, base: Document, mine: Plans, place: Placement) -> None:
    """Top-level `secrets` or `configs` that these services are given."""
    files = {key: source for plan in mine.values() for key, source in plan.files.items()}
    granted: dict[str, Any] = {}
    for name in mine:
        for grant in as_list(base["services"][name].get(section)):
            key = grant["source"] if isinstance(grant, dict) else grant
            declared = copy.deepcopy((base.get(section) or {}).get(key) or {})
            source = files.get(f"{section}.{key}")
            if source is not None and declared.get("file"):
                declared["file"] = _path(declared["file"], source, place)
            granted[key] = declared
    if granted:
        document[section] = dict(sorted(granted.items()))


def _env_files(entries: object, plan: ServicePlan, place: Placement) -> list[Any]:
    rendered: list[Any] = []
    for entry, source in zip(as_list(entries), plan.env_files, strict=True):
        how = dict(entry) if isinstance(entry, dict) else {"path": entry}
        if _stands_in(entry, source) and place.env_file:
            how["path"] = place.env_file
        elif not variable(how["path"]):
            how["path"] = source.path
        if how not in rendered:
            rendered.append(how)
    return rendered


def _stands_in(entry: object, source: Source) -> bool:
    """Whether the environment's own values are meant: the file must be there, and is not in git."""
    required = not isinstance(entry, dict) or bool(entry.get("required", True))
    return source.origin is Origin.DATA and required


def data_path(source: Source, place: Placement) -> str:
    """Where a path of the repository that is not in git lives in the environment."""
    return str(PurePosixPath(place.data, "binds", source.relative))


def data_paths(plans: Plans, place: Placement) -> list[str]:
    """Every folder or file the environment's data folder must have before these services start."""
    sources = [m.source for plan in plans.values() for m in plan.mounts if m.source is not None]
    sources += [source for plan in plans.values() for source in plan.files.values()]
    return sorted({data_path(source, place) for source in sources if source.origin is Origin.DATA})


def _path(written: str, source: Source, place: Placement) -> str:
    """A path of the file as the rendered document says it: absolute, except where a variable decides."""
    if not variable(written):
        return data_path(source, place) if source.origin is Origin.DATA else source.path
    if source.origin is not Origin.DATA:
        return written
    for here in ("${PWD}/", "$PWD/"):  # Compose's own name for the project directory
        written = written.removeprefix(here)
    project = os.path.relpath(place.directory, place.tree)
    return os.path.normpath(PurePosixPath(place.data, "binds", project)) + "/" + written.removeprefix("./")
