"""What must be true of a tiny world after whatever happened to it: one good release serves, nothing is left over."""

from __future__ import annotations

from tiny import TinyWorld

from sluice.engine import Event, State
from sluice.journal import Record, read_all
from sluice.ledger import Ledger
from sluice.runtimes.client import SupervisorClient


def other(world: TinyWorld) -> str:
    """The good branch that does not serve."""
    return "feature/two" if world.served()[0] == world.shas["feature/one"] else "feature/one"


def can_go_back(world: TinyWorld) -> bool:
    """Whether a rollback would find a release."""
    serving = world.releases.serving()
    left = Ledger(world.paths.ledger).rolled_back_from() | ({serving[0].id} if serving else set())
    return any(release.verified and release.id not in left for release in world.releases.all())


class Before:
    """What must not change by a case, or only so much."""

    def __init__(self, world: TinyWorld) -> None:
        self.world = world
        self.migrated = len(world.lines("migrations"))
        self.runs = {record.run for record in read_all(world.paths.journal_dir, repair=False)}
        kept = [one for one in containers(world) if one["service"] in {"store", ""}]  # the shared one and the ingress
        self.kept = {one["name"]: one["id"] for one in kept}

    def settle(self, shas: set[str]) -> None:
        """One good release serves, exactly what belongs to it runs, and the audit trail is whole."""
        world, status = self.world, self.world.status()
        sha = world.served()[0]
        assert world.served() == (sha, world.tree(sha))
        assert sha in shas
        release, slot = world.releases.serving() or (None, None)
        assert release is not None
        assert slot is not None
        assert release.verified
        assert (release.commit.sha, status["commit"], status["alive"]) == (sha, sha, True)
        assert (status["unfinished"], status["damaged"], status["lock"]) == ([], [], "")
        assert status["ingress"] == (slot.target or slot.url)
        verified = world.here("verify")
        assert verified.code == 0, verified.text
        records = read_all(world.paths.journal_dir, repair=False)
        assert all(record.ended for record in records)
        self._nothing_twice([record for record in records if record.run not in self.runs])
        (self._containers if world.runtime == "compose" else self._processes)(slot.unit)

    def _nothing_twice(self, records: list[Record]) -> None:
        begun = [r for r in records if any(entry.name == "intent:migrating" for entry in r.entries)]
        done = [r for r in begun if (State.MIGRATING, Event.OK) in r.observed]
        assert len(done) <= len(self.world.lines("migrations")) - self.migrated <= len(begun)
        assert self.world.lines("twice") == []

    def _processes(self, unit: str) -> None:
        assert len(self.world.processes()) == 1
        units = SupervisorClient(self.world.paths.supervisor_dir).status()
        assert set(units) == {unit, f"ingress-{self.world.service}-test"}

    def _containers(self, unit: str) -> None:
        found = containers(self.world)
        assert {one["name"]: one["id"] for one in found if one["service"] in {"store", ""}} == self.kept
        slot = sorted((one["service"], one["project"], one["state"]) for one in found if one["name"] not in self.kept)
        assert slot == [("web", unit, "running"), ("worker", unit, "running")]
        own = {f"sluice-{self.world.service}-test", f"{unit}_default"}
        assert set(self.world.networks()) == own
        folder = self.world.paths.env_dir / "slots"
        assert (folder / "holder").read_text() == unit
        shared = f"{self.world.service}-test-shared"
        wanted = {"holder", *(f"{name}{end}" for name in (unit, shared) for end in (".json", ".started.json"))}
        assert {path.name for path in folder.iterdir()} - {f"{self.world.service}-test-migrate.json"} == wanted


def containers(world: TinyWorld) -> list[dict[str, str]]:
    """Those of the world; a plain process has none."""
    return world.containers() if world.runtime == "compose" else []


def is_locked(world: TinyWorld) -> bool:
    """Whether a rollout would be refused for what happened before."""
    return Ledger(world.paths.ledger).closed() is not None
