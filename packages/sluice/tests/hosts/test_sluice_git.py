"""The mirror against real repositories."""

from __future__ import annotations

import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from sluice.hosts import git as git_module
from sluice.hosts.git import GitMirror, without_password
from sluice.hosts.state import StatePaths
from sluice.model.errors import Refused, StepFailed, UsageError
from sluice.model.secret import Redactor, Secret
from sluice.runner import LocalRunner


def git(where: Path, *arguments: str) -> str:
    """Run git with nobody's configuration."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(
        command, cwd=where, check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


@pytest.fixture
def paths(tmp_path) -> StatePaths:
    """State folders of one environment."""
    made = StatePaths(tmp_path / "state", "s", "test")
    made.prepare()
    return made


@pytest.fixture
def origin(tmp_path) -> Path:
    """A repository with a tag, a folder and a feature branch."""
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.txt").write_text("one\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "sub" / "run.sh").chmod(0o755)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    git(folder, "tag", "v1")
    git(folder, "checkout", "-qb", "feature/login")
    (folder / "a.txt").write_text("two key-sentinel-1\n")
    git(folder, "commit", "-qam", "second")
    return folder


@pytest.fixture
def mirror(paths, origin) -> GitMirror:
    """The mirror of the origin."""
    return GitMirror(paths, str(origin), LocalRunner(Redactor([Secret("key-sentinel-1")])))


async def test_a_shallow_origin_is_told_as_what_it_is(paths, origin, tmp_path):
    """Git takes none of its branches and calls that success; it is no empty repository, and one command mends it."""
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{origin}", "shallow")
    shallow = GitMirror(paths, str(tmp_path / "shallow"), LocalRunner(Redactor()))
    with pytest.raises(Refused, match="is a shallow clone: its history is not whole") as caught:
        await shallow.fetch()
    assert "git fetch --unshallow" in caught.value.next
    git(tmp_path / "shallow", "fetch", "-q", "--unshallow")
    await shallow.fetch()
    assert (await shallow.resolve("feature/login")).sha


async def test_missing_repository_is_refused_with_what_to_check(paths, tmp_path):
    """No repository at that address: refused, and a password in the address is not shown."""
    runner = LocalRunner(Redactor())
    with pytest.raises(Refused, match="does not") as caught:
        await GitMirror(paths, str(tmp_path / "nowhere.git"), runner).fetch()
    assert "host.toml" in caught.value.next
    with pytest.raises(Refused) as caught:
        await GitMirror(paths, "http://me:" + "hunter2pass@127.0.0.1:9/x.git", runner).fetch()
    assert "hunter2pass" not in caught.value.what


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("https://me:example@git.example.org/s.git", "https://git.example.org/s.git"),
        ("https://me:ex/am@ple@git.example.org/s.git", "https://git.example.org/s.git"),
        ("https://example0123@git.example.org/s.git", "https://git.example.org/s.git"),
        (
            "https://h.example.org/s.git?a=1&access_token=ex!mple;b=2",
            "https://h.example.org/s.git?a=1&access_token=[redacted];b=2",
        ),
        ("https://h.example.org:8443/team/s.git", "https://h.example.org:8443/team/s.git"),
        ("git@h.example.org:team/s.git", "git@h.example.org:team/s.git"),
        (
            "fatal: unable to access 'http://me:example@h/s?private_token=example': no",
            "fatal: unable to access 'http://h/s?private_token=[redacted]': no",
        ),
    ],
)
def test_an_address_is_shown_without_what_opens_it(said, shown):
    """User, password and token go, whatever letters they have, also out of what git says; the rest stays."""
    assert without_password(said) == shown


@pytest.mark.parametrize("piece", ["://", "://:", "a@://", "?key", "x@", "://a:"])
def test_no_address_is_slow_to_show(piece):
    """What is said of an address may be as long as whoever wrote it likes: it costs no more than its length."""
    began = time.process_time()
    without_password(piece * 50_000)
    assert time.process_time() - began < 2


def test_of_a_text_with_several_addresses_each_is_shown_without_what_opens_it():
    """One that has no user, in the same word or before it, does not hide another."""
    said = "see https://h.example.org/a https://me:example@h.example.org/b,https://example0123@h.example.org/c://d"
    assert "example@" not in without_password(said)
    assert "example0123" not in without_password(said)
    assert "see https://h.example.org/a https://" in without_password(said)


async def test_what_git_says_of_an_address_is_shown_without_its_token(paths):
    """What git says quotes the whole address, and takes out passwords alone."""
    with pytest.raises(Refused, match="cannot be fetched") as caught:
        await GitMirror(paths, "http://127.0.0.1:9/x.git?token=" + "hunter2pass", LocalRunner(Redactor())).fetch()
    assert "hunter2pass" not in str(caught.value)


@pytest.mark.parametrize("branch", ["feature/logni", "--all", "main..x", "", "v1", "feature/login^", "a b"])
async def test_unknown_branch_lists_near_ones(mirror, branch):
    """A misspelt name, an option, an expression or a tag is not a branch."""
    await mirror.fetch()
    with pytest.raises(UsageError, match="no branch") as caught:
        await mirror.resolve(branch)
    assert "feature/login" in caught.value.next


async def test_resolve_and_history(mirror, origin):
    """A branch becomes a commit with its tree and version; containment and the commits between are right."""
    await mirror.fetch()
    commit = await mirror.resolve("feature/login")
    assert commit.sha == git(origin, "rev-parse", "HEAD")
    assert commit.tree == git(origin, "rev-parse", "HEAD^{tree}")
    assert commit.describe.startswith("v1-1-g")
    assert commit.author == "T"
    assert await mirror.contains(commit.sha, "main")
    assert not await mirror.contains("main", commit.sha)
    assert await mirror.commits_between("main", commit.sha) == [commit.sha]
    assert await mirror.read("main", "a.txt") == b"one\n"
    assert await mirror.read("main", "no.txt") is None
    assert await mirror.read("nowhere", "a.txt") is None
    for path in ("sub", "sub/", "./sub"):
        assert await mirror.subtree("main", path) == git(origin, "rev-parse", "HEAD:sub")
    for path in (".", "./", ""):
        assert await mirror.subtree("main", path) == git(origin, "rev-parse", "main^{tree}")
    assert await mirror.subtree("main", "none") is None


async def test_patch_is_raw_and_whole_or_refused(mirror, monkeypatch):
    """A secret scanner sees what the redactor would hide; a diff that does not fit is refused, never cut."""
    await mirror.fetch()
    commit = await mirror.resolve("feature/login")
    assert "+two key-sentinel-1" in await mirror.patch(commit.sha)
    assert "+one" in await mirror.patch("main")
    monkeypatch.setattr(git_module, "MAX_PATCH", 50)
    with pytest.raises(Refused, match="larger than 50"):
        await mirror.patch(commit.sha)


async def test_fetch_follows_forced_and_deleted_branches(mirror, origin):
    """The mirror is what the origin is, also after a force push and a deletion."""
    await mirror.fetch()
    git(origin, "checkout", "-q", "main")
    git(origin, "branch", "-D", "feature/login")
    git(origin, "commit", "-q", "--amend", "-m", "other")
    await mirror.fetch()
    assert (await mirror.resolve("main")).sha == git(origin, "rev-parse", "HEAD")
    with pytest.raises(UsageError):
        await mirror.resolve("feature/login")


async def test_export_gives_plain_files_and_runs_no_hook(mirror, origin, paths, tmp_path):
    """Files, modes and nothing of git; a hook in the mirror does not run."""
    await mirror.fetch()
    hooks = paths.repo / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    (hooks / "post-checkout").chmod(0o755)
    into = tmp_path / "out"
    await mirror.export("main", into)
    assert sorted(p.relative_to(into).as_posix() for p in into.rglob("*")) == ["a.txt", "sub", "sub/run.sh"]
    assert (into / "sub" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "hooked").exists()
    assert not (tmp_path / "out.tar").exists()


async def test_export_refuses_a_link_that_leads_out(mirror, origin, tmp_path):
    """A tree cannot place or reach anything outside its folder."""
    (origin / "way-out").symlink_to("/etc/passwd")
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "link")
    await mirror.fetch()
    commit = await mirror.resolve("feature/login")
    with pytest.raises(StepFailed, match="cannot be exported"):
        await mirror.export(commit.sha, tmp_path / "out")


def test_unpack_refuses_names_that_climb(tmp_path):
    """An archive with ../ in a name is refused whole."""
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(tarfile.TarError):
        git_module._unpack(tmp_path / "x.tar", tmp_path)
