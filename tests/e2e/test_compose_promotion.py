"""Promotion on Compose: prod runs the very images that passed test, beside it, with its own volumes and network."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import Images
from tiny import TinyWorld

pytestmark = pytest.mark.e2e

PORT, PROD_PORT = 18960, 18980
POLICY = """
[promotion]
approvals = 1
[signers.bob]
keys = ["{key}"]
may = ["approve"]
"""


@pytest.fixture
def world(tmp_path: Path, images: Images) -> Iterator[TinyWorld]:
    """A service with both environments on one engine, and bob's key in the policy."""
    key = tmp_path / "bob"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    made = TinyWorld(tmp_path, "compose", PORT, images.python, prefix="promo")
    env_file = tmp_path / "prod.env"
    env_file.write_text(made.env_file.read_text())
    env_file.chmod(0o600)
    with made.host_file.open("a") as host:
        host.write(
            f'[service.{made.service}.env.prod]\nruntime = "compose"\npublic_url = "http://127.0.0.1:{PROD_PORT}"\n'
            f'env_file = "{env_file}"\nports = [{PROD_PORT + 1}, {PROD_PORT + 9}]\n'
        )
    spec = (tmp_path / "work" / "sluice.toml").read_text()
    made.branch("main", **{"sluice.toml": spec + POLICY.format(key=key.with_suffix(".pub").read_text().strip())})
    yield made
    made.stop()


def images_of(world: TinyWorld, environment: str) -> dict[str, str]:
    """Service of the file -> the image its container runs, in one environment."""
    label = f"label=dev.sluice.environment={environment}"
    ids = world.docker_cli("ps", "--quiet", "--filter", f"label=dev.sluice.service={world.service}", "--filter", label)
    found = json.loads(world.docker_cli("inspect", *ids.split()))
    named = {one["Config"]["Labels"].get("com.docker.compose.service", ""): one["Image"] for one in found}
    return {service: image for service, image in named.items() if service}


def test_prod_runs_the_images_that_passed_test(world: TinyWorld) -> None:
    """Nothing is built for prod; both environments go on beside each other, and each has its own data."""
    world.good("rollout", "--branch", "main")
    refused = world.run("promote", "--env", "prod")
    assert (refused.code, "ApprovalMissing" in refused.text) == (1, True), refused.text
    world.good("approve", "--env", "prod", "--key", str(world.folder / "bob"))
    built = ("images", "--quiet", "--no-trunc", "--filter", f"label=dev.sluice.built-for={world.service}")
    before = world.docker_cli(*built)
    done = world.good("promote", "--env", "prod")
    assert before.split()
    # Pruning may have taken some away; none was made.
    assert set(world.docker_cli(*built).split()) <= set(before.split()), done.text
    prod = images_of(world, "prod")
    assert prod == images_of(world, "test")
    assert set(prod) == {"web", "worker", "store"}
    assert world.served()[0] == world.shas["main"]
    public, world.url = world.url, f"http://127.0.0.1:{PROD_PORT}"
    assert world.served()[0] == world.shas["main"]
    assert world.lines("migrations") == [world.shas["main"]]
    assert world.lines("twice") == []
    world.url = public
    assert world.lines("migrations") == [world.shas["main"]]
    world.good("verify", "--env", "prod")
    world.good("smoke", "--env", "prod")


def test_a_file_beside_the_images_that_was_changed_is_not_promoted(world: TinyWorld) -> None:
    """The images are those of test, the exported tree is not: refused by name, nothing starts, and test mends it."""
    world.good("rollout", "--branch", "main")
    release = world.releases.all()[0]
    assert release.artifact.digests.keys() >= {"content:own", "web"}
    changed = Path(release.artifact.path) / "tree" / "compose.yaml"
    changed.write_text(changed.read_text() + "\n")
    refused = world.run("promote", "--env", "prod")
    assert (refused.code, "tree/compose.yaml is another" in refused.text) == (1, True), refused.text
    assert not [one for one in world.containers() if "-prod-" in one["project"]]
    again = world.good("rollout", "--branch", "main")
    assert "tree/compose.yaml is another. It is left as it is" in again.text
    world.good("approve", "--env", "prod", "--key", str(world.folder / "bob"))
    world.good("promote", "--env", "prod")
    assert set(images_of(world, "prod")) == {"web", "worker", "store"}
