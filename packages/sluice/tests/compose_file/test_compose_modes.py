"""Which service is slotted, shared or recreated, and everything that is refused before a rollout begins."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.model.errors import ConfigError
from sluice.model.spec import ComposeService, ComposeSpec, ServiceMode
from sluice.runtimes.compose_modes import services_of
from sluice.runtimes.compose_values import HostPort, Origin, ServicePlan, World

SLOTTED, SHARED, RECREATE = ServiceMode.SLOTTED, ServiceMode.SHARED, ServiceMode.RECREATE
THERE = frozenset({"/tree/nginx.conf", "/tree/deploy/app.env"})  # what is in git
HEALTHY = {"test": ["CMD", "true"]}
VOLUME = {"type": "volume", "source": "data", "target": "/data", "volume": {}}
API: dict[str, Any] = {"image": "api", "ports": [{"target": 8080, "published": "80", "protocol": "tcp"}]}


def bind(source: str, **more: Any) -> dict[str, Any]:
    """A bind mount as Compose resolves it."""
    return {"type": "bind", "source": source, "target": "/x", "bind": {}, **more}


def planned(
    services: dict[str, dict[str, Any]],
    declared: dict[str, ComposeService] | None = None,
    *,
    route: str = "api",
    port: int = 8080,
    healthchecks: frozenset[str] | None = None,
    profiles: frozenset[str] = frozenset(),
    **top: Any,
) -> dict[str, ServicePlan]:
    """Plans of a document written as Compose resolves it."""
    spec = ComposeSpec(files=("compose.yaml",), route=route, port=port, services=declared or {})
    world = World("test", "/tree", "/tree", "compose.yaml", profiles, healthchecks, THERE.__contains__)
    return services_of({"services": services, **top}, spec, world)


REFUSED: dict[str, tuple[dict[str, Any], dict[str, ComposeService], dict[str, Any], str, str]] = {
    "route missing": ({"api": API}, {}, {"route": ""}, "[compose] route", "write one of: api"),
    "route unknown": ({"api": API}, {}, {"route": "apu"}, "[compose] route", "did you mean api?"),
    "port missing": ({"api": API}, {}, {"port": 0}, "[compose] port", "the file publishes 8080"),
    "no replica": ({"api": {**API, "scale": 0}}, {}, {}, "services.api.deploy.replicas", "at least one"),
    "unknown service": (
        {"api": API, "database": {"image": "x"}},
        {"databse": ComposeService()},
        {},
        "[compose.services.databse]",
        "did you mean database?",
    ),
    "two kinds of readiness": (
        {"api": API, "db": {"image": "x"}},
        {"db": ComposeService(ready_port=1, ready_after_s=1)},
        {},
        "[compose.services.db]",
        "ready_port and ready_after_s are both set",
    ),
    "route not slotted": (
        {"api": API},
        {"api": ComposeService(mode=SHARED)},
        {},
        "[compose.services.api] mode",
        'mode = "slotted"',
    ),
    "route writes to a volume": (
        {"api": {**API, "volumes": [VOLUME]}},
        {},
        {},
        "[compose.services.api] mode",
        "two copies of it would write there at once",
    ),
    "route writes to the host": (
        {"api": {**API, "volumes": [bind("/srv/uploads")]}},
        {},
        {},
        "[compose.services.api] mode",
        "/srv/uploads",
    ),
    "slotted and published": (
        {"api": API},
        {"api": ComposeService(publish=True)},
        {},
        "[compose.services.api] publish",
        "both have the same host port",
    ),
    "slotted on the host's network": (
        {"api": API, "w": {"network_mode": "host"}},
        {"w": ComposeService(mode=SLOTTED)},
        {},
        "services.w.network_mode",
        'mode = "shared" or "recreate"',
    ),
    "route without a network": (
        {"api": {**API, "network_mode": "none"}},
        {},
        {},
        "services.api.network_mode",
        "remove network_mode",
    ),
    "shared depends on slotted": (
        {"api": API, "db": {"volumes": [VOLUME], "depends_on": {"api": {"condition": "service_started"}}}},
        {},
        {},
        "services.db.depends_on",
        "db is shared and would depend on api",
    ),
    "slotted depends on what runs later": (
        {"api": {**API, "depends_on": {"cache": {"condition": "service_started"}}}, "cache": {"image": "redis"}},
        {},
        {},
        "[compose.services.cache] mode",
        'write mode = "shared"',
    ),
    "link with an alias": (
        {"api": {**API, "links": ["db:database"]}, "db": {"volumes": [VOLUME]}},
        {},
        {},
        "services.api.links",
        "reach it by its name db",
    ),
    "volumes_from": (
        {"api": {**API, "volumes_from": ["db:ro"]}, "db": {"volumes": [VOLUME]}},
        {},
        {},
        "services.api.volumes_from",
        "do not run in one project",
    ),
    "another's network": (
        {"api": API, "side": {"network_mode": "service:db"}, "db": {"volumes": [VOLUME]}},
        {},
        {},
        "services.side.network_mode",
        "do not run in one project",
    ),
    "another's processes": (
        {"api": {**API, "pid": "service:db"}, "db": {"volumes": [VOLUME]}},
        {},
        {},
        "services.api.pid",
        "do not run in one project",
    ),
    "container_name as an address": (
        {"api": {**API, "container_name": "the-api"}, "side": {"network_mode": "container:the-api"}},
        {},
        {},
        "services.side.network_mode",
        "write service:api",
    ),
    "provider": (
        {"api": API, "llm": {"provider": {"type": "model"}}},
        {},
        {},
        "services.llm.provider",
        "leave the service out",
    ),
    "not a port": (
        {"api": {**API, "ports": [{"target": 1, "published": "many"}]}},
        {},
        {},
        "services.api.ports",
        "FIRST-LAST",
    ),
    "not a number": ({"api": {**API, "scale": "two"}}, {}, {}, "services.api.deploy.replicas", "whole number"),
    "nothing says it is ready": (
        {"api": API, "db": {"volumes": [VOLUME]}, "w": {"image": "x", "healthcheck": {"disable": True}}},
        {},
        {"healthchecks": frozenset({"w"})},
        "[compose.services.db]",
        "[compose.services.db] [compose.services.w] ready_port = 5432",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_said_with_its_key_and_the_way_out(case: str) -> None:
    """Each impossible file is a ConfigError that names the key and what to write."""
    services, declared, more, path, words = REFUSED[case]
    with pytest.raises(ConfigError) as raised:
        planned(services, declared, **more)
    assert raised.value.data["path"] == path
    assert words in str(raised.value)
    assert raised.value.data["file"] in ("compose.yaml", "sluice.toml")
    assert raised.value.next


@pytest.mark.parametrize(
    ("definition", "mode"),
    [
        ({"image": "x"}, RECREATE),
        ({"volumes": [VOLUME]}, SHARED),
        ({"volumes": [{**VOLUME, "read_only": True}]}, RECREATE),
        ({"volumes": [{"type": "volume", "target": "/anonymous"}]}, SHARED),
        ({"volumes": [{"type": "tmpfs", "target": "/t"}]}, RECREATE),
        ({"volumes": [bind("/srv/data")]}, SHARED),
        ({"volumes": [bind("/srv/data", read_only=True)]}, RECREATE),
        ({"volumes": [bind("/tree/nginx.conf")]}, RECREATE),
        ({"volumes": [bind("/tree/uploads")]}, SHARED),
        ({"volumes": [bind("/var/run/docker.sock"), bind("/etc/localtime")]}, RECREATE),
    ],
)
def test_default_mode_follows_what_is_written_to(definition: dict[str, Any], mode: ServiceMode) -> None:
    """Whoever keeps state is shared, everybody else nothing routes to is recreated."""
    plans = planned({"api": API, "other": definition})
    assert plans["other"].mode is mode
    assert plans["api"].mode is SLOTTED
    assert plans["api"].routed
    assert plans["api"].port == 8080


def test_a_declared_mode_wins() -> None:
    """What sluice.toml says goes over every default, the route's volume included."""
    declared = {
        "api": ComposeService(mode=SLOTTED),
        "db": ComposeService(mode=SLOTTED),
        "w": ComposeService(mode=SHARED),
    }
    plans = planned({"api": {**API, "volumes": [VOLUME]}, "db": {"volumes": [VOLUME]}, "w": {}}, declared)
    assert [plan.mode for plan in plans.values()] == [SLOTTED, SLOTTED, SHARED]


def test_an_anonymous_volume_of_the_route_needs_no_word() -> None:
    """Each container has its own, so two slots share nothing."""
    plans = planned({"api": {**API, "volumes": [{"type": "volume", "target": "/app/node_modules"}]}})
    assert plans["api"].mode is SLOTTED


def test_one_shots_run_where_those_who_wait_for_them_do() -> None:
    """A chain of services that run to their end belongs to the group it prepares, and needs no readiness."""
    wait = "service_completed_successfully"
    services = {
        "api": {**API, "depends_on": {"migrate": {"condition": wait}}},
        "migrate": {"image": "x", "volumes": [VOLUME], "depends_on": {"wait-db": {"condition": wait}}},
        "wait-db": {"image": "x"},
        "init": {"image": "x"},
        "db": {"volumes": [VOLUME], "healthcheck": HEALTHY, "depends_on": {"init": {"condition": wait}}},
    }
    plans = planned(services, healthchecks=frozenset())
    assert {n: (p.mode, p.one_shot) for n, p in plans.items()} == {
        "api": (SLOTTED, False),
        "migrate": (SLOTTED, True),
        "wait-db": (SLOTTED, True),
        "init": (SHARED, True),
        "db": (SHARED, False),
    }


def test_readiness_is_asked_for_only_when_the_images_are_known() -> None:
    """Before the build nobody can tell whether an image has a healthcheck of its own."""
    services = {"api": API, "w": {"image": "x"}}
    assert not planned(services)["w"].healthcheck
    assert planned(services, healthchecks=frozenset({"w"}))["w"].healthcheck
    plan = planned(services, {"w": ComposeService(ready_port=5432)}, healthchecks=frozenset())["w"]
    assert (plan.ready_port, plan.healthcheck) == (5432, False)


def test_profiles_leave_services_out() -> None:
    """A service with profiles is there when one of them is active, and only then."""
    services = {"api": API, "tool": {"image": "x", "profiles": ["debug", "ops"]}}
    assert list(planned(services)) == ["api"]
    assert list(planned(services, profiles=frozenset({"ops"}))) == ["api", "tool"]
    assert list(planned(services, profiles=frozenset({"*"}))) == ["api", "tool"]


def test_ports_ranges_and_addresses_are_understood() -> None:
    """Every fixed host port is listed; one the engine chooses is not."""
    ports = [
        {"target": 80, "published": "8000-8002", "protocol": "udp", "host_ip": "::1"},
        {"target": 443, "published": "443"},
        {"target": 3000},
    ]
    plan = planned({"api": {**API, "ports": ports}})["api"]
    expected = {HostPort(443), *(HostPort(port, "udp", "::1") for port in (8000, 8001, 8002))}
    assert set(plan.ports) == expected


def test_paths_are_the_releases_the_environments_or_the_hosts() -> None:
    """Where a path lies, and whether git has it, decides whose it is."""
    plan = planned(
        {
            "api": {
                **API,
                "env_file": [{"path": "/tree/deploy/app.env"}, {"path": "/tree/.env"}, "/etc/x.env"],
                "secrets": [{"source": "pw"}, "token"],
            }
        },
        secrets={"pw": {"file": "/tree/secrets/pw"}, "token": {"environment": "TOKEN"}},
    )["api"]
    assert [source.origin for source in plan.env_files] == [Origin.TREE, Origin.DATA, Origin.HOST]
    assert {key: source.relative for key, source in plan.files.items()} == {"secrets.pw": "secrets/pw"}


def test_external_networks_are_for_the_runtime_to_connect() -> None:
    """They are told with their real names and the file's aliases."""
    plan = planned(
        {"api": {**API, "networks": {"edge": {"aliases": ["www"]}, "default": None}}},
        networks={"edge": {"external": True, "name": "traefik"}, "default": {"name": "x_default"}},
    )["api"]
    assert [(outside.name, outside.aliases) for outside in plan.outside] == [("traefik", ("www",))]
    assert plan.connected
