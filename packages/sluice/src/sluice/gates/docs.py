"""`docs-changed`: where the code of a rule changed, something of its documentation changed too."""

from __future__ import annotations

from sluice.gates.context import GateContext
from sluice.gates.globs import matches
from sluice.model.release import FileChange
from sluice.model.verdict import Finding, Verdict, coded, counted

NAME = "docs-changed"
SHOWN = 3  # files named in the sentence; the rest is counted


async def docs_changed(context: GateContext) -> Finding:
    """Over the files that differ between the branch and where it left the policy's branch."""
    rules = context.policy.docs
    if not rules:
        return Finding(NAME, Verdict.SKIPPED, detail="The policy has no rules for documentation ([[gates.docs]]).")
    if context.commit.branch == context.policy_ref:
        detail = f"{context.policy_ref!r} is the policy's own branch: its changes were judged when they came."
        return Finding(NAME, Verdict.SKIPPED, detail=detail)
    changed = await context.repo.changed(context.policy_ref, context.commit.sha)
    problems, touched = [], 0
    for rule in rules:
        code = [one.path for one in changed if matches(one.path, rule.code) and not matches(one.path, rule.but)]
        touched += bool(code)
        if code and not await _documented(context, [one for one in changed if matches(one.path, rule.docs)]):
            more = f" and {len(code) - SHOWN} more" if len(code) > SHOWN else ""
            named = [await context.names.shown(path) for path in code[:SHOWN]]
            problems.append(f"{', '.join(named)}{more} changed, and nothing of {', '.join(rule.docs)}")
    if problems:
        return Finding(
            NAME,
            Verdict.FAIL,
            detail=f"{'; '.join(problems)}.",
            fix="change the pages that tell of this code, in the same branch",
            metrics={"files": len(changed), "rules": len(rules), "broken": len(problems)} | coded("DocsMissing"),
        )
    files = counted(len(changed), "file")
    detail = f"{files} changed; {touched} of {len(rules)} rules were touched, each with its documentation."
    return Finding(NAME, Verdict.PASS, detail=detail, metrics={"files": len(changed), "rules": len(rules)})


async def _documented(context: GateContext, pages: list[FileChange]) -> bool:
    """Whether one of these pages says something else now: not if it went, or only its mode and blanks differ."""
    for one in pages:
        if one.kind == "D":
            continue
        now = await context.repo.read(context.commit.sha, one.path)
        before = None if one.kind == "A" else await context.repo.read(context.policy_ref, one.path)
        if (now or b"").split() != (before or b"").split():
            return True
    return False
