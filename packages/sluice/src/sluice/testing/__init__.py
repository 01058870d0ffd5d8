"""For tests: a world in memory that the real drive acts upon. `python -m sluice.testing` is a drill's command line."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluice.drive import Drive, Report, Request, Sibling, World
from sluice.drive.world import PromotionMeans
from sluice.gates.context import Asked
from sluice.gates.waivers import waived
from sluice.hosts.releases import FileReleases
from sluice.hosts.state import StatePaths
from sluice.model.containers import Containers
from sluice.model.errors import UsageError
from sluice.model.logs import Logs
from sluice.model.policy import GatesSpec
from sluice.model.promotion import Authored
from sluice.model.release import Artifact, Commit, Release, Slot
from sluice.model.secret import Redactor, Secret
from sluice.model.spec import EnvironmentName, RunSpec, ServiceSpec, WatchSpec
from sluice.model.verdict import Finding, Verdict
from sluice.ports import Progress

PUBLIC_URL = "http://public.test"
FIRST_PORT = 18100
SPEC = ServiceSpec(
    name="shop",
    run=RunSpec(command=("serve",), drain_notify="SIGUSR1", drain_grace_s=5),
    gates=GatesSpec(),
    watch=WatchSpec(duration_s=8, interval_s=1, required_checks=("login",)),
)


class Killed(BaseException):
    """The simulated death of the tool: nothing between the journal and the test may catch it."""


class ManualClock:
    """Time moves only when somebody sleeps."""

    def __init__(self) -> None:
        """Starts at zero."""
        self.elapsed = 0.0

    def now(self) -> str:
        at = dt.datetime(2030, 1, 1) + dt.timedelta(seconds=self.elapsed)  # noqa: DTZ001 - the Z is written below
        return at.isoformat(timespec="milliseconds") + "Z"

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.elapsed += seconds
        await asyncio.sleep(0)


def commit_of(branch: str) -> Commit:
    """One commit per branch name, the same every time."""
    sha = branch.encode().hex().ljust(40, "0")[:40]
    return Commit(sha, sha[::-1], branch, f"v1-{branch}", "A. Author", "2030-01-01T00:00:00Z")


@dataclass
class MemoryWorld:
    """Repository, runtime, ingress and judge of one environment. It survives the tool's death, as the real ones do.

    `faults` maps a step to what goes wrong there for a branch: see `verdicts` and the methods below.
    """

    folder: Path
    branches: set[str] = field(default_factory=lambda: {"main", "feature/good", "feature/bad"})
    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)  # (judgement, branch) -> verdict
    broken: dict[str, Exception] = field(default_factory=dict)  # port method -> raised each time
    hold: dict[str, asyncio.Event] = field(default_factory=dict)  # port method -> set when reached, then waits for ever
    specs: dict[str, ServiceSpec] = field(default_factory=dict)  # a branch's own sluice.toml, else SPEC
    shared: dict[str, list[str]] = field(default_factory=dict)  # branch -> what it would share with a neighbour
    stuck: dict[str, str] = field(default_factory=dict)  # branch -> why it could not be started again
    digests: dict[str, str] = field(default_factory=lambda: {"a": "b", "content:own": "c"})  # of what is built
    altered: str = ""  # what of every artifact is not as it was built
    kept: list[str] = field(default_factory=list)  # the releases whose artifacts the last pruning left
    keep: int = 5  # verified releases to go back to
    told: list[tuple[str, str]] = field(default_factory=list)  # title and body of every notification
    untold: list[str] = field(default_factory=list)  # what the next notifications will say went wrong
    env_file: str = "fingerprint"
    running: dict[str, str] = field(default_factory=dict)  # unit -> release id
    crippled: set[str] = field(default_factory=set)  # units that answer, though not everything of them runs
    pointed: str | None = None
    outdated: str = ""  # what the ingress says of itself before it is replaced
    by_hand: str = ""  # what it says of its file
    migrated: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    served: list[str | None] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)
    redactor: Redactor = field(default_factory=lambda: Redactor([Secret("sentinel-secret-value")]))
    environment: EnvironmentName = EnvironmentName.TEST
    unmerged: set[str] = field(default_factory=set)  # commits that are in no other branch
    author: str = "ann"  # of every commit between two releases
    promotion: PromotionMeans | None = None
    settings: dict[str, str] = field(default_factory=dict)  # of host.toml
    runs: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.paths = StatePaths(self.folder, "shop", self.environment.value)
        self.paths.prepare()
        self.releases = FileReleases(self.paths)
        self.reports: list[Report] = []
        self.artifact = self.folder / "artifact"
        self.artifact.mkdir(exist_ok=True)

    def world(self, environment: EnvironmentName | None = None) -> World:
        """As a newly started command sees it."""
        return World(
            service="shop",
            environment=environment or self.environment,
            public_url=PUBLIC_URL,
            policy_ref="main",
            paths=self.paths,
            repo=self,
            runtime=self,
            ingress=self,
            releases=self.releases,
            judge=self,
            fingerprint=lambda: self.env_file,
            redactor=self.redactor,
            clock=self.clock,
            new_run_id=lambda: f"run-{next(self.runs):04d}",
            load_service=lambda _raw, where: self.specs.get(where.partition(":")[0], SPEC),
            siblings=lambda: [Sibling(self.paths, self.releases, self.keep)],
            notify=self.notify,
            promotion=self.promotion,
            settings=self.settings,
        )

    def drive(self, after_entry: Callable[[str], None] | None = None) -> Drive:
        """A command line's drive over this world."""
        return Drive(self.world(), self.reports.append, after_entry)

    async def _reach(self, what: str) -> None:
        self.log.append(what)
        if what in self.hold:
            self.hold[what].set()
            await asyncio.Event().wait()
        if what in self.broken:
            raise self.broken[what]

    async def notify(self, title: str, body: str) -> list[str]:
        """Whoever is told of a run that went wrong."""
        await self._reach("notify")
        self.told.append((title, body))
        return self.untold

    # ------------------------------------------------------------ Repo

    async def fetch(self) -> None:
        await self._reach("fetch")

    async def resolve(self, branch: str) -> Commit:
        if branch not in self.branches:
            raise UsageError(f"there is no branch {branch!r}.", next=f"use one of: {', '.join(sorted(self.branches))}")
        return commit_of(branch)

    async def contains(self, sha: str, ancestor: str) -> bool:
        if "contains" in self.broken:
            raise self.broken["contains"]
        return bool(sha) and ancestor not in self.unmerged

    async def commits_between(self, base: str, tip: str) -> list[str]:
        return [base, tip]

    async def authored(self, base: str, tip: str) -> list[Authored]:
        return [Authored(tip, f"since {base[:6]}", self.author, f"{self.author}@example.org")]

    async def authors(self, tip: str) -> list[Authored]:
        return await self.authored("", tip)

    async def patch(self, sha: str) -> str:
        return sha

    async def read(self, ref: str, path: str) -> bytes | None:
        return b"toml" if ref and path == "sluice.toml" else None

    async def export(self, sha: str, into: Path) -> None:
        (into / "sha").write_text(sha)

    # ------------------------------------------------------------ Runtime

    async def overlaps(self, commit: Commit, spec: ServiceSpec) -> list[str]:
        await self._reach(f"overlaps of {spec.name}")
        return self.shared.get(commit.branch, [])

    async def build(
        self,
        commit: Commit,
        spec: ServiceSpec,
        progress: Progress,
        images: Mapping[str, str] | None = None,  # noqa: ARG002 - the port's shape
    ) -> Artifact:
        await self._reach("build")
        progress(f"building {spec.name}")
        return Artifact(key=f"key-{commit.tree}", path=str(self.artifact), tree=commit.tree, digests=self.digests)

    async def changed(self, artifact: Artifact) -> str:
        await self._reach(f"look at {artifact.key}")
        return self.altered

    async def migrate(self, release: Release, progress: Progress) -> str:
        await self._reach("migrate")
        progress("migrating")
        self.migrated.append(release.id)
        return "head-1"

    def choose_slot(self, release: Release, taken: Sequence[Slot]) -> Slot:
        used = {slot.port for slot in taken} | {int(unit.rpartition("-")[2]) for unit in self.running}
        port = next(port for port in itertools.count(FIRST_PORT) if port not in used)
        return Slot(release.id, f"shop-test-{port}", port, f"http://127.0.0.1:{port}")

    async def start(self, release: Release, slot: Slot) -> None:
        self.running[slot.unit] = release.id
        await self._reach(f"start {slot.unit}" if slot.unit in self.crippled else "start")
        self.crippled.discard(slot.unit)

    async def startable(self, release: Release, same_values: bool) -> str:  # noqa: ARG002 - the port's shape
        return self.stuck.get(release.commit.branch, "")

    async def alive(self, slot: Slot) -> bool:
        return slot.unit in self.running and slot.unit not in self.crippled

    async def restarts(self, slot: Slot) -> int:  # noqa: ARG002 - the port's shape
        return 0

    async def hand_over(self, release: Release, slot: Slot, other: Slot | None) -> None:
        await self._reach(f"hand over to {release.id} {slot.port} from {other.release_id if other else None}")

    async def notify_drain(self, release: Release, slot: Slot) -> None:
        await self._reach(f"drain {release.id} {slot.port}")

    async def stop(self, release: Release, slot: Slot) -> None:
        await self._reach(f"stop {release.id}")
        self.running.pop(slot.unit, None)

    async def containers(self, release: Release, slot: Slot) -> Containers | None:
        await self._reach(f"containers of {release.id} {slot.port}")
        return None

    async def credentials(self, release: Release, slot: Slot) -> Path | None:
        await self._reach(f"credentials of {release.id} {slot.port}")
        return None

    async def logs(self, release: Release, slot: Slot, lines: int) -> Logs:
        await self._reach("logs")
        return Logs({release.service: await self.tail(release, slot, lines)})

    async def prune(self, keep: Sequence[Release], progress: Progress) -> None:
        progress("pruning")
        self.kept = sorted({release.id for release in keep})
        await self._reach("prune")

    async def tail(self, release: Release, slot: Slot, lines: int) -> list[str]:  # noqa: ARG002 - the port's shape
        return [f"{slot.unit} says sentinel-secret-value"][:lines]

    # ------------------------------------------------------------ Ingress

    @property
    def route_file(self) -> Path:
        return self.folder / "route"

    async def ensure(self) -> None:
        await self._reach("ensure")

    async def replacement(self) -> str:
        return self.outdated

    async def edited(self) -> str:
        return self.by_hand

    async def mend(self) -> None:
        await self._reach("mend")

    async def point(self, slot: Slot | None) -> None:
        self.pointed = slot.url if slot else None
        self.served.append(self.pointed)
        await self._reach("point")

    async def current(self) -> str | None:
        return self.pointed

    def serving_release(self) -> str | None:
        """The id of the release users get now, or None."""
        units = {f"http://127.0.0.1:{unit.rpartition('-')[2]}": release for unit, release in self.running.items()}
        return units.get(self.pointed or "")

    # ------------------------------------------------------------ Judge

    def _verdict(self, name: str, release: Release, judgement: str = "") -> Finding:
        verdict = self.verdicts.get((judgement or name, release.commit.branch), Verdict.PASS)
        return Finding(name, verdict, 1, f"{judgement or name} of {release.commit.branch}: sentinel-secret-value")

    async def gates(
        self,
        commit: Commit,
        candidate: ServiceSpec,
        policy: ServiceSpec,
        on_finding: Callable[[Finding], None],
        asked: Asked,
    ) -> list[Finding]:
        await self._reach("gates")
        verdict = self.verdicts.get(("gates", commit.branch), Verdict.PASS)
        on_finding(Finding("branch-policy", verdict, 1, f"{candidate.name} {policy.name}"))
        return [waived(Finding("branch-policy", verdict, 1, "the branch"), asked)]

    async def ready(self, release: Release, slot: Slot) -> Finding:
        await self._reach("ready")
        return self._verdict("ready", release) if slot.unit in self.running else Finding("ready", Verdict.FAIL)

    async def read_back(self, url: str, release: Release, slot: Slot | None = None) -> Finding:
        await self._reach("read_back")
        if slot is not None and slot.unit not in self.running:
            return Finding("served-release", Verdict.FAIL, 1, "nobody answers")
        if url == PUBLIC_URL and self.serving_release() != release.id:
            return Finding("served-release", Verdict.FAIL, 1, f"{self.serving_release()} answers")
        return self._verdict("served-release", release)

    async def smoke(
        self,
        release: Release,
        slot: Slot,
        policy: ServiceSpec,
        on_finding: Callable[[Finding], None],
        *,
        public: bool,
    ) -> list[Finding]:
        await self._reach("smoke public" if public else "smoke private")
        finding = self._verdict("login", release, "smoke public" if public else "smoke private")
        on_finding(finding)
        return [finding] if policy.watch.required_checks and slot.port else []

    async def watch(
        self,
        new: tuple[Release, Slot],
        old: tuple[Release, Slot] | None,
        policy: ServiceSpec,
        on_finding: Callable[[Finding], None],
        on_reading: Callable[[dict[str, Any]], None],
    ) -> list[Finding]:
        await self._reach("watch")
        on_reading({"left_s": policy.watch.duration_s, "criteria": []})
        await self.clock.sleep(policy.watch.duration_s)
        finding = self._verdict("messages", new[0], "watch")
        on_finding(finding)
        return [finding, Finding("health", Verdict.PASS, 1, "both slots" if old else "one slot")]


ASKED = Request("ann@host", "test", "feature/good")


def killer(entry: str) -> Callable[[str], None]:
    """An `after_entry` that simulates the tool's death after the named entry."""

    def after(name: str) -> None:
        if name == entry:
            raise Killed(name)

    return after
