"""The ledger record of a run, and the sentence about the state of the world it leaves."""

from __future__ import annotations

from typing import Any

import msgspec

from sluice.drive.facts import Facts
from sluice.drive.world import World
from sluice.engine import Kind, State, marks_bad
from sluice.journal import redact_tree
from sluice.model.errors import StateCorrupted
from sluice.model.release import Release
from sluice.model.verdict import worst


def went_forward(facts: Facts) -> bool:
    """Whether the run came to the point from which it could only be finished."""
    return any(state is State.RECORDING for state, _ in facts.observed)


def decision(facts: Facts, outcome: State) -> str:
    """go: the release was let through; rollback: users were brought back; refused: no user ever saw it."""
    if outcome is State.DONE or went_forward(facts):
        return "go" if facts.kind is Kind.ROLLOUT else "rollback"
    restored = {state for state, _ in facts.observed} & {State.RESTORING, State.CLEANING}
    return "rollback" if restored else "refused"


def named(release: Release | None) -> str:
    """A release for people: version, commit and id."""
    return f"{release.commit.describe} (commit {release.commit.sha[:12]}, release {release.id})" if release else ""


def state_of_world(facts: Facts, outcome: State, world: World) -> str:
    """Which release serves, in one sentence, as far as the run itself knows."""
    public_url = world.public_url
    old = (facts.plan.old[0] if facts.plan.old else None) if facts.plan else _serving(world)
    new, before = named(facts.release), named(old)
    if outcome is State.DEGRADED and went_forward(facts):
        return f"{new} serves at {public_url}, but this could not be recorded."
    sentences = {
        State.DONE: f"{new} serves at {public_url}.",
        State.DEGRADED: f"{before} serves at {public_url}, but not everything is as it was.",
        State.ROLLBACK_FAILED: f"It is not known what {public_url} serves; both slots were left running.",
        State.NONE_SERVING: "Nothing serves: there was no release before this one.",
    }
    unchanged = (
        f"{before} goes on serving at {public_url}." if old else "Nothing was serving before, and nothing is now."
    )
    return sentences.get(outcome, unchanged)


def _serving(world: World) -> Release | None:
    """For a run that ended before it had a plan. A damaged note about it is told by the command that needs it."""
    try:
        serving = world.releases.serving()
    except StateCorrupted:
        return None
    return serving[0] if serving else None


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


def record_of(world: World, facts: Facts, outcome: State, exit_code: int, locked: str = "") -> dict[str, Any]:
    """The run's record, without its place in the chain. `locked`: why no rollout may follow until `sluice unlock`."""
    plan, release = facts.plan, facts.release
    commit = plan.commit if plan else None
    return {
        "type": facts.kind.value,
        "run": facts.run,
        "service": world.service,
        "environment": world.environment.value,
        "branch": facts.branch or (commit.branch if commit else ""),
        "commit": commit.sha if commit else "",
        "tree": commit.tree if commit else "",
        "version": commit.describe if commit else "",
        "release": release.id if release else "",
        "from_release": plan.old_release.id if plan and plan.old_release else "",
        "artifact_key": release.artifact.key if release else "",
        "artifact_digests": dict(release.artifact.digests) if release else {},
        "migration_head": release.migration_head if release else "",
        "env_fingerprint": plan.env_fingerprint if plan else "",
        "env_changed": bool(plan and release and plan.env_fingerprint != release.env_fingerprint),
        "plan": plan.hash if plan else "",
        "policy_changed": list(plan.policy_changed) if plan else [],
        **redact_tree(msgspec.to_builtins(_evidence(facts)), world.redactor),
        "bad_release": marks_bad(facts.kind, facts.observed),
        "override": world.redactor(facts.override),
        "decision": decision(facts, outcome),
        "outcome": outcome.value,
        "exit_code": exit_code,
        "locked": world.redactor(locked),
        "owner": facts.owner,
        "owner_source": facts.owner_source,
        "started": facts.started,
        "ended": world.clock.now(),
    }


def recovery_record(world: World, facts: Facts, by: tuple[str, str], died_in: State, outcome: State) -> dict[str, Any]:
    """That somebody's command recovered this run: who, where it had died and what came of it."""
    plan = facts.plan
    return {
        "type": "recovery",
        "run": facts.run,
        "service": world.service,
        "environment": world.environment.value,
        "commit": plan.commit.sha if plan else "",
        "tree": plan.commit.tree if plan else "",
        "died_in": died_in.value,
        "outcome": outcome.value,
        "owner": by[0],
        "owner_source": by[1],
        "ended": world.clock.now(),
    }


def lock_record(world: World, verb: str, run: str, by: tuple[str, str], reason: str) -> dict[str, Any]:
    """That somebody locked or unlocked the environment, and why."""
    return {
        "type": verb,
        "run": run,
        "service": world.service,
        "environment": world.environment.value,
        "locked": world.redactor(reason) if verb == "lock" else "",
        "reason": world.redactor(reason),
        "outcome": f"{verb}ed",
        "owner": by[0],
        "owner_source": by[1],
        "ended": world.clock.now(),
    }
