"""The unnamed images of build steps: ours go when no build needs them, and nobody else's ever do."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sluice.model.errors import StepFailed
from sluice.runtimes.compose_layers import Layers
from sluice.runtimes.engine import Image

BASE, THEIRS = "b" * 12, "c" * 12


def full(short: str) -> str:
    """The engine's whole id of a printed one."""
    return f"sha256:{short}{'0' * 52}"


class MemoryEngine:
    """Images by id, what stands upon them, and what the engine would not remove."""

    def __init__(self) -> None:
        self.there: dict[str, Image] = {}
        self.needed: set[str] = set()  # a container's, or a child's: the engine says 409
        for one in (BASE, THEIRS):
            self.add(one)

    def add(self, short: str, *tags: str) -> str:
        """An image is there now."""
        self.there[full(short)] = Image(full(short), tags, (), {})
        return f" ---> {short}"

    async def image(self, reference: str) -> Image | None:
        return self.there.get(reference) or self.there.get(full(reference))

    async def images(self, _labels: dict[str, str], *, everything: bool) -> list[Image]:
        assert everything
        return list(self.there.values())

    async def remove_image(self, reference: str, *, parents: bool) -> bool:
        assert not parents
        if reference in self.needed:
            return False
        del self.there[reference]
        return True


@pytest.fixture
def engine() -> MemoryEngine:
    """With a base image that has no name, and one more that is somebody else's."""
    return MemoryEngine()


@pytest.fixture
def layers(tmp_path: Path, engine: MemoryEngine) -> Layers:
    """The notes in a folder of the test's own."""
    return Layers(tmp_path / "layers", engine)


async def build(layers: Layers, engine: MemoryEngine, key: str, made: list[str], cached: tuple[str, ...] = ()) -> None:
    """A build that prints its base, steps it found in the cache, and steps it made."""
    async with layers.written(key) as told:
        told("Step 1/3 : FROM base AS one")
        told(f" ---> {BASE}")
        for one in cached:
            told(f" ---> {one}")
        for one in made:
            told(engine.add(one))
        told("Successfully built 0123456789ab")


def shorts(engine: MemoryEngine) -> set[str]:
    """What is there."""
    return {one.removeprefix("sha256:")[:12] for one in engine.there}


async def test_what_only_a_build_that_is_gone_made_goes(layers, engine):
    """The base, everybody else's images and what a kept build found in the cache stay; the rest is removed and told."""
    await build(layers, engine, "old", ["1" * 12, "2" * 12, "3" * 12])
    await build(layers, engine, "new", ["4" * 12], cached=("1" * 12, THEIRS))
    said: list[str] = []
    await layers.prune({"old", "new"}, said.append)
    assert said == []
    await layers.prune({"new"}, said.append)
    assert shorts(engine) == {BASE, THEIRS, "1" * 12, "4" * 12}
    assert said == ["removed 2 unnamed images of build steps that no build needs"]
    await layers.prune(set(), said.append)
    assert shorts(engine) == {BASE, THEIRS}


async def test_what_somebody_needs_or_named_stays_and_is_tried_again(layers, engine):
    """A container's, a child's parent, and one that got a name since: later, when that is over, it goes."""
    await build(layers, engine, "old", ["1" * 12, "2" * 12])
    engine.needed = {full("1" * 12)}
    engine.add("2" * 12, "somebody/image:1")
    await layers.prune(set(), lambda _text: None)
    assert {"1" * 12, "2" * 12} <= shorts(engine)
    engine.needed = set()
    engine.add("2" * 12)
    await layers.prune(set(), lambda _text: None)
    assert shorts(engine) == {BASE, THEIRS}


async def fail() -> None:
    """A build that does not come through."""
    raise StepFailed("the build ended with 1")


async def test_a_build_that_failed_left_something_too(layers, engine):
    """What it made before it failed is known, and its own error is the one that is told."""
    failing = AsyncExitStack()
    told = await failing.enter_async_context(layers.written("old"))
    told(engine.add("1" * 12))
    failing.push_async_callback(fail)
    with pytest.raises(StepFailed, match="the build ended with 1"):
        await failing.aclose()
    await layers.prune(set(), lambda _text: None)
    assert shorts(engine) == {BASE, THEIRS}


async def test_a_build_again_adds_to_what_is_known(layers, engine):
    """Built anew because an image was gone: what the first one made is still remembered."""
    await build(layers, engine, "key", ["1" * 12])
    await build(layers, engine, "key", ["2" * 12], cached=("1" * 12,))
    await layers.prune(set(), lambda _text: None)
    assert shorts(engine) == {BASE, THEIRS}


async def test_a_damaged_note_removes_nothing(layers, engine, tmp_path):
    """What is not known stays."""
    await build(layers, engine, "old", ["1" * 12])
    for note in (tmp_path / "layers").iterdir():
        note.write_bytes(b"{")
    await layers.prune(set(), lambda _text: None)
    assert "1" * 12 in shorts(engine)


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
async def test_what_was_built_upon_another_builds_step_goes_before_it(layers, engine, order):
    """Whichever note is looked at first, both are gone afterwards."""
    whole = engine.remove_image

    async def remove(reference: str, *, parents: bool) -> bool:
        if reference == full("1" * 12) and full("2" * 12) in engine.there:
            return False
        return await whole(reference, parents=parents)

    engine.remove_image = remove
    first, second = order
    await build(layers, engine, first, ["1" * 12])
    await build(layers, engine, second, ["2" * 12], cached=("1" * 12,))
    await layers.prune(set(), lambda _text: None)
    assert shorts(engine) == {BASE, THEIRS}
