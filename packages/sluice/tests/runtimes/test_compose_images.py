"""Which image each service of an artifact gets: built, pulled, or the one that another service builds."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sluice.model.errors import StepFailed
from sluice.model.promotion import Denial, Denied
from sluice.model.spec import ComposeSpec, ServiceMode
from sluice.runtimes.compose_images import Images, Job
from sluice.runtimes.compose_values import ServicePlan
from sluice.runtimes.engine import Image


class MemoryEngine:
    """Images by reference. A registry has what it was given: whatever else is pulled is an error."""

    def __init__(self) -> None:
        self.there: dict[str, Image] = {}
        self.registry: dict[str, Image] = {}

    async def image(self, reference: str) -> Image | None:
        return self.there.get(reference)

    async def pull(self, reference: str, _progress: Any) -> Image:
        if reference in self.registry:
            return self.there.setdefault(reference, self.registry[reference])
        raise StepFailed(f"The image {reference} cannot be pulled")


class MemoryCli:
    """Compose that builds what it is asked to build."""

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine
        self.documents: list[Any] = []
        self.builds = 0

    def write(self, path: Path, document: Any) -> Path:
        self.documents.append(document)
        path.write_text("{}")
        return path

    async def build(self, _rendered: Any, services: list[str], _progress: Any, _every_line: Any) -> None:
        self.builds += 1
        for name in services:
            tag = self.documents[-1]["services"][name]["image"]
            image = Image(f"sha256:{name}{self.builds}", (tag,), (), {}, 1, True, ("/data",))
            self._engine.there |= {tag: image, image.id: image}


class NoLayers:
    """Nobody asks what the steps were."""

    @asynccontextmanager
    async def written(self, _key: str):
        yield lambda _line: None


def plan(name: str, image: str = "", *, build: bool = False, routed: bool = False) -> ServicePlan:
    """A service of the file."""
    return ServicePlan(name, ServiceMode.SLOTTED, routed, 80 if routed else 0, image=image, build=build)


@pytest.fixture
def engine() -> MemoryEngine:
    """An empty engine."""
    return MemoryEngine()


@pytest.fixture
def cli(engine: MemoryEngine) -> MemoryCli:
    """Its Compose."""
    return MemoryCli(engine)


@pytest.fixture
def pinned(tmp_path: Path, engine: MemoryEngine, cli: MemoryCli):
    """Pins the images of these plans."""
    images = Images("shop", "/state", engine, cli, NoLayers())

    async def make(*plans: ServicePlan, carried: dict[str, str] | None = None):
        job = Job(tmp_path, "k" * 32, "/tree", "t", ComposeSpec(), carried or {})
        named = {one.name: one for one in plans}
        base = {"services": {one.name: {"build": {"context": "."}} if one.build else {} for one in plans}}
        return await images.pinned(job, base, named, lambda _text: None)

    return make


@pytest.mark.parametrize("said", ["shop/app", "shop/app:latest"])
async def test_a_service_that_names_the_image_another_one_builds_gets_that_one(pinned, said):
    """It is never pulled: the registry need not have it, and what it has is another build."""
    found = await pinned(plan("worker", said), plan("web", "shop/app", build=True, routed=True))
    assert found.images == {"worker": "sha256:web1", "web": "sha256:web1"}
    assert set(found.healthchecks) == {"worker", "web"}
    assert found.stores == {"worker": ("/data",), "web": ("/data",)}


async def test_an_old_image_of_that_name_on_the_machine_is_not_taken(pinned, engine):
    """Somebody built it by hand once; the artifact's own is what runs."""
    engine.there["shop/app"] = Image("sha256:byhand", ("shop/app:latest",), (), {})
    found = await pinned(plan("web", "shop/app", build=True, routed=True), plan("worker", "shop/app"))
    assert found.images["worker"] == "sha256:web1"


async def test_both_follow_when_it_is_built_again(pinned, engine, cli):
    """The image was removed by hand: the second build is the image of both."""
    plans = (plan("web", "shop/app", build=True, routed=True), plan("worker", "shop/app"))
    await pinned(*plans)
    assert (await pinned(*plans)).images["worker"] == "sha256:web1"
    assert cli.builds == 1
    del engine.there["sha256:web1"]
    assert (await pinned(*plans)).images == {"web": "sha256:web2", "worker": "sha256:web2"}


async def test_another_tag_of_that_repository_is_another_image(pinned):
    """That one is pulled, and where nobody has it the build fails."""
    with pytest.raises(StepFailed, match="shop/app:2 cannot be pulled"):
        await pinned(plan("web", "shop/app:1", build=True, routed=True), plan("worker", "shop/app:2"))


async def test_what_another_host_proved_is_pulled_by_its_digest_and_never_built(pinned, engine, cli):
    """Neither a build nor the tag that moved: the digest, with the health check and the folders of that very image."""
    proven = {"web": f"r.example/shop-web@sha256:{'1' * 64}", "db": f"r.example/db@sha256:{'2' * 64}"}
    engine.there["r.example/db:1"] = Image("sha256:moved", ("r.example/db:1",), (), {})
    engine.registry[proven["web"]] = Image("sha256:w", (), (proven["web"],), {}, 1, True, ("/data",))
    engine.registry[proven["db"]] = Image("sha256:d", (), (proven["db"],), {})
    plans = (plan("web", "shop/app", build=True, routed=True), plan("db", "r.example/db:1"), plan("twin", "shop/app"))
    found = await pinned(*plans, carried=proven)
    assert found.images == {**proven, "twin": proven["web"]}
    assert (found.healthchecks, found.stores) == (("twin", "web"), {"web": ("/data",), "twin": ("/data",)})
    assert cli.builds == 0


async def test_what_was_noted_here_gives_way_to_what_another_host_proved(pinned, engine, cli):
    """An image of this key was built here before; and where the registry has the proven one no more, it is gone."""
    assert (await pinned(plan("web", build=True, routed=True))).images == {"web": "sha256:web1"}
    proven = {"web": f"r.example/shop-web@sha256:{'1' * 64}"}
    with pytest.raises(Denied, match="cannot be pulled") as denied:
        await pinned(plan("web", build=True, routed=True), carried=proven)
    assert denied.value.code == Denial.ARTIFACT_GONE
    engine.registry[proven["web"]] = Image("sha256:w", (), (proven["web"],), {})
    found = await pinned(plan("web", build=True, routed=True), carried=proven)
    assert (found.images, found.healthchecks, found.stores, cli.builds) == (proven, (), {}, 1)


async def test_what_only_this_host_would_build_is_refused_before_anything_is_built(pinned, engine, cli):
    """Another host proved the rest: a service that it does not have is pulled by its name, or there is none.

    Also where it was built here once, before test moved to another host.
    """
    proven = "registry/web@sha256:abc"
    engine.registry = {proven: Image("sha256:web", (), (proven,), {}), "turn:4": Image("sha256:turn", (), (), {})}
    web, turn = plan("web", build=True, routed=True), plan("turn", "turn:4")
    extra = plan("extra", build=True)
    await pinned(web, extra)
    built = cli.builds
    with pytest.raises(Denied, match="extra would be built here") as denied:
        await pinned(web, turn, extra, carried={"web": proven})
    assert denied.value.code == Denial.ARTIFACT_DIFFERS
    assert cli.builds == built
    assert (await pinned(web, turn, carried={"web": proven})).images == {"web": proven, "turn": "sha256:turn"}
