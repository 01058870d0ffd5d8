"""What people and machines confirm before prod: the checklist, and the approvals of exactly this plan."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from sluice.drive.authorship import Person, must_be_no_author, person_of, policies_of
from sluice.drive.facts import Plan, facts_of
from sluice.drive.promotion import means_of, plan_promotion
from sluice.drive.world import PromotionMeans, World
from sluice.engine import Kind
from sluice.hosts.signing import Signed, whose
from sluice.journal import read_all
from sluice.ledger import Ledger
from sluice.model.errors import Refused, UsageError
from sluice.model.policy import ChecklistItem, PromotionSpec, Role
from sluice.model.promotion import (
    Approval,
    Denial,
    Denied,
    Promotion,
    differences,
    document,
    is_over,
    must_be_of_plan,
    must_hold_now,
    signing,
)
from sluice.model.release import Release
from sluice.model.signatures import recorded_in, used_in
from sluice.model.verdict import Finding, Verdict

TAIL = 200  # letters of a failed command's last line: enough to know what it was


class Confirmed(msgspec.Struct, frozen=True):
    """What came of asking: one finding for each item and for the approvals, and the signatures acted upon."""

    findings: list[Finding]
    signatures: list[Approval]


async def confirm(world: World, plan: Plan, on_finding: Callable[[Finding], None]) -> Confirmed:
    """Whether everything the policy asks for before prod was done, by those who may. Raises StateCorrupted.

    People are asked first: a command of the checklist is run as this user, so it is the candidate's word only when
    those who approve have read it, and every person's item is signed off.
    """
    desk = await desk_for(world, plan)
    people, machines = desk.people, desk.machines
    signed = await asyncio.gather(*(desk.item(one) for one in people))
    approved = await desk.approvals(desk.rules.approvals)
    confirmed = all(finding.verdict is Verdict.PASS for finding, _ in (*signed, approved))
    asked = await asyncio.gather(*(desk.machine(one, confirmed=confirmed) for one in machines))
    answers = {one.id: finding for one, finding in zip(machines, asked, strict=True)}
    answers |= {one.id: finding for one, (finding, _) in zip(people, signed, strict=True)}
    findings = [*(answers[one.id] for one in desk.rules.checklist), approved[0]]
    for finding in findings:
        on_finding(finding)
    return Confirmed(findings, [text for _, texts in (*signed, approved) for text in texts])


async def may_smoke(world: World, release: Release) -> None:
    """Whether somebody confirmed that something goes to this environment: a promotion brought the release, or may now.

    Accounts and messages of a smoke are real there. Without a promotion that ended well it takes as many approvals of
    what would be promoted now as the promotion itself. Raises Denied.
    """
    if world.promotion is None or Ledger(world.paths.ledger).went(release.id):
        return
    try:
        plan = await plan_promotion(world, "", lambda _text: None)
        desk = await desk_for(world, plan)
        approved, _ = await desk.approvals(desk.rules.approvals)
        why, code, next_ = approved.detail, str(approved.metrics.get("code", "")), approved.fix
    except Denied as denied:
        why, code, next_ = denied.what, denied.code, denied.next
    if code:
        raise Denied(
            code,
            f"No finished promotion brought {release.id} to {world.environment.value}, and no approval holds: {why}",
            next=next_ or "sluice promote --env prod",
        )


async def desk_for(world: World, plan: Plan) -> Desk:
    """Judges signed texts for this plan. Raises StateCorrupted for one that cannot be read."""
    return Desk(world, means_of(world), plan)


def must_be_asked(plan: Plan, item: str) -> None:
    """Whether the plan's checklist wants this item signed off by a person. Raises UsageError."""
    asked = [one.id for one in plan.promotion.rules.checklist if not one.command] if plan.promotion else []
    if item not in asked:
        raise UsageError(
            f"the checklist asks nobody to sign off {item!r}.", next=f"use one of: {', '.join(asked) or 'none'}"
        )


def must_count(plan: Plan, role: Role, fingerprint: str, text: str) -> None:
    """Whether what this key signs can count, as far as that is known before it does. Raises Denied, with the text."""
    try:
        signed = whose(fingerprint, plan.policy.signers, role)
        if role is Role.APPROVE and plan.promotion is not None:
            must_be_no_author(signed, plan.policy.signers, plan.promotion)
    except Refused as bad:
        denied = Denied(bad.code, bad.what, next=bad.next)
        denied.data["text"] = text
        raise denied from bad


class Desk:
    """Judges signed texts for one plan."""

    def __init__(self, world: World, means: PromotionMeans, plan: Plan) -> None:
        """Reads what was signed so far."""
        self._world, self._means, self._plan = world, means, plan
        self._texts = means.approvals.all()
        records = Ledger(world.paths.ledger).records()
        self._taken_in, self._used = recorded_in(records), used_in([*records, *_unrecorded(world)])
        self._spent = {one.document for one in self._texts if one.digest in self._used}

    async def item(self, item: ChecklistItem) -> tuple[Finding, list[Approval]]:
        """One item of the checklist that a person signs off."""
        name = f"checklist-{item.id}"
        try:
            text = await self._newest(Role.CHECKLIST, item.id)
        except Denied as denied:
            return _open(name, f"{item.text} {denied.what}", denied), []
        said = f"{item.text} Signed off by {text.principal}, until {text.says['expires']}."
        return Finding(name, Verdict.PASS, detail=said), [text]

    async def approvals(self, needed: int) -> tuple[Finding, list[Approval]]:
        """Whether so many different people approved."""
        accepted, denied = await self._accepted()
        if len(accepted) < needed:
            missing = Denied(
                Denial.APPROVAL_MISSING,
                f"{len(accepted)} of {needed} approvals of plan {self._plan.hash[:12]}.",
                next=signing(Role.APPROVE),
            )
            return _open("approval", (denied or missing).what, denied or missing), []
        names = ", ".join(f"{one.principal} ({one.fingerprint})" for one in accepted)
        return Finding("approval", Verdict.PASS, detail=f"Approved by {names}."), accepted

    async def given(self) -> list[Approval]:
        """The approvals that hold now, one of each person: for this plan, in time, and no run has acted on them."""
        return (await self._accepted())[0]

    async def _accepted(self) -> tuple[list[Approval], Denied | None]:
        """Those that hold, one of each person, and why the first of the others does not."""
        accepted: list[Approval] = []
        people: list[Person] = []
        denied: Denied | None = None
        policies = policies_of(self._plan.policy.signers, self._about)
        for text in self._standing(Role.APPROVE):
            try:
                signed, proven = await self._counts(text)
            except Denied as failure:
                denied = denied or failure
                continue
            person = person_of(signed, policies)
            if not any(person.is_also(other) for other in people):
                people.append(person)
                accepted.append(proven)
        return accepted, denied

    async def open(self) -> list[str]:
        """What people have still to type before it is promoted, in that order."""
        items = [(one.id, (await self.item(one))[0]) for one in self.people]
        approved, _ = await self.approvals(self.rules.approvals)
        missing = [signing(Role.CHECKLIST, name) for name, found in items if found.verdict is not Verdict.PASS]
        return [*missing, *([signing(Role.APPROVE)] if approved.verdict is not Verdict.PASS else [])]

    async def take_in(self, role: Role, text: str, signature: str, at: str, run: str) -> Approval:
        """A signature handed in now, judged as it will be when the plan is acted upon. Raises Denied, or UsageError."""
        given = Approval(role, text, signature, "", "", at, run)
        if role is Role.CHECKLIST:
            must_be_asked(self._plan, given.says.get("item", ""))
        return _proven(given, await self.accept(given))

    async def accept(self, text: Approval) -> Signed:
        """Who signed. Raises Denied, with the code of what is wrong with it."""
        try:
            must_be_of_plan(text, self._expected(text))
        except Denied:
            # The run that acted on it made the plan another one: what was done, or undone, is a part of it.
            if text.document in self._spent:
                raise _used(text, "What was signed") from None
            raise
        signed = await self._may_sign(text)
        must_hold_now(text, signed.principal, self._world.clock.now(), self.rules.approval_ttl_s)
        if _proven(text, signed).digest in self._used:
            raise _used(text, f"The signature of {signed.principal}")
        if text.role is Role.APPROVE:
            must_be_no_author(signed, self._plan.policy.signers, self._about)
        return signed

    def _expected(self, text: Approval) -> str:
        """What would be signed now, in the text's own words where these are whoever signed's."""
        says = text.says
        return document(
            (self._world.service, self._world.environment.value),
            self._plan.hash,
            # As it was named when it was signed: a tag that was set since is no other commit, and that is in the text.
            msgspec.structs.replace(self._about, to_version=says.get("to", "")),
            says.get("expires", ""),
            says.get("item", "") if text.role is Role.CHECKLIST else "",
        )

    async def _counts(self, text: Approval) -> tuple[Signed, Approval]:
        """Who signed a text that was kept, and it as that proves it. Raises Denied, as `accept`.

        Only the ledger says what was taken in: what it does not know, no run would use up.
        """
        signed = await self.accept(text)
        proven = _proven(text, signed)
        if proven.digest not in self._taken_in:
            raise Denied(
                Denial.APPROVAL_MISSING if text.role is Role.APPROVE else Denial.CHECKLIST_OPEN,
                f"The signature of {signed.principal} was never recorded: the command that took it in did not come to "
                "its end.",
                next=text.anew,
            )
        return signed, proven

    async def _may_sign(self, text: Approval) -> Signed:
        raw = text.document.encode()
        try:
            signed = await self._means.verify(raw, text.signature, self._plan.policy.signers, text.role)
        except Refused as bad:
            raise Denied(bad.code, bad.what, next=bad.next) from bad
        for former in self._about.before:
            try:
                await self._means.verify(raw, text.signature, former.signers, text.role)
            except Refused as bad:
                raise Denied(
                    Denial.POLICY_CHANGED,
                    f"{signed.principal} may sign only by what this very candidate changes in the policy: that of "
                    f"release {former.release} does not let this key sign for {text.role.value!r}.",
                    next="let somebody sign whom every policy names: this one, that of what was promoted last, and "
                    "that of what serves",
                ) from bad
        return signed

    @property
    def rules(self) -> PromotionSpec:
        """What this promotion has to keep."""
        return self._about.rules

    @property
    def people(self) -> list[ChecklistItem]:
        """The items that a person signs off."""
        return [one for one in self.rules.checklist if not one.command]

    @property
    def machines(self) -> list[ChecklistItem]:
        """The items that a command judges."""
        return [one for one in self.rules.checklist if one.command]

    @property
    def _about(self) -> Promotion:
        if self._plan.promotion is None:
            raise LookupError("not a promotion")
        return self._plan.promotion

    def _standing(self, role: Role, item: str = "") -> list[Approval]:
        """Those of this plan, and then those that may have been meant for it: neither over nor used. Newest first.

        What is left of earlier promotions says nothing about this one: neither what they acted upon, unless it says
        the same as what would be signed now, nor what was signed before that.
        """
        now, mine = self._world.clock.now(), self._plan.hash
        texts = [one for one in self._texts if one.role is role and one.says.get("item", "") == item]
        own = [one for one in texts if one.says.get("plan") == mine]
        acted = next((at for at, one in enumerate(texts) if one.digest in self._used), len(texts))
        again = [one for one in texts[acted : acted + 1] if not differences(one.document, self._expected(one))]
        return own + [one for one in texts[:acted] + again if one not in own and not is_over(one, now)]

    async def _newest(self, role: Role, item: str) -> Approval:
        denied: Denied | None = None
        for text in self._standing(role, item):
            try:
                return (await self._counts(text))[1]
            except Denied as failure:
                denied = denied or failure
        raise denied or Denied(
            Denial.CHECKLIST_OPEN,
            "Nobody signed it off.",
            next=signing(Role.CHECKLIST, item),
        )

    async def machine(self, item: ChecklistItem, *, confirmed: bool) -> Finding:
        """One item that a command judges: run once people `confirmed` all else, or where it was promoted before."""
        name = f"checklist-{item.id}"
        known = {one.command for former in self._about.before for one in former.promotion.checklist}
        if not confirmed and item.command not in known:
            return Finding(name, Verdict.SKIPPED, detail=f"{item.text} Not asked before it is approved.")
        done = await self._means.runner.run(item.command, timeout_s=item.timeout_s)
        if done.timed_out:
            late = f"{item.text} It did not end within {item.timeout_s:g} s."
            told = {"code": Denial.CHECKLIST_OPEN.value}
            return Finding(name, Verdict.ERROR, done.ms, late, fix=shlex.join(item.command), metrics=told)
        if done.exit_code == 0:
            return Finding(name, Verdict.PASS, done.ms, item.text)
        last = ((done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.exit_code}"])[-1][:TAIL]
        denied = Denied(Denial.CHECKLIST_OPEN, f"{item.text} Not so: {last}", next=shlex.join(item.command))
        return msgspec.structs.replace(_open(name, denied.what, denied), ms=done.ms)


def _unrecorded(world: World) -> Iterator[dict[str, Any]]:
    """What the records of unfinished promotions will say of the signatures they acted upon."""
    for record in read_all(world.paths.journal_dir, repair=False):
        facts = None if record.ended else facts_of(record)
        if facts is not None and facts.plan is not None and facts.kind is Kind.PROMOTION:
            signed = [{"digest": one.digest} for one in facts.signatures]
            told = {"plan": facts.plan.hash, "touched": facts.touched, "approvals": signed}
            yield {"type": facts.kind.value, "decision": "refused", **told}


def _proven(text: Approval, signed: Signed) -> Approval:
    """By whom and which key it was signed, not what the file that keeps it says of that: anybody may have edited it."""
    return msgspec.structs.replace(text, principal=signed.principal, fingerprint=signed.fingerprint)


def _used(text: Approval, what: str) -> Denied:
    return Denied(
        Denial.APPROVAL_USED,
        f"{what} was acted upon by a run before, and holds for that one alone.",
        next=text.anew,
    )


def _open(name: str, detail: str, denied: Denied) -> Finding:
    return Finding(name, Verdict.FAIL, detail=detail, fix=denied.next, metrics={"code": denied.code})
