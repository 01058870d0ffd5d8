"""A plan, as somebody who is to confirm it reads it: what is there, what will be, and everything between."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from sluice.drive.facts import Plan
from sluice.model.promotion import Approval, Authored, Promotion, asked_by, judged_by, schema_of
from sluice.model.text import one_line

SHOWN = 30  # commits; the others are counted, and `git log` has them all
COLUMNS = 80  # of a terminal that nobody made wider
LABEL = 18


def plan_text(plan: Plan, environment: str, given: Sequence[Approval] = ()) -> str:
    """Everything that will change, what it is judged by, and who approved (`given`).

    Every letter is printable: who wrote a commit's subject moves no cursor of whoever reads it before they confirm.
    """
    lines = [f"Plan {plan.hash}"]
    for label, said in _facts(plan, environment, given):
        first = f"  {label:{LABEL - 2}}"
        # A long label stands on a line of its own, and a name or a digest is never broken.
        if len(first) > LABEL:
            lines, first = [*lines, first.rstrip()], " " * LABEL
        indent = " " * LABEL
        wrap = textwrap.TextWrapper(COLUMNS - 1, initial_indent=first, subsequent_indent=indent)
        wrap.break_long_words = wrap.break_on_hyphens = False
        lines += wrap.wrap(one_line(said))
    return "\n".join([*lines, *_commits(plan.promotion)])


def plan_data(plan: Plan, environment: str, given: Sequence[Approval] = ()) -> dict[str, Any]:
    """The same for programs."""
    about = plan.promotion
    told: dict[str, Any] = {"plan": plan.hash, "environment": environment}
    if about is None:
        return told
    return told | {
        "from": about.from_version,
        "to": about.to_version,
        "commit": about.commit,
        "tree": about.tree,
        "commits": [change.sha for change in about.commits],
        "taken_back": [change.sha for change in about.taken_back],
        "schema": [about.head_from, about.head_to],
        "policy_changes": about.policy_changed,
        "gates": about.gates,
        "exceptions": about.exceptions,
        "checklist": {item.id: asked_by(item) for item in about.rules.checklist},
        "approvals": about.rules.approvals,
        "approvers": list(about.approvers),
        "settings": about.settings,
        "approved_by": [
            {"principal": one.principal, "signed_with": one.fingerprint, "expires": one.says.get("expires", "")}
            for one in given
        ],
    }


def _facts(plan: Plan, environment: str, given: Sequence[Approval]) -> Iterator[tuple[str, str]]:
    old = plan.old_release
    yield "environment", environment
    yield "from", f"{old.commit.describe} (commit {old.commit.sha[:12]})" if old else "nothing serves"
    yield "to", plan.commit.describe
    yield "commit", plan.commit.sha
    yield "tree", plan.commit.tree
    if plan.promotion is not None:
        yield from _promotion(plan.promotion, given)
    elif plan.policy_changed:
        yield "policy changes", f"{', '.join(plan.policy_changed)} (effective once merged)"
    yield "steps", " > ".join(step.replace("_", " ") for step in plan.steps)


def _promotion(about: Promotion, given: Sequence[Approval]) -> Iterator[tuple[str, str]]:
    yield "proven in test", f"run {about.proof_run}, {about.proof_branch} at {about.proof_commit[:12]}"
    yield "artifact", about.artifact_key[:16]
    yield "schema", schema_of(about)
    for change in [f"{name}: {how}" for name, how in about.policy_changed.items()] or ["none"]:
        yield "policy changes", change
    for gate, why in sorted(about.exceptions.items()):
        yield "passed over", f"{gate}: {why}"
    judged, rules = judged_by(about), about.rules
    for label in [label for label in judged if label.startswith("gates")]:
        if judged[label] != "none" or label == "gates":
            yield label, judged[label]
    yield "approvals", f"{judged['approvals']}; each holds {rules.approval_ttl_s / 60:g} min"
    signed = (f"{one.principal} ({one.fingerprint}), until {one.says.get('expires', '')}" for one in given)
    yield "approved by", "; ".join(signed) or "nobody yet"
    for name, value in sorted(about.settings.items()):
        yield f"server {name}", value
    for item in rules.checklist:
        yield "checklist", f"{item.id}: {asked_by(item)}"


def _commits(about: Promotion | None) -> Iterator[str]:
    if about is None:
        return
    yield from _listed("commits", about.commits, "" if about.from_version else "all there are; the newest:")
    if about.taken_back:
        yield from _listed("taken back", about.taken_back)


def _listed(label: str, changes: Sequence[Authored], many: str = "") -> Iterator[str]:
    yield f"  {label:{LABEL - 2}}{many or len(changes)}"
    for change in changes[:SHOWN]:
        yield f"    {change.sha[:12]}  {one_line(change.author)}: {one_line(change.subject)}"
    if len(changes) > SHOWN:
        yield f"    and {len(changes) - SHOWN} more"
