"""Which branches may go where, and that they stand on top of what users have now."""

from __future__ import annotations

import re

from sluice.gates.context import GateContext
from sluice.model.spec import EnvironmentName
from sluice.model.verdict import Finding, Verdict, coded


async def branch_policy(context: GateContext) -> Finding:
    """The branch's name against the policy: `main` only by promotion to prod, feature branches only to test."""
    branch, policy = context.commit.branch, context.policy.branch
    name = "branch-policy"
    if context.environment is EnvironmentName.PROD and branch != context.policy_ref:
        return Finding(
            name,
            Verdict.FAIL,
            detail=f"Never prod from a feature branch: {branch!r} is not {context.policy_ref!r}.",
            fix=f"roll {branch} out to test and merge it into {context.policy_ref}; only a promotion reaches prod",
            metrics=coded("BranchNotProd"),
        )
    if branch == context.policy_ref:
        return Finding(
            name,
            Verdict.SKIPPED,
            detail=f"{branch!r} is the policy's own branch; it is accepted so that a merge can be smoked again.",
        )
    if re.fullmatch(policy, branch):
        return Finding(name, Verdict.PASS, detail=f"{branch!r} matches {policy!r}.")
    return Finding(
        name,
        Verdict.FAIL,
        detail=f"{branch!r} is not allowed by {context.policy_ref}'s policy {policy!r}.",
        fix=f"rename the branch to match {policy}, e.g. `git branch -m feature/short-name`, and push it",
        metrics=coded("BranchForbidden"),
    )


async def contains_main(context: GateContext) -> Finding:
    """The candidate holds everything that is in the policy branch now; a rollout never takes back another's work."""
    name, base = "contains-main", context.policy_ref
    tip = await context.repo.resolve(base)
    if await context.repo.contains(context.commit.sha, tip.sha):
        return Finding(name, Verdict.PASS, detail=f"Contains {base} at {tip.sha[:12]}.")
    missing = len(await context.repo.commits_between(context.commit.sha, tip.sha))
    return Finding(
        name,
        Verdict.FAIL,
        detail=f"{base} is at {tip.sha[:12]}; {missing} of its commits are not in {context.commit.branch!r}.",
        fix=f"`git fetch && git rebase origin/{base}` (or `git merge origin/{base}`), then push",
        metrics=coded("MainMissing"),
    )
