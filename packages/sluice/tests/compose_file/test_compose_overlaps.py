"""What two environments, or an environment and somebody else's project, would share is said in one sentence each."""

from __future__ import annotations

import pytest

from sluice.model.spec import ServiceMode
from sluice.runtimes.compose_overlaps import Footprint, Volume, footprint, overlaps, volumes_of
from sluice.runtimes.compose_values import (
    HostPort,
    Mount,
    MountKind,
    Origin,
    Outside,
    Placement,
    ServicePlan,
    Source,
)


def place(environment: str) -> Placement:
    """Where a release of the shop is put in an environment."""
    return Placement("shop", environment, "r1", f"sluice-shop-{environment}", "/t", "/t", f"/data/{environment}")


def of(**said: object) -> tuple[Footprint, Footprint]:
    """The same said of both environments."""
    return (
        Footprint("test", **{key: frozenset(value) for key, value in said.items()}),  # type: ignore[call-overload]
        Footprint("prod", **{key: frozenset(value) for key, value in said.items()}),  # type: ignore[call-overload]
    )


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"projects": {"shop"}}, "test and prod would share the Compose project shop"),
        ({"ports": {HostPort(3478, "udp")}}, "test and prod would share the host port 3478/udp"),
        ({"volumes": {"shop_data"}}, "test and prod would share the volume shop_data"),
        ({"networks": {"back"}}, "test and prod would share the network back"),
        ({"external_networks": {"edge"}}, "test and prod would share the external network edge"),
        ({"containers": {"db"}}, "test and prod would share the container name db"),
        ({"binds": {"/srv/shop"}}, "test and prod would both write to /srv/shop: give each"),
    ],
)
def test_each_kind_of_overlap_is_a_sentence(said: dict[str, set[object]], sentence: str) -> None:
    """Every kind is found, named and given a way out."""
    mine, other = of(**said)
    found = overlaps(mine, [other])
    assert len(found) == 1
    assert found[0].startswith(sentence)
    assert ": " in found[0]


def test_nothing_shared_is_nothing_said() -> None:
    """Different names are fine, and so is an environment compared with nobody."""
    mine = Footprint("test", ports=frozenset({HostPort(1)}), volumes=frozenset({"a"}), binds=frozenset({"/srv/a"}))
    other = Footprint("prod", ports=frozenset({HostPort(2)}), volumes=frozenset({"b"}), binds=frozenset({"/srv/ab"}))
    assert overlaps(mine, [other]) == []
    assert overlaps(mine, []) == []


@pytest.mark.parametrize(
    ("mine", "theirs", "meet"),
    [
        (HostPort(80), HostPort(80), True),
        (HostPort(80, ip="127.0.0.1"), HostPort(80), True),
        (HostPort(80, ip="::"), HostPort(80, ip="10.0.0.1"), True),
        (HostPort(80, ip="127.0.0.1"), HostPort(80, ip="10.0.0.1"), False),
        (HostPort(80), HostPort(80, "udp"), False),
    ],
)
def test_ports_meet_on_common_addresses(mine: HostPort, theirs: HostPort, meet: bool) -> None:
    """Every address meets all others, two different ones and two protocols do not."""
    found = overlaps(Footprint("test", ports=frozenset({mine})), [Footprint("x", ports=frozenset({theirs}))])
    assert bool(found) is meet


def test_folders_inside_each_other_overlap() -> None:
    """Writing to a folder is writing to everything above it."""
    mine = Footprint("test", binds=frozenset({"/srv/shop"}))
    found = overlaps(mine, [Footprint("prod", binds=frozenset({"/srv/shop/uploads"}))])
    assert found == [
        "test and prod would both write to /srv/shop (prod writes to /srv/shop/uploads): give each a folder of its own"
    ]


def test_a_foreign_projects_network_may_be_joined_and_its_volume_not() -> None:
    """An external network is there to be shared with others; a volume two write to is lost."""
    mine = Footprint("test", external_networks=frozenset({"traefik"}), volumes=frozenset({"old"}))
    theirs = Footprint("the Compose project edge", foreign=True, networks=frozenset({"traefik"}))
    assert overlaps(mine, [theirs]) == []
    assert overlaps(mine, [Footprint("prod", networks=frozenset({"traefik"}))]) != []
    writer = Footprint("the Compose project old", foreign=True, volumes=frozenset({"old"}))
    assert overlaps(mine, [writer])[0].startswith("test and the Compose project old would share the volume old")


def plan(*mounts: Mount, **more: object) -> dict[str, ServicePlan]:
    """One shared service."""
    return {"db": ServicePlan("db", ServiceMode.SHARED, mounts=mounts, **more)}  # type: ignore[arg-type]


def test_a_footprint_is_what_a_release_would_have_of_the_host() -> None:
    """Published ports, volumes and their devices, networks, and every folder that is written to."""
    plans = plan(
        Mount(MountKind.BIND, "/a", source=Source("/srv/a", Origin.HOST)),
        Mount(MountKind.BIND, "/b", read_only=True, source=Source("/srv/b", Origin.HOST)),
        Mount(MountKind.BIND, "/c", source=Source("/t/c", Origin.DATA, "c")),
        Mount(MountKind.BIND, "/d", source=Source("/t/d", Origin.TREE, "d")),
        publish=True,
        ports=(HostPort(3478, "udp"),),
        outside=(Outside("edge"),),
    )
    volumes = [Volume("shop-test_x", driver_opts={"o": "bind,rw", "device": "/srv/x/"}), Volume("v")]
    assert footprint(plans, volumes, place("test"), [HostPort(18100)]) == Footprint(
        owner="test",
        projects=frozenset({"shop-test-shared"}),
        ports=frozenset({HostPort(3478, "udp"), HostPort(18100)}),
        volumes=frozenset({"shop-test_x", "v"}),
        networks=frozenset({"sluice-shop-test"}),
        external_networks=frozenset({"edge"}),
        binds=frozenset({"/srv/a", "/srv/x", "/data/test/binds/c"}),
    )


def test_ports_that_are_dropped_are_nobodys() -> None:
    """What the file publishes and Sluice does not keep is no overlap."""
    assert footprint(plan(ports=(HostPort(5432),)), [], place("test")).ports == frozenset()


def test_two_environments_of_one_file_share_only_what_the_file_fixes() -> None:
    """Made-up volumes are each environment's own; a fixed or external name is the same in both, and said."""
    plans = plan(*(Mount(MountKind.VOLUME, f"/{key}", volume=key) for key in ("own", "fixed", "outer")))
    base = {"volumes": {"own": None, "fixed": {"name": "${X:-shop_data}"}, "outer": {"external": True}}}
    document = {
        "volumes": {"own": {"name": "p_own"}, "fixed": {"name": "shop_data"}, "outer": {"external": True}},
    }
    mine, other = (
        footprint(plans, volumes_of(base, document, plans, place(environment)), place(environment))
        for environment in ("test", "prod")
    )
    assert [sentence.split(":")[0] for sentence in overlaps(mine, [other])] == [
        "test and prod would share the volume outer",
        "test and prod would share the volume shop_data",
    ]
