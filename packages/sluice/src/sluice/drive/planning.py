"""Plans: what a run will do is decided, hashed and shown before anything is touched."""

from __future__ import annotations

from pathlib import Path

from sluice.drive.facts import Plan, facts_of, steps_of, with_hash
from sluice.drive.unchanged import arrivals, forged, must_be_recorded
from sluice.drive.world import World, forward
from sluice.engine import Kind
from sluice.journal import read_all
from sluice.ledger import Ledger
from sluice.model.changes import policy_changes
from sluice.model.errors import ConfigError, Refused
from sluice.model.promotion import Denial, Denied
from sluice.model.release import Release, Slot
from sluice.model.spec import EnvironmentName, ServiceSpec
from sluice.model.verdict import Verdict
from sluice.ports import Progress

SPEC_PATHS = ("sluice.toml", "deploy/sluice.toml")


async def read_service(world: World, ref: str, shown: str) -> ServiceSpec:
    """The service's specification at a ref. Raises ConfigError when it is missing, wrong or another service's."""
    for path in SPEC_PATHS:
        raw = await world.repo.read(ref, path)
        if raw is None:
            continue
        spec = world.load_service(raw, f"{shown}:{path}")
        if spec.name != world.service:
            raise ConfigError(
                f"{shown}:{path} describes the service {spec.name!r}, not {world.service!r}.",
                next="correct `name` in it, or name the service as host.toml does",
            )
        return spec
    raise ConfigError(
        f"{shown} has no {' and no '.join(SPEC_PATHS)}.",
        next="add one (sluice config example service prints it) and merge it into the policy branch first",
    )


async def plan_rollout(world: World, branch: str, progress: Progress) -> Plan:
    """Raises Refused, UsageError (no such branch) or ConfigError; nothing has been touched then."""
    if world.environment is EnvironmentName.PROD:
        raise Denied(
            Denial.FEATURE_BRANCH,
            f"prod takes only what was proven in test, never {branch!r} directly.",
            next=f"sluice rollout --env test --branch {branch}; once it is merged: sluice promote --env prod",
        )
    fingerprint = world.fingerprint()
    progress("fetching the repository")
    await world.repo.fetch()
    commit = await world.repo.resolve(branch)
    policy_commit = await world.repo.resolve(world.policy_ref)
    policy = await read_service(world, policy_commit.sha, world.policy_ref)
    candidate = await read_service(world, commit.sha, branch)
    release, slot, alive = await to_go_back_to(world, progress)
    if alive and release is not None and slot is not None and not await world.runtime.alive(slot):
        progress(f"{release.commit.describe} serves, but not everything of it runs")
    for told in (await world.ingress.edited(), await world.ingress.replacement()):
        if told:
            progress(told)
    plan = Plan(
        commit=commit,
        candidate=candidate,
        policy=policy,
        policy_sha=policy_commit.sha,
        env_fingerprint=fingerprint,
        old_release=release,
        old_slot=slot,
        steps=steps_of(Kind.ROLLOUT),
        policy_changed=tuple(policy_changes(candidate, policy)),
        old_alive=alive,
    )
    return with_hash(plan, world.service, world.environment.value)


async def to_go_back_to(world: World, progress: Progress) -> tuple[Release | None, Slot | None, bool]:
    """What is remembered as serving, and whether it serves still: whole, or at least it answers; it is said if not.

    Where it does not, and users are on another release whose run could not be recorded (the disk was full), that
    one: else a rollout that fails would leave them with nothing.
    """
    remembered = world.releases.serving()
    if remembered is not None and await serves(world, *remembered):
        return *remembered, True
    unrecorded = await what_serves(world)
    if unrecorded is not None and await serves(world, *unrecorded):
        return *unrecorded, True
    if remembered is None:
        return None, None, False
    progress(f"{remembered[0].commit.describe} is remembered as serving, but does not run")
    return *remembered, False


async def serves(world: World, release: Release, slot: Slot) -> bool:
    """One whose side container crashed is not alive, and users are on it all the same."""
    if await world.runtime.alive(slot):
        return True
    return (await world.judge.read_back(slot.url, release, slot)).verdict is Verdict.PASS


async def plan_rollback(world: World, override: str = "") -> tuple[Plan, Release, str]:
    """The plan, the release to go back to, and what `override` overrode of it (must_be_recorded).

    Needs no origin: the mirror has the policy. Raises Refused.
    """
    serving = await what_serves(world)
    alive = serving is not None and await world.runtime.alive(serving[1])
    target = rollback_target(world, serving, alive=alive)
    overrode = must_be_recorded(world, target, override)
    policy, policy_sha = target.spec, ""
    for path in SPEC_PATHS:
        raw = await world.repo.read(world.policy_ref, path)
        if raw is not None:
            policy = world.load_service(raw, f"{world.policy_ref}:{path}")
            policy_sha = (await world.repo.resolve(world.policy_ref)).sha
            break
    release, slot = serving or (None, None)
    plan = Plan(
        commit=target.commit,
        candidate=target.spec,
        policy=policy,
        policy_sha=policy_sha,
        env_fingerprint=world.fingerprint(),
        old_release=release,
        old_slot=slot,
        steps=steps_of(Kind.ROLLBACK),
        policy_changed=(),
        old_alive=alive,
    )
    return with_hash(plan, world.service, world.environment.value), target, overrode


async def what_serves(world: World) -> tuple[Release, Slot] | None:
    """The release the ingress points at. After a rollback that failed that is not what is remembered as serving.

    None: it points nowhere, or at something that no run of this environment started.
    """
    pointed = await world.ingress.current()
    if pointed is None:
        return None
    remembered = world.releases.serving()
    if remembered is not None and pointed in _addresses(remembered[1]):
        return remembered
    for record in reversed(read_all(world.paths.journal_dir, repair=False)):
        facts = facts_of(record)
        if facts.release and facts.slot and pointed in _addresses(facts.slot):
            return facts.release, facts.slot
    return None


def _addresses(slot: Slot) -> set[str]:
    return {slot.url, slot.target or slot.url}


def rollback_target(world: World, serving: tuple[Release, Slot] | None, *, alive: bool) -> Release:
    """The newest verified release that does not serve now and was not itself rolled back from.

    One that the ledger knows comes before any that lies there without a record. Where what serves is dead and there is
    no other, it is started again. Raises Refused when there is nothing to go to, or when its artifact is gone.
    """
    ledger = Ledger(world.paths.ledger)
    left, records = ledger.rolled_back_from(), ledger.records()
    verified = [release for release in world.releases.all() if release.verified and release.id not in left]
    others = [release for release in verified if serving is None or release.id != serving[0].id]
    candidates = others or ([] if alive else verified)
    now = "Nothing serves."
    if serving is not None:
        commit, state = serving[0].commit, "goes on serving" if alive else "should serve, and does not run"
        now = f"{commit.describe} ({commit.sha[:12]}) {state}."
    if not candidates:
        raise Refused(
            "There is nothing to roll back to: no other release was verified here.",
            world=now,
            next=forward(world),
        )
    came = arrivals(records)
    target = max(candidates, key=lambda one: (not forged(records, world.releases, one.id), came.get(one.id, 0), one.id))
    if not Path(target.artifact.path).is_dir():
        raise Refused(
            f"The artifact of {target.id} ({target.commit.sha[:12]}) is gone: {target.artifact.path}.",
            world=now,
            next=forward(world, target.commit.branch),
        )
    return target


def last_promoted(world: World) -> str:
    """The commit that was promoted last on this host; "" where nothing was, or where that is done on another."""
    for sibling in world.siblings():
        done = [one for one in Ledger(sibling.paths.ledger).records() if one["type"] == Kind.PROMOTION.value]
        good = [str(one["commit"]) for one in done if one.get("outcome") == "done" and one.get("commit")]
        if good:
            return good[-1]
    return ""
