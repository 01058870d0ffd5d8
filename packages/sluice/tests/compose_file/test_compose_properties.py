"""What holds for every Compose file: slots never meet, nothing is lost unseen, no value leaks."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.model.release import Slot
from sluice.model.spec import ComposeService, ComposeSpec, ServiceMode
from sluice.runtimes.compose_file import base_document, migrate_document, pin, shared_document, slot_document
from sluice.runtimes.compose_modes import services_of
from sluice.runtimes.compose_values import Document, Placement, ServicePlan, World

SENTINEL = "s3ntinel"
EXAMPLES = settings(max_examples=40, deadline=None)  # a busy machine is no failure
SAFE = st.text("abcdefgh", min_size=1, max_size=4)
TEXT = st.one_of(SAFE, SAFE.map(lambda name: f"${{{name.upper()}}}"), SAFE.map(lambda n: f"x-${{{n.upper()}:-y}}-$$"))
# What a rendered service may lack: the table of docs/reference/compose.md says it of each.
DROPPED = {"container_name", "ports", "profiles", "build", "develop", "depends_on", "links", "networks"}
CHANGED = {"image", "pull_policy", "labels", "environment", "restart", "volumes", "env_file"}
# Keys Sluice has no word about: they stay exactly as they are written.
OTHERS = {
    "command": st.lists(TEXT, max_size=3),
    "ulimits": st.just({"nofile": {"soft": 1, "hard": 2}}),
    "deploy": st.sampled_from([{"resources": {"limits": {"cpus": "0.5"}}}, {"replicas": 3}]),
    "tmpfs": st.just(["/run"]),
    "cap_drop": st.just(["ALL"]),
    "sysctls": st.just(["net.x=1"]),
    "extra_hosts": st.just(["a:1.2.3.4"]),
    "logging": st.just({"driver": "json-file", "options": {"max-size": "1m"}}),
    "hostname": TEXT,
    "stop_signal": st.just("SIGINT"),
    "x-own": TEXT,
    "a_key_of_next_year": st.just({"a": [1]}),
}


def mounts() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Mounts with and without variables, in git, beside it and elsewhere."""
    named = st.fixed_dictionaries(
        {"type": st.just("volume"), "source": st.sampled_from(["v1", "v2", "fixed", "outer"])}
    )
    sources = st.sampled_from(["./in-git", "./not-in-git", "/srv/x", "${DIR:-./d}", "/srv/${DIR:-d}"])
    bound = st.fixed_dictionaries({"type": st.just("bind"), "source": sources, "read_only": st.booleans()})
    anonymous = st.just({"type": "volume"})
    return st.lists(st.one_of(named, bound, anonymous), max_size=3).map(
        lambda found: [{**mount, "target": f"/m{number}"} for number, mount in enumerate(found)]
    )


@st.composite
def definitions_(draw: st.DrawFn) -> Document:
    """A service as Compose prints it uninterpolated."""
    return draw(
        st.fixed_dictionaries(
            {"image": TEXT, "volumes": mounts()},
            optional={
                "container_name": TEXT,
                "ports": st.just(["${PORT:-80}:80", {"target": 443, "published": "443"}]),
                "build": st.just({"context": "."}),
                "restart": st.sampled_from(["always", "no"]),
                "environment": st.one_of(
                    st.dictionaries(SAFE, TEXT), st.lists(SAFE.map(lambda n: f"{n}=1"), max_size=2)
                ),
                "labels": st.dictionaries(SAFE, TEXT),
                "env_file": st.just([{"path": "./in-git", "required": True}, {"path": ".env", "required": True}]),
                "networks": st.sampled_from(
                    [{"default": None}, {"front": {"aliases": ["w"], "ipv4_address": "10.0.0.2"}}, {"edge": None}]
                ),
                **OTHERS,
            },
        )
    )


def resolved(value: Any) -> Any:
    """What interpolation makes of a document: every variable has the sentinel in its value."""
    if isinstance(value, dict):
        return {key: resolved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{([A-Z]+)[^}]*\}", lambda match: f"{SENTINEL}{match[1]}", value)
    return value


@st.composite
def files(draw: st.DrawFn) -> tuple[Document, dict[str, ServicePlan]]:
    """A kept document and the plans of its services."""
    names = ["api", *draw(st.lists(st.sampled_from(["db", "worker", "cache", "cron"]), unique=True))]
    kept: Document = {
        "name": "p",
        "services": {name: draw(definitions_()) for name in names},
        "volumes": {
            "v1": {"name": "p_v1"},
            "v2": {"name": "p_v2", "driver_opts": {"o": "x"}},
            "fixed": {"name": "the_fixed"},
            "outer": {"name": "outer", "external": True},
        },
        "networks": {
            "default": {"name": "p_default"},
            "front": {"name": "fixed-front", "ipam": {"config": []}},
            "edge": {"name": "edge", "external": True},
        },
        "x-top": {"a": "${SECRET:?}"},
    }
    document = resolved(copy.deepcopy(kept))
    for definition in document["services"].values():
        definition["ports"] = [{"target": 80, "published": "80"}] if definition.get("ports") else []
    declared = {name: ComposeService(mode=draw(st.sampled_from(ServiceMode))) for name in names[1:]}
    declared["api"] = ComposeService(mode=ServiceMode.SLOTTED)
    spec = ComposeSpec(files=("compose.yaml",), route="api", port=8080, services=declared)
    world = World("test", "/tree", "/tree", exists=lambda path: path == "/tree/in-git")
    return kept, services_of(document, spec, world)


def place(plans: dict[str, ServicePlan]) -> Placement:
    """One environment."""
    images = {name: f"sha256:{name}" for name in plans}
    return Placement("s", "test", "r1", "sluice-s-test", "/tree", "/tree", "/data", "/etc/env", {"R": "1"}, images)


def slot(port: int) -> Slot:
    """A slot as the runtime names it."""
    return Slot(f"r{port}", f"s-test-r{port}", port, f"http://127.0.0.1:{port}")


def published(document: Document) -> set[str]:
    """Host ports of a document, ranges spread out."""
    ports = set()
    for definition in document["services"].values():
        for entry in definition.get("ports", ()):
            first, _, last = entry["published"].partition("-")
            ports |= {f"{entry['host_ip']}:{port}" for port in range(int(first), int(last or first) + 1)}
    return ports


@EXAMPLES
@given(files())
def test_two_slots_of_one_file_never_meet(found: tuple[Document, dict[str, ServicePlan]]) -> None:
    """No container name, project, port or private network is in both."""
    kept, plans = found
    base, where = base_document(kept, plans), place(plans)
    replicas = plans["api"].replicas
    one, two = (slot_document(base, plans, where, slot(port)) for port in (18100, 18100 + replicas))
    assert one["name"] != two["name"]
    assert not published(one) & published(two)
    assert len(published(one)) == replicas
    for document in (one, two):
        assert not any("container_name" in definition for definition in document["services"].values())
        assert not any({"name", "external", "ipam"} & set(network) for network in document["networks"].values())
        for definition in document["services"].values():
            assert set(definition["networks"]) <= set(document["networks"])
            assert not any("ipv4_address" in (how or {}) for how in definition["networks"].values())


@EXAMPLES
@given(files())
def test_nothing_is_lost_that_the_table_does_not_name(found: tuple[Document, dict[str, ServicePlan]]) -> None:
    """Every service is in one document, with every key of its own that Sluice has no word about, word for word."""
    kept, plans = found
    base, where = base_document(kept, plans), place(plans)
    rendered = shared_document(base, plans, where)["services"] | slot_document(base, plans, where, slot(1))["services"]
    assert set(rendered) == set(kept["services"]) == set(base["services"])
    for name, definition in kept["services"].items():
        now = rendered[name]
        assert set(definition) - set(now) <= DROPPED
        for key in set(definition) - DROPPED - CHANGED:
            assert now[key] == definition[key]
        assert now.get("restart") == definition.get("restart", "always")
        assert [m["target"] for m in now["volumes"]] == [m["target"] for m in definition["volumes"]]
        if isinstance(definition.get("labels"), dict):
            assert definition["labels"].items() <= now["labels"].items()
        if isinstance(definition.get("environment"), dict):
            assert definition["environment"].items() <= now["environment"].items()
    volumes = shared_document(base, plans, where).get("volumes", {}) | slot_document(base, plans, where, slot(1)).get(
        "volumes", {}
    )
    assert all(volume["external"] for volume in volumes.values())


@EXAMPLES
@given(files())
def test_no_interpolated_value_is_rendered(found: tuple[Document, dict[str, ServicePlan]]) -> None:
    """Plans know values; documents never say one."""
    kept, plans = found
    base, where = base_document(kept, plans), place(plans)
    documents = [
        base,
        slot_document(base, plans, where, slot(18100)),
        shared_document(base, plans, where),
        migrate_document(base, plans, where),
    ]
    assert SENTINEL not in json.dumps(documents)


@EXAMPLES
@given(files())
def test_rendering_is_a_function_and_leaves_its_arguments_alone(
    found: tuple[Document, dict[str, ServicePlan]],
) -> None:
    """The same arguments give the same bytes, whatever was rendered before; pinning twice is pinning once."""
    kept, plans = found
    before = json.dumps([kept, msgspec.to_builtins(plans)])
    base, where = base_document(kept, plans), place(plans)
    kept_base = json.dumps(base)
    first = [json.dumps(slot_document(base, plans, where, slot(1))), json.dumps(shared_document(base, plans, where))]
    migrate_document(base, plans, where)
    again = [json.dumps(slot_document(base, plans, where, slot(1))), json.dumps(shared_document(base, plans, where))]
    assert first == again
    assert json.dumps(base) == kept_base
    assert json.dumps(base_document(base, plans)) == kept_base
    assert json.dumps([kept, msgspec.to_builtins(plans)]) == before
    pinned = pin(base, where.images)
    assert pin(pinned, where.images) == pinned
