"""The ledgers in somebody's clone of the service's repository: judged with no state of the host, for auditors."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from sluice.hosts.anchor_git import ANCHOR_S, PREFIX, Git, Unreachable, words
from sluice.ledger import Anchoring, Copy, Problem, PublicKey, Tampering, Verification, verify_records
from sluice.ledger.anchor import common, judge_origin
from sluice.model.errors import Refused, UsageError
from sluice.runner import LocalRunner


@dataclass(frozen=True, slots=True)
class Audit:
    """One ledger as a clone of the repository holds it."""

    name: str  # SERVICE/ENV
    key: str  # fingerprint
    verdict: Verification
    anchoring: Anchoring | None
    seen: int = 0  # records that the clone had before this look


# Keeps here what a clone saw of a ledger. Which commit that is, its settings say: a mirror clone's fetch moves and
# prunes every ref as the origin has it, also one that somebody pushed there under this name.
AUDITED = "refs/sluice/audited/"


async def audit_clone(folder: Path, runner: LocalRunner, *, offline: bool) -> list[Audit]:
    """Every ledger in a clone of the service's repository, by itself and against the clone's remote `origin`.

    The clone remembers what it saw: `sluice.SERVICE/ENV.audited` in its settings goes forward, never back. Raises
    UsageError when the folder is no clone, and Refused when it cannot be read.
    """
    found = await runner.run(["git", "-C", str(folder), "rev-parse", "--absolute-git-dir"], timeout_s=ANCHOR_S)
    if found.exit_code:
        raise UsageError(f"{folder} is no clone of a repository.", next="name the folder of a clone")
    git = Git(Path(found.stdout.strip()), "origin", runner)
    try:
        async with asyncio.timeout(ANCHOR_S):
            return await _audit(git, offline=offline)
    except (TimeoutError, Unreachable) as failure:
        raise Refused(
            f"The ledgers in {folder} cannot be read: {words(failure)}.",
            next="check the way to the clone's remote, or judge what the clone has: --offline",
        ) from failure


async def _audit(git: Git, *, offline: bool) -> list[Audit]:
    seen, fetched = await git.noted(), await git.names(PREFIX)
    theirs = (
        {} if offline else {ref.removeprefix(PREFIX): head for ref, head in (await git.heads(f"{PREFIX}*")).items()}
    )
    names = sorted(seen.keys() | fetched.keys() | theirs.keys())
    had = [(name, seen.get(name, ""), fetched.get(name, "")) for name in names]
    if offline:
        return [await _alone(git, *one) for one in had]
    return [await _one(git, *one, theirs.get(one[0], "")) for one in had]


async def _alone(git: Git, name: str, seen: str, fetched: str) -> Audit:
    """As the clone has it: what was fetched by hand meanwhile goes on from what was seen, or is a finding."""
    mine = await git.copy(seen or fetched)
    got = await git.copy(fetched)
    behind = common(got.lines, mine.lines) == len(got.lines)
    problem = None if behind else judge_origin(got, mine, None)
    verdict = verify_records((mine if behind or problem else got).lines, mine.key, _place(name))
    anchoring = Anchoring(common(mine.lines, got.lines), (problem,)) if problem else None
    return Audit(name, _shown(mine.key), verdict, anchoring, len(mine.lines))


async def _one(git: Git, name: str, seen: str, fetched: str, head: str) -> Audit:
    if head:
        await git.bring(PREFIX + name, head)
    origin = await git.copy(head)
    if seen and not await git.has(seen):  # pruned here, and in nothing that the origin has
        lost = f"commit {seen[:12]}, up to which this clone saw it, is neither there nor here any more"
        anchoring = Anchoring(0, (Problem(Tampering.ANCHOR_REWRITTEN, 0, lost),))
        return Audit(name, _shown(origin.key), verify_records(origin.lines, origin.key, _place(name)), anchoring)
    mine = await _saw(git, name, seen, fetched)
    problem = judge_origin(origin, mine, None)
    anchoring = Anchoring(common(mine.lines, origin.lines), (problem,) if problem else ())
    # What the clone saw first is what it trusts; the origin's own word counts where it saw nothing yet.
    judged, key = mine if problem else origin, mine.key or origin.key
    verdict = verify_records(judged.lines, key, _place(name))
    if problem is None and verdict.ok:
        await git.remember(AUDITED + name, head, await git.ref(AUDITED + name))
        await git.note(name, head)
    return Audit(name, _shown(key), verdict, anchoring, len(mine.lines))


async def _saw(git: Git, name: str, seen: str, fetched: str) -> Copy:
    """What was fetched by hand was seen too: before the first look, or where it goes on from that and holds."""
    if not seen or fetched in ("", seen):
        return await git.copy(seen or fetched)
    mine, got = await git.copy(seen), await git.copy(fetched)
    goes_on = common(mine.lines, got.lines) == len(mine.lines)
    return replace(got, key=mine.key) if goes_on and verify_records(got.lines, mine.key, _place(name)).ok else mine


def _place(name: str) -> tuple[str, str]:
    service, _, environment = name.partition("/")
    return service, environment.partition("-")[0]  # what was put aside as `prod-2026` is of prod


def _shown(key: PublicKey | None) -> str:
    return key.fingerprint if key else "no key"
