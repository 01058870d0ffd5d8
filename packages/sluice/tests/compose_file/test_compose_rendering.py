"""Files of real life, read by Compose itself, rendered, and read by Compose again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sluice.model.errors import ConfigError, Refused
from sluice.runtimes.compose_file import (
    base_document,
    data_paths,
    definition_hash,
    definitions,
    migrate_document,
    pin,
    shared_document,
    slot_document,
)
from sluice.runtimes.compose_overlaps import volumes_of

from .nasty import SENTINEL, VALUES


def test_the_slot_has_its_own_services_and_nothing_of_the_hosts(nasty: Any) -> None:
    """Names, ports, addresses and other groups are gone; the one published port is Sluice's own, for each replica."""
    document = slot_document(nasty.base, nasty.plans, nasty.place, nasty.slot())
    assert document["name"] == "shop-test-r1-18100"
    assert list(document["services"]) == ["api", "init", "worker"]
    api = document["services"]["api"]
    assert api["ports"] == [
        {"mode": "ingress", "host_ip": "127.0.0.1", "target": 8080, "published": "18100-18101", "protocol": "tcp"}
    ]
    assert api["image"] == "sha256:api"
    assert api["pull_policy"] == "never"
    assert api["networks"] == {"front": {"aliases": ["www"]}}
    assert api["links"] == ["worker", "worker:jobs"]
    assert set(api["depends_on"]) == {"init", "worker"}
    assert api["restart"] == "always"
    worker = document["services"]["worker"]
    assert worker["restart"] == "on-failure"
    assert worker["networks"] == {"default": {"aliases": ["the-worker"]}}
    assert document["services"]["init"]["restart"] == "no"
    assert document["networks"] == {"default": {}, "front": {"internal": True}}
    for service in document["services"].values():
        assert not {"build", "container_name", "profiles"} & set(service)
    assert document["volumes"] == {"cache": {"external": True, "name": "shop-test_cache"}}


def test_paths_go_where_they_belong(nasty: Any, tmp_path: Path) -> None:
    """Git's files stay in the tree, everything else of the repository is the environment's, a variable stays one."""
    document = slot_document(nasty.base, nasty.plans, nasty.place, nasty.slot())
    tree = str(tmp_path / "tree")
    sources = {mount["target"]: mount.get("source") for mount in document["services"]["api"]["volumes"]}
    assert sources == {
        "/etc/nginx.conf": f"{tree}/nginx.conf",
        "/uploads": "/data/test/binds/uploads",
        "/dd": "${DATA_DIR:-./dd}",
        "/other": "/data/test/binds/${OTHER:-./other}",
        "/here": "/data/test/binds/here",
        "/long": "${DATA_DIR:-./dd}",
        "/anonymous": None,
        "/cache": "${NAMED:-cache}",
        "/t": None,
    }
    kinds = {mount["target"]: mount["type"] for mount in document["services"]["api"]["volumes"]}
    assert kinds["/dd"] == kinds["/other"] == kinds["/here"] == "bind"
    assert document["services"]["worker"]["volumes"][0]["source"] == f"{tree}/lib/lib.conf"
    assert [entry["path"] for entry in document["services"]["api"]["env_file"]] == [
        f"{tree}/app.env",
        "/etc/shop/test.env",
        f"{tree}/gone.env",
    ]
    assert document["secrets"]["pw"] == {"file": "/data/test/binds/secrets/pw"}
    binds = [f"/data/test/binds/{name}" for name in ("here", "other", "secrets/pw", "uploads")]
    assert data_paths(nasty.plans, nasty.place) == binds


def test_a_file_that_is_not_in_git_stands_for_every_source_of_the_environment(nasty: Any) -> None:
    """Where values come from elsewhere too, names without values are added for Compose to fill, under the file's own.

    A service that asks for no such file is given none of them.
    """
    place = msgspec.structs.replace(nasty.place, names=("DB_URL", "FROM_HOST", "FROM_VAULT"))
    plain = slot_document(nasty.base, nasty.plans, nasty.place, nasty.slot())["services"]
    filled = slot_document(nasty.base, nasty.plans, place, nasty.slot())["services"]
    assert filled["api"]["environment"] == {"FROM_VAULT": None} | plain["api"]["environment"]
    assert filled["api"]["environment"]["DB_URL"] == "postgres://u:${DB_PASSWORD:?say it}@shop-db/x"
    assert filled["api"]["env_file"] == plain["api"]["env_file"]
    assert filled["worker"] == plain["worker"]


def test_shared_services_are_on_the_environments_network_alone(nasty: Any) -> None:
    """Under their names, the aliases the file gave them, and what others may have called their container."""
    document = shared_document(nasty.base, nasty.plans, nasty.place)
    assert document["name"] == "shop-test-shared"
    assert list(document["services"]) == ["db", "relay", "turn"]
    assert document["networks"] == {"environment": {"external": True, "name": "sluice-shop-test"}}
    database, relay, turn = document["services"].values()
    assert database["networks"] == {"environment": {"aliases": ["database", "shop-db"]}}
    assert "ports" not in database
    assert "networks" not in turn
    assert turn["network_mode"] == "host"
    assert relay["ports"] == ["3478:3478/udp", "${RELAY:-50000-50003}:50000-50003/udp"]
    assert document["volumes"] == {
        "dbdata": {"external": True, "name": "shop-test_dbdata"},
        "fixed": {"external": True, "name": "shop_fixed"},
        "old": {"external": True, "name": "shop_old"},
    }


def test_volumes_are_told_with_what_making_them_needs(nasty: Any) -> None:
    """Drivers and their options are interpolated, external volumes are somebody else's to make."""
    volumes = {v.name: v for v in volumes_of(nasty.base, nasty.resolved, nasty.plans, nasty.place)}
    assert sorted(volumes) == ["shop-test_cache", "shop-test_dbdata", "shop_fixed", "shop_old"]
    assert volumes["shop-test_dbdata"].driver_opts["device"] == f"/srv/{SENTINEL}"
    assert [name for name, volume in volumes.items() if volume.external] == ["shop_old"]


def test_migrations_run_once_beside_the_database(nasty: Any) -> None:
    """One service, never restarted, judged by its exit code; a dollar in a setting stays a dollar."""
    place = msgspec.structs.replace(nasty.place, settings={"SHA": "a$b"})
    document = migrate_document(nasty.base, nasty.plans, place)
    assert list(document["services"]) == ["migrate"]
    migrate = document["services"]["migrate"]
    assert migrate["restart"] == "no"
    assert migrate["healthcheck"] == {"disable": True}
    assert migrate["networks"] == {"environment": None}
    assert migrate["environment"]["SHA"] == "a$$b"
    assert migrate["labels"]["dev.sluice.mode"] == "migrate"
    assert migrate["deploy"] == {"resources": {"limits": {"cpus": "0.5", "memory": "64M"}}}
    assert not {"ports", "depends_on", "links", "container_name"} & set(migrate)


def test_settings_and_labels_are_added_to_what_the_file_says(nasty: Any) -> None:
    """Lists of the file become maps; ours go over them; shared services get labels and no settings."""
    place = msgspec.structs.replace(nasty.place, settings={"A": "2", "RELEASE": "r1"})
    services = slot_document(nasty.base, nasty.plans, place, nasty.slot())["services"]
    added = {"A": "2", "SECRET": "${SECRET}", "PASSED": None, "RELEASE": "r1"}
    assert services["worker"]["environment"] == added
    labels = services["api"]["labels"]
    assert labels["team"] == "a=b"
    ours = {key.removeprefix("dev.sluice."): value for key, value in labels.items() if key.startswith("dev.sluice.")}
    assert ours.pop("definition") == definitions(nasty.base, nasty.plans)["api"]
    assert ours == {
        "service": "shop",
        "environment": "test",
        "release": "r1",
        "slot": "shop-test-r1-18100",
        "mode": "slotted",
    }
    shared = shared_document(nasty.base, nasty.plans, place)["services"]["db"]
    assert "RELEASE" not in shared.get("environment", {})


def test_what_is_kept_holds_builds_and_no_made_up_names(nasty: Any) -> None:
    """The base keeps what a build needs, the arguments Compose loses included, and drops extensions and tools."""
    assert not [key for key in nasty.base if key == "name" or key.startswith("x-")]
    assert "tool" not in nasty.base["services"]
    assert nasty.base["services"]["api"]["build"]["args"] == {"S": "${SECRET}"}
    assert nasty.base["services"]["api"]["x-note"] == "kept"
    assert nasty.base["volumes"]["fixed"]["name"] == "shop_fixed"
    assert "name" not in (nasty.base["volumes"]["cache"] or {})
    assert nasty.base["networks"]["front"]["name"] == "myfront"


def test_build_arguments_without_a_value_are_there_again(read: Callable[..., Any]) -> None:
    """Compose leaves them out when it does not interpolate; a build would miss them silently."""
    text = "services: {api: {image: x, build: {context: ., args: [BASE, FIXED=1]}}}"
    found = read(text, values={"BASE": SENTINEL})
    assert found.base["services"]["api"]["build"]["args"] == {"BASE": None, "FIXED": "1"}


def test_no_value_is_in_anything_rendered(nasty: Any) -> None:
    """The interpolated document decides and is never written: its values are nowhere in the documents."""
    assert SENTINEL in json.dumps(nasty.resolved)
    place = msgspec.structs.replace(nasty.place, settings={"SHA": "abc"})
    documents = [
        nasty.base,
        slot_document(nasty.base, nasty.plans, place, nasty.slot()),
        shared_document(nasty.base, nasty.plans, place),
        migrate_document(nasty.base, nasty.plans, place),
    ]
    assert SENTINEL not in json.dumps(documents)


def test_compose_accepts_everything_rendered(
    nasty: Any, tmp_path: Path, compose_config: Callable[..., dict[str, Any]]
) -> None:
    """Each document is valid, and with the values in place says what the file said."""
    directory = Path(nasty.place.directory)
    rendered = {
        "base": nasty.base,
        "slot": slot_document(nasty.base, nasty.plans, nasty.place, nasty.slot()),
        "shared": shared_document(nasty.base, nasty.plans, nasty.place),
        "migrate": migrate_document(nasty.base, nasty.plans, nasty.place),
    }
    read_again = {}
    for name, document in rendered.items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(document))
        read_again[name] = compose_config(directory, file, VALUES)
    api = read_again["slot"]["services"]["api"]
    sources = {mount["target"]: mount.get("source") for mount in api["volumes"]}
    assert sources["/dd"] == sources["/long"] == f"/srv/{SENTINEL}"
    assert Path(sources["/other"]) == Path("/data/test/binds/other")
    assert sources["/cache"] == "cache"
    assert api["command"] == ["sh", "-c", f"echo $$HOME {SENTINEL}-secret"]
    assert api["environment"]["DB_URL"] == f"postgres://u:{SENTINEL}-password@shop-db/x"
    assert api["deploy"]["replicas"] == 2
    assert read_again["migrate"]["services"]["migrate"]["command"] == api["command"]
    assert read_again["base"]["services"]["api"]["build"]["context"] == str(directory)


def test_a_file_in_a_folder_starts_its_paths_there(read: Callable[..., Any], tmp_path: Path) -> None:
    """Relative paths begin at the first file's folder; a path above it may still be in the repository."""
    text = """
services:
  api:
    image: x
    volumes: ["../conf:/conf:ro", "./state:/state:ro", "${S:-./state}/more:/more:ro"]
"""
    found = read(text, folder="deploy", files={"conf/a": ""})
    mounts = slot_document(found.base, found.plans, found.place, found.slot())["services"]["api"]["volumes"]
    assert [mount["source"] for mount in mounts] == [
        str(tmp_path / "tree" / "conf"),
        "/data/test/binds/deploy/state",
        "/data/test/binds/deploy/${S:-./state}/more",
    ]


def test_a_whole_mount_in_one_variable_is_refused(read: Callable[..., Any]) -> None:
    """Without its value nobody can tell source from target."""
    text = 'services: {api: {image: x, volumes: ["${ALL:-named:/all:ro}"]}}\nvolumes: {named: }'
    with pytest.raises(ConfigError, match="whole mount in one variable"):
        read(text)


def test_a_relative_path_out_of_the_repository_is_refused(read: Callable[..., Any]) -> None:
    """It would lie among Sluice's own artifacts, and somewhere else for every release."""
    with pytest.raises(ConfigError, match=r"\.\./data is outside the repository.*an absolute path"):
        read('services: {api: {image: x, volumes: ["../data:/data:ro"]}}')


def test_two_documents_of_different_files_are_refused(nasty: Any) -> None:
    """A kept document without a planned service is not this file's."""
    with pytest.raises(ConfigError, match="no service 'api'"):
        base_document({"name": "x", "services": {}}, nasty.plans)
    fewer = json.loads(json.dumps(nasty.kept))
    del fewer["services"]["db"]["volumes"]
    with pytest.raises(ConfigError, match="another number of mounts"):
        base_document(fewer, nasty.plans)


def test_nothing_starts_without_its_image(nasty: Any) -> None:
    """A service nobody built or pulled an image for is refused, not left for Compose to pull."""
    place = msgspec.structs.replace(nasty.place, images={"api": "sha256:a"})
    with pytest.raises(Refused, match="no image for the service init"):
        slot_document(nasty.base, nasty.plans, place, nasty.slot())


def test_pinning_changes_images_alone() -> None:
    """A pinned service is never pulled or built; the others and the argument stay as they were."""
    document = {"services": {"a": {"image": "x", "build": "."}, "b": {"image": "y"}}}
    assert pin(document, {"a": "sha256:1"}) == {
        "services": {"a": {"image": "sha256:1", "pull_policy": "never"}, "b": {"image": "y"}}
    }
    assert document["services"]["a"] == {"image": "x", "build": "."}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"build": {"context": "."}}, True),
        ({"depends_on": {"x": {}}}, True),
        ({"pull_policy": "never"}, True),
        ({"container_name": "y"}, True),
        ({"image": "y"}, False),
        ({"environment": {"A": "2"}}, False),
        ({"volumes": []}, False),
    ],
)
def test_a_definition_changes_with_what_makes_its_container(change: dict[str, Any], same: bool) -> None:
    """What only tells Compose how to get there is no change of the service."""
    definition = {"image": "x", "environment": {"A": "1"}}
    assert (definition_hash(definition) == definition_hash({**definition, **change})) is same


def test_a_definition_does_not_depend_on_slot_release_or_place(nasty: Any) -> None:
    """Shared services are compared by it from one release to the next; a moved tag in a variable does change it."""
    elsewhere = msgspec.structs.replace(
        nasty.place, release="r2", images=dict.fromkeys(nasty.plans, "sha256:other"), directory="/other", tree="/other"
    )
    label = "dev.sluice.definition"
    first = shared_document(nasty.base, nasty.plans, nasty.place)["services"]["db"]["labels"][label]
    assert shared_document(nasty.base, nasty.plans, elsewhere)["services"]["db"]["labels"][label] == first
    plans = {**nasty.plans, "db": msgspec.structs.replace(nasty.plans["db"], image="postgres:17")}
    assert definitions(nasty.base, plans)["db"] != first
