"""Which service of a Compose file is copied into each slot, which is shared, which runs once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from sluice.model.spec import ComposeService, ComposeSpec, ServiceMode
from sluice.runtimes.compose_values import (
    Document,
    HostPort,
    Mount,
    MountKind,
    Outside,
    Plans,
    ServicePlan,
    Source,
    World,
    as_list,
    as_mapping,
    locate,
    undeclared,
    wrong,
)

UNDECLARED = ComposeService()
NAMESPACES = ("network_mode", "pid", "ipc")  # each can be another service's: `service:NAME`


def services_of(document: Document, spec: ComposeSpec, world: World) -> dict[str, ServicePlan]:
    """What a rollout does with every service of the interpolated document that its profiles leave in.

    Pure: the same arguments give the same plans, in the file's order. With `world.healthchecks` None nobody is asked
    how to see readiness: that is judged when the images are there. Raises ConfigError naming file and key.
    """
    services = {name: value for name, value in document.get("services", {}).items() if _active(value, world)}
    _check_route(services, spec, world)
    _check_declared(services, spec)
    one_shots = _one_shots(services, spec)
    modes = _modes(services, spec, world, one_shots)
    plans = {
        name: _plan(name, services[name], document, spec, world, mode=modes[name], one_shot=name in one_shots)
        for name in services
    }
    for name, plan in plans.items():
        _check_mode(plan, services[name], spec, world)
        _check_references(name, services[name], plans, spec, world)
        _check_store(plan, services[name], spec, world)
    _check_container_names(services, world)
    _check_readiness(plans, world)
    return plans


def _active(definition: Document, world: World) -> bool:
    profiles = set(definition.get("profiles") or ())
    return not profiles or "*" in world.profiles or bool(profiles & world.profiles)


# ---------------------------------------------------------------- modes


def _one_shots(services: Mapping[str, Document], spec: ComposeSpec) -> set[str]:
    """Services somebody waits for to end: they run before, never beside."""
    waited = {
        name
        for definition in services.values()
        for name, how in _depends(definition).items()
        if how.get("condition") == "service_completed_successfully"
    }
    return (waited & set(services)) - {spec.route}


def _modes(
    services: Mapping[str, Document], spec: ComposeSpec, world: World, one_shots: set[str]
) -> dict[str, ServiceMode]:
    modes: dict[str, ServiceMode] = {}
    for name, definition in services.items():
        declared = spec.services.get(name, UNDECLARED).mode
        if declared is not None:
            modes[name] = declared
        elif name == spec.route:
            modes[name] = ServiceMode.SLOTTED
        elif name not in one_shots:
            kept = any(m.state or m.kind is MountKind.ANONYMOUS for m in _mounts(definition, world))
            modes[name] = ServiceMode.SHARED if kept else ServiceMode.RECREATE
    order = (ServiceMode.SLOTTED, ServiceMode.RECREATE, ServiceMode.SHARED)
    for _ in one_shots:  # a chain of them is as long as there are, at most
        for name in sorted(one_shots - set(modes)):
            waiting = {modes[who] for who in services if who in modes and name in _depends(services[who])}
            if waiting:  # a one-shot belongs where the first of those who wait for it runs
                modes[name] = next(mode for mode in order if mode in waiting)
    return {name: modes.get(name, ServiceMode.RECREATE) for name in services}


# ---------------------------------------------------------------- one service


def _plan(
    name: str,
    definition: Document,
    document: Document,
    spec: ComposeSpec,
    world: World,
    *,
    mode: ServiceMode,
    one_shot: bool,
) -> ServicePlan:
    declared = spec.services.get(name, UNDECLARED)
    return ServicePlan(
        name=name,
        mode=mode,
        routed=name == spec.route,
        port=spec.port if name == spec.route else 0,
        replicas=_replicas(name, definition, world),
        one_shot=one_shot,
        image=str(definition.get("image") or ""),
        build=bool(definition.get("build")),
        build_args=tuple(as_mapping((definition.get("build") or {}).get("args"))),
        healthcheck=_healthcheck(name, definition, world),
        ready_command=declared.ready_command,
        ready_port=declared.ready_port,
        ready_after_s=declared.ready_after_s,
        on_change=declared.on_change,
        publish=declared.publish,
        connected=not definition.get("network_mode"),
        ports=tuple(sorted(_ports(name, definition, world))),
        mounts=tuple(_mounts(definition, world)),
        env_files=tuple(locate(_env_path(entry), world) for entry in as_list(definition.get("env_file"))),
        files=dict(_files(definition, document, world)),
        outside=tuple(_outside(definition, document)),
    )


def _replicas(name: str, definition: Document, world: World) -> int:
    found = definition.get("scale", (definition.get("deploy") or {}).get("replicas"))
    try:
        return 1 if found is None else int(found)
    except ValueError:
        path = f"services.{name}.deploy.replicas"
        raise wrong(world, path, f"{found!r} is not a number", "write a whole number there") from None


def _healthcheck(name: str, definition: Document, world: World) -> bool:
    check = definition.get("healthcheck") or {}
    off = bool(check.get("disable")) or as_list(check.get("test"))[:1] == ["NONE"]
    return not off and (bool(check.get("test")) or name in (world.healthchecks or ()))


def _ports(name: str, definition: Document, world: World) -> Iterator[HostPort]:
    """Every fixed host port: a port the engine chooses is nobody's in advance."""
    for entry in as_list(definition.get("ports")):
        published = str(entry.get("published") or "") if isinstance(entry, dict) else ""
        if not published:
            continue
        first, _, last = published.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise wrong(world, f"services.{name}.ports", f"{published!r} is not a port", "write a number or FIRST-LAST")
        for port in range(int(first), int(last or first) + 1):
            yield HostPort(port, entry.get("protocol", "tcp"), entry.get("host_ip", ""))


def _mounts(definition: Document, world: World) -> Iterator[Mount]:
    for entry in as_list(definition.get("volumes")):
        kind, source = entry.get("type", "volume"), entry.get("source") or ""
        target, read_only = entry.get("target", ""), bool(entry.get("read_only"))
        if kind == "bind":
            yield Mount(MountKind.BIND, target, read_only, source=locate(source, world))
        elif kind == "volume":
            yield Mount(MountKind.VOLUME if source else MountKind.ANONYMOUS, target, read_only, volume=source)
        else:
            yield Mount(MountKind.OTHER, target, read_only)


def _env_path(entry: object) -> str:
    return str(entry["path"]) if isinstance(entry, dict) else str(entry)


def _files(definition: Document, document: Document, world: World) -> Iterator[tuple[str, Source]]:
    for section in ("secrets", "configs"):
        for grant in as_list(definition.get(section)):
            key = grant["source"] if isinstance(grant, dict) else grant
            path = (document.get(section, {}).get(key) or {}).get("file")
            if path:
                yield f"{section}.{key}", locate(path, world)


def _outside(definition: Document, document: Document) -> Iterator[Outside]:
    for key, how in as_mapping(definition.get("networks")).items():
        network = (document.get("networks") or {}).get(key) or {}
        if network.get("external"):
            yield Outside(str(network.get("name") or key), tuple((how or {}).get("aliases") or ()))


def _depends(definition: Document) -> dict[str, dict[str, Any]]:
    return {name: how or {} for name, how in as_mapping(definition.get("depends_on")).items()}


# ---------------------------------------------------------------- what cannot be


def _check_route(services: Mapping[str, Document], spec: ComposeSpec, world: World) -> None:
    names = ", ".join(services)
    if not spec.route:
        raise undeclared("[compose] route", "no service is named that users reach", f"write one of: {names}")
    if spec.route not in services:
        raise undeclared(
            "[compose] route",
            f"there is no service {spec.route!r} in {world.file}, or none of its profiles is active",
            f"write one of: {names}{_near(spec.route, services)}",
        )
    if not spec.port:
        ports = {str(p.get("target")) for p in as_list(services[spec.route].get("ports")) if isinstance(p, dict)}
        seen = f"; the file publishes {', '.join(sorted(ports))}" if ports else ""
        raise undeclared(
            "[compose] port",
            f"it is not said where {spec.route} listens in its container",
            f"write port = NUMBER{seen}",
        )
    if _replicas(spec.route, services[spec.route], world) < 1:
        path = f"services.{spec.route}.deploy.replicas"
        raise wrong(world, path, "the routed service has no replica", "give it at least one")


def _check_declared(services: Mapping[str, Document], spec: ComposeSpec) -> None:
    for name, declared in spec.services.items():
        path = f"[compose.services.{name}]"
        if name not in services:
            raise undeclared(
                path,
                "there is no such service in the Compose file, or none of its profiles is active",
                f"remove the table, or write one of: {', '.join(services)}{_near(name, services)}",
            )
        kinds = [key for key in ("ready_command", "ready_port", "ready_after_s") if getattr(declared, key)]
        if len(kinds) > 1:
            raise undeclared(path, f"{' and '.join(kinds)} are both set", "keep the one that proves most")


def _near(name: str, services: Mapping[str, Document]) -> str:
    near = difflib.get_close_matches(name, sorted(services), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _check_mode(plan: ServicePlan, definition: Document, spec: ComposeSpec, world: World) -> None:
    declared = spec.services.get(plan.name, UNDECLARED)
    table, slotted = f"[compose.services.{plan.name}]", plan.mode is ServiceMode.SLOTTED
    if plan.routed and not slotted:
        raise undeclared(
            f"{table} mode",
            f"{plan.name} is the route, and a route runs in each slot, so that the new one can be judged first",
            'write mode = "slotted", or name another service in [compose] route',
        )
    if plan.routed and declared.mode is None and any(mount.state for mount in plan.mounts):
        where = next(mount for mount in plan.mounts if mount.state)
        raise undeclared(
            f"{table} mode",
            f"{plan.name} writes to {where.volume or (where.source.path if where.source else where.target)}, "
            "and during a rollout two copies of it would write there at once",
            'if it can bear that, write mode = "slotted"; if not, move that storage into a service of its own',
        )
    if slotted and plan.publish:
        raise undeclared(
            f"{table} publish",
            "two slots run at once and cannot both have the same host port",
            'remove publish (users come through the ingress), or write mode = "recreate" or "shared"',
        )
    network = str(definition.get("network_mode") or "")
    if (network == "host" and slotted) or (network and plan.routed):
        raise wrong(
            world,
            f"services.{plan.name}.network_mode",
            f"{network!r} leaves {plan.name} no network of its own, so two slots of it would meet",
            "remove network_mode" + ("" if plan.routed else f', or write mode = "shared" or "recreate" in {table}'),
        )
    if definition.get("provider"):
        raise wrong(
            world, f"services.{plan.name}.provider", "Sluice runs containers, not providers", "leave the service out"
        )


def _check_references(name: str, definition: Document, plans: Plans, spec: ComposeSpec, world: World) -> None:
    """Whatever one service says of another must hold where the two are put."""
    mode = plans[name].mode
    for other in _depends(definition):
        if other not in plans or plans[other].mode is mode:
            continue
        if mode is ServiceMode.SHARED:
            raise wrong(
                world,
                f"services.{name}.depends_on",
                f"{name} is shared and would depend on {other}, which is replaced by every rollout",
                f"write mode in [compose.services.{name}] or [compose.services.{other}], so that both are of one mode",
            )
        undecided = spec.services.get(other, UNDECLARED).mode is None
        if mode is ServiceMode.SLOTTED and plans[other].mode is ServiceMode.RECREATE and undecided:
            raise undeclared(
                f"[compose.services.{other}] mode",
                f"{name} depends on {other}, which would not run beside a new slot before the switch",
                'write mode = "shared" (one for the environment), "slotted" (one in each slot), '
                f'or "recreate" (then {name} must work without it until the switch)',
            )
    for key, other, alias in _ties(definition):
        if other not in plans or plans[other].mode is mode or (key == "links" and alias in ("", other)):
            continue
        raise wrong(
            world,
            f"services.{name}.{key}",
            f"{name} ({mode}) and {other} ({plans[other].mode}) do not run in one project",
            f"reach it by its name {other} instead, or write the same mode for both in [compose.services]",
        )


def _ties(definition: Document) -> Iterator[tuple[str, str, str]]:
    """(key, other service, alias) of everything that needs both containers in one project."""
    for link in as_list(definition.get("links")):
        other, _, alias = str(link).partition(":")
        yield "links", other, alias
    for entry in as_list(definition.get("volumes_from")):
        other = str(entry).split(":")[0]
        if other != "container":
            yield "volumes_from", other, ""
    for key in NAMESPACES:
        kind, _, other = str(definition.get(key) or "").partition(":")
        if kind == "service":
            yield key, other, ""


def _check_container_names(services: Mapping[str, Document], world: World) -> None:
    """A container of the file is named by Compose in each slot: nothing may count on its own name."""
    fixed = {str(value["container_name"]): name for name, value in services.items() if value.get("container_name")}
    for name, definition in services.items():
        said = [(key, str(definition.get(key) or "")) for key in NAMESPACES]
        said += [("volumes_from", str(entry)) for entry in as_list(definition.get("volumes_from"))]
        said += [("external_links", f"container:{entry}") for entry in as_list(definition.get("external_links"))]
        for key, text in said:
            kind, _, rest = text.partition(":")
            other = fixed.get(rest.split(":")[0]) if kind == "container" else None
            if other is None:
                continue
            better = f"service:{other}" if key in NAMESPACES else other
            raise wrong(
                world,
                f"services.{name}.{key}",
                f"{rest!r} is the container_name of {other}, and each slot names its containers itself",
                f"write {better}",
            )


def _check_store(plan: ServicePlan, definition: Document, spec: ComposeSpec, world: World) -> None:
    """What an image keeps in a volume of its own goes with its container: a rollout would throw it away."""
    named = {mount.target for mount in plan.mounts} | {
        str(one).split(":")[0] for one in as_list(definition.get("tmpfs"))
    }
    lost = [folder for folder in world.stores.get(plan.name, ()) if folder not in named]
    undecided = spec.services.get(plan.name, UNDECLARED).mode is None
    if lost and undecided and plan.mode is ServiceMode.RECREATE and not plan.one_shot:
        raise undeclared(
            f"[compose.services.{plan.name}] mode",
            f"the image of {plan.name} keeps {lost[0]} in a volume that goes with the container, with every rollout",
            f'mount a named volume at {lost[0]}, or write mode = "shared" (rollouts leave it running) '
            'or "recreate" (what is there may be lost)',
        )


def _check_readiness(plans: Plans, world: World) -> None:
    if world.healthchecks is None:
        return
    blind = [
        plan.name
        for plan in plans.values()
        if not (plan.routed or plan.one_shot or plan.healthcheck or plan.replicas == 0)
        and not (plan.ready_command or plan.ready_port or plan.ready_after_s)
    ]
    if blind:
        are = "are" if len(blind) > 1 else "is"
        raise undeclared(
            f"[compose.services.{blind[0]}]",
            f"neither the file nor the image says how to see that {' and '.join(blind)} {are} ready",
            "for each write a healthcheck in the Compose file, or in sluice.toml one of: "
            + " ".join(f"[compose.services.{name}]" for name in blind)
            + ' ready_port = 5432 (accepts TCP), ready_command = ["sh", "-c", "..."] (exits 0 in the container), '
            "ready_after_s = 5 (runs that long without a restart)",
        )
