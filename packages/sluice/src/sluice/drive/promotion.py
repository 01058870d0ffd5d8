"""Promotion to prod: only the very artifact that passed test, merged, confirmed, and by people who may say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sluice.drive.facts import Plan, steps_of, with_hash
from sluice.drive.planning import read_service, to_go_back_to
from sluice.drive.proof import ROLLOUT, Tested, tested, unmerged
from sluice.drive.unchanged import forged
from sluice.drive.world import PromotionMeans, Sibling, World, command
from sluice.engine import Kind
from sluice.gates.run import GATES
from sluice.gates.standing import in_promotion
from sluice.gates.waivers import NEVER, must_be_waivable, passed_over
from sluice.ledger import Ledger
from sluice.model.changes import policy_changes
from sluice.model.errors import ConfigError, Refused, UsageError
from sluice.model.policy import GatesSpec
from sluice.model.promotion import Authored, Denial, Denied, Former, Promotion
from sluice.model.release import CONTENT, INPUT, Artifact, Commit, Release
from sluice.model.spec import ServiceSpec
from sluice.model.stricter import approvers_of, gates_of, strictest
from sluice.ports import Progress


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
    """The plan of bringing the policy's branch to this environment. Raises Denied or BadWaiver, each with its own code.

    `exceptions` (`exceptions_of`) are a part of it: a gate is passed over only as it was signed.
    """
    means = means_of(world)
    _never_a_branch(world, branch)
    fingerprint = world.fingerprint()
    progress("fetching the repository")
    await world.repo.fetch()
    commit = await world.repo.resolve(world.policy_ref)
    policy = await read_service(world, commit.sha, world.policy_ref)
    await _must_hold(means)
    old, slot, alive = await to_go_back_to(world, progress)
    if old is not None and alive and (old.commit.tree, old.env_fingerprint) == (commit.tree, fingerprint):
        raise _serves_already(old, commit, await unmerged(world, means, commit))
    _must_be_known(world, old)
    before = await _policies_before(world, old)
    gates = gates_of(policy.gates, *(one.gates for one in before.values()))
    _must_be_waivable(world, exceptions or {}, gates)
    rules = strictest(policy.promotion, *(one.promotion for one in before.values()))
    proof = await tested(world, means, commit, rules.proof_ttl_s)
    plan = Plan(
        commit=commit,
        candidate=policy,
        policy=msgspec.structs.replace(policy, gates=gates),
        policy_sha=commit.sha,
        env_fingerprint=fingerprint,
        old_release=old,
        old_slot=slot,
        steps=steps_of(Kind.PROMOTION),
        policy_changed=(),
        old_alive=alive,
        promotion=msgspec.structs.replace(
            _held_to(before, policy, await _what_changes(world, commit, old, proof, dict(exceptions or {}))),
            rules=rules,
            authors=await _authors(world, commit, old, proof) if rules.approver_not_author else (),
            gates=in_promotion(policy.gates, exceptions or {}),
        ),
    )
    return with_hash(plan, world.service, world.environment.value)


def _must_be_waivable(world: World, exceptions: Mapping[str, str], gates: GatesSpec) -> None:
    """Nobody is to sign what is refused afterwards. Raises BadWaiver.

    An override is among them as a gate's too: whether that was asked for by a waiver is known to the run alone.
    """
    asked = {gate: why for gate, why in exceptions.items() if gate not in NEVER}
    must_be_waivable(asked, GATES, gates, world.environment)


def _serves_already(old: Release, commit: Commit, waits: str) -> Denied:
    """`waits`: what is proven in test, and whoever promotes may have meant."""
    same = "" if old.commit.sha == commit.sha else f", which has the same files as {commit.sha[:12]},"
    return Denied(
        Denial.ALREADY_SERVES,
        f"{old.commit.describe} (commit {old.commit.sha[:12]}){same} serves already, with the same settings.",
        next=waits or "nothing: sluice status --env prod",
    )


def _must_be_known(world: World, old: Release | None) -> None:
    """What serves is what a run left, by the signed ledger: what changes is told from it. Raises Denied."""
    why = forged(Ledger(world.paths.ledger).records(), world.releases, old.id) if old is not None else ""
    if why:
        raise Denied(
            Denial.RECORD_DOUBTFUL,
            f"What serves in {world.environment.value} is not what was recorded: {why}.",
            next=f"find out who writes in the state folder; {command(world, 'rollback')}, or its file from a backup; "
            "then the same command",
        )


async def _taken_back(world: World, old: Release | None, commit: Commit) -> tuple[Authored, ...]:
    """What serves and the commit lacks: the branch was forced back. Raises Denied where that cannot be told."""
    if old is None:
        return ()
    sha = old.commit.sha
    try:
        return () if await world.repo.contains(commit.sha, sha) else tuple(await world.repo.authored(commit.sha, sha))
    except UsageError:
        raise Denied(
            Denial.HISTORY_GONE,
            f"What serves is commit {sha[:12]}, and no branch or tag of the origin holds that any more: "
            "what would change cannot be told.",
            next=f"bring it back from a clone that has it: git push origin {sha}:refs/tags/served-in-prod",
        ) from None


async def _must_hold(means: PromotionMeans) -> None:
    if doubt := await means.doubt():
        tests = "sluice log verify --env test; " if isinstance(means.test, Sibling) else ""
        raise Denied(Denial.RECORD_DOUBTFUL, doubt, next=f"{tests}sluice log verify --env prod")


def _never_a_branch(world: World, branch: str) -> None:
    if branch and branch != world.policy_ref:
        raise Denied(
            Denial.FEATURE_BRANCH,
            f"Never {world.environment.value} from a feature branch: {branch!r} is not {world.policy_ref!r}.",
            next=f"{ROLLOUT} {branch}, merge it into {world.policy_ref}, then: sluice promote --env prod",
        )


def exceptions_of(world: World, waivers: Mapping[str, str], override: str) -> dict[str, str]:
    """What a promotion is asked to pass over, and why: a part of the plan, so in the same words wherever it is made."""
    why = {**waivers, **({"bad-release": " ".join(override.split())} if override else {})}
    return {gate: world.redactor(reason) for gate, reason in why.items()}


async def _what_changes(
    world: World,
    commit: Commit,
    old: Release | None,
    proof: Tested,
    exceptions: dict[str, str],
) -> Promotion:
    record = proof.record
    # What was passed over on the way through test was never judged: whoever signs, signs that too.
    passed = {f"in test: {one['gate']}": one["evidence"] for one in passed_over(record)}
    return Promotion(
        proof_run=str(record["run"]),
        proof_branch=proof.branch,
        proof_commit=proof.sha,
        artifact_key=proof.artifact.key,
        digests=_images(proof.artifact),
        from_version=old.commit.describe if old else "",
        to_version=commit.describe,
        commit=commit.sha,
        tree=commit.tree,
        taken_back=await _taken_back(world, old, commit),
        commits=tuple(await world.repo.authored(old.commit.sha if old else "", commit.sha)),
        head_from=old.migration_head if old else "",
        head_to=proof.migration_head,
        policy_changed={},
        carried=proof.carried,
        exceptions=passed | exceptions,
        waived_in_test=passed_over(record),
        settings=dict(world.settings),
    )


async def _authors(world: World, commit: Commit, old: Release | None, proof: Tested) -> tuple[Authored, ...]:
    """Who wrote it besides those of the commits that are new to users. Raises Denied where that cannot be told."""
    ever = await world.repo.authors(commit.sha) if old is None else []
    if proof.sha == commit.sha:
        return tuple(ever)
    try:
        # What a squash or a rebase left out of the policy's branch is what test proved all the same.
        return (*ever, *await world.repo.authored(commit.sha, proof.sha))
    except (Refused, UsageError) as failure:
        raise Denied(
            Denial.AUTHOR_UNKNOWN,
            f"Test proved {proof.branch} at {proof.sha[:12]}, and who wrote that cannot be told: {failure.what}",
            next=f"prove what is merged: {ROLLOUT} {world.policy_ref}",
        ) from failure


async def _policies_before(world: World, old: Release | None) -> dict[str, ServiceSpec]:
    """Whose policies must accept the candidate's too, by release: what was promoted last, and what serves.

    After a rollback these are two: a rule that was tightened with what was left is not loosened by leaving it. Raises
    Denied.
    """
    records = Ledger(world.paths.ledger).records()
    went = [one for one in records if (one["type"], one.get("outcome")) == ("promotion", "done") and one["release"]]
    before = {str(one["release"]): await _policy_of(world, one) for one in went[-1:]}
    if old is not None:
        before.pop(old.id, None)  # what serves comes last: how the policy changes is told from it
        before[old.id] = old.spec
    return before


async def _policy_of(world: World, record: Mapping[str, Any]) -> ServiceSpec:
    """The policy that a run brought: by its release's file where the ledger vouches for that, else by its commit.

    Raises Denied.
    """
    release_id, sha = str(record["release"]), str(record["commit"])
    if not forged([record], world.releases, release_id):
        return world.releases.get(release_id).spec
    try:
        return await read_service(world, sha, f"commit {sha[:12]}")
    except (ConfigError, UsageError) as failure:
        raise Denied(
            Denial.POLICY_CHANGED,
            f"What was promoted last ({release_id}) is known neither by its file nor by commit {sha[:12]}: "
            "nobody can say who was named before.",
            next="restore its file in the state folder (releases/) from a backup",
        ) from failure


def _held_to(before: Mapping[str, ServiceSpec], policy: ServiceSpec, about: Promotion) -> Promotion:
    """The promotion with the policies before its candidate's, and how that differs from them."""
    return msgspec.structs.replace(
        about,
        before=tuple(Former(name, one.gates, one.promotion, one.signers) for name, one in before.items()),
        # Where both differ, from what serves: that is what users have.
        policy_changed={name: how for one in before.values() for name, how in policy_changes(policy, one).items()},
        approvers=approvers_of(policy.signers, *(one.signers for one in before.values())),
    )


def adopted(plan: Plan, artifact: Artifact) -> Artifact:
    """The artifact, if it is the very one that passed test. Raises Denied.

    A service that only this environment has (a TURN server, say) was not in test; everything both have is the same.
    """
    proven = plan.promotion
    if proven is None:
        return artifact
    if proven.carried:
        return _carried(proven, artifact)
    both = {name: digest for name, digest in _images(artifact).items() if name in proven.digests}
    other = {name for name in both if both[name] != proven.digests[name]}
    if artifact.key == proven.artifact_key and not other:
        return artifact
    if artifact.key == proven.artifact_key and all(name.startswith(CONTENT) for name in other):
        raise Denied(
            Denial.ARTIFACT_CHANGED,
            f"The artifact {artifact.key[:12]} was changed since it passed test: {', '.join(sorted(other))}.",
            next=f"find out who writes there; then {ROLLOUT} {plan.commit.branch}, which builds it anew",
        )
    raise Denied(
        Denial.ARTIFACT_DIFFERS,
        f"Here this commit makes the artifact {artifact.key[:12]}, and test proved {proven.artifact_key[:12]}: "
        "what is built from differs between the environments.",
        next="take what differs out of the build (build arguments from the env file, say) and prove it in test again",
    )


def carried_images(plan: Plan) -> dict[str, str]:
    """What passed test on another host, to be fetched here; none where it is on this one."""
    proven = plan.promotion
    return {name: proven.digests[name] for name in proven.carried} if proven is not None else {}


def _carried(proven: Promotion, artifact: Artifact) -> Artifact:
    """As `adopted`, of what passed test on another host, whose key holds what is that host's own. Raises Denied."""
    said = {name.removeprefix(INPUT): one for name, one in artifact.digests.items() if name.startswith(INPUT)}
    both = sorted(proven.carried.keys() & said.keys())
    if not both:
        raise Denied(
            Denial.ARTIFACT_DIFFERS,
            f"None of the images that passed test in run {proven.proof_run} is one of this environment.",
            next="let both environments run the same services (`runtime` in host.toml, [compose] files)",
        )
    here = {name: (artifact.digests.get(name), said[name]) for name in both}
    other = [name for name in both if here[name] != (proven.digests.get(name), proven.carried[name])]
    if not other:
        return artifact
    raise Denied(
        Denial.ARTIFACT_DIFFERS,
        f"Here {', '.join(other)} would be made from something else, or be another image, than what test proved in "
        f"run {proven.proof_run}: what is built from differs between the environments.",
        next="take what differs out of the build (build arguments from the env file, say) and prove it in test again",
    )


def _images(artifact: Artifact) -> dict[str, str]:
    """Without what is each environment's own: its rendered Compose file."""
    return {name: digest for name, digest in artifact.digests.items() if not name.startswith("compose.")}
