"""What proves a commit in test: its newest attempt there, on this host or on another one, and the artifact it left."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sluice.drive.facts import facts_of
from sluice.drive.unchanged import altered, forged
from sluice.drive.world import Elsewhere, PromotionMeans, Sibling, World
from sluice.engine import Kind
from sluice.journal import read_all
from sluice.ledger import Copy, Ledger
from sluice.model.errors import UsageError
from sluice.model.promotion import Denial, Denied, proof_in
from sluice.model.release import COMPOSE, INPUT, Artifact, Commit
from sluice.model.spec import EnvironmentName

ROLLOUT = "sluice rollout --env test --branch"
THERE = "on test's host: "
BY_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
Record = Mapping[str, Any]


class Tested(msgspec.Struct, frozen=True):
    """The run that proves, and what it ran."""

    record: dict[str, Any]
    branch: str
    sha: str
    artifact: Artifact  # of another host's without a path: it is known by its digests alone
    migration_head: str
    carried: dict[str, str] = {}  # of another host's, by image: what its Compose files say of it


async def tested(world: World, means: PromotionMeans, commit: Commit, ttl_s: float) -> Tested:
    """What of test proves this commit's tree. Raises Denied."""
    if isinstance(means.test, Elsewhere):
        return await _there(world, means.test, commit, ttl_s)
    return await _here(world, means.test, commit, ttl_s)


async def _here(world: World, test: Sibling, commit: Commit, ttl_s: float) -> Tested:
    _must_have_ended(test, commit)
    proof = proof_in(Ledger(test.paths.ledger).records(), commit.tree, world.clock.now(), ttl_s)
    if proof is None:
        serving = test.releases.serving()
        left = (serving[0].commit.branch, serving[0].commit.sha) if serving else None
        raise await _unproven(world, commit, left)
    try:
        release = test.releases.get(str(proof["release"]))
    except UsageError:
        release = None
    if release is None or not Path(release.artifact.path).is_dir():
        raise Denied(
            Denial.ARTIFACT_GONE,
            f"The artifact that passed test in run {proof['run']} is not on this host any more.",
            next=f"{ROLLOUT} {world.policy_ref}",
        )
    file = forged(Ledger(test.paths.ledger).records(), test.releases, release.id)
    if why := file or await altered(world, release, proof):
        raise Denied(
            Denial.ARTIFACT_CHANGED,
            f"The artifact that passed test in run {proof['run']} was changed since: {why}.",
            next=f"find out who writes there; then {ROLLOUT} {world.policy_ref}, which builds it anew",
        )
    told = (release.commit.branch, release.commit.sha, release.artifact, release.migration_head)
    return Tested(dict(proof), *told)


def _must_have_ended(test: Sibling, commit: Commit) -> None:
    """What still runs in test, or was killed there, may end badly: until it is recorded nobody knows. Raises Denied.

    A run is an attempt once it has an artifact: before that it may be refused, and says nothing of what came before.
    """
    for record in read_all(test.paths.journal_dir, repair=False) if test.paths.journal_dir.is_dir() else ():
        facts = None if record.ended else facts_of(record)
        if facts is None or facts.release is None:
            continue
        if facts.kind is Kind.ROLLOUT and facts.release.commit.tree != commit.tree:
            continue
        raise Denied(
            Denial.NEWEST_OPEN,
            f"Run {facts.run}, a {facts.kind.value} in test by {facts.owner}, did not end yet: it stands in "
            f"{record.state.value}. What came before it does not count.",
            next="sluice status --env test; where nothing runs there any more: sluice resume --env test",
        )


async def _there(world: World, test: Elsewhere, commit: Commit, ttl_s: float) -> Tested:
    records = await test.records()
    if not records:
        raise Denied(
            Denial.NOT_PROVEN,
            f"{world.policy_ref} was never proven in test: the origin has not one record of it.",
            next=f"{THERE}{ROLLOUT} {world.policy_ref}, by a user who may push refs/sluice/ledger/* to the origin",
        )
    try:
        proof = proof_in(records, commit.tree, world.clock.now(), ttl_s)
        if proof is None:
            raise await _unproven(world, commit, _served(records))
        carried = _carried(proof)
    except Denied as denied:
        raise Denied(denied.code, denied.what, next=f"{THERE}{denied.next}") from None
    digests = {str(name): str(digest) for name, digest in proof["artifact_digests"].items()}
    artifact = Artifact(str(proof["artifact_key"]), "", commit.tree, digests=digests)
    told = (str(proof["branch"]), str(proof["commit"]), artifact, str(proof["migration_head"]))
    return Tested(dict(proof), *told, carried)


def _served(records: Sequence[Record]) -> tuple[str, str] | None:
    """Branch and commit of the newest release that a run of this ledger left with its users."""
    runs = [one for one in records if one["type"] in ("rollout", "rollback") and one.get("outcome") == "done"]
    return (str(runs[-1]["branch"]), str(runs[-1]["commit"])) if runs else None


async def _unproven(world: World, commit: Commit, serving: tuple[str, str] | None) -> Denied:
    """`serving`: branch and commit of what test serves."""
    main = world.policy_ref
    if serving is not None and not await _is_in(world, commit, serving[1]):
        branch, sha = serving
        return Denied(
            Denial.NOT_MERGED,
            f"{branch!r} ({sha[:12]}) is what test proved, and it is not merged into {main!r}.",
            next=f"merge {branch} into {main}; where the merge changes files, then: {ROLLOUT} {main}",
        )
    return Denied(
        Denial.NOT_PROVEN,
        f"{main} at {commit.sha[:12]} (tree {commit.tree[:12]}) was never proven in test.",
        next=f"{ROLLOUT} {main}",
    )


async def unmerged(world: World, means: PromotionMeans, commit: Commit) -> str:
    """In words, what test serves on this host and the policy's branch lacks, as its Next; "" when there is nothing."""
    serving = means.test.releases.serving() if isinstance(means.test, Sibling) else None
    if serving is None or await _is_in(world, commit, serving[0].commit.sha):
        return ""
    there, main = serving[0].commit, world.policy_ref
    return f"{there.branch} ({there.sha[:12]}), which test serves, goes nowhere before it is merged into {main}"


async def _is_in(world: World, commit: Commit, sha: str) -> bool:
    try:
        return await world.repo.contains(commit.sha, sha)
    except UsageError:
        return False  # a branch that was removed unmerged: the mirror may have dropped its commits


def _carried(proof: Record) -> dict[str, str]:
    """Of each image what the Compose files of test said of it. Raises Denied when an image is that host's alone.

    What runs there as plain processes was built there, with its interpreter, and is known by no digest of a registry.
    """
    digests: Mapping[str, str] = proof.get("artifact_digests") or {}
    said = {name.removeprefix(INPUT): digest for name, digest in digests.items() if name.startswith(INPUT)}
    run = proof["run"]
    if not any(name.startswith(COMPOSE) for name in digests):
        raise Denied(
            Denial.ARTIFACT_GONE,
            f"What passed test in run {run} runs as plain processes, and is on test's host alone.",
            next="promote there, or let containers run it whose images are in a registry ([compose] registry)",
        )
    if not said:
        raise Denied(
            Denial.ARTIFACT_GONE,
            f"The record of run {run} does not say what its images were made from: the Sluice of test's host is older.",
            next=f"bring it up to date, then: {ROLLOUT} {proof.get('branch') or 'main'}",
        )
    local = sorted(name for name in said if not BY_DIGEST.fullmatch(str(digests.get(name, ""))))
    if local:
        raise Denied(
            Denial.ARTIFACT_GONE,
            f"What passed test in run {run} is on test's host alone: {', '.join(local)} "
            f"{'is' if len(local) == 1 else 'are'} known by an id of its engine, and no registry has that.",
            next="let built images be pushed ([compose] registry in sluice.toml) and take the others from a registry, "
            f"then: {ROLLOUT} {proof.get('branch') or 'main'}",
        )
    return said


def vouched_records(copy: Copy, service: str) -> list[dict[str, Any]]:
    """The records of a copy that was judged, each of this service's test environment. Raises Denied."""
    records: list[dict[str, Any]] = [json.loads(line) for line in copy.lines]
    wanted = (service, EnvironmentName.TEST.value)
    for record in records:
        if (record.get("service"), record.get("environment")) != wanted:
            told = f"{record.get('service')}/{record.get('environment')}"
            raise Denied(
                Denial.RECORD_DOUBTFUL,
                f"Record {record['n']} of the ledger of {service}/test on the origin is one of {told}: "
                "test_ledger_key in host.toml is the key of another environment.",
                next="copy the key from envs/test/ledger.key.pub in the state folder of test's host",
            )
    return records


def unpinned(service: str) -> Denied:
    """Why nothing proves where test is neither on this host nor known by its key."""
    return Denied(
        Denial.NOT_PROVEN,
        f"{service} has no environment test on this host, and host.toml pins no key of another host's: "
        "what anybody may push to the origin proves nothing.",
        next=f"[service.{service}] test_ledger_key in host.toml, copied from envs/test/ledger.key.pub on test's host",
    )
