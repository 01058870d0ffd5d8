"""Fixtures of the drive's tests."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess

import pytest

from sluice.config import load_service
from sluice.drive import Drive, Request, Sibling
from sluice.drive.world import PromotionMeans
from sluice.hosts.approvals import FileApprovals
from sluice.hosts.git import GitMirror
from sluice.hosts.signing import sign, verify
from sluice.journal import recorded_runs
from sluice.ledger import Ledger
from sluice.model.policy import Role
from sluice.model.promotion import Denied, document, expiry
from sluice.model.secret import Redactor
from sluice.model.spec import EnvironmentName
from sluice.runner import LocalRunner
from sluice.testing import MemoryWorld

from .pair import proven_pair
from .people import People

ASK = Request("olga@host", "test")
SPEC = """
name = "shop"
[run]
command = ["serve"]
[watch]
duration_s = 1
required_checks = ["login"]
[promotion]
approval_ttl_s = 600
proof_ttl_s = 3600
approver_not_author = true
[signers.bob]
keys = ["{bob}"]
may = ["approve"]
[signers.carl]
keys = ["{carl}"]
may = ["checks"]
[signers.ann]
keys = ["{ann}"]
may = ["approve"]
authors = ["Ann"]
"""


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Death is simulated here and the machine stays up, so nothing has to survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _handle: None)


class Town:
    """An origin, a test environment and a prod of one service, and people with keys; git and ssh-keygen are real."""

    spec = SPEC

    def __init__(self, folder):
        """`main` is there; nothing was rolled out."""
        self.folder, self.runner = folder, LocalRunner(Redactor())
        self.keys = {name: self._key(name) for name in ("bob", "carl", "ann", "mallory")}
        self.origin = folder / "origin"
        self.origin.mkdir()
        self.git("init", "-q", "-b", "main")
        self.policy(self.spec.format(**self.keys))
        for name in ("test", "prod"):
            (folder / name).mkdir()
        self.test = MemoryWorld(folder / "test")
        self.prod = MemoryWorld(folder / "prod", environment=EnvironmentName.PROD)
        self.prod.clock, self.prod.artifact = self.test.clock, self.test.artifact
        self.approvals = FileApprovals(self.prod.paths.env_dir / "approvals")

    def _key(self, name):
        path = self.folder / name
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(argv, check=True, timeout=30)
        return path.with_suffix(".pub").read_text().strip()

    def git(self, *arguments, author="Ann"):
        """Git as a person would, in the origin."""
        identity = ["-c", f"user.name={author}", "-c", f"user.email={author.lower()}@example.org"]
        done = subprocess.run(
            ["git", "-C", str(self.origin), *identity, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def policy(self, text):
        """Commit this sluice.toml."""
        self.commit("sluice.toml", text)

    def commit(self, name, text, author="Ann"):
        """Commit one file on the branch that is checked out."""
        (self.origin / name).write_text(text)
        self.git("add", "-A", author=author)
        self.git("commit", "-qm", f"Change {name}", author=author)

    async def doubt(self):
        """Whether test's ledger is as its journals say."""
        problems = Ledger(self.test.paths.ledger).verify(recorded_runs(self.test.paths.journal_dir)).problems
        return problems[0].sentence if problems else ""

    def world(self, memory):
        """What a command acts upon: the mirror, the reader and the verifier are real."""
        means = PromotionMeans(
            Sibling(self.test.paths, self.test.releases, 5),
            self.approvals,
            functools.partial(verify, self.runner),
            self.runner,
            self.doubt,
        )
        return dataclasses.replace(
            memory.world(),
            repo=GitMirror(memory.paths, str(self.origin), self.runner),
            load_service=load_service,
            promotion=means if memory is self.prod else None,
        )

    def drive(self, memory):
        """A command's drive."""
        return Drive(self.world(memory), memory.reports.append)

    async def proven(self, branch="main"):
        """Roll a branch out to test; it is good."""
        result = await self.drive(self.test).rollout(Request("ann@host", "test", branch))
        assert result.exit_code == 0, result.what

    async def signed(self, who="bob", *, ttl_s=600.0, alter=("", ""), garble=False, asked=ASK):
        """Somebody signs what would be promoted now, and hands it in."""

        async def make(plan):
            text = document(("shop", "prod"), plan.hash, plan.promotion, expiry(self.prod.clock.now(), ttl_s))
            signature = await sign(self.runner, text.encode(), self.folder / who, Role.APPROVE)
            return text.replace(*alter), signature.replace("\n", "\nAAAA", 1) if garble else signature

        return await self.drive(self.prod).sign(asked, Role.APPROVE, make)

    async def signed_off(self, item, who):
        """Somebody signs an item of the checklist off."""

        async def make(plan):
            until = expiry(self.prod.clock.now(), 600)
            text = document(("shop", "prod"), plan.hash, plan.promotion, until, item)
            return text, await sign(self.runner, text.encode(), self.folder / who, Role.CHECKLIST)

        return await self.drive(self.prod).sign(ASK, Role.CHECKLIST, make)

    async def promote(self, branch=""):
        """Promote main."""
        return await self.drive(self.prod).promote(Request("olga@host", "test", branch))

    async def refused(self, code, branch=""):
        """A promotion ends with this code, in the record too, and prod is as it was."""
        before = self.prod.pointed
        result = await self.promote(branch)
        assert (result.exit_code, result.record["refusal"]) == (1, code), result.what
        assert self.prod.pointed == before
        assert Ledger(self.prod.paths.ledger).records()[-1]["refusal"] == code

    async def not_taken(self, code, **how):
        """A signature is not taken in, with this code, which is recorded; the signature is not kept."""
        kept = len(self.approvals.all())
        with pytest.raises(Denied) as denied:
            await self.signed(**how)
        assert denied.value.code == code
        assert len(self.approvals.all()) == kept
        record = Ledger(self.prod.paths.ledger).records()[-1]
        assert (record["type"], record["outcome"], record["refusal"]) == ("approval", "refused", code)


@pytest.fixture
def town(tmp_path):
    """A town."""
    return Town(tmp_path)


@pytest.fixture
async def pair(tmp_path):
    """Proven in test, nothing in prod yet."""
    return await proven_pair(tmp_path)


@pytest.fixture
def people(town):
    """The town's people."""
    return People(town)
