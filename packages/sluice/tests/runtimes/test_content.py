"""What an artifact holds: every change of it on disk is noticed, said by name, and never taken for what was built."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from sluice.hosts.git import GitMirror
from sluice.model.release import CONTENT, Artifact
from sluice.model.spec import BuildSpec, NodeBuild, PythonBuild, RunSpec, ServiceSpec
from sluice.runtimes import build as module
from sluice.runtimes.build import Builder
from sluice.runtimes.compose_build import ComposeBuilder
from sluice.runtimes.content import difference, measure, seal, sealed
from sluice.runtimes.launch import launch_argv

SPEC = ServiceSpec(
    name="tiny",
    run=RunSpec(command=("{python.server}/tiny", "serve", "{port}")),
    build=BuildSpec(
        python={"server": PythonBuild(requirements="requirements.txt", install=("pkg",))},
        node={"web": NodeBuild(directory="web")},
    ),
)


def swap(path: Path, target: str) -> None:
    """Let a link point elsewhere."""
    path.unlink()
    path.symlink_to(target)


@pytest.fixture
def folder(tmp_path):
    """A built folder with a file, a program, a link, bytecode and an empty folder, sealed."""
    made = tmp_path / "built"
    (made / "tree" / "__pycache__").mkdir(parents=True)
    (made / "tree" / "empty").mkdir()
    (made / "tree" / "app.py").write_text("print('one')\n")
    (made / "tree" / "other.py").write_text("print('two')\n")
    (made / "tree" / "run").write_text("#!/bin/sh\n")
    (made / "tree" / "run").chmod(0o755)
    (made / "tree" / "link").symlink_to("app.py")
    (made / "tree" / "__pycache__" / "app.pyc").write_bytes(b"\0code")
    (made / "build.json").write_text(json.dumps({"tree": "t" * 40, "builtAt": "2030-01-01T00:00:00Z"}))
    seal(made)
    return made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: (tree / "app.py").write_text("print('onE')\n"), "tree/app.py is another"),
        (lambda tree: (tree / "run").chmod(0o777), "tree/run is another"),
        (lambda tree: (tree / "empty").chmod(0o777), "tree/empty is another"),
        (lambda tree: (tree / "extra").write_text(""), "tree/extra was added"),
        (lambda tree: (tree / "empty" / "deep").mkdir(), "tree/empty/deep was added"),
        (lambda tree: (tree / "app.py").unlink(), "tree/app.py is gone"),
        (lambda tree: (tree / "empty").rmdir(), "tree/empty is gone"),
        (lambda tree: swap(tree / "link", "other.py"), "tree/link is another"),
        (lambda tree: swap(tree / "app.py", "other.py"), "tree/app.py is another"),
        (lambda tree: (tree / "__pycache__" / "app.pyc").write_bytes(b"\0evil"), "tree/__pycache__/app.pyc is another"),
        (lambda tree: os.mkfifo(tree / "pipe"), "tree/pipe was added"),
        (lambda tree: (tree / "a\nb").write_text(""), "tree/a\\nb was added"),
        (lambda tree: (tree.parent / "build.json").write_text('{"tree": "other"}'), "build.json is another"),
        (lambda tree: (tree.parent / "build.json").write_text("torn"), "build.json is another"),
    ],
)
def test_every_change_is_noticed_and_named(folder, change, said):
    """Bytes, modes, what came, what went, where a link points; a file that became a link to its equal too."""
    before = sealed(folder)
    assert measure(folder) == before
    change(folder / "tree")
    assert measure(folder) != before
    assert difference(folder) == said


def test_what_is_no_part_of_what_runs_changes_nothing(folder):
    """Markers, the time of the build, notes of other environments' builds, and when files were touched."""
    before = measure(folder)
    (folder / ".complete").write_text("")
    for name in ("node", "compose"):
        (folder / name).mkdir()
        (folder / name / "note").write_text("of another environment")
    (folder / "build.json").write_text(json.dumps({"builtAt": "2031-01-01T00:00:00Z", "tree": "t" * 40}))
    os.utime(folder / "tree" / "app.py", (1, 1))
    assert measure(folder) == before


def test_more_than_one_change_is_counted(folder):
    """One is named, so that the line stays one; how many more there are is said."""
    (folder / "tree" / "app.py").unlink()
    (folder / "tree" / "run").unlink()
    assert difference(folder) == "tree/app.py is gone, and 1 more"
    (folder / ".content").unlink()
    assert difference(folder) == ".content is gone"


@pytest.fixture
def builder(paths, origin, runner):
    """A builder over the real repository."""
    return Builder(paths, GitMirror(paths, str(origin), runner), runner)


BARE = ServiceSpec(name="tiny", run=SPEC.run)  # the tree alone: built in a moment


async def built(builder, said=None, spec=BARE):
    """The artifact of feature/a."""
    mirror = builder._repo
    await mirror.fetch()
    return await builder.build(await mirror.resolve("feature/a"), spec, (said if said is not None else []).append)


def part(artifact: Artifact, name: str = "own") -> Path:
    """A file of one part of an artifact."""
    own = Path(artifact.path)
    if name == "own":
        return own / "tree" / "pkg" / "tiny.py"
    if name == "python.server":
        link = next(own.glob("python/server/lib/*/site-packages/shared-dependencies.pth"))
        return Path(link.read_text().strip()) / "flit_core" / "buildapi.py"
    return Path(artifact.node["web"]) / "page.html"


async def test_a_changed_artifact_is_left_as_it_is_and_built_anew_beside_it(builder, paths, runner):
    """In either runtime: what runs from it goes on, what is released next is what the commit says, and it is said."""
    artifact = await built(builder)
    assert set(artifact.digests) == {"content:own"}
    compose = ComposeBuilder(paths, builder._repo, runner, None, None)
    assert [await one.changed(artifact) for one in (builder, compose)] == ["", ""]
    assert await built(builder) == artifact
    part(artifact).write_text("evil")
    for one in (builder, compose):
        assert await one.changed(artifact) == f"{artifact.path}: tree/pkg/tiny.py is another"
    said: list[str] = []
    again = await built(builder, said)
    assert [line for line in said if "tiny.py is another. It is left as it is" in line], said
    assert (part(artifact).read_text(), part(again).read_text() == "evil") == ("evil", False)
    assert again.key != artifact.key
    # Also once the changed one is gone: what is in use is not left for one more copy.
    shutil.rmtree(artifact.path)
    assert await built(builder) == again


async def test_what_artifacts_share_is_read_too(builder):
    """A changed Python environment makes another one and an artifact upon it, a changed bundle another bundle."""
    artifact = await built(builder, spec=SPEC)
    assert set(artifact.digests) == {f"{CONTENT}{name}" for name in ("own", "python.server", "node.web")}
    for name in ("node.web", "python.server"):
        file = part(artifact, name)
        file.write_bytes(b"evil")
        assert f"{file.name} is another" in await builder.changed(artifact)
    said: list[str] = []
    again = await built(builder, said, SPEC)
    for name in ("python.server", "node.web"):
        file = part(artifact, name)
        assert [line for line in said if f"{file.name} is another. It is left as it is" in line], said
        assert file.read_bytes() == b"evil"
        assert part(again, name).read_bytes() != b"evil"
    assert await builder.changed(again) == ""
    # What runs from an artifact leaves it as it is: no bytecode is written, not even of a module of the tree.
    code = f"import sys; sys.path.insert(0, {again.path + '/tree/pkg'!r}); import tiny, flit_core.buildapi"
    launched = launch_argv([f"{again.python['server']}/python", "-c", code], directory=again.path)
    done = await builder._runner.run(launched, timeout_s=20)
    assert done.exit_code == 0, done.stderr
    assert await builder.changed(again) == ""


async def test_what_hides_a_change_in_the_list_beside_it_is_found_by_the_digest(builder):
    """Who can write a folder can write its list: the digest that the release and the ledger hold is another then."""
    artifact = await built(builder)
    part(artifact).write_text("evil")
    seal(Path(artifact.path))
    assert await builder.changed(artifact) == f"{artifact.path} is not what was built"
    more = {"content:own": sealed(Path(artifact.path)), "content:python.server": "a" * 64}
    forged = msgspec.structs.replace(artifact, digests=more)
    assert await builder.changed(forged) == "it stands upon other parts than it was built with"


async def test_an_artifact_that_lost_its_list_or_what_it_stands_upon_is_not_taken(builder):
    """Nothing raises: it is a reason not to take it, and it is built anew."""
    artifact = await built(builder)
    (Path(artifact.path) / ".content").unlink()
    second = await built(builder)
    assert second.key != artifact.key
    site = Path(second.path, "python", "server", "lib", "python3", "site-packages")
    site.mkdir(parents=True)
    (site / "shared-dependencies.pth").mkdir()
    assert "cannot be read" in await builder.changed(second)
    third = await built(builder)
    assert third.key not in {artifact.key, second.key}
    shutil.rmtree(third.path)
    assert "cannot be read" in await builder.changed(third)


async def test_a_release_of_before_contents_were_written_down_is_not_doubted(builder):
    """It has no digest to compare with."""
    artifact = await built(builder)
    part(artifact).write_text("other")
    assert await builder.changed(msgspec.structs.replace(artifact, digests={})) == ""


async def test_copies_end(builder, monkeypatch):
    """A service that writes into its own artifact is named as such before it fills the disk."""
    monkeypatch.setattr(module, "COPIES", 2)
    for _ in range(2):
        part(await built(builder)).write_text("changed by the service")
    with pytest.raises(Exception, match="does the service write into its own folder"):
        await built(builder)
