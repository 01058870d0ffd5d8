"""What a gate may look at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sluice.gates.added import NAMED
from sluice.hosts.forge import CommitStatus, PullRequest
from sluice.model.errors import ProbeBroken, Refused
from sluice.model.policy import GatesSpec, Signer
from sluice.model.promotion import Former
from sluice.model.release import Commit, FileChange, Release
from sluice.model.secret import Secret
from sluice.model.spec import EnvironmentName, ServiceSpec
from sluice.model.verdict import Finding
from sluice.ports import Clock, Repo, Runner

OnFinding = Callable[[Finding], None]


class EnvFileLike(Protocol):
    """The server's env file (sluice.hosts.envfile.EnvFile)."""

    def check(self) -> None:
        """Raises Refused when the file is missing, readable or exchangeable by others, or seen by git."""
        ...

    def values(self) -> Mapping[str, Secret]:
        """Every variable the file sets. Raises Refused when it cannot be read."""
        ...


class GateRepo(Repo, Protocol):
    """The mirror, with what only gates ask of it (sluice.hosts.git.GitMirror)."""

    async def changed(self, base: str, tip: str) -> list[FileChange]:
        """What tip brings since it left base, file by file."""
        ...

    async def listed(self, ref: str, folder: str) -> list[str]:
        """The paths of the files that lie in a folder at a ref, not deeper; [] where there is none."""
        ...

    async def trailers(self, base: str, tip: str, key: str) -> list[str]:
        """The values of a trailer (`Key: value`) in the messages of the commits in tip and not in base."""
        ...

    async def contents(self, sha: str) -> list[tuple[str, tuple[str, ...], str]]:
        """The files a commit changes and does not remove: path, hashes in the parents that have it, hash now.

        Of a merge those that differ from every parent.
        """
        ...

    async def messages(self, shas: Sequence[str]) -> list[tuple[str, str]]:
        """Each commit and its message, as it is."""
        ...

    async def blob(self, name: str) -> bytes | None:
        """A file's content by its hash; None when it is larger than what is read of one file."""
        ...

    async def note(self, notes: str, sha: str) -> bytes | None:
        """What `git notes --ref=NOTES` holds about a commit, or None. Raises Refused when it is too long to be one."""
        ...


class ForgeLike(Protocol):
    """Who tells of pull requests and commit statuses (sluice.hosts.forge.Forge).

    Raises ProbeBroken, and Refused without a token file as it must be.
    """

    async def pull_requests(self, branch: str) -> list[PullRequest]: ...

    async def statuses(self, sha: str) -> list[CommitStatus]: ...


def forge_code(error: ProbeBroken | Refused) -> str:
    """The code of why a forge could not be asked."""
    return "ForgeUnreachable" if isinstance(error, ProbeBroken) else "ForgeToken"


@dataclass(frozen=True)
class Asked:
    """Who wants the gates passed, and what they said."""

    owner: str = ""
    override: str = ""  # why an artifact that failed before may be tried again
    waivers: Mapping[str, str] = field(default_factory=dict)  # gate -> why it may be passed over
    env_fingerprint: str = ""
    serving: Release | None = None  # what a run that fails goes back to
    # The commit after which secrets are looked for. "": of a branch, where it left the policy's; of the policy's own
    # branch, nothing was promoted yet, and all of its history is looked at.
    since: str = ""
    owner_source: str = ""  # only by an SSH key is it known who somebody is
    before: Sequence[Former] = ()  # of a promotion: the policies that its candidate must keep too


@dataclass
class Names:
    """Paths of the branch that are secrets themselves. `no-secrets` finds them, and no gate shows them."""

    secret: set[str] = field(default_factory=set)
    read: asyncio.Event | None = None  # None: nobody looks for them
    whole: bool = False  # they were looked at to the end; else any of them may be one

    async def shown(self, path: str) -> str:
        """The path as evidence may show it: waits until it was looked at."""
        if self.read is None:
            return path
        await self.read.wait()
        return path if self.whole and path not in self.secret else NAMED


def _no_records() -> Sequence[Mapping[str, Any]]:
    return ()


@dataclass(frozen=True)
class GateContext:
    """One run of the gates. `policy` is read from `policy_ref`; `candidate` is the branch's own sluice.toml."""

    repo: GateRepo
    commit: Commit
    policy: GatesSpec
    policy_ref: str
    candidate: ServiceSpec
    env_file: EnvFileLike
    environment: EnvironmentName
    clock: Clock
    runner: Runner
    overlaps: Callable[[], Awaitable[list[str]]]  # of the release with everything else on the host
    signers: Mapping[str, Signer] = field(default_factory=dict)  # of the policy
    forge: ForgeLike | None = None
    asked: Asked = Asked()
    records: Callable[[], Sequence[Mapping[str, Any]]] = _no_records  # the environment's ledger, oldest first
    startable: Callable[[Release, bool], Awaitable[str]] | None = None  # by the runtime: why not, or ""
    names: Names = field(default_factory=Names)
    disk: Callable[[], Awaitable[Finding]] | None = None  # the check `disk` of this host
