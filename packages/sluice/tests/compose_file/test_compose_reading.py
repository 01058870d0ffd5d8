"""Compose files are read once for a commit: the gate's look and the build do not each run Compose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sluice.hosts.git import GitMirror
from sluice.hosts.state import StatePaths
from sluice.model.secret import Redactor, Secret
from sluice.model.spec import ComposeSpec
from sluice.runner import LocalRunner, RawOutput
from sluice.runtimes.compose_build import ComposeBuilder, Read
from sluice.runtimes.compose_cli import ComposeCli
from sluice.runtimes.engine import DockerEngine

FILE = """
services:
  web:
    build: {context: ., args: {WHAT: "${WORD}"}}
    volumes: ["./conf:/conf:ro", "../beside:/beside", "data:/data"]
    env_file: [{path: ./web.env, required: false}]
    environment: {WORD: "${WORD}", MISSING: "${NOBODY_SET_THIS}"}
volumes: {data: {}}
"""
SPEC = ComposeSpec(files=("deploy/compose.yaml",), route="web", port=8000)
TREE = "a" * 40


class Counting(LocalRunner):
    """Runs the real Compose, and counts."""

    runs = 0

    async def run_raw(self, argv: Sequence[str], **how: Any) -> RawOutput:
        """As it is, counted."""
        self.runs += 1
        return await super().run_raw(argv, **how)


class Reader:
    """A builder over an empty state, whose env file holds one word."""

    def __init__(self, tmp_path: Path) -> None:
        paths = StatePaths(tmp_path / "state", "shop", "test")
        self.runner, self.word = Counting(Redactor()), "first"
        self.cli = ComposeCli(self.runner, "/nowhere.sock", lambda: {"WORD": Secret(self.word)})
        engine = DockerEngine("/nowhere.sock", Redactor())
        self.builder = ComposeBuilder(paths, GitMirror(paths, "", self.runner), self.runner, engine, self.cli)

    async def read(self, tree: Path, known: str = "") -> Read:
        """Of the test environment."""
        return await self.builder.read(tree, SPEC.files, SPEC, "test", self.cli, known)


def exported(folder: Path) -> Path:
    """The commit's tree in a place of its own."""
    tree = folder / "tree"
    (tree / "deploy").mkdir(parents=True)
    (tree / "deploy" / "compose.yaml").write_text(FILE)
    return tree


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Nothing read yet."""
    return Reader(tmp_path)


async def test_the_same_commit_in_another_place_is_not_read_again_and_reads_as_if_it_were(reader, tmp_path):
    """Every path of it, above the tree too, is that of the place it is asked for."""
    look, built = exported(tmp_path / "look-q7x1"), exported(tmp_path / "artifact")
    await reader.read(look, TREE)
    before = reader.runner.runs
    moved = await reader.read(built, TREE)
    assert reader.runner.runs == before
    fresh = await Reader(tmp_path).read(built)
    assert msgspec.structs.asdict(moved) == msgspec.structs.asdict(fresh)
    assert str(tmp_path / "artifact/tree/deploy/conf") in str(moved.decided)
    assert "look-q7x1" not in f"{moved.decided}{moved.kept}{moved.world}"


@pytest.mark.parametrize("what", ["tree", "values", "unknown"])
async def test_another_tree_other_values_or_a_tree_nobody_vouches_for_is_read_anew(reader, tmp_path, what):
    """Only what certainly says the same is taken from memory."""
    look, built = exported(tmp_path / "look"), exported(tmp_path / "artifact")
    await reader.read(look, TREE)
    before = reader.runner.runs
    if what == "values":
        reader.word = "second"
    found = await reader.read(built, {"tree": "b" * 40, "unknown": ""}.get(what, TREE))
    assert reader.runner.runs == before + 2
    assert found.decided["services"]["web"]["environment"]["WORD"] == reader.word
