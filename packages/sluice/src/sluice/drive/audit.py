"""The ledger record of a run, and the sentence about the state of the world it leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from sluice.checks.containers import COMPLETE, UP
from sluice.checks.domain import DNS, REDIRECT, TLS
from sluice.checks.logs import NAME as LOGS
from sluice.checks.logs import SHARED_ALONE
from sluice.drive.facts import Facts, Plan
from sluice.drive.redacting import redacted
from sluice.drive.unchanged import recorded_as
from sluice.drive.world import World
from sluice.engine import Kind, State, marks_bad
from sluice.gates.history import NAME as BAD_RELEASE
from sluice.gates.waivers import sentence, taken
from sluice.ledger import Ledger
from sluice.model.errors import SluiceError, StateCorrupted
from sluice.model.policy import Role
from sluice.model.promotion import SHOWN, Approval, Denied
from sluice.model.release import Release, Slot
from sluice.model.text import shortened
from sluice.model.verdict import Finding, Verdict, worst


def went_forward(facts: Facts) -> bool:
    """Whether the run came to the point from which it could only be finished."""
    return any(state is State.RECORDING for state, _ in facts.observed)


def decision(facts: Facts, outcome: State) -> str:
    """go: the release was let through; rollback: users were brought back; refused: no user ever saw it."""
    if outcome is State.DONE or went_forward(facts):
        return "rollback" if facts.kind is Kind.ROLLBACK else "go"
    restored = {state for state, _ in facts.observed} & {State.RESTORING, State.CLEANING}
    return "rollback" if restored else "refused"


def named(release: Release | None) -> str:
    """A release for people: version, commit and id."""
    return f"{release.commit.describe} (commit {release.commit.sha[:12]}, release {release.id})" if release else ""


async def served_before(facts: Facts, world: World) -> tuple[Release | None, bool | None]:
    """The release that was serving when the run began, and whether it ran then; None: that could not be told."""
    if facts.plan is not None:
        return facts.plan.old_release, facts.plan.old_alive
    serving = _serving(world)
    if serving is None:
        return None, None
    try:
        return serving[0], await world.runtime.alive(serving[1])
    except (SluiceError, OSError):
        return serving[0], None


def state_of_world(facts: Facts, outcome: State, world: World, was: tuple[Release | None, bool | None]) -> str:
    """Which release serves, in one sentence, as far as the run itself knows. `was`: `served_before`."""
    public_url = world.public_url
    old, ran = was
    new, before = named(facts.release), named(old)
    if outcome is State.DEGRADED and went_forward(facts):
        return f"{new} serves at {public_url}, but this could not be recorded."
    sentences = {
        State.DONE: f"{new} serves at {public_url}.",
        State.DEGRADED: f"{before} serves at {public_url}, but not everything is as it was.",
        State.ROLLBACK_FAILED: f"It is not known what {public_url} serves; both slots were left running.",
        State.NONE_SERVING: f"Nothing serves: {before} was the last release, and it did not run when this began."
        if old
        else "Nothing serves: there was no release before this one.",
    }
    return sentences.get(outcome) or _unchanged(old, ran, public_url)


def _unchanged(old: Release | None, ran: bool | None, public_url: str) -> str:
    if old is None:
        return "Nothing was serving before, and nothing is now."
    if ran is None:
        return (
            f"Nothing was changed. {named(old)} is what was brought to {public_url} last; whether it runs is not known."
        )
    if not ran:
        return f"Nothing was changed. {named(old)} was the last release, and it did not run when this began."
    return f"{named(old)} goes on serving at {public_url}."


def _serving(world: World) -> tuple[Release, Slot] | None:
    """For a run that ended before it had a plan. A damaged note about it is told by the command that needs it."""
    try:
        return world.releases.serving()
    except StateCorrupted:
        return None


def _evidence(facts: Facts) -> dict[str, Any]:
    public = facts.findings.get(State.SMOKING_PUBLIC.value, [])
    private = facts.findings.get(State.SMOKING_PRIVATE.value, [])
    required = frozenset(facts.plan.policy.watch.required_checks) if facts.plan else frozenset[str]()
    return {
        "gates": facts.findings.get(State.GATING.value, []),
        "smoke": {"private": private, "public": public},
        "smoke_result": worst(public or private, required).value if public or private else "not run",
        "watch": facts.findings.get(State.WATCHING.value, []),
        "reason": facts.reason,
    }


def blamed(facts: Facts) -> bool:
    """Whether the artifact is remembered as bad: the run failed, and for something that the artifact can have done.

    A name that does not resolve, a certificate that ended, an error that only a shared service logged: the run is
    undone for them as for any other, and the same artifact may be tried again.
    """
    if not marks_bad(facts.kind, facts.observed):
        return False
    guilty = [state for state, event in facts.observed if marks_bad(facts.kind, [(state, event)])]
    return not all(_environments_own(facts.findings.get(state.value, [])) for state in guilty)


def _environments_own(findings: list[Finding]) -> bool:
    failed = [one for one in findings if one.verdict is Verdict.FAIL and not one.dry_run]
    # Where people do not get there at all, what was asked through the public URL says nothing of who should answer.
    cut_off = any(one.name in (DNS, TLS) for one in failed)
    return bool(failed) and all(
        (one.name == LOGS and one.metrics.get(SHARED_ALONE) is True)
        or one.name in (DNS, TLS, REDIRECT)
        or (cut_off and one.name not in (LOGS, UP, COMPLETE))
        for one in failed
    )


def _promoted(facts: Facts) -> dict[str, Any]:
    """What only a promotion has: the proof in test, and the signatures it acted upon."""
    about = facts.plan.promotion if facts.plan else None
    if about is None:
        return {}
    signed = [
        {
            "role": text.role.value,
            "item": text.says.get("item", ""),
            "principal": text.principal,
            "signed_with": text.fingerprint,
            "expires": text.says.get("expires", ""),
            "digest": text.digest,
        }
        for text in facts.signatures
    ]
    return {
        "proof_run": about.proof_run,
        "from_version": about.from_version,
        "commits": [change.sha for change in about.commits],
        "promoted_policy_changes": list(about.policy_changed),
        "waived_in_test": [dict(waiver) for waiver in about.waived_in_test],
        "approvals": signed,
        "touched": facts.touched,
    }


@redacted
def record_of(world: World, facts: Facts, outcome: State, exit_code: int, locked: str = "") -> dict[str, Any]:
    """The run's record, without its place in the chain. `locked`: why no rollout may follow until `sluice unlock`."""
    plan, release = facts.plan, facts.release
    commit = plan.commit if plan else None
    return {
        "type": facts.kind.value,
        **_said(world, facts.run, (facts.owner, facts.owner_source)),
        "branch": facts.branch or (commit.branch if commit else ""),
        "commit": commit.sha if commit else "",
        "tree": commit.tree if commit else "",
        "version": commit.describe if commit else "",
        "committed_at": commit.committed_at if commit else "",
        "release": release.id if release else "",
        "release_digest": recorded_as(release) if release else "",
        "from_release": plan.old_release.id if plan and plan.old_release else "",
        "artifact_key": release.artifact.key if release else "",
        "artifact_digests": dict(release.artifact.digests) if release else {},
        "migration_head": release.migration_head if release else "",
        "env_fingerprint": plan.env_fingerprint if plan else "",
        "env_changed": bool(plan and release and plan.env_fingerprint != release.env_fingerprint),
        "plan": plan.hash if plan else "",
        "policy_changed": list(plan.policy_changed) if plan else [],
        "refusal": facts.code,
        **_promoted(facts),
        **msgspec.to_builtins(_evidence(facts)),
        "bad_release": blamed(facts),
        "override": facts.override,
        "waived": [one["gate"] for one in taken(facts.findings.get(State.GATING.value, []))],
        "decision": decision(facts, outcome),
        "outcome": outcome.value,
        "exit_code": exit_code,
        "locked": locked,
        "started": facts.started,
        "switched": facts.switched,
    }


def _said(world: World, run: str, by: tuple[str, str], ended: str = "") -> dict[str, Any]:
    """What every record says: which run of which environment it is about, who answers for it, and when it ended."""
    return {
        "run": run,
        "service": world.service,
        "environment": world.environment.value,
        "owner": by[0],
        "owner_source": by[1],
        "ended": ended or world.clock.now(),
    }


def _about(world: World, facts: Facts) -> dict[str, Any]:
    """What a record beside the run's own says: also which commit went there."""
    commit = facts.effective_plan.commit
    return {
        **_said(world, facts.run, (facts.owner, facts.owner_source)),
        "branch": commit.branch,
        "version": commit.describe,
        "commit": commit.sha,
        "tree": commit.tree,
    }


@redacted
def waiver_record(world: World, facts: Facts) -> dict[str, Any]:
    """What this run passed over, each with who answers for it, why, and what the gate had said. {}: nothing."""
    waivers = taken(facts.findings.get(State.GATING.value, []))
    if not waivers:
        return {}
    return {
        "type": "waiver",
        **_about(world, facts),
        "waivers": waivers,
        "reason": "; ".join(map(sentence, waivers)),
        "outcome": f"waived {', '.join(one['gate'] for one in waivers)}",
    }


@redacted
def override_record(world: World, facts: Facts) -> dict[str, Any]:
    """That an artifact which had failed here was tried again, or one that was changed was gone back to: who said why.

    `overridden` is the run that blamed it, or that verified it before it was changed. {}: nothing was overridden.
    """
    told = (one.metrics.get("run") for one in facts.findings.get(State.GATING.value, []) if one.metrics.get("override"))
    blamed_by = facts.overrode or str(next(told, ""))
    if not facts.override or not blamed_by:
        return {}
    failed = [one for one in Ledger(world.paths.ledger).records() if one.get("run") == blamed_by]
    keys = [facts.release.artifact.key if facts.release else "", *(str(one.get("artifact_key", "")) for one in failed)]
    return {
        "type": "override",
        **_about(world, facts),
        "artifact_key": next(filter(None, keys), ""),
        "env_fingerprint": facts.effective_plan.env_fingerprint,
        "overridden": blamed_by,
        "reason": facts.override,
        "outcome": f"overrode run {blamed_by}" if facts.kind is not Kind.ROLLBACK else f"changed since run {blamed_by}",
    }


def waivers_of(records: Iterable[Mapping[str, Any]], release: Release | None) -> list[dict[str, Any]]:
    """What was passed over for a release, wherever it serves: a rollback to it brings its waivers back too.

    Of a promoted one also what was passed over on its way through test.
    """
    found: list[dict[str, Any]] = []
    for record in records:
        if release is None or record.get("run") != release.id:
            continue
        if record["type"] == "waiver":
            found += [dict(waiver) for waiver in record["waivers"]]
        elif record["type"] == "override":
            found.append({"gate": BAD_RELEASE, "by": record["owner"], "reason": record["reason"], "verdict": "fail"})
        elif record["type"] == "promotion":
            passed = record.get("waived_in_test", ())
            found += [{**waiver, "gate": f"in test: {waiver['gate']}"} for waiver in passed]
    return found


def standing_waivers(world: World) -> list[str]:
    """What was passed over for what serves now, one sentence each; what cannot be read is told elsewhere."""
    serving = _serving(world)
    try:
        return [
            sentence(one) for one in waivers_of(Ledger(world.paths.ledger).records(), serving[0] if serving else None)
        ]
    except StateCorrupted:
        return []


@redacted
def recovery_record(world: World, facts: Facts, by: tuple[str, str], died_in: State, outcome: State) -> dict[str, Any]:
    """That somebody's command recovered this run: who, where it had died and what came of it."""
    plan = facts.plan
    return {
        "type": "recovery",
        **_said(world, facts.run, by),
        "commit": plan.commit.sha if plan else "",
        "tree": plan.commit.tree if plan else "",
        "died_in": died_in.value,
        "outcome": outcome.value,
    }


@redacted
def lock_record(world: World, verb: str, run: str, by: tuple[str, str], reason: str, until: str = "") -> dict[str, Any]:
    """That somebody locked or unlocked the environment, or froze it `until` a time or lifted that, and why."""
    said = {"lock": "locked", "unlock": "unlocked", "freeze": f"frozen until {until}", "unfreeze": "unfrozen"}
    return {
        "type": verb,
        **_said(world, run, by),
        "locked": reason if verb == "lock" else "",
        "reason": reason,
        **({"until": until} if until else {}),
        "outcome": said[verb],
    }


@redacted
def signature_record(
    world: World, plan: Plan | None, text: Approval, by: tuple[str, str], denied: Denied | None = None
) -> dict[str, Any]:
    """That somebody approved a plan, or signed off an item of its checklist, and who handed that in.

    `denied`: why it was not taken in; then nothing of what the text says was proven to be anybody's. Without a plan
    there was nothing to sign.
    """
    return {
        "type": "approval" if text.role is Role.APPROVE else "sign-off",
        **_said(world, text.run, by, text.at),
        "version": plan.commit.describe if plan else "",
        "commit": plan.commit.sha if plan else "",
        "tree": plan.commit.tree if plan else "",
        "plan": plan.hash if plan else "",
        "item": shortened(world.redactor(text.says.get("item", "")), SHOWN),
        "principal": text.principal,
        "signed_with": text.fingerprint,
        "digest": text.digest,
        "expires": shortened(world.redactor(text.says.get("expires", "")), SHOWN),
        "outcome": "refused" if denied else "signed",
        **({"refusal": denied.code, "reason": denied.what} if denied else {}),
    }
