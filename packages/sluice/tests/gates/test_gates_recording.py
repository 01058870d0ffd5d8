"""What is run when checks are recorded, and which key signs: the commit alone, where git answers as in a clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sluice.gates.attestation import attestation_of, signed_of
from sluice.gates.recording import record
from sluice.hosts.git_clone import NOTES
from sluice.model.errors import Refused
from sluice.model.policy import GatesSpec

from .desk import codes


async def test_a_failing_check_is_not_recorded(desk):
    """The run ends with the command's own words, and there is no note."""
    with pytest.raises(Refused, match="ended with exit code 3") as caught:
        await desk.record(policy=GatesSpec(checks=(("sh", "-c", "echo because; exit 3"),)))
    assert "Nothing was recorded" in caught.value.world
    assert any("because" in line for line in desk.said)
    assert codes(await desk.judge()) == ["ChecksNoNote"]


async def test_a_remote_that_refuses_keeps_the_record_here(desk, origin):
    """The record is in the clone, and the sentence says how to push it later."""
    hook = origin.work / ".git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Refused, match="cannot be pushed") as caught:
        await desk.record()
    assert caught.value.world == "It is kept in this clone."
    assert NOTES in caught.value.next
    assert desk.git("notes", f"--ref={NOTES}", "show", "HEAD")


async def test_two_people_record_at_the_same_time(desk, origin, keyring):
    """The second push merges with the first: both records stand in the note."""
    bob = keyring.make("bob")
    desk.signers["bob"] = keyring.signer(bob)
    other = origin.root / "other"
    desk.git("clone", "--quiet", str(origin.work), str(other), cwd=origin.root)
    await desk.record()
    desk.folder, mine = other, desk.folder
    await desk.record(key=bob)
    principals = {attestation_of(signed_of(line).document).principal for line in desk.note()}
    assert principals == {"ann", "bob"}
    desk.folder = mine
    await desk.record()
    assert len(desk.note()) == 3


async def test_an_export_that_is_not_the_tree_is_refused(desk, origin):
    """A file that export-ignore leaves out was not checked, so nothing is signed."""
    origin.commit({".gitattributes": "a.txt export-ignore\n"})
    desk.git("pull", "--quiet")
    with pytest.raises(Refused, match="is not its tree"):
        await desk.record()


async def test_a_check_sees_the_commit_and_not_the_work_tree(desk):
    """A file that is not committed is not there, and a changed one is as it was committed."""
    (desk.folder / "extra.txt").write_text("x")
    (desk.folder / "a.txt").write_text("changed\n")
    policy = GatesSpec(checks=(("sh", "-c", "! test -e extra.txt && grep -q 1 a.txt"),))
    assert (await desk.record(policy=policy, push=False)).results[0].exit_code == 0


async def test_a_check_may_ask_git(desk):
    """What git says there is the commit's: files, tag, history, nothing left over; the clone is left untouched."""
    desk.git("tag", "v7")
    desk.git("config", "core.hooksPath", "hooks")
    (desk.folder / "extra.txt").write_text("x")
    asked = (
        ("status", "--porcelain"),
        ("for-each-ref", "refs/heads", "refs/tags", "refs/remotes"),
        ("rev-parse", "HEAD"),
    )
    before = [desk.git(*words) for words in asked]
    script = (
        'test "$(git describe --tags)" = v7 && test -z "$(git status --porcelain)" && '
        'test "$(git rev-list --count HEAD)" = "$1" && test "$(git ls-files | tr "\n" " ")" = "$2" && '
        'test "$(git rev-parse origin/main)" = "$3" && test -z "$(git remote)" && '
        "git -c user.name=x -c user.email=x@x commit -q --allow-empty -m x && git tag theirs"
    )
    told = desk.git("rev-list", "--count", "HEAD"), " ".join([*desk.git("ls-files").split(), ""])
    policy = GatesSpec(checks=(("sh", "-c", script, "sh", *told, desk.git("rev-parse", "origin/main")),))
    assert (await desk.record(policy=policy, push=False)).results[0].exit_code == 0
    assert [desk.git(*words) for words in asked] == before


@pytest.mark.parametrize(
    "argv",
    [
        ("sh", "-c", "echo 2 > a.txt"),
        ("rm", "a.txt"),
        ("chmod", "+x", "a.txt"),
        ("sh", "-c", "echo 2 > a.txt; git add a.txt"),
    ],
    ids=["written", "removed", "mode", "written-and-added"],
)
async def test_a_check_that_changes_the_commits_files_is_not_recorded(desk, argv):
    """A formatter that mends before the tests run would let something pass that nobody committed."""
    with pytest.raises(Refused, match=r"changed a\.txt: what passes after that is not") as caught:
        await desk.record(policy=GatesSpec(checks=(argv, ("true",))))
    assert "Nothing was recorded" in caught.value.world
    assert codes(await desk.judge()) == ["ChecksNoNote"]


async def test_a_check_may_leave_files_of_its_own(desk):
    """Caches and what is built are no part of the commit."""
    policy = GatesSpec(checks=(("sh", "-c", "mkdir -p build && echo x > build/out"), ("test", "-f", "build/out")))
    assert len((await desk.record(policy=policy, push=False)).results) == 2


async def test_a_filter_of_the_clone_leaves_the_export_clean(desk):
    """What the clone's own settings make of files (large files, line ends) is no change to who asks git there."""
    filtered = ("filter.up.clean", "tr a-z A-Z"), ("filter.up.smudge", "tr A-Z a-z"), ("core.autocrlf", "true")
    for key, value in filtered:
        desk.git("config", key, value)
    (desk.folder / ".gitattributes").write_text("*.up filter=up\n")
    (desk.folder / "b.up").write_text("small\n")
    desk.git("add", ".")
    desk.git("commit", "--quiet", "-m", "filtered")
    assert desk.git("show", "HEAD:b.up") == "SMALL"
    clean = ("sh", "-c", 'test -z "$(git status --porcelain)"')
    told = ("sh", "-c", 'test "$(git config filter.up.clean)" = "tr a-z A-Z"')
    done = await desk.record(policy=GatesSpec(checks=(clean, told)), push=False)
    assert [one.exit_code for one in done.results] == [0, 0]


async def test_attributes_of_the_clone_alone_leave_the_export_clean(desk):
    """What its .git/info/attributes makes of line ends is no change to who asks git in the export either."""
    info = desk.folder / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "attributes").write_text("*.txt text eol=crlf\n")
    (desk.folder / "b.txt").write_text("x\n")
    desk.git("add", ".")
    desk.git("commit", "--quiet", "-m", "line ends")
    clean = ("sh", "-c", 'test -z "$(git status --porcelain)"')
    done = await desk.record(policy=GatesSpec(checks=(clean,)), push=False)
    assert [one.exit_code for one in done.results] == [0]


async def test_nothing_leads_a_check_back_into_the_clone(desk, monkeypatch):
    """Variables by which git, Python or Node would read what is not committed are not there, and git stops above."""
    for name in ("PYTHONPATH", "NODE_PATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, str(desk.folder))
    script = (
        'test -z "$PYTHONPATH$NODE_PATH$VIRTUAL_ENV" && '
        'test "$GIT_CEILING_DIRECTORIES" = "$(dirname "$PWD")" && rm -rf .git && ! git rev-parse'
    )
    assert (await desk.record(policy=GatesSpec(checks=(("sh", "-c", script),)), push=False)).results[0].exit_code == 0


async def test_a_key_that_does_not_sign_is_told_before_the_checks_run(desk, keyring):
    """A passphrase nobody can type costs no test suite's time."""
    keyring.lock(desk.ann)
    ran = desk.folder / "ran"
    with pytest.raises(Refused, match="does not sign"):
        await desk.record(policy=GatesSpec(checks=(("touch", str(ran)),)), push=False)
    assert not ran.exists()


def add_key(key: Path) -> None:
    """Hand a key to the agent, as soon as it listens."""
    for _ in range(200):
        done = subprocess.run(["ssh-add", "-q", str(key)], capture_output=True, check=False)
        if done.returncode == 0:
            return
    pytest.fail(done.stderr.decode())


@pytest.fixture
def agent(desk, keyring, tmp_path, monkeypatch):
    """An ssh-agent that holds a stranger's key and Ann's."""
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as process:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        try:
            for key in (keyring.make("stranger"), desk.ann):
                add_key(key)
            yield
        finally:
            process.terminate()


@pytest.mark.usefixtures("agent")
async def test_a_key_of_the_agent_is_found_by_the_policy(desk):
    """Without --key the agent is asked for one that may sign, whatever else it holds."""
    done = await record(await desk.recording(key=None), "HEAD")
    assert done.principal == "ann"


async def test_without_a_key_and_without_an_agent(desk, monkeypatch):
    """The sentence says whose key would do."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(Refused, match=r"may sign checks \(ann\)"):
        await record(await desk.recording(key=None), "HEAD")
