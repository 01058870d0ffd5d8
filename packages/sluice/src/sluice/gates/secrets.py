"""No secret in what the branch adds: every commit of policy_ref..branch, also lines a later commit took away again.

A secret that was ever pushed is known to everybody who fetched; so each commit is looked at, not the sum of them.
The scanner (betterleaks, kept upstream, several hundred rules) runs in a child without our environment: it can be
killed at a deadline, it cannot be steered by variables, and its library has no way to validate a find over the network.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

import msgspec

from sluice.gates.added import Added, parse_patch
from sluice.gates.context import GateContext
from sluice.model.errors import ProbeBroken
from sluice.model.verdict import Finding, Verdict

PATCHES_AT_ONCE = 4  # git processes beside each other; more only fight for the disk
BATCH_BYTES = 16 * 1024 * 1024  # one child's input; keeps memory bounded whatever the branch brings
SCAN_DEADLINE_S = 60.0
SHOWN = 5  # named in the sentence; the rest is counted


class Hit(msgspec.Struct, frozen=True):
    """What the child says: which text, which line of it, which rule. Never the value."""

    text: int
    line: int
    rule: str


async def no_secrets(context: GateContext) -> Finding:
    """Raises ProbeBroken (the gate's verdict is then `error`) when the scanner does not end well."""
    base = (await context.repo.resolve(context.policy_ref)).sha
    commits = await context.repo.commits_between(base, context.commit.sha)
    limit = asyncio.Semaphore(PATCHES_AT_ONCE)
    hits: list[str] = []
    batch: list[Added] = []
    unread, files, size = 0, 0, 0

    async def read(sha: str) -> tuple[str, str]:
        async with limit:
            return sha, await context.repo.patch(sha)

    for start in range(0, len(commits), PATCHES_AT_ONCE):
        for sha, patch in await asyncio.gather(*(read(sha) for sha in commits[start : start + PATCHES_AT_ONCE])):
            added, binary = parse_patch(sha, patch)
            unread += binary
            for piece in added:
                files += 1
                batch.append(piece)
                size += len(piece.text)
                if size > BATCH_BYTES:
                    hits += await _scan(context, batch)
                    batch, size = [], 0
    if batch:
        hits += await _scan(context, batch)
    return _verdict(hits, len(commits), files, unread)


def _verdict(hits: Iterable[str], commits: int, files: int, binary: int) -> Finding:
    found = list(dict.fromkeys(hits))
    counts = {"commits": commits, "files": files, "binary": binary, "found": len(found)}
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return Finding(
            "no-secrets",
            Verdict.FAIL,
            detail=f"{'; '.join(found[:SHOWN])}{more}.",
            fix="change the secret where it is valid (it counts as known), take it out of the branch's history "
            "with `git rebase -i`, and push again",
            metrics=counts,
        )
    aside = f"; {binary} binary files are named only" if binary else ""
    return Finding(
        "no-secrets",
        Verdict.PASS,
        detail=f"Nothing in the added lines of {commits} commits ({files} files{aside}).",
        metrics=counts,
    )


async def _scan(context: GateContext, batch: list[Added]) -> list[str]:
    done = await context.runner.run(
        (sys.executable, "-I", "-m", "sluice.gates.scanner"),
        timeout_s=SCAN_DEADLINE_S,
        stdin=msgspec.json.encode([piece.text for piece in batch]),
    )
    if done.timed_out:
        raise ProbeBroken(f"the secret scanner did not end within {SCAN_DEADLINE_S:g} s")
    if done.exit_code != 0:
        # Its own words may quote what it read, so only the fact is passed on.
        raise ProbeBroken(f"the secret scanner ended with exit code {done.exit_code}")
    try:
        hits = msgspec.json.decode(done.stdout, type=list[Hit])
    except msgspec.DecodeError:
        raise ProbeBroken("the secret scanner's answer could not be read") from None
    return [batch[hit.text].place(hit.line, hit.rule) for hit in hits]
