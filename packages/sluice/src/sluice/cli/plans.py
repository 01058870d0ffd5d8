"""A plan, as somebody who is to confirm it reads it: what is there, what will be, and everything between."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.drive.facts import Plan
from sluice.model.promotion import Promotion

SHOWN = 30  # commits; the others are counted, and `git log` has them all


def plan_text(plan: Plan, environment: str) -> str:
    """Everything that will change, and what it needs first."""
    return "\n".join(_lines(plan, environment))


def _lines(plan: Plan, environment: str) -> Iterator[str]:
    old = plan.old_release
    yield f"Plan {plan.hash}"
    yield f"  environment     {environment}"
    yield f"  from            {f'{old.commit.describe} (commit {old.commit.sha[:12]})' if old else 'nothing serves'}"
    yield f"  to              {plan.commit.describe} (commit {plan.commit.sha[:12]}, tree {plan.commit.tree[:12]})"
    if plan.promotion is not None:
        yield from _promotion(plan, plan.promotion)
    elif plan.policy_changed:
        yield f"  policy changes  {', '.join(plan.policy_changed)} (effective once merged)"
    yield f"  steps           {' > '.join(plan.steps)}"


def _promotion(plan: Plan, about: Promotion) -> Iterator[str]:
    policy = plan.policy
    yield f"  proven in test  run {about.proof_run}, {about.proof_branch} at {about.proof_commit[:12]}"
    yield f"  artifact        {about.artifact_key[:16]}"
    schema = about.head_to or "none"
    if about.head_from and about.head_from != about.head_to:
        schema = f"{about.head_from} -> {about.head_to}"
    yield f"  schema          {schema}"
    yield f"  policy changes  {', '.join(about.policy_changed) or 'none'}"
    for gate, why in sorted(about.exceptions.items()):
        yield f"  passed over     {gate}: {why}"
    wanted = policy.promotion
    people = ", ".join(name for name, one in policy.signers.items() if "approve" in one.may) or "nobody in [signers]"
    author = ", not by an author" if wanted.approver_not_author else ""
    yield f"  approvals       {wanted.approvals} of: {people}{author}; each holds {wanted.approval_ttl_s / 60:g} min"
    for item in wanted.checklist:
        how = " ".join(item.command) if item.command else "a person signs it off"
        yield f"  checklist       {item.id}: {item.text} ({how})"
    yield f"  commits         {len(about.commits)}"
    for change in about.commits[:SHOWN]:
        yield f"    {change.sha[:12]}  {change.author}: {change.subject}"
    if len(about.commits) > SHOWN:
        yield f"    and {len(about.commits) - SHOWN} more"
