"""Pruning of artifacts: never what a release needs, what somebody builds, or what was used just now."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from sluice.model.release import Artifact, Commit, Release
from sluice.model.spec import ServiceSpec
from sluice.runtimes import prune as module
from sluice.runtimes.build import key_lock, lock_file, try_lock
from sluice.runtimes.content import COMPLETE
from sluice.runtimes.prune import UNNAMED_S, prune_artifacts

COMMIT = Commit("a" * 40, "b" * 40, "main", "v1", "A", "2030-01-01T00:00:00Z")


def key(letter):
    """A key as builds make them: hexadecimal."""
    assert letter in "0123456789abcdef"
    return letter * 32


class Store:
    """An artifacts folder as builds leave it."""

    def __init__(self, folder):
        """Empty."""
        self.folder = folder
        folder.mkdir()

    def shared(self, kind, letter, age_s=2 * UNNAMED_S):
        """A Python environment or a bundle that was used so long ago."""
        made = self.folder / kind / key(letter)
        (made / "output").mkdir(parents=True)
        return self._complete(made, age_s)

    def artifact(self, letter, python="", node="", age_s=2 * UNNAMED_S):
        """An artifact that stands upon these."""
        made = self.folder / key(letter)
        site = made / "python" / "server" / "lib" / "python3.11" / "site-packages"
        site.mkdir(parents=True)
        if python:
            link = self.folder / "python" / key(python) / "lib" / "python3.11" / "site-packages"
            (site / "shared-dependencies.pth").write_text(f"{link}\n")
        if node:
            (made / "node").mkdir()
            (made / "node" / "web").write_text(str(self.folder / "node" / key(node)))
        return self._complete(made, age_s)

    def _complete(self, made, age_s):
        (made / COMPLETE).touch()
        then = (made / COMPLETE).stat().st_mtime - age_s
        os.utime(made / COMPLETE, (then, then))
        return made

    def names(self):
        """What is there: letters of artifacts, and `kind/letter` of what they share."""
        found = [path for path in self.folder.rglob("*") if len(path.name) == 32 and path.is_dir()]
        return {
            "/".join(part[:1] if len(part) == 32 else part for part in p.relative_to(self.folder).parts) for p in found
        }


@pytest.fixture
def store(tmp_path):
    """An artifacts folder."""
    return Store(tmp_path / "artifacts")


def release_of(path):
    """A release that needs this artifact."""
    return Release("r1", "tiny", "test", COMMIT, Artifact(path.name, str(path), "t"), ServiceSpec("tiny"), "fp")


async def test_what_no_release_needs_goes_with_what_only_it_used(store):
    """Environments and bundles that a kept artifact shares stay."""
    kept = store.artifact("a", python="d", node="1")
    store.artifact("b", python="d", node="1")
    store.artifact("c", python="e", node="2")
    for kind, letter in (("python", "d"), ("python", "e"), ("node", "1"), ("node", "2")):
        store.shared(kind, letter)
    said = []
    await prune_artifacts(store.folder, [release_of(kept)], said.append)
    assert store.names() == {"a", "python/d", "node/1"}
    assert len(said) == 4
    assert not list(store.folder.rglob("*.removed"))


async def test_what_was_used_within_the_hour_stays_with_all_it_stands_upon(store):
    """Between a build and the journal's line about it nothing names the artifact."""
    store.artifact("a", python="d", node="1", age_s=UNNAMED_S / 2)
    for kind, letter in (("python", "d"), ("node", "1")):
        store.shared(kind, letter)
    store.shared("python", "e", age_s=UNNAMED_S / 2)
    await prune_artifacts(store.folder, [], lambda _: None)
    assert store.names() == {"a", "python/d", "python/e", "node/1"}


async def test_what_somebody_builds_stays(store):
    """The build's own lock is respected, without waiting for it."""
    made = store.artifact("a")
    async with key_lock(made, lambda _: None):
        await prune_artifacts(store.folder, [], lambda _: None)
        assert store.names() == {"a"}
    await prune_artifacts(store.folder, [], lambda _: None)
    assert store.names() == set()
    assert not lock_file(made).exists()


async def test_a_lock_file_that_its_holder_removed_is_not_held_by_two(store):
    """Whoever waited on the removed file takes the new one instead."""
    made = store.artifact("a")
    first = try_lock(made)
    waiting = asyncio.ensure_future(_hold(made))
    await asyncio.sleep(0)
    lock_file(made).unlink()
    os.close(first)
    await asyncio.wait_for(waiting, 5)
    second = try_lock(made)
    assert second is not None
    assert try_lock(made) is None
    os.close(second)


async def _hold(made):
    async with key_lock(made, lambda _: None):
        assert try_lock(made) is None


async def test_a_folder_that_cannot_be_removed_is_said_and_the_rest_goes_on(store, monkeypatch):
    """Never fatal; what is half removed has another name, so nobody takes it for an artifact, and goes next time."""
    store.artifact("a")
    original = shutil.rmtree

    def refuses(path, *arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module.shutil, "rmtree", refuses)
    said = []
    await prune_artifacts(store.folder, [], said.append)
    assert "could not be removed: Input/output error" in said[-1]
    assert store.names() == set()
    monkeypatch.setattr(module.shutil, "rmtree", original)
    await prune_artifacts(store.folder, [], said.append)
    assert not list(store.folder.glob("*.removed"))


async def test_an_artifact_that_cannot_be_read_keeps_everything_shared(store):
    """Who does not know what is needed removes nothing of it."""
    kept = store.artifact("a", python="d")
    store.shared("python", "d")
    store.shared("node", "1")
    next(kept.rglob("shared-dependencies.pth")).write_text("/somewhere/else\n")
    said = []
    await prune_artifacts(store.folder, [release_of(kept)], said.append)
    assert store.names() == {"a", "python/d", "node/1"}
    assert "cannot be read" in said[0]


async def test_other_files_in_the_folder_are_nobodys_business(store):
    """Only folders with a key for a name are looked at."""
    (store.folder / "notes").mkdir()
    (store.folder / "compose").mkdir()
    await prune_artifacts(store.folder, [], lambda _: None)
    assert sorted(path.name for path in store.folder.iterdir()) == ["compose", "notes"]
    await prune_artifacts(Path(store.folder / "missing"), [], lambda _: None)
