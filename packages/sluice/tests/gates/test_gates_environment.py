"""The env file's place: whose it is, who else could read or exchange it, and whether git could see it."""

from __future__ import annotations

import os
import subprocess

import pytest

from sluice.gates.environment import server_env
from sluice.hosts.envfile import EnvFile
from sluice.hosts.sources import ServerValues, Sources
from sluice.model.verdict import Verdict

VALUE = "s3ntinel-" + "of-the-env-file"


@pytest.fixture
async def judged(origin):
    """Judge the env file of a folder of its own, after something was done to it."""
    folder = origin.root / "etc"
    folder.mkdir(mode=0o700)
    path = folder / "test.env"
    path.write_text(f"TOKEN={VALUE}\n")
    path.chmod(0o600)

    async def judge(done):
        done(path)
        finding = await server_env(await origin.context(env_file=EnvFile(path)))
        assert VALUE not in f"{finding}"
        return finding

    return judge


async def test_a_good_file_passes(judged):
    """Ours, 0600, in a folder of ours, outside git."""
    finding = await judged(str)
    assert finding.verdict is Verdict.PASS
    assert "The one required name is set, outside git" in finding.detail


def link(path):
    """A link in the place of the file."""
    path.rename(path.with_name("x"))
    path.symlink_to("x")


@pytest.mark.parametrize(
    ("done", "said", "fix"),
    [
        (lambda path: path.chmod(0o640), "has mode 0640, so others may read the secrets in it", "chmod 600"),
        (lambda path: path.chmod(0o602), "has mode 0602, so others may write to it", "chmod 600"),
        (lambda path: path.chmod(0o700), "neither 0600 nor 0400", "chmod 600"),
        (lambda path: path.parent.chmod(0o777), "may write in the folder", "chmod go-w"),
        (lambda path: path.unlink(), "does not exist", "create it on the server"),
        (link, "not a regular file", "plain"),
        (lambda path: subprocess.run(["git", "init", "-q", path.parent], check=True), "git work tree", "outside every"),
        (lambda path: path.write_text(f"TOKEN={VALUE}\nnonsense {VALUE}\n"), "line 2 is not NAME=value", "line 2"),
        (lambda path: path.write_text("TOKEN=\n"), "empty or a placeholder: TOKEN", "set TOKEN"),
        (lambda path: path.write_text("OTHER=1\n"), "missing: TOKEN", "set TOKEN"),
    ],
)
async def test_each_fault_has_its_own_words_and_fix(judged, done, said, fix):
    """What is wrong is said with the file, and what to type next; no value appears."""
    finding = await judged(done)
    assert finding.verdict is Verdict.FAIL
    assert said in finding.detail
    assert fix in finding.fix


async def test_a_file_of_another_user_is_refused(judged, monkeypatch):
    """Whose file it is may change it after it was looked at; root's and our own are fine."""
    euid = os.geteuid()
    if euid == 0:
        finding = await judged(lambda path: os.chown(path, 54321, -1))
    else:
        monkeypatch.setattr(os, "geteuid", lambda: euid + 1)
        finding = await judged(str)
    assert finding.verdict is Verdict.FAIL
    assert "neither to the user Sluice runs as nor to root" in finding.detail
    assert "chown" in finding.fix


async def test_a_required_name_may_come_from_another_source(origin):
    """What a command prints counts as set; a placeholder it prints counts as none."""
    command = origin.root / "vault"
    for value, verdict in ((VALUE, Verdict.PASS), ("changeme", Verdict.FAIL)):
        command.write_text(f"#!/bin/sh\necho TOKEN={value}\n")
        command.chmod(0o700)
        known = ServerValues(Sources(secret_command=(str(command),)))
        finding = await server_env(await origin.context(env_file=known))
        assert finding.verdict is verdict, finding
        assert VALUE not in f"{finding}"
