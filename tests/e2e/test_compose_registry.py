"""Images pinned by digest, with a real registry on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_compose_runtime import COMPOSE, SERVER, SERVICE, TOML, Stage, ask, docker
from workbench import wait_until

pytestmark = pytest.mark.e2e

PORT = 18330


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """HOST:PORT of an empty registry."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = tmp_path / "registry.yml"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
                "http": {"addr": address},
            }
        )
    )
    with (tmp_path / "registry.log").open("wb") as log:
        child = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(address), "the registry listens", 20)
        yield address
    finally:
        child.terminate()
        child.wait(10)


def listens(address: str) -> bool:
    """Whether the registry answers."""
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


async def test_a_release_keeps_its_images_when_tags_move_and_local_copies_go(tmp_path, images, registry):
    """Built images are pushed and pinned by digest, pulled ones by the digest of that day; both come back by it."""
    tag = f"{registry}/tools/side:1"
    docker("tag", images.python, tag)
    docker("push", tag)
    docker("rmi", tag)
    compose = json.loads(json.dumps(COMPOSE))
    compose["services"]["side"]["image"] = tag
    toml = TOML.replace("port = 8000\n", f'port = 8000\nregistry = "{registry}/team"\n', 1)
    stage = Stage(tmp_path, images.python, PORT)
    try:
        release = await stage.release(compose, toml)
        pins = release.artifact.digests
        assert pins["web"].startswith(f"{registry}/team/{SERVICE}-web@sha256:")
        assert pins["side"].startswith(f"{registry}/tools/side@sha256:")
        other = await stage.release(compose, toml, SERVER + "# other\n")
        docker("tag", other.artifact.digests["web"], tag)
        docker("push", tag)
        for reference in (tag, pins["web"], pins["side"]):
            docker("rmi", "--force", reference)
        slot = await stage.start(release)
        assert ask(slot)["side"]
        found = {one.service: one for one in (await stage.env.runtime.containers(release, slot)).found}
        assert found["side"].image == pins["side"]
        assert found["web"].image == pins["web"]
        assert not any(one.drift for one in found.values())
    finally:
        await stage.clean()
        forget(registry)


def forget(registry: str) -> None:
    """Remove this registry's names. By name: one of the images is the base of others, which run beside this test."""
    named = ["docker", "images", "--digests", "--filter", f"reference={registry}/*/*", "--format", "{{json .}}"]
    for line in subprocess.run(named, capture_output=True, text=True, check=True).stdout.splitlines():
        image = json.loads(line)
        for name in (f"{image['Repository']}:{image['Tag']}", f"{image['Repository']}@{image['Digest']}"):
            if "<none>" not in name:
                subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False)
