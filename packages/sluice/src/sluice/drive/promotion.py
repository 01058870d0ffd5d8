"""Promotion to prod: only the very artifact that passed test, merged, confirmed, and by people who may say so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sluice.drive.facts import Plan, policy_changes, steps_of, with_hash
from sluice.drive.planning import read_service, to_go_back_to
from sluice.drive.world import PromotionMeans, World
from sluice.engine import Kind
from sluice.ledger import Ledger
from sluice.model.errors import Refused, UsageError
from sluice.model.promotion import Denial, Denied, Promotion, proof_in, strictest
from sluice.model.release import Artifact, Commit, Release
from sluice.model.spec import ServiceSpec
from sluice.ports import Progress

TEST_ROLLOUT = "sluice rollout --env test --branch"


def means_of(world: World) -> PromotionMeans:
    """Raises Refused where nothing is promoted to."""
    if world.promotion is None:
        raise Refused(
            f"{world.environment.value} is not promoted to: branches are rolled out there.",
            next="sluice promote --env prod",
        )
    return world.promotion


async def plan_promotion(
    world: World, branch: str, progress: Progress, exceptions: Mapping[str, str] | None = None
) -> Plan:
    """The plan of bringing the policy's branch to this environment. Raises Denied, each with its own code.

    `exceptions` (`exceptions_of`) are a part of it: a gate is passed over only as it was signed.
    """
    means = means_of(world)
    _never_a_branch(world, branch)
    fingerprint = world.fingerprint()
    progress("fetching the repository")
    await world.repo.fetch()
    commit = await world.repo.resolve(world.policy_ref)
    policy = await read_service(world, commit.sha, world.policy_ref)
    if doubt := await means.doubt():
        raise Denied(Denial.RECORD_DOUBTFUL, doubt, next="sluice log verify --env test; sluice log verify --env prod")
    old, slot, alive = await to_go_back_to(world)
    if old is not None and alive and (old.commit.tree, old.env_fingerprint) == (commit.tree, fingerprint):
        raise Denied(Denial.ALREADY_SERVES, f"{commit.describe} serves already, with the same settings.")
    before = _policy_before(world, old)
    rules = strictest(policy.promotion, before.promotion if before else None)
    proof = await _proven(world, means, commit, rules.proof_ttl_s)
    plan = Plan(
        commit=commit,
        candidate=policy,
        policy=policy,
        policy_sha=commit.sha,
        env_fingerprint=fingerprint,
        old_release=old,
        old_slot=slot,
        steps=steps_of(Kind.PROMOTION),
        policy_changed=(),
        old_alive=alive,
        promotion=msgspec.structs.replace(
            await _what_changes(world, commit, old, proof, dict(exceptions or {})),
            policy_changed=policy_changes(policy, before) if before else (),
            rules=rules,
            signers_before=before.signers if before else None,
        ),
    )
    return with_hash(plan, world.service, world.environment.value)


def _never_a_branch(world: World, branch: str) -> None:
    if branch and branch != world.policy_ref:
        raise Denied(
            Denial.FEATURE_BRANCH,
            f"Never {world.environment.value} from a feature branch: {branch!r} is not {world.policy_ref!r}.",
            next=f"{TEST_ROLLOUT} {branch}, merge it into {world.policy_ref}, then: sluice promote --env prod",
        )


def exceptions_of(waivers: Mapping[str, str], override: str) -> dict[str, str]:
    """What a promotion is asked to pass over, and why."""
    return {**waivers, **({"bad-release": " ".join(override.split())} if override else {})}


async def _what_changes(
    world: World,
    commit: Commit,
    old: Release | None,
    proof: tuple[Release, Mapping[str, Any]],
    exceptions: dict[str, str],
) -> Promotion:
    tested, record = proof
    # What was passed over on the way through test was never judged: whoever signs, signs that too.
    gates = record.get("gates") or ()
    passed = {f"in test: {one['name']}": str(one.get("detail", "")) for one in gates if one.get("verdict") == "waived"}
    return Promotion(
        proof_run=str(record["run"]),
        proof_branch=tested.commit.branch,
        proof_commit=tested.commit.sha,
        artifact_key=tested.artifact.key,
        digests=_images(tested.artifact),
        from_version=old.commit.describe if old else "",
        to_version=commit.describe,
        commits=tuple(await world.repo.authored(old.commit.sha if old else "", commit.sha)),
        head_from=old.migration_head if old else "",
        head_to=tested.migration_head,
        policy_changed=(),
        exceptions=passed | exceptions,
    )


async def _proven(
    world: World, means: PromotionMeans, commit: Commit, ttl_s: float
) -> tuple[Release, Mapping[str, Any]]:
    """The release of test that proves this commit's tree, and the record of the run that did. Raises Denied."""
    records = Ledger(means.test.paths.ledger).records()
    proof = proof_in(records, commit.tree, world.clock.now(), ttl_s)
    if proof is None:
        raise await _unproven(world, means, commit)
    try:
        tested = means.test.releases.get(str(proof["release"]))
    except UsageError:
        tested = None
    if tested is None or not Path(tested.artifact.path).is_dir():
        raise Denied(
            Denial.ARTIFACT_GONE,
            f"The artifact that passed test in run {proof['run']} is not on this host any more.",
            next=f"{TEST_ROLLOUT} {world.policy_ref}",
        )
    return tested, proof


async def _unproven(world: World, means: PromotionMeans, commit: Commit) -> Denied:
    serving = means.test.releases.serving()
    main = world.policy_ref
    if serving is not None and not await _is_in(world, commit, serving[0].commit):
        branch = serving[0].commit.branch
        return Denied(
            Denial.NOT_MERGED,
            f"{branch!r} ({serving[0].commit.sha[:12]}) is what test proved, and it is not merged into {main!r}.",
            next=f"merge {branch} into {main}; where the merge changes files, then: {TEST_ROLLOUT} {main}",
        )
    return Denied(
        Denial.NOT_PROVEN,
        f"{main} at {commit.sha[:12]} (tree {commit.tree[:12]}) was never proven in test.",
        next=f"{TEST_ROLLOUT} {main}",
    )


async def _is_in(world: World, commit: Commit, other: Commit) -> bool:
    try:
        return await world.repo.contains(commit.sha, other.sha)
    except UsageError:
        return False  # a branch that was removed unmerged: the mirror may have dropped its commits


def _policy_before(world: World, old: Release | None) -> ServiceSpec | None:
    """The policy of what was promoted last, as its release keeps it; None when nothing ever was. Raises Denied.

    A candidate's own change of it must be accepted by those it named before.
    """
    if old is not None:
        return old.spec
    promoted = [one for one in Ledger(world.paths.ledger).records() if one["type"] == "promotion" and one["release"]]
    went = [str(one["release"]) for one in promoted if one.get("outcome") == "done"]
    if not went:
        return None
    try:
        return world.releases.get(went[-1]).spec
    except UsageError:
        raise Denied(
            Denial.POLICY_CHANGED,
            f"What was promoted last ({went[-1]}) is not known any more, so nobody can say who was named before.",
            next="restore its file in the state folder (releases/) from a backup",
        ) from None


def adopted(plan: Plan, artifact: Artifact) -> Artifact:
    """The artifact, if it is the very one that passed test. Raises Denied.

    A service that only this environment has (a TURN server, say) was not in test; everything both have is the same.
    """
    proven = plan.promotion
    if proven is None:
        return artifact
    both = {name: digest for name, digest in _images(artifact).items() if name in proven.digests}
    if artifact.key == proven.artifact_key and both == {name: proven.digests[name] for name in both}:
        return artifact
    raise Denied(
        Denial.ARTIFACT_DIFFERS,
        f"Here this commit makes the artifact {artifact.key[:12]}, and test proved {proven.artifact_key[:12]}: "
        "what is built from differs between the environments.",
        next="take what differs out of the build (build arguments from the env file, say) and prove it in test again",
    )


def _images(artifact: Artifact) -> dict[str, str]:
    """Without what is each environment's own: its rendered Compose file."""
    return {name: digest for name, digest in artifact.digests.items() if not name.startswith("compose.")}


async def same_refs(world: World, plan: Plan) -> None:
    """The branch is where it was when the plan was signed. Raises Denied."""
    await world.repo.fetch()
    now = await world.repo.resolve(world.policy_ref)
    if now.sha != plan.commit.sha:
        raise Denied(
            Denial.REFS_MOVED,
            f"{world.policy_ref} moved from {plan.commit.sha[:12]} to {now.sha[:12]} while this was confirmed.",
            next="sluice plan --env prod",
        )
