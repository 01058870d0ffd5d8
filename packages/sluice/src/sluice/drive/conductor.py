"""The way in: lock, recover what is unfinished, walk, record, unlock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sluice.drive.audit import record_of, recovery_record, state_of_world
from sluice.drive.facts import Facts, facts_of
from sluice.drive.steps import Outcome
from sluice.drive.walk import Walk, explain
from sluice.drive.world import Report, Tell, World
from sluice.engine import EXIT_CODES, TERMINAL, Event, Kind, State
from sluice.journal import SUFFIX, Journal, Record, read_all
from sluice.ledger import Ledger
from sluice.lock import Holder, hold
from sluice.model.errors import ExitCode, SluiceError

# After these the world is known and one good release serves, or none did: another command may go on.
SETTLED = frozenset({State.DONE, State.REFUSED, State.ROLLED_BACK})


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for, and who that is."""

    owner: str
    owner_source: str
    branch: str = ""
    override: str = ""  # why an artifact that failed before may be tried again


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    run: str
    kind: str
    outcome: State
    exit_code: int
    what: str  # why it did not end in `done`
    world: str  # which release serves
    next: str
    record: dict[str, Any] = field(default_factory=dict)
    recovered: bool = False
    internal: bool = False


class Drive:
    """Mutates one environment. Each method holds the environment's lock for as long as it runs.

    Raises Locked when another run holds it, and StateCorrupted when a journal or the ledger is damaged: then nothing
    is begun and nothing overwritten.
    """

    def __init__(self, world: World, tell: Tell, after_entry: Callable[[str], None] | None = None) -> None:
        """`after_entry` is called with the name of each journal entry once it is on disk."""
        self._world, self._tell, self._after_entry = world, tell, after_entry
        self._ledger = Ledger(world.paths.ledger)
        self._walk: Walk | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        """Ask for an orderly end: what can be undone is undone, what cannot is finished."""
        self._interrupted = True
        if self._walk is not None:
            self._walk.interrupt()

    async def rollout(self, request: Request) -> Result:
        """Bring a branch into the environment, or leave the environment as it was."""
        return await self._run(Kind.ROLLOUT, request)

    async def rollback(self, request: Request) -> Result:
        """Bring the last verified release back, or leave the environment as it was."""
        return await self._run(Kind.ROLLBACK, request)

    async def resume(self, request: Request) -> list[Result]:
        """Finish or undo what a killed run left. An empty list: there was nothing."""
        with self._held("resume", "", request):
            return await self._recover(request)

    async def _run(self, kind: Kind, request: Request) -> Result:
        run = self._world.new_run_id()
        with self._held(f"{kind.value} {request.branch}".strip(), run, request):
            for recovered in await self._recover(request):
                if recovered.outcome not in SETTLED | {State.NONE_SERVING}:
                    return recovered
            facts = Facts(run, kind, request.owner, request.owner_source, request.branch, request.override)
            facts.started = self._world.clock.now()
            journal = self._journal(run)
            journal.begin(
                kind=kind.value,
                owner=request.owner,
                owner_source=request.owner_source,
                branch=request.branch,
                override=self._world.redactor(request.override),
                service=self._world.service,
                environment=self._world.environment.value,
            )
            self._say("run", run, f"{kind.value} of {self._world.service} in {self._world.environment.value}")
            walk = self._begin_walk(facts, journal)
            return self._settle(walk, journal, await walk.run(State.PLANNING))

    async def _recover(self, request: Request) -> list[Result]:
        self._ledger.records()
        results = []
        for record in read_all(self._world.paths.journal_dir, repair=True):
            if record.note:
                self._say("note", record.run, record.note)
            if not record.ended:
                results.append(await self._recover_one(record, request))
        return results

    async def _recover_one(self, record: Record, request: Request) -> Result:
        facts, died_in = facts_of(record), record.state
        self._say("note", record.run, f"recovering run {record.run}, which ended without a word in {died_in.value}")
        journal = self._journal(record.run, len(record.entries))
        walk = self._begin_walk(facts, journal)
        outcome = died_in
        if died_in not in TERMINAL:
            seen = await self._look_around(facts)
            reason = f"the tool died in {died_in.value}"
            outcome = await walk.run(walk.observe(died_in, Outcome(Event.RECOVER, notes={"reason": reason, **seen})))
        return self._settle(walk, journal, outcome, recovered=(request, died_in))

    async def _look_around(self, facts: Facts) -> dict[str, Any]:
        """What the world says of itself, as evidence beside what the journal says."""
        world, old = self._world, facts.plan.old if facts.plan else None
        return {
            "ingress": await world.ingress.current(),
            "new_alive": await world.runtime.alive(facts.slot) if facts.slot else None,
            "old_alive": await world.runtime.alive(old[1]) if old else None,
        }

    def _settle(
        self, walk: Walk, journal: Journal, outcome: State, recovered: tuple[Request, State] | None = None
    ) -> Result:
        """Append the ledger record, then end the journal; a run whose record cannot be written stays recoverable."""
        facts, exit_code = walk.facts, int(EXIT_CODES[outcome])
        if outcome is State.REFUSED and facts.exit_code is not None:
            exit_code = facts.exit_code
        record: dict[str, Any] = {}
        try:
            # A command that names what does not exist decided nothing about any release.
            if exit_code != ExitCode.USAGE:
                record = self._ledger.append(record_of(self._world, facts, outcome, exit_code))
            if recovered is not None:
                by = (recovered[0].owner, recovered[0].owner_source)
                self._ledger.append(recovery_record(self._world, facts, by, recovered[1], outcome))
            if walk.journal_lost is None:
                journal.end(outcome, exit_code, bool(record))
        except SluiceError as failure:
            walk.errors.append(failure)
            facts.reason = facts.reason or failure.what
            self._say("note", facts.run, explain(failure))
            if outcome is State.DONE:
                outcome, exit_code = State.DEGRADED, int(ExitCode.DEGRADED)
        result = self._result(walk, outcome, exit_code, record, recovered is not None)
        self._say("result", facts.run, result.world, msgspec.to_builtins(result))
        return result

    def _result(self, walk: Walk, outcome: State, exit_code: int, record: dict[str, Any], recovered: bool) -> Result:
        facts, errors = walk.facts, walk.errors
        advice = next((e.next for e in errors if isinstance(e, SluiceError) and e.next), "")
        if walk.journal_lost is not None:
            advice = walk.journal_lost.next
        elif outcome is State.ROLLBACK_FAILED:
            advice = "sluice status, then point the ingress by hand or: sluice rollback"
        return Result(
            run=facts.run,
            kind=facts.kind.value,
            outcome=outcome,
            exit_code=exit_code,
            what="" if outcome is State.DONE else self._world.redactor(facts.reason),
            world=state_of_world(facts, outcome, self._world),
            next=self._world.redactor(advice),
            record=record,
            recovered=recovered,
            internal=any(not isinstance(error, SluiceError | OSError) for error in errors),
        )

    def _begin_walk(self, facts: Facts, journal: Journal) -> Walk:
        self._walk = Walk(self._world, facts, journal, self._tell)
        if self._interrupted:
            self._walk.interrupt()
        return self._walk

    def _journal(self, run: str, written: int = 0) -> Journal:
        path = self._world.paths.journal_dir / f"{run}{SUFFIX}"
        return Journal(path, self._world.redactor, self._world.clock.now, self._after_entry, written)

    @contextmanager
    def _held(self, what: str, run: str, request: Request) -> Iterator[None]:
        paths, clock = self._world.paths, self._world.clock
        with hold(paths.lock, paths.lock_info, Holder(request.owner, what, clock.now(), os.getpid(), run)):
            yield

    def _say(self, event: str, run: str, text: str, data: dict[str, Any] | None = None) -> None:
        self._tell(Report(event, self._world.clock.now(), run, text=self._world.redactor(text), data=data or {}))
