"""What a run knows, folded from its journal: the same fold whether it goes on or comes back after a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from sluice.engine import FORWARD, PASSED_OVER, TERMINAL, UNSTOPPABLE, Event, Kind, State
from sluice.journal import Record, canonical
from sluice.model.changes import POLICY_PARTS
from sluice.model.errors import StateCorrupted
from sluice.model.promotion import Approval, Promotion
from sluice.model.release import Commit, Release, Slot
from sluice.model.spec import ServiceSpec
from sluice.model.verdict import Finding


class Plan(msgspec.Struct, frozen=True):
    """What this run will do, fixed before anything is touched."""

    commit: Commit
    candidate: ServiceSpec
    policy: ServiceSpec
    policy_sha: str
    env_fingerprint: str
    old_release: Release | None
    old_slot: Slot | None
    steps: tuple[str, ...]
    policy_changed: tuple[str, ...]  # keys where the candidate's own policy differs from the effective one
    hash: str = ""
    promotion: Promotion | None = None
    old_alive: bool = True  # False: what is remembered as serving does not run (the machine was restarted, say)

    @property
    def old(self) -> tuple[Release, Slot] | None:
        """What serves now and is gone back to; what does not run is neither that nor a control group."""
        if self.old_release is None or self.old_slot is None or not self.old_alive:
            return None
        return self.old_release, self.old_slot


def steps_of(kind: Kind) -> tuple[str, ...]:
    """The forward steps this kind of run has."""
    return tuple(s.value for s in FORWARD if s not in TERMINAL and s not in PASSED_OVER[kind])


def with_hash(plan: Plan, service: str, environment: str) -> Plan:
    """The plan with its hash: over everything that could change what the run does.

    Of a promotion also over what host.toml says of the environment (Promotion.settings). Not over whether what serves
    still runs (`old_alive`): where it died after somebody signed, the same release goes to the same place, and asking
    for another signature would only make an outage longer. What is different then, nothing to go back to, is said.
    Nor over the version's name, which a tag may change after somebody signed: the commit is the same.
    """
    policy, promotion = msgspec.to_builtins(plan.policy), msgspec.to_builtins(plan.promotion) or {}
    hashed = {
        "service": service,
        "environment": environment,
        "commit": plan.commit.sha,
        "tree": plan.commit.tree,
        "policy": {part: policy[part] for part in POLICY_PARTS},
        "policy_sha": plan.policy_sha,
        "env_fingerprint": plan.env_fingerprint,
        "serving": plan.old_release.id if plan.old_release else "",
        "steps": list(plan.steps),
        "promotion": {name: said for name, said in promotion.items() if name != "to_version"},
    }
    return msgspec.structs.replace(plan, hash=hashlib.sha256(canonical(hashed)).hexdigest())


class Facts(msgspec.Struct):
    """Everything the steps of one run share. Filled only through `absorb`, so the journal can always fill it again."""

    run: str
    kind: Kind
    owner: str
    owner_source: str
    branch: str = ""
    override: str = ""
    waivers: dict[str, str] = {}  # gate -> why it may be passed over
    started: str = ""
    switched: str = ""  # since when users may have been on the new slot
    plan: Plan | None = None
    release: Release | None = None
    slot: Slot | None = None
    partly: bool = False
    reason: str = ""
    code: str = ""  # of a refusal that has one of its own
    overrode: str = ""  # the run that had blamed the artifact, or verified it before it was changed
    signatures: list[Approval] = []  # that this promotion acts upon
    touched: bool = False  # it announced that it begins to change something: its signatures are used up
    exit_code: int | None = None  # of a usage or configuration error, which the engine knows only as "given up"
    findings: dict[str, list[Finding]] = {}
    observed: list[tuple[State, Event]] = []

    def absorb(self, facts: Mapping[str, Any]) -> None:
        """Take over what an intent or an observation holds."""
        for key, kind in (("plan", Plan), ("release", Release), ("slot", Slot), ("signatures", list[Approval])):
            if facts.get(key) is not None:
                setattr(self, key, msgspec.convert(facts[key], kind))
        self.exit_code = facts.get("exit", self.exit_code)
        self.touched = self.touched or bool(facts.get("touched"))
        self.overrode = str(facts.get("overrode", self.overrode))
        self.switched = self.switched or str(facts.get("switched", ""))

    def note(self, state: State, event: Event, notes: Mapping[str, Any]) -> None:
        """Take over what a step came to, and its evidence; the first reason given is the one that is told."""
        self.observed.append((state, event))
        self.partly = self.partly or event is Event.PARTLY
        if "findings" in notes:
            self.findings[state.value] = msgspec.convert(notes["findings"], list[Finding])
        goes_on = event is Event.RECOVER and state in UNSTOPPABLE  # the death turned nothing back there
        if not goes_on and event not in {Event.OK, Event.SKIP, Event.BROKEN, Event.NONE}:
            self.reason = self.reason or str(notes.get("reason", ""))
            self.code = self.code or str(notes.get("code", ""))

    @property
    def effective_plan(self) -> Plan:
        """The plan, for steps which only come after planning."""
        if self.plan is None:
            raise LookupError("no plan yet")
        return self.plan

    @property
    def running(self) -> tuple[Release, Slot]:
        """The new release and its slot, for steps which only come after starting."""
        if self.release is None or self.slot is None:
            raise LookupError("nothing started yet")
        return self.release, self.slot


def facts_of(record: Record) -> Facts:
    """The facts of a run as its journal tells them."""
    begin = record.entries[0]
    try:
        facts = msgspec.convert({"run": record.run, "started": begin.at, **begin.facts}, Facts)
        for entry in record.entries[1:]:
            facts.absorb(entry.facts)
            if entry.entry == "observed":
                facts.note(State(entry.state), Event(entry.event), entry.notes)
    except msgspec.ValidationError as error:
        raise StateCorrupted(
            f"{record.path} says what this Sluice does not understand ({error}): another version wrote it.",
            next="let that version end the run: sluice resume",
            file=str(record.path),
        ) from error
    return facts
