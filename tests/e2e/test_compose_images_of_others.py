"""What a rollout knows of images before it builds, and of one that another service of the file builds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from compose_stage import SERVICE, TOML, Stage, changed, command

from sluice.config import load_service
from sluice.model.errors import ConfigError

pytestmark = pytest.mark.e2e

PORT = 19260


@pytest.fixture
async def stage(tmp_path, images) -> AsyncIterator[Stage]:
    """A fresh environment."""
    made = Stage(tmp_path, images.python, PORT)
    yield made
    await made.clean()


async def test_a_service_nobody_could_see_become_ready_is_refused_before_anything_is_built(stage):
    """Its image is here without a healthcheck, and sluice.toml says nothing: the gate tells, not the build's end."""
    silent = TOML.replace("[compose.services.worker]\nready_after_s = 0.1\n", "")
    with pytest.raises(ConfigError, match="worker is ready"):
        await stage.release(toml=silent)
    commit = await stage.env.repo.resolve("main")
    with pytest.raises(ConfigError, match="worker is ready"):
        await stage.env.runtime.overlaps(commit, load_service(silent.encode(), "sluice.toml"))


async def test_a_worker_of_the_image_that_the_route_builds_runs_that_one(stage):
    """It only names the image, which no registry has: what was just built is what it runs."""
    document = changed(web={"image": f"{SERVICE}/app"})
    document["services"]["worker"]["image"] = f"{SERVICE}/app"
    release, _ = await stage.serve(await stage.release(document))
    assert release.artifact.digests["worker"] == release.artifact.digests["web"]
    (worker,) = await stage.containers("worker")
    assert command("docker", "inspect", "--format", "{{.Image}}", worker) == release.artifact.digests["web"]
