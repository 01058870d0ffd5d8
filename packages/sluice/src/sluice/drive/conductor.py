"""The way in: lock, recover what is unfinished, walk, record, unlock."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from sluice.drive.aftermath import (
    TOLD,
    Seen,
    advice,
    as_notes,
    locks,
    look,
    message,
    onward,
    true_state,
)
from sluice.drive.audit import (
    lock_record,
    override_record,
    record_of,
    recovery_record,
    served_before,
    standing_waivers,
    state_of_world,
    waiver_record,
)
from sluice.drive.facts import Facts, Plan, facts_of
from sluice.drive.keeping import Keeper
from sluice.drive.outcome import Outcome, worst_first
from sluice.drive.promotion import exceptions_of
from sluice.drive.pruning import prune
from sluice.drive.reception import Reception
from sluice.drive.walk import Walk, explain
from sluice.drive.world import Report, Tell, World, command
from sluice.engine import EXIT_CODES, TERMINAL, Event, Kind, State
from sluice.journal import SUFFIX, Journal, Record, read_all
from sluice.ledger import frozen_by
from sluice.lock import Holder, hold
from sluice.model.errors import ExitCode, Refused, SluiceError, UsageError
from sluice.model.policy import Role
from sluice.model.promotion import Denied
from sluice.model.release import Release

# After these the world is known and one good release serves, or none did: another command may go on.
SETTLED = frozenset({State.DONE, State.REFUSED, State.ROLLED_BACK})
Before = tuple[Release | None, bool | None]  # what served when the run began, and whether it ran then
UNWRITTEN = "what came of it could not be written down, and nothing new begins before it is."
PRUNE_S = 120  # removing a few old artifacts of a gigabyte from a slow disk; what is left is removed after the next run


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for, and who that is."""

    owner: str
    owner_source: str
    branch: str = ""
    override: str = ""  # why an artifact that failed before may be tried again
    waivers: Mapping[str, str] = field(default_factory=dict)  # gate -> why it may be passed over


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
    waivers: list[str] = field(default_factory=list)  # gates that were passed over for what serves now


class Drive:
    """Mutates one environment. Each method holds the environment's lock for as long as it runs.

    Raises Locked when another run holds it, and StateCorrupted when a journal or the ledger is damaged: then nothing
    is begun and nothing overwritten.
    """

    def __init__(self, world: World, tell: Tell, after_entry: Callable[[str], None] | None = None) -> None:
        """`after_entry` is called with the name of each journal entry once it is on disk."""
        self._world, self._tell, self._after_entry = world, tell, after_entry
        self._keeper = Keeper(world, lambda run, text: self._say("note", run, text))
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

    async def promote(self, request: Request) -> Result:
        """Bring to this environment what was proven in test, merged and confirmed, or leave it as it was."""
        return await self._run(Kind.PROMOTION, request)

    async def rollback(self, request: Request) -> Result:
        """Bring the last verified release back, or leave the environment as it was."""
        return await self._run(Kind.ROLLBACK, request)

    async def resume(self, request: Request) -> list[Result]:
        """Finish or undo what a killed run left. An empty list: there was nothing."""
        with self._held("resume", "", request) as asked:
            results = await self._recover(asked)
            if all(one.outcome in SETTLED for one in results):
                self._keeper.must_have_ended(UNWRITTEN, {one.run: one.world for one in results})
            return results

    async def lock(self, request: Request, reason: str) -> dict[str, Any]:
        """Take no rollout until somebody unlocks. The ledger's record of it."""
        return await self._say_lock("lock", request, reason)

    async def unlock(self, request: Request, reason: str) -> dict[str, Any]:
        """Take rollouts again. The ledger's record of it. Raises Refused when it is not locked or a run did not end."""
        return await self._say_lock("unlock", request, reason)

    async def freeze(self, request: Request, until: dt.datetime, reason: str) -> dict[str, Any]:
        """Let the gate `freeze` stop rollouts and promotions until that time; rollbacks go on. The ledger's record.

        Freezes that hold already go on holding beside it. `until` has a zone.
        """
        end = f"{until.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
        if until <= dt.datetime.fromisoformat(self._world.clock.now()):
            raise UsageError(f"{end} is over: what is frozen until then is not frozen.", next="name a time to come")
        return await self._say_lock("freeze", request, reason, end)

    async def unfreeze(self, request: Request, reason: str) -> dict[str, Any]:
        """Lift every freeze that an operator made. The ledger's record. Raises Refused when there is none."""
        return await self._say_lock("unfreeze", request, reason)

    async def sign(
        self, request: Request, role: Role, signed: Callable[[Plan], Awaitable[tuple[str, str]]]
    ) -> dict[str, Any]:
        """Take in somebody's signature of what would be promoted now. The ledger's record of it.

        `signed` gives the text and its signature, for the plan; the environment is not held meanwhile. Raises Denied:
        the signature is not kept then, and that somebody handed it in is recorded.
        """
        run, what = self._world.new_run_id(), f"{role.value} of a promotion"
        with self._held(what, run, request) as asked:
            reception = Reception(self._world, self._keeper, role, run, (asked.owner, asked.owner_source))
            exceptions = exceptions_of(self._world, asked.waivers, asked.override)
            plan = await reception.plan(exceptions)
        try:
            given = await signed(plan)
        except Denied as denied:
            with self._held(what, run, request):
                await reception.refuse(plan, denied)
            raise
        with self._held(what, run, request):
            return await reception.take_in(await reception.plan(exceptions), given)

    async def _say_lock(self, verb: str, request: Request, reason: str, until: str = "") -> dict[str, Any]:
        world = self._world
        if not reason.strip():
            raise UsageError(f"{verb} needs a reason: it is all the next person will know.", next="--reason 'WHY'")
        run = world.new_run_id()
        with self._held(verb, run, request) as asked:
            await self._keeper.must_hold()
            if verb == "unlock":
                self._keeper.must_have_ended("what comes of it may be a reason to stay locked.")
                if self._keeper.ledger.closed() is None:
                    raise Refused("The environment is not locked.", next=command(world, "status"))
            now = dt.datetime.fromisoformat(world.clock.now())
            if verb == "unfreeze" and not frozen_by(self._keeper.ledger.records(), now):
                raise Refused("The environment is not frozen.", next=command(world, "status"))
            by = (asked.owner, asked.owner_source)
            record = self._keeper.append(lock_record(world, verb, run, by, reason.strip(), until))
            await self._keeper.anchor(run)
            return record

    async def _run(self, kind: Kind, request: Request) -> Result:
        run = self._world.new_run_id()
        with self._held(f"{kind.value} {request.branch}".strip(), run, request) as asked:
            results = await self._recover(asked)
            for recovered in results:
                if recovered.outcome not in SETTLED | {State.NONE_SERVING}:
                    return recovered
            # Its record may be one that locks, and a later recovery would take users to what was its old release.
            self._keeper.must_have_ended(UNWRITTEN, {one.run: one.world for one in results})
            facts = Facts(run, kind, asked.owner, asked.owner_source, asked.branch, asked.override)
            facts.waivers = dict(asked.waivers)
            facts.started = self._world.clock.now()
            if kind is not Kind.ROLLBACK:
                await self._keeper.must_be_open(facts)
            journal = self._journal(run)
            journal.begin(
                kind=kind.value,
                owner=asked.owner,
                owner_source=asked.owner_source,
                branch=asked.branch,
                override=asked.override,
                waivers=facts.waivers,
                service=self._world.service,
                environment=self._world.environment.value,
            )
            self._say("run", run, f"{kind.value} of {self._world.service} in {self._world.environment.value}")
            walk = self._begin_walk(facts, journal)
            return await self._settle(walk, journal, await walk.run(State.PLANNING))

    async def _recover(self, request: Request) -> list[Result]:
        await self._keeper.must_hold()
        await self._world.ingress.current()  # a damaged ingress file is looked at by a person before it is written anew
        self._world.releases.serving()
        self._world.releases.all()
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
        try:
            await self._world.ingress.mend()  # users first, whatever comes of the run
        except SluiceError as failure:
            self._say("note", record.run, explain(failure))
        if died_in not in TERMINAL:
            seen = await self._look_around(facts)
            reason = f"the tool died in {died_in.value}"
            outcome = await walk.run(walk.observe(died_in, Outcome(Event.RECOVER, notes={"reason": reason, **seen})))
        return await self._settle(walk, journal, outcome, recovered=(request, died_in))

    async def _look_around(self, facts: Facts) -> dict[str, Any]:
        """What the world says of itself, as evidence beside what the journal says."""
        world, old = self._world, facts.plan.old if facts.plan else None
        return {
            "ingress": await world.ingress.current(),
            "new_alive": await world.runtime.alive(facts.slot) if facts.slot else None,
            "old_alive": await world.runtime.alive(old[1]) if old else None,
        }

    async def _settle(
        self, walk: Walk, journal: Journal, outcome: State, recovered: tuple[Request, State] | None = None
    ) -> Result:
        """Append the ledger record, tell who must know, then end the journal.

        A run whose record cannot be written stays recoverable: the record locks the environment, so it comes first.
        """
        facts, exit_code = walk.facts, int(EXIT_CODES[outcome])
        if outcome is State.REFUSED and facts.exit_code is not None:
            exit_code = facts.exit_code
        seen = await look(self._world, facts) if outcome in {State.DEGRADED, State.ROLLBACK_FAILED} else None
        written: list[dict[str, Any]] = []
        whole = False
        try:
            for body in self._bodies(facts, outcome, exit_code, recovered):
                written.append(self._keeper.append(body))  # noqa: PERF401 - it is there also where the next one fails
            whole = True
        except SluiceError as failure:
            outcome, exit_code = self._unwritten(walk, failure, outcome, exit_code)
        record = next((one for one in written if one["type"] == facts.kind.value), {})
        was = await served_before(facts, self._world)
        told = await self._told(walk, outcome, seen, was)
        try:
            if whole and walk.journal_lost is None:
                journal.end(outcome, exit_code, written, as_notes(seen, told))
        except SluiceError as failure:
            outcome, exit_code = self._unwritten(walk, failure, outcome, exit_code)
        # Neither needs the other, and both wait for others most of their time.
        async with asyncio.TaskGroup() as both:
            if record or recovered is not None:
                both.create_task(self._keeper.anchor(facts.run))
            if outcome is State.DONE:
                both.create_task(self._prune(facts.run))
        result = self._result(walk, outcome, exit_code, record, self._words(walk, outcome, seen, was))
        result = replace(result, recovered=recovered is not None)
        self._say("result", facts.run, result.world, msgspec.to_builtins(result))
        return result

    def _bodies(
        self, facts: Facts, outcome: State, exit_code: int, recovered: tuple[Request, State] | None
    ) -> Iterator[dict[str, Any]]:
        """The run's record, after those of what it passed over, and before that of its recovery."""
        # A command that names what does not exist decided nothing about any release.
        if exit_code != ExitCode.USAGE:
            yield from filter(None, (waiver_record(self._world, facts), override_record(self._world, facts)))
            yield record_of(self._world, facts, outcome, exit_code, locks(facts, outcome))
        if recovered is not None:
            by = (recovered[0].owner, recovered[0].owner_source)
            yield recovery_record(self._world, facts, by, recovered[1], outcome)

    def _unwritten(self, walk: Walk, failure: SluiceError, outcome: State, exit_code: int) -> tuple[State, int]:
        """What a run ended as when that could not be written down."""
        walk.errors.append(failure)
        walk.facts.reason = walk.facts.reason or failure.what
        self._say("note", walk.facts.run, explain(failure))
        return (State.DEGRADED, int(ExitCode.DEGRADED)) if outcome is State.DONE else (outcome, exit_code)

    async def _told(self, walk: Walk, outcome: State, seen: Seen | None, was: Before) -> list[str] | None:
        """Tell whoever the operator named. What could not be told, or None where nobody is to be told."""
        if self._world.notify is None or outcome not in TOLD:
            return None
        state, next_ = self._words(walk, outcome, seen, was)
        untold = await self._world.notify(*message(self._world, walk.facts, outcome, state, next_))
        for sentence in untold:
            self._say("note", walk.facts.run, sentence)
        return [self._world.redactor(sentence) for sentence in untold]

    async def _prune(self, run: str) -> None:
        try:
            async with asyncio.timeout(PRUNE_S):
                await prune(self._world, lambda text: self._say("note", run, text))
        except Exception as failure:  # noqa: BLE001 - whatever is not tidied up, the release serves and is recorded
            self._say("note", run, f"Old releases were not cleaned up: {explain(failure)}")

    def _words(self, walk: Walk, outcome: State, seen: Seen | None, was: Before) -> tuple[str, str]:
        """The state of the world, and what to do next."""
        world, facts = self._world, walk.facts
        state = state_of_world(facts, outcome, world, was)
        next_ = next((e.next for e in walk.errors if isinstance(e, SluiceError) and e.next), "")
        if outcome is State.REFUSED and not next_:
            gates = facts.findings.get(State.GATING.value, [])
            next_ = next((gate.fix for gate in worst_first(gates) if gate.fix), "")
        if seen is not None and outcome is State.ROLLBACK_FAILED:
            state = true_state(world, facts, seen)
        elif seen is not None:
            state = f"{state} {true_state(world, facts, seen)}"
        if walk.journal_lost is not None:
            next_ = walk.journal_lost.next
        elif outcome is State.ROLLBACK_FAILED or (outcome is State.DEGRADED and not next_):
            next_ = advice(world, facts, outcome)
        elif outcome is State.ROLLED_BACK and not next_ and locks(facts, outcome):
            next_ = f"mend the branch, then: {command(world, 'unlock')} --reason 'WHY'"
        elif outcome is not State.DONE and not next_:
            next_ = onward(world, facts)
        return world.redactor(state), world.redactor(next_)

    def _result(
        self, walk: Walk, outcome: State, exit_code: int, record: dict[str, Any], words: tuple[str, str]
    ) -> Result:
        facts, (state, next_) = walk.facts, words
        return Result(
            run=facts.run,
            kind=facts.kind.value,
            outcome=outcome,
            exit_code=exit_code,
            what="" if outcome is State.DONE else self._world.redactor(facts.reason),
            world=state,
            next=next_,
            record=record,
            waivers=standing_waivers(self._world),
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
    def _held(self, what: str, run: str, request: Request) -> Iterator[Request]:
        """The environment's lock; gives the request as all else sees it: redacted, but for the branch."""
        paths, clock, redact = self._world.paths, self._world.clock, self._world.redactor
        waivers = {gate: redact(why) for gate, why in request.waivers.items()}
        request = replace(request, owner=redact(request.owner), override=redact(request.override), waivers=waivers)
        with hold(paths.lock, paths.lock_info, Holder(request.owner, redact(what), clock.now(), os.getpid(), run)):
            yield request

    def _say(self, event: str, run: str, text: str, data: dict[str, Any] | None = None) -> None:
        self._tell(Report(event, self._world.clock.now(), run, text=self._world.redactor(text), data=data or {}))
