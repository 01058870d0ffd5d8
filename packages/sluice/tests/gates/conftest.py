"""Real git repositories with a policy branch, forges over real HTTP, and gates that look at them."""

from __future__ import annotations

import dataclasses
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.gates.context import GateContext
from sluice.hosts.envfile import EnvFile
from sluice.hosts.git import GitMirror
from sluice.hosts.system import SystemClock
from sluice.model.policy import GatesSpec, Role, Signer
from sluice.model.secret import Redactor
from sluice.model.spec import EnvironmentName, ForgeName, RunSpec, ServiceSpec
from sluice.runner import LocalRunner

from .desk import Desk
from .forge_server import Server


class Origin:
    """An origin repository one commits to, and its mirror as Sluice sees it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.work.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit({"README.md": "hello\n"})
        self.git("checkout", "--quiet", "-b", "feature/x")

    def git(self, *arguments: str) -> str:
        """Run git as a person would."""
        identity = ["-c", "user.name=Ann", "-c", "user.email=ann@people.example", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=self.work, check=True, capture_output=True, text=True)
        return done.stdout

    def commit(self, files: dict[str, str | bytes | None]) -> None:
        """Write the files (None removes one) and commit them."""
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "work")

    async def context(self, branch: str = "feature/x", environment: str = "test", **changes: object) -> GateContext:
        """What the gates see of the origin now."""
        runner = LocalRunner(Redactor())
        mirror = GitMirror(types.SimpleNamespace(repo=self.root / "mirror.git"), str(self.work), runner)
        await mirror.fetch()
        env_file = self.root / "test.env"
        if not env_file.exists():
            env_file.write_text("TOKEN=something-real\n")
            env_file.chmod(0o600)
        return dataclasses.replace(
            GateContext(
                repo=mirror,
                commit=await mirror.resolve(branch),
                policy=GatesSpec(),
                policy_ref="main",
                candidate=ServiceSpec(name="svc", run=RunSpec(command=("serve",), required_env=("TOKEN",))),
                env_file=EnvFile(env_file),
                environment=EnvironmentName(environment),
                clock=SystemClock(),
                runner=runner,
                overlaps=nothing,
            ),
            **changes,
        )


async def nothing() -> list[str]:
    """No overlaps."""
    return []


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    """An origin with `main` and `feature/x` on top of it."""
    return Origin(tmp_path)


class Keyring:
    """Real SSH keys without passphrase."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, name: str) -> Path:
        """A private key; its public half lies beside it."""
        path = self._folder / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return path

    def lock(self, key: Path) -> None:
        """Give the key a passphrase."""
        command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "a passphrase", "-f", str(key)]
        subprocess.run(command, check=True, capture_output=True)

    def signer(self, key: Path, *may: Role) -> Signer:
        """The key's entry of [signers]."""
        public = key.with_name(f"{key.name}.pub").read_text().strip()
        return Signer(keys=(public,), may=may or (Role.CHECKS,))


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A folder of keys."""
    folder = tmp_path / "keys"
    folder.mkdir()
    return Keyring(folder)


@pytest.fixture
def desk(origin: Origin, keyring: Keyring) -> Desk:
    """A clone at the tip of feature/x."""
    return Desk(origin, keyring)


@pytest.fixture
def server() -> Iterator[Server]:
    """A forge without pull requests and statuses."""
    made = Server()
    yield made
    made.close()


@pytest.fixture(params=list(ForgeName))
def kind(request: pytest.FixtureRequest) -> ForgeName:
    """Each of the three."""
    return request.param
