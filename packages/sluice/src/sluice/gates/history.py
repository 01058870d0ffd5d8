"""`bad-release`: what failed here before is not tried again unless somebody says why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sluice.gates.context import GateContext
from sluice.ledger import blamed_by
from sluice.model.verdict import Finding, Verdict, coded

NAME = "bad-release"


async def bad_release(context: GateContext) -> Finding:
    """By the environment's ledger: the newest run of this tree with today's env file decides.

    The artifact's key is not known before it is built; a build that gives an artifact which failed is refused there.
    """
    tree, asked = context.commit.tree, context.asked
    if not asked.env_fingerprint:
        return _without_environment(context.records(), tree)
    run = blamed_by(context.records(), tree=tree, env_fingerprint=asked.env_fingerprint)
    if not run:
        return Finding(NAME, Verdict.PASS, detail=f"No run here blamed tree {tree[:12]} with this env file.")
    detail = f"Tree {tree[:12]} failed in this environment before, in run {run}."
    if asked.override:
        detail = f"Overridden by {asked.owner or 'nobody named'}: {asked.override}. It was: {detail}"
        return Finding(NAME, Verdict.WAIVED, detail=detail, metrics={"override": True, "run": run})
    see = f"sluice log --env {context.environment.value} --run {run}"
    fix = f"fix the branch, or say why it is good now: --override 'REASON' (see: {see})"
    return Finding(NAME, Verdict.FAIL, detail=detail, fix=fix, metrics={"run": run} | coded("BadRelease"))


def _without_environment(records: Iterable[Mapping[str, Any]], tree: str) -> Finding:
    # Only `sluice check` asks without one: a rollout whose env file cannot be read does not come this far.
    if not any(one.get("tree") == tree and one.get("bad_release") for one in records):
        return Finding(NAME, Verdict.PASS, detail=f"No run here blamed tree {tree[:12]}.")
    detail = f"A run blamed tree {tree[:12]}; whether with today's env file cannot be told, since it cannot be read."
    fix = "mend what server-env says, and ask again"
    return Finding(NAME, Verdict.ERROR, detail=detail, fix=fix, metrics=coded("BadReleaseUnknown"))
