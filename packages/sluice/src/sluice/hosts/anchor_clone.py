"""The ledgers in somebody's clone of the service's repository: judged with no state of the host, for auditors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice.hosts.anchor_git import ANCHOR_S, PREFIX, Git, Unreachable, words
from sluice.ledger import Anchoring, PublicKey, Verification, verify_records
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


async def audit_clone(folder: Path, runner: LocalRunner, wanted: Sequence[str] = (), *, offline: bool) -> list[Audit]:
    """Every ledger in a clone of the service's repository, by itself and against the clone's remote `origin`.

    The clone remembers what it saw: `refs/sluice/ledger/…` go forward in it, never back. `wanted`: SERVICE/ENV names;
    none: all. Raises UsageError when the folder is no clone, and Refused when it cannot be read.
    """
    found = await runner.run(["git", "-C", str(folder), "rev-parse", "--absolute-git-dir"], timeout_s=ANCHOR_S)
    if found.exit_code:
        raise UsageError(f"{folder} is no clone of a repository.", next="name the folder of a clone")
    git = Git(Path(found.stdout.strip()), "origin", runner)
    try:
        async with asyncio.timeout(ANCHOR_S):
            return await _audit(git, set(wanted), offline=offline)
    except (TimeoutError, Unreachable) as failure:
        raise Refused(
            f"The ledgers in {folder} cannot be read: {words(failure)}.",
            next="check the way to the clone's remote, or judge what the clone has: --offline",
        ) from failure


async def _audit(git: Git, wanted: set[str], *, offline: bool) -> list[Audit]:
    listed = await git.need("for-each-ref", "--format=%(refname) %(objectname)", PREFIX)
    own = dict(line.split() for line in listed.decode(errors="surrogateescape").split("\n") if line)
    theirs = {} if offline else await git.heads(f"{PREFIX}*")
    return [
        await _one(git, ref, own.get(ref, ""), None if offline else theirs.get(ref, ""))
        for ref in sorted(own.keys() | theirs.keys())
        if not wanted or ref.removeprefix(PREFIX) in wanted
    ]


async def _one(git: Git, ref: str, own: str, head: str | None) -> Audit:
    name, mine = ref.removeprefix(PREFIX), await git.copy(own)
    service, _, rest = name.partition("/")
    place = (service, rest.partition("-")[0])  # what was put aside as `prod-2026` is of prod
    if head is None:
        return Audit(name, _shown(mine.key), verify_records(mine.lines, mine.key, place), None)
    if head:
        await git.bring(ref, head)
    origin = await git.copy(head)
    problem = judge_origin(origin, mine, None)
    anchoring = Anchoring(common(mine.lines, origin.lines), (problem,) if problem else ())
    # What the clone saw first is what it trusts; the origin's own word counts where it saw nothing yet.
    judged, key = mine if problem else origin, mine.key or origin.key
    verdict = verify_records(judged.lines, key, place)
    if problem is None and verdict.ok and head != own:
        await git.remember(ref, head, own)
    return Audit(name, _shown(key), verdict, anchoring, len(mine.lines))


def _shown(key: PublicKey | None) -> str:
    return key.fingerprint if key else "no key"
