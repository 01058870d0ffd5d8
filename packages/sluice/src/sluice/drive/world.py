"""What a run is given: ports, where its state lies, and whom it tells what is going on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from sluice.gates.context import Asked
from sluice.hosts.signing import Signed
from sluice.ledger import Problem
from sluice.model.policy import Role, Signer
from sluice.model.promotion import Approval
from sluice.model.release import Commit, Release, Slot
from sluice.model.secret import Redactor
from sluice.model.spec import EnvironmentName, ServiceSpec
from sluice.model.verdict import Finding
from sluice.ports import Clock, Ingress, Releases, Repo, Runner, Runtime

OnFinding = Callable[[Finding], None]
OnReading = Callable[[dict[str, Any]], None]  # how the watch stands, once a second (sluice.criteria.watch)
# Title and body to whoever the operator named; gives what failed, one sentence each, and never raises.
Notify = Callable[[str, str], Awaitable[list[str]]]
# Brings the ledger's tail to the origin; gives a sentence about what hindered it, or "", and never raises.
BringTail = Callable[[], Awaitable[str]]


# What of that which was seen on the origin last is missing or other in the ledger here; asks nobody.
Remembered = Callable[[], Awaitable[Problem | None]]


class Paths(Protocol):
    """Where one environment's state lies (sluice.hosts.state.StatePaths)."""

    @property
    def lock(self) -> Path: ...

    @property
    def lock_info(self) -> Path: ...

    @property
    def journal_dir(self) -> Path: ...

    @property
    def ledger(self) -> Path: ...


class Judge(Protocol):
    """Gates, checks and criteria, each with its own deadline. None raises for a fault of its own: it says `error`."""

    async def gates(
        self, commit: Commit, candidate: ServiceSpec, policy: ServiceSpec, on_finding: OnFinding, asked: Asked
    ) -> list[Finding]:
        """What is waived in `asked` is judged all the same. Whether it may be waived was asked before."""
        ...

    async def ready(self, release: Release, slot: Slot) -> Finding:
        """Three successes in a row, or why not; ends early when the slot's process died."""
        ...

    async def read_back(self, url: str, release: Release, slot: Slot | None = None) -> Finding:
        """Whether this URL serves this release, and if not, what it serves. A private address needs its slot."""
        ...

    async def smoke(
        self,
        release: Release,
        slot: Slot,
        policy: ServiceSpec,
        on_finding: OnFinding,
        *,
        public: bool,
    ) -> list[Finding]:
        """Every check of one address; what the server checks look for and which may not be missing: the policy's."""
        ...

    async def watch(
        self,
        new: tuple[Release, Slot],
        old: tuple[Release, Slot] | None,
        policy: ServiceSpec,
        on_finding: OnFinding,
        on_reading: OnReading,
    ) -> list[Finding]: ...


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened, for the terminal and for `--json`. Every text in it is redacted."""

    # run | step | confirmation | finding | progress | watch | note | result; of a transcript also opened, ended
    event: str
    at: str
    run: str = ""
    step: str = ""
    status: str = ""  # of a step: started, or the engine's event
    ms: int = 0
    text: str = ""
    finding: Finding | None = None
    data: dict[str, Any] = {}
    n: int = 0  # its number in the run's transcript


Tell = Callable[[Report], None]


@dataclass(frozen=True, slots=True)
class Sibling:
    """The memory of one environment of a service; the environments of a service share its artifacts."""

    paths: Paths
    releases: Releases
    keep: int  # how many verified releases may be gone back to


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The test environment of another host: all that is known of it here is what its ledger says."""

    records: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]  # oldest first, each vouched for; raises Denied


class Approvals(Protocol):
    """What people signed for an environment (sluice.hosts.approvals.FileApprovals)."""

    def all(self) -> list[Approval]:
        """Newest first."""
        ...

    def add(self, approval: Approval) -> None: ...


class Verify(Protocol):
    """Who signed a text (sluice.hosts.signing.verify). Raises Refused with a code when nobody who may."""

    async def __call__(self, document: bytes, signature: str, signers: Mapping[str, Signer], role: Role) -> Signed: ...


@dataclass(frozen=True, slots=True)
class PromotionMeans:
    """What a promotion works with besides."""

    test: Sibling | Elsewhere  # the environment that proves
    approvals: Approvals
    verify: Verify
    runner: Runner  # for the items of the checklist that a machine looks at
    doubt: Callable[[], Awaitable[str]]  # why a ledger of this host is not believed, test's or this one's; "": all are


@dataclass(frozen=True, slots=True)
class World:
    """One environment of one service on this host."""

    service: str
    environment: EnvironmentName
    public_url: str
    policy_ref: str
    paths: Paths
    repo: Repo
    runtime: Runtime
    ingress: Ingress
    releases: Releases
    judge: Judge
    fingerprint: Callable[[], str]  # of the env file; raises Refused when that is not as it must be
    redactor: Redactor
    clock: Clock
    new_run_id: Callable[[], str]  # time-ordered and unique
    load_service: Callable[[bytes, str], ServiceSpec]  # raises ConfigError
    siblings: Callable[[], Sequence[Sibling]]  # every environment of the service, this one too
    notify: Notify | None = None
    anchor: BringTail | None = None  # None: host.toml says `anchor = false`
    remembered: Remembered | None = None  # None with it
    promotion: PromotionMeans | None = None  # where branches are rolled out there is none
    settings: Mapping[str, str] = field(default_factory=dict)  # of host.toml (sluice.drive.settings)


def command(world: World, verb: str) -> str:
    """A command line about this environment, as it is typed."""
    return f"sluice {verb} --env {world.environment.value} --service {world.service}"


def forward(world: World, branch: str = "") -> str:
    """The command that brings a new release here: a rollout, or a promotion where nothing else may go."""
    if world.promotion is not None:
        return command(world, "promote")
    return f"{command(world, 'rollout')} --branch {branch or 'BRANCH'}"
