"""What was planned and confirmed is looked at again before something is built upon it: a run takes minutes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sluice.drive.facts import Plan
from sluice.drive.promotion import means_of
from sluice.drive.proof import tested
from sluice.drive.world import World
from sluice.gates import freeze
from sluice.gates.context import Asked
from sluice.gates.waivers import waived
from sluice.ledger import Ledger
from sluice.model.errors import UsageError
from sluice.model.policy import Role
from sluice.model.promotion import Approval, Denial, Denied, is_over, signing
from sluice.model.verdict import Verdict


def must_have_its_env(world: World, plan: Plan) -> None:
    """The env file is the plan's: a slot reads it while it starts, and the record says by its fingerprint which it was.

    Raises Denied.
    """
    if world.fingerprint() != plan.env_fingerprint:
        raise Denied(
            Denial.ENV_CHANGED, "The env file changed since the plan was made.", next="type the same command again"
        )


async def must_be_proven_still(world: World, plan: Plan) -> None:
    """Of a promotion: what test proved is the newest it knows, and lies there as it was proven. Raises Denied.

    How old the proof is was judged with the plan.
    """
    if plan.promotion is None:
        return
    again = await tested(world, means_of(world), plan.commit, math.inf)
    if again.record["run"] != plan.promotion.proof_run:
        raise Denied(
            Denial.PLAN_ALTERED,
            f"Test proved this tree anew in run {again.record['run']}; what was signed is run "
            f"{plan.promotion.proof_run}.",
            next=f"look at `sluice plan --env prod`, then: {signing(Role.APPROVE)}",
        )


async def must_hold_still(world: World, plan: Plan, signatures: Sequence[Approval]) -> None:
    """Before anything is touched: the env file, and of a promotion branch, proof and signatures. Raises Denied."""
    must_have_its_env(world, plan)
    if plan.promotion is None:
        return
    await must_be_there_still(world, plan)
    await must_be_proven_still(world, plan)
    for text in signatures:
        if is_over(text, world.clock.now()):
            raise Denied(
                Denial.APPROVAL_EXPIRED,
                f"The signature of {text.principal} ended while this was built.",
                next=f"what was built is kept; {text.anew}",
            )


def must_not_be_frozen(world: World, plan: Plan, asked: Asked) -> None:
    """No window began while this was built, unless it was waived beforehand. Raises Denied under the gate's code.

    Whatever began to touch the environment is finished, into a window too: half a release is no freeze.
    """
    policy, records = plan.policy.gates, Ledger(world.paths.ledger).records()
    found = waived(freeze.judge(policy, world.environment.value, asked, records, world.clock.now()), asked)
    if found.verdict is Verdict.FAIL:
        next_step = f"{found.fix}; what was built is kept"
        raise Denied(found.metrics["codes"][0], f"It began while this was built: {found.detail}", next=next_step)


async def must_be_there_still(world: World, plan: Plan) -> None:
    """The branch is where it was when the plan was signed. Raises Denied."""
    await world.repo.fetch()
    was, now = plan.commit.sha[:12], ""
    try:
        now = (await world.repo.resolve(world.policy_ref)).sha
    except UsageError:
        raise Denied(
            Denial.REFS_MOVED,
            f"{world.policy_ref} is gone from the origin; it was at {was} when this was confirmed.",
            next="git push it again; then: sluice plan --env prod",
        ) from None
    if now != plan.commit.sha:
        raise Denied(
            Denial.REFS_MOVED,
            f"{world.policy_ref} moved from {was} to {now[:12]} while this was confirmed.",
            next="sluice plan --env prod",
        )
