"""Test on one host, prod on another: the images that passed come from a registry, by digest, and from nowhere else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import Images
from test_compose_promotion import POLICY, images_of
from test_compose_registry import forget, registry
from tiny import TinyWorld

__all__ = ["registry"]

pytestmark = pytest.mark.e2e

PORT, PROD_PORT = 19140, 19160


def pushed(world: Path, base: str, tag: str, text: str) -> None:
    """An image of its own, known under a tag of the registry."""
    dockerfile = f"FROM {base}\nLABEL dev.sluice.e2e.two-hosts={text}\n"
    build = ["docker", "build", "--quiet", "--tag", tag, "-"]
    subprocess.run(build, input=dockerfile, cwd=world, text=True, check=True, capture_output=True, timeout=120)
    subprocess.run(["docker", "push", "--quiet", tag], check=True, capture_output=True, timeout=120)


@pytest.fixture
def world(tmp_path: Path, images: Images, registry: str) -> Iterator[TinyWorld]:
    """A service with `test` alone on its host, whose images go to the registry."""
    key = tmp_path / "bob"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    base = f"{registry}/tools/base:1"
    pushed(tmp_path, images.python, base, "first")
    made = TinyWorld(tmp_path, "compose", PORT, base, prefix="twohosts")
    spec = (tmp_path / "work" / "sluice.toml").read_text()
    spec = spec.replace("port = 8000\n", f'port = 8000\nregistry = "{registry}/team"\n', 1)
    made.branch("main", **{"sluice.toml": spec + POLICY.format(key=key.with_suffix(".pub").read_text().strip())})
    yield made
    emptied(made, registry)


def emptied(world: TinyWorld, registry: str) -> None:
    """Nothing of the service runs here, and none of its images is left."""
    if containers := [one["id"] for one in world.containers()]:
        world.docker_cli("rm", "--force", "--volumes", *containers)
    forget(registry)  # first: what was pulled by digest has no tag to be removed by
    world.stop()


def moved(world: TinyWorld, pinned: str) -> None:
    """From now on the commands are those of prod's host."""
    folder = world.folder / "far"
    folder.mkdir(exist_ok=True)
    env_file = folder / "prod.env"
    env_file.write_text(world.env_file.read_text())
    env_file.chmod(0o600)
    world.state, world.host_file = folder / "state", folder / "host.toml"
    world.host_file.write_text(
        f'[host]\ndocker = "{world.docker}"\nmin_free_mb = 0\n[service.{world.service}]\nrepo = "{world.origin}"\n'
        f'test_ledger_key = "{pinned}"\n[service.{world.service}.env.prod]\nruntime = "compose"\n'
        f'public_url = "http://127.0.0.1:{PROD_PORT}"\nenv_file = "{env_file}"\n'
        f"ports = [{PROD_PORT + 1}, {PROD_PORT + 9}]\n"
    )


def test_prods_host_pulls_what_tests_host_proved(world: TinyWorld, images: Images, registry: str) -> None:
    """No image is left here, and the tag moved meanwhile: prod runs the very images, built once, on the other host."""
    world.good("rollout", "--branch", "main")
    proven = images_of(world, "test")
    key = world.paths.ledger.with_name("ledger.key.pub").read_text().strip()
    emptied(world, registry)
    pushed(world.folder, images.python, f"{registry}/tools/base:1", "second")
    moved(world, key)
    plan = world.good("plan", "--env", "prod")
    assert "proven in test" in plan.text
    world.good("approve", "--env", "prod", "--key", str(world.folder / "bob"))
    done = world.good("promote", "--env", "prod")
    assert images_of(world, "prod") == proven, done.text
    assert set(proven) == {"web", "worker", "store"}
    assert world.docker_cli("images", "--quiet", f"sluice/{world.service}-web") == ""
    world.url = f"http://127.0.0.1:{PROD_PORT}"
    assert world.served()[0] == world.shas["main"]
    assert world.lines("migrations") == [world.shas["main"]]
    world.good("verify", "--env", "prod")
    refused = world.run("promote", "--env", "prod")
    assert (refused.code, "serves already" in refused.text) == (1, True), refused.text
