"""One run's walk through the engine's table: intent to disk, step, observation to disk, next state."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec

from sluice.drive.facts import Facts
from sluice.drive.outcome import Outcome
from sluice.drive.steps import Steps
from sluice.drive.world import Report, Tell, World
from sluice.engine import PASSED_OVER, STEPS, TERMINAL, UNSTOPPABLE, Event, State, advance
from sluice.journal import Journal, redact_tree
from sluice.model.errors import ConfigError, ExitCode, ProbeBroken, Refused, SluiceError, StepFailed, UsageError
from sluice.model.verdict import Finding

T = TypeVar("T")

# Before the switch a broken probe gets one more chance (sluice.md). An undo is worth three tries: what stands in its
# way is often the very trouble that is passing.
TRIES_FORWARD = 2
TRIES_UNDO = 3
UNDO_PAUSE_S = 0.5
ENGINE_BACK_S = 60.0  # a container engine that is being updated comes back within this, and with it what it ran
NO_CODES = frozenset({Refused.code, StepFailed.code})  # they say that something was refused or failed, and not what
ENGINE_PAUSE_S = 2.0  # between looks for it: each is two entries of the journal


class Walk:
    """Takes a run from a state to its end. Never leaves a step half-told: a kill anywhere is recoverable."""

    def __init__(self, world: World, facts: Facts, journal: Journal, tell: Tell) -> None:
        """The facts are filled while the run goes on."""
        self._world, self.facts, self._journal, self._tell = world, facts, journal, tell
        self._steps = Steps(world, facts, self._on_finding, self._on_progress, self._on_reading, self._on_plan)
        self._state = State.PLANNING
        self._step: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._tries = 0
        self._first_broken = 0.0
        self._unreachable = False  # the last failure: who runs the slots could not be asked at all
        self.errors: list[Exception] = []
        self.journal_lost: StepFailed | None = None

    def interrupt(self) -> None:
        """Stop as soon as that is safe: the step at hand is cancelled and undone, an undo is finished first."""
        self._interrupted = True
        if self._step is not None and self._state not in UNSTOPPABLE:
            self._step.cancel()

    async def run(self, state: State) -> State:
        """Walk from this state to a terminal one, and say which."""
        while state not in TERMINAL:
            if state is not self._state:
                self._tries = 0
            self._state = state
            state = await self._once(state)
        return state

    def observe(self, state: State, outcome: Outcome) -> State:
        """Journal what came of a step and say where that leads."""
        written = self._write(self._journal.observed, state, outcome.event, outcome.facts, outcome.notes)
        if not written and state not in UNSTOPPABLE and outcome.event not in {Event.GIVE_UP, Event.RECOVER}:
            # What cannot be written down must not be built upon: back to what the journal knows.
            outcome = Outcome(Event.GIVE_UP, notes={"reason": str(self.journal_lost)})
        self.facts.absorb(outcome.facts)
        self.facts.note(state, outcome.event, self._redacted(outcome.notes))
        return advance(self.facts.kind, state, outcome.event).state

    async def _once(self, state: State) -> State:
        if state in PASSED_OVER[self.facts.kind]:
            return self.observe(state, Outcome(Event.SKIP))
        started = self._world.clock.monotonic()
        self._report("step", step=state.value, status="started", text=STEPS[state].title)
        outcome = await self._attempt(state)
        if outcome.event is Event.BROKEN:
            outcome = await self._be_patient(state, outcome)
        onward = self.observe(state, outcome)
        ms = int((self._world.clock.monotonic() - started) * 1000)
        reason = self._world.redactor(str(outcome.notes.get("reason", "")))
        text = reason if outcome.event is not Event.OK else self._summary(state)
        self._report("step", step=state.value, status=outcome.event.value, ms=ms, text=text)
        for line in outcome.notes.get("log", []):
            self._report("note", step=state.value, text=f"log: {line}")
        return onward

    async def _attempt(self, state: State) -> Outcome:
        if self._interrupted and state not in UNSTOPPABLE:
            return Outcome(Event.INTERRUPT, notes={"reason": "interrupted"})
        try:
            intent = await self._stoppable(state, self._steps.intent(state))
            if not self._write(self._journal.intent, state, intent) and state not in UNSTOPPABLE:
                return Outcome(Event.GIVE_UP, notes={"reason": str(self.journal_lost)})
            self.facts.absorb(intent)
            return await self._stoppable(state, self._steps.perform(state))
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
            return Outcome(Event.INTERRUPT, notes={"reason": "interrupted"})
        except Exception as failure:  # noqa: BLE001 - whatever goes wrong in a step must lead to its undo
            return self._failed(state, failure)
        finally:
            self._step = None

    async def _stoppable(self, state: State, doing: Coroutine[Any, Any, T]) -> T:
        step: asyncio.Task[T] = asyncio.ensure_future(doing)
        self._step = step
        if self._interrupted and state not in UNSTOPPABLE:
            step.cancel()
        return await step

    def _failed(self, state: State, failure: Exception) -> Outcome:
        self.errors.append(failure)
        self._unreachable = isinstance(failure, StepFailed) and bool(failure.data.get("unreachable"))
        code = failure.code if isinstance(failure, SluiceError) else ""
        facts, judged = failure.data.get("judged", ({}, {})) if isinstance(failure, SluiceError) else ({}, {})
        notes = {**judged, "reason": explain(failure), "code": "" if code in NO_CODES else code}
        if state in UNSTOPPABLE or isinstance(failure, ProbeBroken):
            return Outcome(Event.BROKEN, notes=notes)
        if isinstance(failure, StepFailed) and failure.bad_release:
            return Outcome(Event.FAIL, notes=notes)
        usage = state is State.PLANNING and isinstance(failure, UsageError | ConfigError)
        return Outcome(Event.GIVE_UP, {"exit": ExitCode.USAGE.value} if usage else facts, notes)

    async def _be_patient(self, state: State, outcome: Outcome) -> Outcome:
        """Try again, or give up when the patience of this state is used up."""
        self._tries += 1
        now = self._world.clock.monotonic()
        if self._tries == 1:
            self._first_broken = now
        given_up = Outcome(Event.GIVE_UP, outcome.facts, outcome.notes)
        if state in UNSTOPPABLE:
            patient = self._unreachable and now - self._first_broken < ENGINE_BACK_S
            if self._tries >= TRIES_UNDO and not patient:
                return given_up
            await self._world.clock.sleep(ENGINE_PAUSE_S if patient else UNDO_PAUSE_S)
        elif state is State.SMOKING_PUBLIC:
            watch = self.facts.effective_plan.policy.watch
            if now - self._first_broken >= watch.duration_s:
                return given_up
            await self._world.clock.sleep(watch.interval_s)
        elif self._tries >= TRIES_FORWARD:
            return given_up
        return outcome

    def _write(self, write: Callable[..., None], *arguments: Any) -> bool:
        """Write to the journal. After a first failure nothing more is written: a gap would be worse than an end."""
        if self.journal_lost is not None:
            return False
        try:
            write(*arguments)
        except StepFailed as failure:
            self.journal_lost = failure
            self.errors.append(failure)
            self._report("note", text=explain(failure))
            return False
        return True

    def _summary(self, state: State) -> str:
        facts = self.facts
        match state:
            case State.PLANNING if facts.plan is not None:
                commit = facts.plan.commit
                changed = ", ".join(facts.plan.policy_changed)
                policy = f"; policy changed (effective once merged): {changed}" if changed else ""
                where = f"{commit.branch} at {commit.sha[:12]}, tree {commit.tree[:12]}"
                return f"{where}, plan {facts.plan.hash[:12]}{policy}"
            case State.BUILDING if facts.release is not None:
                return f"artifact {facts.release.artifact.key[:12]}"
            case State.MIGRATING if facts.release is not None:
                return f"head {facts.release.migration_head}" if facts.release.migration_head else "no migrations"
            case State.STARTING | State.SWITCHING if facts.slot is not None:
                return f"{self._world.public_url} -> {facts.slot.url}" if state is State.SWITCHING else facts.slot.url
            case _:
                return ""

    def _redacted(self, notes: Mapping[str, Any]) -> dict[str, Any]:
        return {**notes, "reason": self._world.redactor(str(notes.get("reason", "")))}

    def _on_finding(self, finding: Finding) -> None:
        shown = redact_tree(msgspec.to_builtins(finding), self._world.redactor)
        self._report("finding", step=self._state.value, finding=msgspec.convert(shown, Finding))

    def _on_reading(self, data: dict[str, Any]) -> None:
        self._report("watch", step=self._state.value, data=redact_tree(data, self._world.redactor))

    def _on_plan(self, text: str, data: dict[str, Any]) -> None:
        told = redact_tree(data, self._world.redactor)
        self._report("confirmation", step=self._state.value, text=text, data=told)

    def _on_progress(self, text: str) -> None:
        self._report("progress", step=self._state.value, text=text)

    def _report(self, event: str, **fields: Any) -> None:
        if "text" in fields:
            fields["text"] = self._world.redactor(fields["text"])
        self._tell(Report(event, self._world.clock.now(), self.facts.run, **fields))


def explain(failure: Exception) -> str:
    """One sentence for people; never a traceback."""
    if isinstance(failure, SluiceError):
        return failure.what
    if isinstance(failure, OSError) and failure.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"The disk is full ({failure.filename or 'while writing'})."
    return f"Internal: {type(failure).__name__}: {failure}"
