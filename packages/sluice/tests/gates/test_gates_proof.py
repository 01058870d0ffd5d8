"""`checks-passed` by signed notes: recorded in a real clone with real SSH keys, judged from the server's mirror."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from sluice.gates.attestation import MAX_RECORDS, Ran, attestation_of, document_of, line_of, signed_of
from sluice.gates.context import Asked
from sluice.gates.proof import checks_passed
from sluice.gates.recording import Recording, record
from sluice.hosts.git_clone import NOTES, Clone
from sluice.hosts.signing import sign
from sluice.hosts.system import SystemClock
from sluice.model.errors import Refused, UsageError
from sluice.model.policy import GatesSpec, PromotionSpec, Proof, Role
from sluice.model.promotion import Former
from sluice.model.secret import Redactor
from sluice.model.spec import RunSpec, ServiceSpec
from sluice.model.verdict import Verdict
from sluice.runner import LocalRunner

CHECKS = (("test", "-f", "README.md"), ("test", "-f", "a.txt"))
POLICY = GatesSpec(checks=CHECKS)


class Desk:
    """A person's clone of the origin, and the policy they record under."""

    def __init__(self, origin, keyring) -> None:
        self.origin, self.said = origin, []
        self.folder = origin.root / "clone"
        origin.commit({"a.txt": "1\n"})
        self.ann = keyring.make("ann")
        self.signers = {"ann": keyring.signer(self.ann)}
        self.git("clone", "--quiet", str(origin.work), str(self.folder), cwd=origin.root)
        # The origin is a work tree here; its own checked-out branch is never pushed to.

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(["git", *arguments], cwd=cwd or self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    async def record(
        self, *, key: Path | None = None, policy: GatesSpec = POLICY, ref: str = "HEAD", push: bool = True
    ):
        runner = LocalRunner(Redactor())
        clone = await Clone.open(self.folder, runner)
        spec = ServiceSpec(name="svc", run=RunSpec(command=("x",)), gates=policy, signers=self.signers)
        made = Recording(clone, runner, SystemClock(), spec, key or self.ann, self.said.append, "0")
        done = await record(made, ref)
        if push:
            await clone.push_notes("origin", done.principal)
        return done

    async def judge(self, policy: GatesSpec = POLICY, **changes):
        return await checks_passed(await self.origin.context(policy=policy, signers=self.signers, **changes))

    def note(self) -> list[str]:
        return self.git("notes", f"--ref={NOTES}", "show", "HEAD", cwd=self.origin.work).splitlines()

    def rewrite(self, *lines: str, commit: str = "HEAD") -> None:
        """Whoever may push may write any note."""
        command = ["git", "notes", f"--ref={NOTES}", "add", "-f", "-F", "-", commit]
        identity = {"GIT_AUTHOR_NAME": "M", "GIT_AUTHOR_EMAIL": "m@x", "GIT_COMMITTER_NAME": "M"}
        environment = {**identity, "GIT_COMMITTER_EMAIL": "m@x", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
        text = "\n".join(lines)
        subprocess.run(command, cwd=self.origin.work, input=text, text=True, check=True, env=environment)


@pytest.fixture
def desk(origin, keyring):
    """A clone at the tip of feature/x."""
    return Desk(origin, keyring)


def codes(finding):
    """Why it was refused."""
    return finding.metrics.get("codes", [])


async def test_without_a_note_nobody_knows(desk):
    """The sentence names the commands, the fix the command that records them."""
    finding = await desk.judge()
    assert finding.verdict is Verdict.FAIL
    assert codes(finding) == ["ChecksNoNote"]
    assert "test -f README.md" in finding.detail
    assert "sluice check --record" in finding.fix


async def test_a_pushed_record_proves(desk):
    """Who signed, with which key, what ran and over which tree is the evidence; the work tree was left alone."""
    (desk.folder / "unfinished.txt").write_text("not committed\n")
    done = await desk.record()
    finding = await desk.judge()
    assert finding.verdict is Verdict.PASS
    assert "ann (SHA256:" in finding.detail
    assert done.tree[:12] in finding.detail
    assert [one.exit_code for one in done.results] == [0, 0]
    assert done == attestation_of(signed_of(desk.note()[0]).document)
    assert (desk.folder / "unfinished.txt").exists()
    told = attestation_of(signed_of(desk.note()[0]).document)
    assert {"sluice", "git", "ssh", "python", "system"} <= set(told.tools)
    assert told.started <= told.ended


async def test_in_a_promotion_the_policies_before_must_let_the_key_sign_too(desk, keyring):
    """A signer of checks whom the candidate itself brings in proves nothing; under another name the key is the same."""
    await desk.record()
    own = desk.signers["ann"]
    other = keyring.signer(keyring.make("other"))
    approver = msgspec.structs.replace(own, may=(Role.APPROVE,))
    for before, code in (
        ([{"anna": own}], []),
        ([{"anna": own}, {"zoe": other}], ["PolicyChanged"]),
        ([{"ann": approver}], ["PolicyChanged"]),
    ):
        formers = [Former(f"run-{n}", GatesSpec(), PromotionSpec(), signers) for n, signers in enumerate(before)]
        finding = await desk.judge(asked=Asked(before=formers))
        assert codes(finding) == code, finding.detail
        assert finding.verdict is (Verdict.FAIL if code else Verdict.PASS)


async def test_a_record_that_was_not_pushed_proves_nothing(desk):
    """The server sees the origin alone."""
    await desk.record(push=False)
    assert codes(await desk.judge()) == ["ChecksNoNote"]


async def test_a_failing_check_is_not_recorded(desk):
    """The run ends with the command's own words, and there is no note."""
    with pytest.raises(Refused, match="ended with exit code 3") as caught:
        await desk.record(policy=GatesSpec(checks=(("sh", "-c", "echo because; exit 3"),)))
    assert "Nothing was recorded" in caught.value.world
    assert any("because" in line for line in desk.said)
    assert codes(await desk.judge()) == ["ChecksNoNote"]


async def test_a_note_copied_to_another_commit_is_refused(desk):
    """The record is bound to the tree it was made over."""
    await desk.record()
    lines = desk.note()
    desk.origin.commit({"a.txt": "2\n"})
    desk.rewrite(*lines)
    finding = await desk.judge()
    assert finding.verdict is Verdict.FAIL
    assert codes(finding) == ["ChecksOtherTree"]
    assert "it is about tree" in finding.detail


async def test_another_commit_with_the_same_tree_may_use_it(desk):
    """What was checked are the files, so a commit whose message alone was mended keeps its proof."""
    await desk.record()
    lines = desk.note()
    desk.origin.git("commit", "--quiet", "--amend", "--message", "said better")
    desk.rewrite(*lines)
    assert (await desk.judge()).verdict is Verdict.PASS


async def test_an_altered_record_is_refused(desk):
    """One letter of what was signed changed: the signature is no longer about it."""
    await desk.record()
    line = json.loads(desk.note()[0])
    line["document"] = line["document"].replace('"ms":', '"ms":1')
    desk.rewrite(json.dumps(line))
    finding = await desk.judge()
    assert codes(finding) == ["SignatureAltered"]
    assert "altered after it was signed" in finding.detail


async def test_a_foreign_key_is_refused(desk, keyring):
    """A true signature of somebody the policy does not know; recording with such a key is refused beforehand."""
    await desk.record()
    mallory = keyring.make("mallory")
    document = signed_of(desk.note()[0]).document
    desk.rewrite(line_of(document, await sign(LocalRunner(Redactor()), document.encode(), mallory, Role.CHECKS)))
    finding = await desk.judge()
    assert codes(finding) == ["SignatureForeign"]
    assert "is nobody's" in finding.detail
    with pytest.raises(Refused, match="does not belong to anybody who may sign checks"):
        await desk.record(key=mallory)


async def test_a_signer_without_the_role_is_refused(desk, keyring):
    """Somebody who may approve is not thereby somebody who says the checks passed."""
    await desk.record()
    desk.signers = {"ann": keyring.signer(desk.ann, Role.APPROVE)}
    finding = await desk.judge()
    assert codes(finding) == ["SignatureRole"]
    with pytest.raises(Refused, match="the policy names nobody"):
        await desk.record()


async def test_the_role_of_any_name_a_key_has_counts(desk, keyring):
    """Whoever has the role may sign, whichever of the two stands first in the policy."""
    await desk.record()
    desk.signers = {"deputy": keyring.signer(desk.ann, Role.APPROVE), **desk.signers}
    finding = await desk.judge()
    assert finding.verdict is Verdict.PASS
    assert "ann (SHA256:" in finding.detail


async def test_a_signature_for_something_else_is_refused(desk):
    """The same key over the same text in another namespace (an approval, say) proves no checks."""
    await desk.record()
    document = signed_of(desk.note()[0]).document
    desk.rewrite(line_of(document, await sign(LocalRunner(Redactor()), document.encode(), desk.ann, Role.APPROVE)))
    assert codes(await desk.judge()) == ["SignatureAltered"]


async def test_a_record_of_other_commands_is_refused(desk):
    """The policy asks for more since: both lists are in the sentence."""
    await desk.record()
    finding = await desk.judge(GatesSpec(checks=(*CHECKS, ("make", "lint"))))
    assert codes(finding) == ["ChecksOtherCommands"]
    assert "make lint" in finding.detail


@pytest.mark.parametrize("text", ["", "no json", '{"document": 1}', "\0\0", '{"document": "{}", "signature": "x"}'])
async def test_a_note_of_something_else_is_refused(desk, text):
    """A note somebody wrote by hand is no record, and breaks nothing."""
    desk.rewrite(text, "{}")
    finding = await desk.judge()
    assert finding.verdict is Verdict.FAIL
    assert codes(finding)


async def signed_by_ann(desk, **changes):
    """Ann signs a record that says something untrue."""
    document = signed_of(desk.note()[0]).document
    text = document_of(msgspec.structs.replace(attestation_of(document), **changes))
    desk.rewrite(line_of(text, await sign(LocalRunner(Redactor()), text.encode(), desk.ann, Role.CHECKS)))


async def test_a_signed_record_of_a_failure_is_refused(desk):
    """A signature says who speaks, not that it went well."""
    await desk.record()
    await signed_by_ann(desk, results=tuple(Ran(argv, 2, 1) for argv in CHECKS))
    finding = await desk.judge()
    assert codes(finding) == ["ChecksFailed"]
    assert "ended with exit code 2" in finding.detail


async def test_a_signed_record_without_its_results_is_refused(desk):
    """The right commands' hash over fewer results proves nothing."""
    await desk.record()
    await signed_by_ann(desk, results=(Ran(CHECKS[0], 0, 1),))
    assert codes(await desk.judge()) == ["ChecksMissing"]


async def test_one_good_record_among_bad_ones_is_enough(desk, keyring):
    """Nobody can spoil somebody else's proof by adding lines to the note."""
    await desk.record()
    good = desk.note()[0]
    desk.rewrite("{}", good, *["rubbish"] * 2 * MAX_RECORDS)
    assert (await desk.judge()).verdict is Verdict.PASS


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


async def test_a_key_that_does_not_sign_is_told_before_the_checks_run(desk, keyring):
    """A passphrase nobody can type costs no test suite's time."""
    keyring.lock(desk.ann)
    ran = desk.folder / "ran"
    with pytest.raises(Refused, match="does not sign"):
        await desk.record(policy=GatesSpec(checks=(("touch", str(ran)),)), push=False)
    assert not ran.exists()


async def test_a_folder_without_a_clone_and_a_ref_without_a_commit(desk, tmp_path):
    """Both are answered as mistakes of the command line."""
    with pytest.raises(UsageError, match="not in a git repository"):
        await Clone.open(tmp_path / "keys", LocalRunner(Redactor()))
    with pytest.raises(UsageError, match="no commit or ref"):
        await desk.record(ref="nowhere")


async def test_main_itself_needs_the_proof_too(desk):
    """The policy's own branch is checked like any other."""
    assert (await desk.judge(branch="main")).verdict is Verdict.FAIL


async def test_without_rules_it_is_skipped(desk):
    """A policy that names no checks asks for none, and says so."""
    finding = await desk.judge(GatesSpec())
    assert finding.verdict is Verdict.SKIPPED
    assert "names no checks" in finding.detail


async def test_a_status_without_a_forge_is_an_error(desk):
    """What the policy asks for and this host cannot tell is neither good nor bad."""
    finding = await desk.judge(GatesSpec(checks_proof=Proof.STATUS))
    assert finding.verdict is Verdict.ERROR
    assert "[service.NAME.forge]" in finding.fix


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
    runner = LocalRunner(Redactor())
    clone = await Clone.open(desk.folder, runner)
    spec = ServiceSpec(name="svc", run=RunSpec(command=("x",)), gates=POLICY, signers=desk.signers)
    done = await record(Recording(clone, runner, SystemClock(), spec, None, desk.said.append, "0"), "HEAD")
    assert done.principal == "ann"


async def test_without_a_key_and_without_an_agent(desk, monkeypatch):
    """The sentence says whose key would do."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    runner = LocalRunner(Redactor())
    spec = ServiceSpec(name="svc", run=RunSpec(command=("x",)), gates=POLICY, signers=desk.signers)
    clone = await Clone.open(desk.folder, runner)
    with pytest.raises(Refused, match=r"may sign checks \(ann\)"):
        await record(Recording(clone, runner, SystemClock(), spec, None, desk.said.append, "0"), "HEAD")
