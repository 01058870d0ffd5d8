"""A person's clone of an origin, where checks are run and recorded with real SSH keys, and judged by the server."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sluice.gates.proof import checks_passed
from sluice.gates.recording import Recording, record
from sluice.hosts.git_clone import NOTES, Clone
from sluice.hosts.system import SystemClock
from sluice.model.policy import GatesSpec
from sluice.model.secret import Redactor
from sluice.model.spec import RunSpec, ServiceSpec
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

    async def recording(self, key: Path | None, policy: GatesSpec = POLICY) -> Recording:
        """What `record` is given; without a key the agent is asked for one."""
        runner = LocalRunner(Redactor())
        clone = await Clone.open(self.folder, runner)
        spec = ServiceSpec(name="svc", run=RunSpec(command=("x",)), gates=policy, signers=self.signers)
        return Recording(clone, runner, SystemClock(), spec, key, self.said.append, "0")

    async def record(
        self, *, key: Path | None = None, policy: GatesSpec = POLICY, ref: str = "HEAD", push: bool = True
    ):
        made = await self.recording(key or self.ann, policy)
        done = await record(made, ref)
        if push:
            await made.clone.push_notes("origin", done.principal)
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


def codes(finding):
    """Why it was refused."""
    return finding.metrics.get("codes", [])
