"""Compose files of real life, read by Compose itself. No engine is asked: `config` only reads files."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sluice.model.release import Slot
from sluice.model.spec import ComposeService, ComposeSpec
from sluice.runtimes.compose_file import base_document
from sluice.runtimes.compose_modes import services_of
from sluice.runtimes.compose_values import Placement, ServicePlan, World

from .nasty import DECLARED, FILES, NASTY, VALUES

BINARY = Path(sysconfig.get_path("scripts")) / "docker-compose"
CONFIG_S = 30


class Read(msgspec.Struct, frozen=True):
    """A Compose file read with and without its variables' values, and understood."""

    kept: dict[str, Any]
    resolved: dict[str, Any]
    world: World
    plans: dict[str, ServicePlan]
    base: dict[str, Any]
    place: Placement

    def slot(self, port: int = 18100, release: str = "r1") -> Slot:
        """A slot of the environment."""
        return Slot(release, f"shop-test-{release}-{port}", port, f"http://127.0.0.1:{port}")


def config(directory: Path, file: Path, values: Mapping[str, str], *flags: str) -> dict[str, Any]:
    """What Compose prints of a file."""
    argv = [str(BINARY), "-p", "sluice-config", "--project-directory", str(directory), "-f", str(file)]
    argv += ["--env-file", "/dev/null", "--profile", "*", "config", "--format", "json", "--no-env-resolution", *flags]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PWD": str(directory), **values}
    done = subprocess.run(argv, env=environment, cwd=directory, capture_output=True, timeout=CONFIG_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(done.stdout))


@pytest.fixture
def compose_config() -> Callable[..., dict[str, Any]]:
    """`docker-compose config` of a file."""
    return config


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Read]:
    """Write a tree with a compose.yaml, let Compose read it, and understand it."""

    def understand(
        text: str,
        *,
        route: str = "api",
        port: int = 8080,
        services: dict[str, ComposeService] | None = None,
        files: Mapping[str, str] | None = None,
        values: Mapping[str, str] | None = None,
        profiles: frozenset[str] = frozenset(),
        healthchecks: frozenset[str] | None = None,
        folder: str = ".",
    ) -> Read:
        tree = tmp_path / "tree"
        directory = tree / folder
        for name, content in {f"{folder}/compose.yaml": text, **(files or {})}.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(content)
        file = directory / "compose.yaml"
        kept = config(directory, file, {}, "--no-interpolate", "--no-path-resolution")
        resolved = config(directory, file, values or {})
        spec = ComposeSpec(files=("compose.yaml",), route=route, port=port, services=services or {})
        world = World("test", str(tree), str(directory.resolve()), profiles=profiles, healthchecks=healthchecks)
        plans = services_of(resolved, spec, world)
        place = Placement(
            service="shop",
            environment="test",
            release="r1",
            network="sluice-shop-test",
            tree=str(tree),
            directory=world.directory,
            data="/data/test",
            env_file="/etc/shop/test.env",
            images={name: f"sha256:{name}" for name in plans},
        )
        return Read(kept, resolved, world, plans, base_document(kept, plans), place)

    return understand


@pytest.fixture
def nasty(read: Callable[..., Read]) -> Read:
    """The nasty file, understood."""
    return read(NASTY, files=FILES, services=DECLARED, values=VALUES, healthchecks=frozenset())
