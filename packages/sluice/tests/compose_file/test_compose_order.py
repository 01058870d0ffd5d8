"""What starts before what, by the rendered document; and what only Compose can start."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.runtimes.compose_order import Condition, Wait, start_order


def order(**services: dict[str, Any]) -> Any:
    """The order of all of these services."""
    return start_order({"services": services}, list(services))


def on(**conditions: Any) -> dict[str, Any]:
    """A service that depends on others: by condition, or by the whole entry."""
    return {
        "depends_on": {name: how if isinstance(how, dict) else {"condition": how} for name, how in conditions.items()}
    }


def test_those_who_are_waited_for_come_first():
    """Across several levels, with the condition each names; who waits for nobody has nothing to wait for."""
    found = order(
        web=on(api="service_healthy", seed={"condition": "service_completed_successfully", "required": False}),
        api=on(db="service_started"),
        seed=on(db="service_healthy"),
        db={},
    )
    assert found is not None
    places = {name: place for place, name in enumerate(found)}
    assert places["db"] < places["api"] < places["web"]
    assert places["db"] < places["seed"] < places["web"]
    assert found["web"] == (Wait("api", Condition.HEALTHY), Wait("seed", Condition.COMPLETED, required=False))
    assert found["db"] == ()


@pytest.mark.parametrize(
    "definition",
    [
        {"links": ["other:alias"]},
        {"volumes_from": ["other:ro", "container:elsewhere"]},
        {"network_mode": "service:other"},
        {"pid": "service:other"},
        {"ipc": "service:other"},
        {"depends_on": ["other"]},
        {"depends_on": {"other": None}},
    ],
)
def test_whatever_shares_something_waits_for_its_start(definition):
    """Links, volumes and namespaces of another service need its containers to run."""
    found = order(one=definition, other={"network_mode": "host"})
    assert found == {"other": (), "one": (Wait("other"),)}
    assert list(found) == ["other", "one"]


@pytest.mark.parametrize(
    "services",
    [
        {"one": on(other="service_started"), "other": on(one="service_started")},
        {"one": {"network_mode": "service:one"}},
        {"one": on(gone="service_started")},
        {"one": on(other="running_or_healthy"), "other": {}},
        {"one": on(other="${CONDITION}"), "other": {}},
        {"one": on(other={"condition": "service_started", "required": "${MUST}"}), "other": {}},
        {"one": {"network_mode": "${MODE}"}},
        {"one": {"post_start": [{"command": ["warm"]}]}},
        {"one": {"pre_start": [{"command": ["warm"]}]}},
        {"one": {"use_api_socket": True}},
        {"one": {"secrets": ["key"]}},
        {"one": {"configs": [{"source": "conf", "target": "/conf"}]}},
    ],
)
def test_what_is_not_understood_is_left_to_compose(services):
    """A circle, an unknown service or condition, what a variable decides, and what Compose itself does at a start."""
    document = {
        "services": services,
        "secrets": {"key": {"environment": "KEY"}},
        "configs": {"conf": {"content": "words"}},
    }
    assert start_order(document, list(services)) is None


def test_secrets_and_configs_that_are_files_are_mounted_by_the_engine():
    """They are part of the container that was made: nothing of them is left to do at its start."""
    document = {
        "services": {"one": {"secrets": ["key"], "configs": [{"source": "conf"}]}},
        "secrets": {"key": {"file": "/data/key"}},
        "configs": {"conf": {"file": "/tree/conf"}},
    }
    assert start_order(document, ["one"]) == {"one": ()}


def test_only_the_named_services_are_ordered():
    """Whoever needs one that is not among them is Compose's to start, which starts that one too."""
    document = {"services": {"one": on(other="service_started"), "other": {}}}
    assert start_order(document, ["other"]) == {"other": ()}
    assert start_order(document, ["one"]) is None
