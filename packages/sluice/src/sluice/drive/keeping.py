"""The ledger as the commands of an environment keep it: looked at before anything begins, added to, anchored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sluice.drive.aftermath import locked
from sluice.drive.audit import record_of
from sluice.drive.facts import Facts
from sluice.drive.world import World, command
from sluice.engine import Kind, State
from sluice.journal import read_all, recorded_runs
from sluice.ledger import Ledger
from sluice.model.errors import Refused, StateCorrupted


class Keeper:
    """Whoever uses it holds the environment's lock."""

    def __init__(self, world: World, note: Callable[[str, str], None]) -> None:
        """`note` is told a run and a sentence."""
        self._world, self._note = world, note
        self.ledger = Ledger(world.paths.ledger)

    async def must_hold(self) -> None:
        """Nothing begins while records are missing or others than they were: among them may be the one that locks.

        Chain and signatures, what the journals and the note of the last record remember, and what the mirror remembers
        of the origin, which is not asked. Raises StateCorrupted.
        """
        world = self._world
        runs = recorded_runs(world.paths.journal_dir)
        problems = self.ledger.verify(runs, (world.service, world.environment.value)).problems
        problem = problems[0] if problems else None
        if problem is None and world.remembered is not None:
            problem = await world.remembered()
        if problem is not None:
            raise StateCorrupted(
                f"{world.paths.ledger} does not hold ({problem.code}): {problem.sentence}.",
                world="Nothing was begun or overwritten; what serves goes on serving.",
                next=f"{command(world, 'log verify')}; then put the true one back, or begin another on purpose: "
                "docs/reference/ledger.md, After a finding",
                file=str(world.paths.ledger),
                line=problem.number,
            )
        self.ledger.must_sign()

    def must_have_ended(self, why: str, recovered: Mapping[str, str] | None = None) -> None:
        """Raises Refused where a run is unfinished. `recovered`: what the world is after those it was tried with."""
        runs = [one.run for one in read_all(self._world.paths.journal_dir, repair=False) if not one.ended]
        if runs:
            world = (recovered or {}).get(runs[0], "")
            raise Refused(f"Run {runs[0]} did not end; {why}", world=world, next=command(self._world, "resume"))

    async def must_be_open(self, facts: Facts) -> None:
        """Raises Locked while no rollout may follow, and StateCorrupted.

        That somebody wanted to promote all the same is recorded, with nothing touched. A rollout is not: whoever
        promotes is a person, what rolls out may be a job that tries again every minute.
        """
        closed = self.ledger.closed()
        if closed is None:
            return
        refused = locked(self._world, closed.reason, closed.since, closed.owner, closed.run)
        if facts.kind is Kind.PROMOTION:
            facts.code, facts.reason = refused.code, refused.what
            self.append(record_of(self._world, facts, State.REFUSED, int(refused.exit_code)))
            await self.anchor(facts.run)
        raise refused

    def append(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """As `Ledger.append`; what was mended in the file is said."""
        record = self.ledger.append(body)
        if self.ledger.note:
            self._note(str(body["run"]), self.ledger.note)
        return record

    async def anchor(self, run: str) -> None:
        """Bring what was recorded to the origin. What hinders it is said, and is no failure of the run."""
        if self._world.anchor is not None and (hindered := await self._world.anchor()):
            self._note(run, hindered)
