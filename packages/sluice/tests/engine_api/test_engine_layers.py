"""What the classic builder leaves of a build in several stages, on the engine of this machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice.model.secret import Redactor
from sluice.runner import LocalRunner
from sluice.runtimes.compose_cli import ComposeCli, Rendered
from sluice.runtimes.compose_layers import Layers
from sluice.runtimes.engine import DockerEngine

pytestmark = pytest.mark.e2e

SOCKET = "/var/run/docker.sock"
NAME = f"sluice-layers-{os.getpid()}"
DOCKERFILE = """
FROM scratch AS tools
COPY first /first
COPY {second} /second
FROM scratch
COPY --from=tools /second /second
LABEL dev.sluice.service={name}
"""


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    """The engine; the images that have this test's name are removed afterwards."""
    client = DockerEngine(SOCKET, Redactor())
    yield client
    for image in await client.images({"dev.sluice.service": NAME}):
        for tag in image.tags or (image.id,):
            await client.remove_image(tag)


class Bench:
    """A build folder, and Sluice's way to build in it."""

    def __init__(self, folder: Path, engine: DockerEngine) -> None:
        self.folder, self.engine = folder, engine
        self.cli = ComposeCli(LocalRunner(Redactor()), SOCKET, dict)
        self.layers = Layers(folder / "layers", engine)

    async def build(self, key: str) -> None:
        """Two stages; the second file of the first stage is of this key alone."""
        for name in ("first", key):
            (self.folder / name).write_text(f"{NAME} {name}")
        (self.folder / "Dockerfile").write_text(DOCKERFILE.format(second=key, name=NAME))
        document = {"services": {"app": {"image": f"{NAME}:{key}", "build": {"context": str(self.folder)}}}}
        rendered = Rendered(self.cli.write(self.folder / "c.json", document), NAME, str(self.folder))
        async with self.layers.written(key) as told:
            await self.cli.build(rendered, ["app"], lambda _text: None, told)

    async def ours(self) -> dict[str, set[str]]:
        """What is still there of what each build made."""
        found = {}
        for key in ("one", "two"):
            made = self.layers._read(self.layers._path(key)).made
            found[key] = {one for one in made if await self.engine.image(one) is not None}
        return found


async def test_a_stage_that_no_build_needs_any_more_is_removed_and_a_shared_step_stays(tmp_path, engine):
    """Removing the named image leaves its first stage behind; pruning takes that, but not what another build uses."""
    bench = Bench(tmp_path, engine)
    await bench.build("one")
    await bench.build("two")
    made = await bench.ours()
    assert len(made["one"]) > len(made["two"]) > 0
    assert await engine.remove_image(f"{NAME}:one")
    left = (await bench.ours())["one"]
    assert left
    said: list[str] = []
    await bench.layers.prune({"two"}, said.append)
    assert len(said) == 1
    shared = set(bench.layers._read(bench.layers._path("two")).used)
    left = {one for one in made["one"] if await engine.image(one) is not None}
    assert left == made["one"] & shared
    assert (await bench.ours())["two"] == made["two"]
    await engine.remove_image(f"{NAME}:two")
    await bench.layers.prune(set(), said.append)
    assert not [one for one in made["one"] | made["two"] if await engine.image(one) is not None]
