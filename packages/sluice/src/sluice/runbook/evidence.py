"""What one run's ledger records say of each step: ticked only for a `pass`; what was not run says so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sluice.engine import FORWARD, PASSED_OVER, State
from sluice.engine import Kind as RunKind
from sluice.model.verdict import Verdict
from sluice.runbook import phrases as say
from sluice.runbook.document import Step
from sluice.runbook.items import Kind
from sluice.runbook.rule_items import ROLLBACK_ITEMS, SECURITY_ITEMS
from sluice.runbook.words import NOTHING, Lang, Words

Record = Mapping[str, Any]
RUNS = ("rollout", "rollback", "promotion")
PASSED = Verdict.PASS.value
HARMLESS = (PASSED, Verdict.SKIPPED.value, Verdict.WAIVED.value)

SIGNED = Words("signed by {who} ({key})", "подписал {who} ({key})")
PROVEN = Words("proven in `test` by run {run}", "доказано в `test` прогоном {run}")
PUBLIC = Words("public", "публично")
PRIVATE = Words("private", "внутренне")
ALSO = Words("{type} by {owner}, {ended}", "{type}: {owner}, {ended}")


@dataclass(frozen=True)
class Proof:
    """What stands beside one step. `mark`: that it failed, or could not be proven; not run is neither."""

    ticked: bool
    sentence: str
    mark: Words = NOTHING


def runs_of(records: Iterable[Record]) -> list[Record]:
    """Those a runbook can be filled in from."""
    return [one for one in records if one.get("type") in RUNS]


class Evidence:
    """One run, as its records tell it."""

    def __init__(self, records: Iterable[Record], run: str, lang: Lang) -> None:
        """Raises LookupError when there is no rollout, rollback or promotion of that id."""
        mine = [one for one in records if one.get("run") == run]
        found = runs_of(mine)
        if not found:
            raise LookupError(run)
        self.record: Record = found[-1]
        self.others = [one for one in mine if one.get("type") not in RUNS]
        self._lang = lang

    def head(self, environment: str) -> str:
        """The paragraph under the title."""
        record = self.record
        values = {key: str(record.get(key) or "—") for key in ("run", "type", "owner", "ended", "outcome")}
        told = [self._say(say.OF_RUN, env=environment, **values)]
        for one in self.others:
            values = {key: str(one.get(key) or "—") for key in ("type", "owner", "ended")}
            told.append(self._say(ALSO, **values) + (f": {one['reason']}" if one.get("reason") else "") + ".")
        return " ".join(told)

    def of(self, step: Step) -> Proof | None:
        """What the record says of one step; None where a run proves nothing (a reminder)."""
        record = self.record
        if step.id.startswith("step-"):
            return self._engine(State(step.id.removeprefix("step-")))
        if step.kind is Kind.FIELD:
            return self._field(step.id)
        if step.kind is Kind.GATE:
            found = self._judged(record.get("gates"), step.id)
            return self._signed(step.id, found) if found else self._none()
        if step.kind in (Kind.CHECK, Kind.PLUGIN):
            return self._smoked(step.id)
        if step.kind is Kind.CRITERION:
            proof = self._judged(record.get("watch"), step.id) or self._none()
            return replace(proof, mark=say.BROKEN) if proof.mark is say.FAILED else proof
        # What nobody looks at today is not ticked because something else went well.
        return self._promoted(step.id) if step.kind is Kind.RULE and not step.off else self._none()

    def _say(self, words: Words, **values: str) -> str:
        return words.say(self._lang, values)

    def _none(self) -> Proof:
        return Proof(False, self._say(say.NOT_RUN))

    def _judged(self, findings: Any, name: str) -> Proof | None:
        found = [one for one in findings or () if one.get("name") == name]
        if not found:
            return None
        one = found[-1]
        text = f"{one['verdict']}, {one.get('ms', 0)} ms"
        for detail in (one.get("detail"), one.get("fix") if one["verdict"] != PASSED else ""):
            text += f"; {detail}" if detail else ""
        return Proof(one["verdict"] == PASSED and not one.get("dry_run"), text, _mark([one]))

    def _smoked(self, name: str) -> Proof:
        """Ticked by the public smoke, which is what users get; what the private one said stands beside it."""
        smoke = self.record.get("smoke") or {}
        public, private = (self._judged(smoke.get(which), name) for which in ("public", "private"))
        both = [(words, proof) for words, proof in ((PUBLIC, public), (PRIVATE, private)) if proof is not None]
        told = [f"{self._say(words)}: {proof.sentence}" for words, proof in both]
        marks = [proof.mark for _, proof in both]
        mark = next((one for one in (say.FAILED, say.UNCLEAR) if one in marks), NOTHING)
        ticked = public is not None and public.ticked and (private is None or private.ticked)
        return Proof(ticked, " | ".join(told), mark) if told else self._none()

    def _signed(self, name: str, proof: Proof) -> Proof:
        item = name.removeprefix("checklist-") if name.startswith("checklist-") else ""
        names = self._signatures("checklist", item) if item else ""
        return replace(proof, sentence=proof.sentence + (f"; {names}" if names else ""))

    def _signatures(self, role: str, item: str = "") -> str:
        found = [
            one for one in self.record.get("approvals") or () if (one["role"], one.get("item") or "") == (role, item)
        ]
        return ", ".join(self._say(SIGNED, who=one["principal"], key=one["signed_with"]) for one in found)

    def _engine(self, state: State) -> Proof:
        record = self.record
        if state in PASSED_OVER[RunKind(record["type"])]:
            return Proof(False, self._say(say.NO_PART, type=str(record["type"])))
        if record.get("outcome") == State.DONE.value:
            return Proof(True, self._say(say.ALL_PASSED))
        return self._recorded() if state is State.RECORDING else self._halfway(state, self._seen())

    def _recorded(self) -> Proof:
        return Proof(True, self._say(say.THIS_RECORD, ended=str(self.record.get("ended") or "—")))

    def _back(self) -> Proof | None:
        """Of a run that brought users back, or tried to."""
        if self.record.get("decision") != RunKind.ROLLBACK.value:
            return None
        outcome = str(self.record.get("outcome"))
        good = outcome in (State.DONE.value, State.ROLLED_BACK.value)
        return self._recorded() if good else Proof(False, outcome, say.FAILED)

    def _halfway(self, state: State, seen: Mapping[State, list[Record]]) -> Proof:
        """One state of a run that did not end as done: by what it left, or by what its neighbours left."""
        if found := seen.get(state):
            bad = [one for one in found if one.get("verdict", PASSED) not in HARMLESS and not one.get("dry_run")]
            names = ", ".join(f"{one['name']}: {one['verdict']}" for one in bad)
            return Proof(not names, names or PASSED, _mark(found))
        reached = [one for one in FORWARD if seen.get(one)]
        if reached and FORWARD.index(state) < FORWARD.index(reached[-1]):
            return Proof(True, self._say(say.PASSED_BY))
        # Behind a step that failed nothing is left open.
        stopped = not reached or _mark(seen[reached[-1]]) is not NOTHING
        return self._none() if stopped or state in seen else Proof(False, self._say(say.NOT_RECORDED))

    def _seen(self) -> dict[State, list[Record]]:
        """The states of which the record has something of its own, and that."""
        record = self.record
        smoke = record.get("smoke") or {}
        return {
            State.PLANNING: [record] if record.get("plan") else [],
            State.GATING: record.get("gates") or [],
            State.BUILDING: [record] if record.get("artifact_key") else [],
            State.SMOKING_PRIVATE: smoke.get("private") or [],
            State.SWITCHING: [record] if record.get("switched") else [],
            State.SMOKING_PUBLIC: smoke.get("public") or [],
            State.WATCHING: record.get("watch") or [],
        }

    def _field(self, name: str) -> Proof:
        value = self.record.get(name)
        if name == "approvals":
            found = value or ()  # only a promotion has them
            value = [f"{one['role']} {one.get('item') or ''}".strip() + f": {one['principal']}" for one in found]
        if isinstance(value, Mapping):
            value = [f"{key} {one}" for key, one in value.items()]
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        if value is None:
            return Proof(False, self._say(say.NOT_RECORDED))
        return Proof(bool(value), str(value) or self._say(say.EMPTY))

    def _promoted(self, name: str) -> Proof | None:
        record = self.record
        if name in SECURITY_ITEMS or name in ROLLBACK_ITEMS:
            return self._back() if name in ROLLBACK_ITEMS else None
        if record.get("type") != "promotion":
            return Proof(False, self._say(say.NO_PART, type=str(record.get("type"))))
        if name in ("approval", "approver-not-author"):
            return self._approved()
        if name == "checklist":
            return self._items()
        if record.get("outcome") == State.DONE.value:
            proven = self._say(PROVEN, run=str(record.get("proof_run") or "—"))
            return Proof(True, proven if name in ("proof", "artifact") else self._say(say.ALL_PASSED))
        return Proof(False, str(record.get("refusal") or self._say(say.NOT_RECORDED)))

    def _approved(self) -> Proof:
        found = self._judged(self.record.get("gates"), "approval")
        if found is None:
            return self._none()
        names = self._signatures("approve")
        return replace(found, sentence=found.sentence + (f"; {names}" if names else ""))

    def _items(self) -> Proof:
        items = [one for one in self.record.get("gates") or () if str(one.get("name")).startswith("checklist-")]
        told = ", ".join(f"{one['name']}: {one['verdict']}" for one in items)
        return Proof(all(one["verdict"] == PASSED for one in items), told, _mark(items)) if items else self._none()


def _mark(findings: Iterable[Record]) -> Words:
    """The worst of them; without a veto there is nothing to mark."""
    bad = {one.get("verdict", PASSED) for one in findings if not one.get("dry_run")}.difference(HARMLESS)
    return say.FAILED if Verdict.FAIL.value in bad else say.UNCLEAR if bad else NOTHING
