"""Clones that checks are recorded in: linked ones, another user's, and those that git does not read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sluice.hosts.git_clone import Clone
from sluice.model.errors import Refused, UsageError
from sluice.model.secret import Redactor
from sluice.runner import LocalRunner


async def test_a_ref_is_meant_where_somebody_stands(desk, origin):
    """In a linked work tree HEAD is its own, and what git understands of a ref is understood."""
    desk.git("worktree", "add", "--quiet", str(origin.root / "linked"), "HEAD~1")
    clone = await Clone.open(origin.root / "linked", LocalRunner(Redactor()))
    assert (await clone.commit_of("HEAD"))[0] == desk.git("rev-parse", "HEAD~1")
    clone = await Clone.open(desk.folder, LocalRunner(Redactor()))
    assert (await clone.commit_of("HEAD"))[0] == desk.git("rev-parse", "HEAD")
    assert (await clone.commit_of("HEAD~1"))[0] == desk.git("rev-parse", "HEAD~1")
    with pytest.raises(UsageError, match="no commit or ref"):
        await clone.commit_of("--help")


def give_away(folder: Path) -> None:
    """To another user, as a CI's container finds its checkout; only root can."""
    for place in [folder, *folder.rglob("*")]:
        os.chown(place, 54321 if os.geteuid() == 0 else -1, -1, follow_symlinks=False)


async def test_a_clone_of_another_user_is_recorded_where_git_may_read_it(desk, tmp_path, monkeypatch):
    """Who told git `safe.directory` needs to tell nothing else; changes that are not committed are seen there, too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    give_away(desk.folder)
    assert (await desk.record(push=False)).commit == desk.git("rev-parse", "HEAD")
    clone = await Clone.open(desk.folder, LocalRunner(Redactor()))
    assert not await clone.dirty(desk.folder)
    (desk.folder / "a.txt").write_text("changed\n")
    assert await clone.dirty(desk.folder)


async def test_a_clone_that_git_does_not_read_is_refused_in_gits_own_words(desk, tmp_path, monkeypatch):
    """That another user owns it, or its settings are broken, is not that there is none; git's advice is passed on."""
    monkeypatch.setenv("HOME", str(tmp_path))
    if os.geteuid() == 0:  # only root gives away
        give_away(desk.folder)
        with pytest.raises(Refused, match="dubious ownership") as refused:
            await Clone.open(desk.folder, LocalRunner(Redactor()))
        assert refused.value.next == f"git config --global --add safe.directory {desk.folder}"
        (tmp_path / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    (desk.folder / ".git" / "config").write_text("[nonsense\n")
    with pytest.raises(Refused, match="bad config line 1") as refused:
        await Clone.open(desk.folder, LocalRunner(Redactor()))
    assert refused.value.next == f"git -C {desk.folder} status"


async def test_what_git_cannot_tell_of_a_clone_is_neither_clean_nor_missing(desk):
    """A repository that broke after it was opened is told as git tells it; a bare one has nothing uncommitted."""
    bare = desk.folder.with_name("bare")
    desk.git("clone", "--quiet", "--bare", str(desk.folder), str(bare))
    assert not await (await Clone.open(bare, LocalRunner(Redactor()))).dirty(bare)
    clone = await Clone.open(desk.folder, LocalRunner(Redactor()))
    (desk.folder / ".git" / "HEAD").write_text("nonsense\n")
    assert await clone.dirty(desk.folder)
    with pytest.raises(Refused, match="cannot be told: fatal: not a git repository"):
        await clone.commit_of("HEAD")


async def test_a_folder_without_a_clone_and_a_ref_without_a_commit(desk, tmp_path):
    """Both are answered as mistakes of the command line."""
    with pytest.raises(UsageError, match="not in a git repository"):
        await Clone.open(tmp_path / "keys", LocalRunner(Redactor()))
    with pytest.raises(UsageError, match="no commit or ref"):
        await desk.record(ref="nowhere")
