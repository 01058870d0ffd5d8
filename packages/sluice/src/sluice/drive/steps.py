"""What each step does, through the ports. A step is handed the run's facts and says what came of it.

Steps are called only after their intent is on disk. They may be cancelled (an interrupt) up to the watch; what a
cancelled step leaves behind is what its undo removes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from sluice.drive.confirmation import plan_data, plan_text
from sluice.drive.desk import confirm, desk_for
from sluice.drive.facts import Facts, Plan
from sluice.drive.outcome import Outcome, evidence, judged, refusal
from sluice.drive.planning import last_promoted, plan_rollback, plan_rollout, serves
from sluice.drive.promotion import adopted, carried_images, exceptions_of, plan_promotion
from sluice.drive.recheck import (
    must_be_proven_still,
    must_be_there_still,
    must_have_its_env,
    must_hold_still,
    must_not_be_frozen,
)
from sluice.drive.unchanged import must_be_unaltered, must_be_vouched
from sluice.drive.world import World, command
from sluice.engine import Event, Kind, State
from sluice.gates.context import Asked
from sluice.gates.run import GATES
from sluice.gates.waivers import must_be_waivable
from sluice.journal import read_all
from sluice.ledger import Ledger, blamed_by
from sluice.model.errors import Refused, StepFailed
from sluice.model.promotion import Denial, Denied
from sluice.model.release import Release, Slot
from sluice.model.verdict import Finding, Verdict

# Traefik takes a new file within its 100 ms throttle; two slow cores have been seen to need a second. Users are on
# the new slot meanwhile, and a release that is dead after the switch must be noticed in less than 5 s.
READ_BACK_DEADLINE_S = 4.0
READ_BACK_EVERY_S = 0.05
LOG_LINES = 30
# What stands in the way of an undo is often trouble that is passing (as sluice.drive.walk tries an undo).
HAND_BACK_TRIES = 3
HAND_BACK_PAUSE_S = 0.5


def asked_for(world: World, plan: Plan, who: tuple[str, str], override: str, waivers: Mapping[str, str]) -> Asked:
    """What the gates are told of a plan and of whoever wants it. Secrets of the policy's branch: since a promotion."""
    if plan.promotion is not None:
        since, before = plan.old_release.commit.sha if plan.old_release else "", plan.promotion.before
    else:
        before = ()
        since = last_promoted(world) if plan.commit.branch == world.policy_ref else ""
    return Asked(who[0], override, waivers, plan.env_fingerprint, plan.old_release, since, who[1], before)


class Steps:
    """The steps of one run."""

    def __init__(
        self,
        world: World,
        facts: Facts,
        on_finding: Callable[[Finding], None],
        on_progress: Callable[[str], None],
        on_reading: Callable[[dict[str, Any]], None],
        on_plan: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """They are told things while they happen: `on_reading` how the watch stands, `on_plan` what is confirmed."""
        self._world, self._facts, self._on_plan = world, facts, on_plan
        self._on_finding, self._on_progress, self._on_reading = on_finding, on_progress, on_reading
        self._do: dict[State, Callable[[], Awaitable[Outcome]]] = {
            State.PLANNING: self._plan,
            State.GATING: self._gate,
            State.BUILDING: self._build,
            State.MIGRATING: self._migrate,
            State.STARTING: self._start,
            State.SMOKING_PRIVATE: self._smoke_private,
            State.SWITCHING: self._switch,
            State.SMOKING_PUBLIC: self._smoke_public,
            State.DRAINING: self._drain,
            State.WATCHING: self._watch,
            State.RETIRING: self._retire,
            State.RECORDING: self._record,
            State.DISCARDING: self._discard,
            State.RESTORING: self._restore,
            State.CLEANING: self._clean,
        }

    async def perform(self, state: State) -> Outcome:
        """Do one step to its end."""
        return await self._do[state]()

    async def intent(self, state: State) -> dict[str, Any]:
        """What the intent of a step must hold, decided before the step begins. Touches nothing. Raises Denied."""
        facts, plan = self._facts, self._facts.plan
        old = plan.old[1] if plan and plan.old else None
        new = facts.slot
        told: dict[str, Any] = {"plan_hash": plan.hash if plan else ""}
        if state is State.MIGRATING:
            # A build takes minutes: what was confirmed before it must hold still. What is refused here has announced
            # nothing, so its signatures still hold.
            await must_hold_still(self._world, facts.effective_plan, facts.signatures)
            must_not_be_frozen(self._world, facts.effective_plan, self._asked())
            told["touched"] = True  # before anything is: whatever becomes of the run, it may have been
        elif state is State.STARTING:
            told["slot"] = msgspec.to_builtins(new or await self._choose_slot())
            told["overrode"] = facts.overrode  # before anything runs: a kill must not lose who answers for it
        elif state in {State.SWITCHING, State.WATCHING, State.RESTORING}:
            told |= {"new": new.url if new else "", "old": old.url if old else ""}
            if state is State.SWITCHING:
                told["switched"] = facts.switched or self._world.clock.now()
        elif state in {State.DRAINING, State.RETIRING}:
            told["old"] = old.unit if old else ""
        elif state in {State.DISCARDING, State.CLEANING}:
            told["new"] = new.unit if new else ""
        elif state in {State.SMOKING_PRIVATE, State.SMOKING_PUBLIC}:
            told["url"] = facts.running[1].url if state is State.SMOKING_PRIVATE else self._world.public_url
        return told

    # ------------------------------------------------------------ forward

    async def _plan(self) -> Outcome:
        if self._facts.kind is Kind.ROLLBACK:
            plan, target, overrode = await plan_rollback(self._world, self._facts.override)
            told = {"plan": msgspec.to_builtins(plan), "release": msgspec.to_builtins(target), "overrode": overrode}
            return Outcome(Event.OK, told)
        facts = self._facts
        if facts.kind is Kind.PROMOTION:
            exceptions = exceptions_of(self._world, facts.waivers, facts.override)
            plan = await plan_promotion(self._world, facts.branch, self._on_progress, exceptions)
            shown = plan, self._world.environment.value, await (await desk_for(self._world, plan)).given()
            self._on_plan(plan_text(*shown), plan_data(*shown))
        else:
            plan = await plan_rollout(self._world, facts.branch, self._on_progress)
        return Outcome(Event.OK, {"plan": msgspec.to_builtins(plan)})

    async def _gate(self) -> Outcome:
        plan, told = self._facts.effective_plan, self._facts
        must_be_waivable(told.waivers, GATES, plan.policy.gates, self._world.environment)
        asked = self._asked()
        findings = await self._world.judge.gates(plan.commit, plan.candidate, plan.policy, self._on_finding, asked)
        facts: dict[str, Any] = {}
        if plan.promotion is not None:
            confirmed = await confirm(self._world, plan, self._on_finding)
            findings = [*findings, *confirmed.findings]
            facts["signatures"] = msgspec.to_builtins(confirmed.signatures)
        event, notes = judged(findings), evidence(findings)
        try:
            if plan.promotion is not None:
                await must_be_there_still(self._world, plan)
            if event is Event.OK:
                must_have_its_env(self._world, plan)
        except Refused as refused:
            refused.data["judged"] = facts, notes  # what was asked and signed is recorded all the same
            raise
        return Outcome(event, facts, {**notes, "code": refusal(findings)})

    def _asked(self) -> Asked:
        told = self._facts
        who = told.owner, told.owner_source
        return asked_for(self._world, told.effective_plan, who, told.override, told.waivers)

    async def _build(self) -> Outcome:
        plan, world = self._facts.effective_plan, self._world
        images = carried_images(plan)
        artifact = adopted(plan, await world.runtime.build(plan.commit, plan.candidate, self._on_progress, images))
        records = Ledger(world.paths.ledger).records()
        bad = blamed_by(records, artifact_key=artifact.key, env_fingerprint=plan.env_fingerprint)
        if bad and not self._facts.override:
            raise Denied(
                Denial.BAD_RELEASE,
                f"This artifact ({artifact.key[:12]}) failed in this environment before, in run {bad}.",
                next="fix the branch, or say why it is good now: --override 'REASON' "
                f"(see: {command(world, 'log')} --run {bad})",
            )
        release = Release(
            id=self._facts.run,
            service=world.service,
            environment=world.environment.value,
            commit=plan.commit,
            artifact=artifact,
            spec=plan.candidate,
            env_fingerprint=plan.env_fingerprint,
            created_at=world.clock.now(),
        )
        return Outcome(Event.OK, {"release": msgspec.to_builtins(release), "overrode": bad})

    async def _migrate(self) -> Outcome:
        release = self._facts.release
        if release is None:
            raise LookupError("nothing built yet")
        head = await self._world.runtime.migrate(release, self._on_progress)
        migrated = msgspec.structs.replace(release, migration_head=head)
        return Outcome(Event.OK, {"release": msgspec.to_builtins(migrated)}, {"head": head})

    async def _choose_slot(self) -> Slot:
        release, plan = self._facts.release, self._facts.effective_plan
        if release is None:
            raise LookupError("nothing built yet")
        if self._facts.kind is Kind.ROLLBACK:
            warm = await self._warm_slot(release)
            if warm is not None:
                return warm
            changed = await must_be_unaltered(self._world, release, self._facts.override)
            self._facts.overrode = changed or self._facts.overrode
        return self._world.runtime.choose_slot(release, [plan.old_slot] if plan.old_slot else [])

    async def _warm_slot(self, release: Release) -> Slot | None:
        for record in reversed(read_all(self._world.paths.journal_dir, repair=False)):
            for entry in record.entries:
                if entry.name == "intent:starting" and entry.facts["slot"]["release_id"] == release.id:
                    slot = msgspec.convert(entry.facts["slot"], Slot)
                    return slot if await self._world.runtime.alive(slot) else None
        return None

    async def _start(self) -> Outcome:
        """A migration may take long, too: nothing is started but what was confirmed, with what it was confirmed for."""
        (release, slot), plan = self._facts.running, self._facts.effective_plan
        must_have_its_env(self._world, plan)
        await must_be_proven_still(self._world, plan)
        if replaced := await self._world.ingress.replacement():
            self._on_progress(replaced)
        await self._world.ingress.ensure()
        await self._world.runtime.start(release, slot)
        finding = await self._world.judge.ready(release, slot)
        self._on_finding(finding)
        must_have_its_env(self._world, plan)
        notes = evidence([finding])
        if finding.verdict is not Verdict.PASS:
            notes["log"] = await self._world.runtime.tail(release, slot, LOG_LINES)
        return Outcome(judged([finding]), notes=notes)

    async def _smoke_private(self) -> Outcome:
        release, slot = self._facts.running
        served = await self._world.judge.read_back(slot.url, release, slot)
        if served.verdict is not Verdict.PASS:
            # Nothing more is asked of a server that is not the release: its answers would be about something else.
            self._on_finding(served)
            return Outcome(judged([served]), notes=evidence([served]))
        smoked = await self._smoke(release, slot, public=False)
        if smoked.event is Event.OK:
            await must_be_proven_still(self._world, self._facts.effective_plan)  # the last moment before users see it
        return smoked

    async def _switch(self) -> Outcome:
        release, slot = self._facts.running
        await self._world.ingress.ensure()
        await self._world.runtime.hand_over(release, slot, self._facts.effective_plan.old_slot)
        await self._world.ingress.point(slot)
        return Outcome(Event.OK, notes=evidence([await self._read_back(release, slot)]))

    async def _smoke_public(self) -> Outcome:
        release, slot = self._facts.running
        return await self._smoke(release, slot, public=True)

    async def _drain(self) -> Outcome:
        old = self._facts.effective_plan.old
        if old is None:
            return Outcome(Event.OK, notes={"reason": "no old slot"})
        await self._world.runtime.notify_drain(*old)
        await self._world.clock.sleep(old[0].spec.run.drain_grace_s)
        return Outcome(Event.OK)

    async def _watch(self) -> Outcome:
        plan = self._facts.effective_plan
        findings = await self._world.judge.watch(
            self._facts.running, plan.old, plan.policy, self._on_finding, self._on_reading
        )
        event = judged(findings)
        # The window was the time to hold; what is not known at its end is not waited for again.
        return Outcome(Event.GIVE_UP if event is Event.BROKEN else event, notes=evidence(findings))

    async def _retire(self) -> Outcome:
        (release, slot), plan = self._facts.running, self._facts.effective_plan
        # A recovery may come hours after the watch: whoever is without the new release needs the old one.
        old = plan.old
        if old is not None and not await serves(self._world, release, slot) and await self._world.runtime.alive(old[1]):
            why = f"{release.id} passed its watch, and serves no more at {slot.url}"
            return Outcome(Event.FAIL, notes={"reason": why})
        if plan.old_release is not None and plan.old_slot is not None:
            # Also when it did not run: a supervisor may be about to start it again.
            await self._world.runtime.stop(plan.old_release, plan.old_slot)
        return Outcome(Event.OK)

    async def _record(self) -> Outcome:
        release, slot = self._facts.running
        verified = msgspec.structs.replace(release, verified=True)
        self._world.releases.save(verified)
        self._world.releases.set_serving(verified, slot)
        return Outcome(Event.OK, {"release": msgspec.to_builtins(verified)})

    # ------------------------------------------------------------ back

    async def _discard(self) -> Outcome:
        return await self._stop_new(Event.OK)

    async def _restore(self) -> Outcome:
        old, world = self._facts.effective_plan.old, self._world
        if old is None:
            await world.ingress.point(None)
            return Outcome(Event.NONE)
        release, slot = old
        if not await world.runtime.alive(slot):
            release = must_be_vouched(world, release)  # a journal's word is no reason to start something
        altered = await self._altered(release, slot)
        lacking = await self._revive(release, slot)
        await world.ingress.ensure()
        await world.ingress.point(slot)
        await self._read_back(release, slot)
        # Users first: what may run only once follows them back.
        lacking = lacking or await self._hand_back(release, slot)
        lacking = lacking or altered
        smoked = await self._smoke(release, slot, public=True)
        if lacking:
            return Outcome(Event.PARTLY, notes={**smoked.notes, "reason": lacking})
        return Outcome(Event.OK if smoked.event is Event.OK else Event.PARTLY, notes=smoked.notes)

    async def _altered(self, release: Release, slot: Slot) -> str:
        """What is started again though it is not what was verified. Users come first; that it is so is said."""
        if await self._world.runtime.alive(slot):
            return ""
        why = await self._world.runtime.changed(release.artifact)
        return f"The old release {release.id} serves, but its artifact was changed: {why}" if why else ""

    async def _revive(self, release: Release, slot: Slot) -> str:
        """The old slot answers afterwards. What of it could not be started, or "". Raises StepFailed."""
        world = self._world
        if not await world.runtime.alive(slot):
            try:
                await world.runtime.start(release, slot)
            except StepFailed as failure:
                # What crashed beside it must not keep users away from one that answers.
                if (await world.judge.read_back(slot.url, release, slot)).verdict is not Verdict.PASS:
                    raise
                return f"The old release {release.id} serves, but not everything of it runs: {failure.what}"
        ready = await world.judge.ready(release, slot)
        if ready.verdict is not Verdict.PASS:
            raise StepFailed(f"The old release {release.id} does not answer: {ready.detail}")
        return ""

    async def _hand_back(self, release: Release, slot: Slot) -> str:
        """What may run only once runs in the old slot again, or why it does not: users are back on it by now."""
        world, failed = self._world, ""
        for _ in range(HAND_BACK_TRIES):
            try:
                await world.runtime.hand_over(release, slot, self._facts.slot)
            except StepFailed as failure:
                if failure.data.get("unreachable"):
                    raise  # the engine itself is away: that is waited for
                failed = f"{release.id} serves, but what may run only once did not follow it: {failure.what}"
                await world.clock.sleep(HAND_BACK_PAUSE_S)
            else:
                return ""
        return failed

    async def _clean(self) -> Outcome:
        return await self._stop_new(Event.PARTLY if self._facts.partly else Event.OK)

    async def _stop_new(self, otherwise: Event) -> Outcome:
        if self._facts.slot is None or self._facts.release is None:
            return Outcome(Event.OK)  # it never came to a slot: whatever served before, or nothing, is as it was
        await self._world.runtime.stop(self._facts.release, self._facts.slot)
        return Outcome(otherwise if self._facts.effective_plan.old else Event.NONE)

    # ------------------------------------------------------------ shared

    async def _smoke(self, release: Release, slot: Slot, *, public: bool) -> Outcome:
        policy = self._facts.effective_plan.policy
        required = frozenset(policy.watch.required_checks)
        findings = await self._world.judge.smoke(release, slot, policy, self._on_finding, public=public)
        return Outcome(judged(findings, required), notes=evidence(findings, required))

    async def _read_back(self, release: Release, slot: Slot) -> Finding:
        """Ask the public URL until it serves the release.

        Raises StepFailed: at once, blaming the release, when its process died; after the deadline, blaming nobody.
        """
        clock, url = self._world.clock, self._world.public_url
        deadline = clock.monotonic() + READ_BACK_DEADLINE_S
        while True:
            served = await self._world.judge.read_back(url, release)
            if served.verdict is Verdict.PASS:
                self._on_finding(served)
                return served
            if not await self._world.runtime.alive(slot):
                raise StepFailed(f"The process of {release.id} died after the switch.", bad_release=True)
            if clock.monotonic() >= deadline:
                raise StepFailed(
                    f"{url} does not serve commit {release.commit.sha[:12]} after the switch: {served.detail}"
                )
            await clock.sleep(READ_BACK_EVERY_S)
