"""No secret in what the branch adds: every commit of policy_ref..branch, also lines a later commit took away again.

A secret that was ever pushed is known to everybody who fetched; so each commit is looked at, not the sum of them.
The scanner (sluice.gates.scanner) runs in a child without our environment: it can be killed at a deadline, it cannot be
steered by variables, and its library has no way to validate a find over the network.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence

import msgspec

from sluice.gates.added import Added, parse_patch
from sluice.gates.context import GateContext
from sluice.gates.globs import matches
from sluice.model.errors import ProbeBroken
from sluice.model.policy import AllowedSecret
from sluice.model.verdict import Finding, Verdict, counted

PATCHES_AT_ONCE = 4  # git processes beside each other; more only fight for the disk
BATCH_BYTES = 16 * 1024 * 1024  # one child's input; keeps memory bounded whatever the branch brings
SCAN_DEADLINE_S = 60.0
CHILDREN = 4  # beside each other; the rest of the machine serves users
SMALL_BYTES = 512 * 1024  # a second child costs more to start than it saves here
SHOWN = 5  # named in the sentence; the rest is counted


class Hit(msgspec.Struct, frozen=True):
    """What the child says: which text, which line of it, which rule, the value's digest. Never the value."""

    text: int
    line: int
    rule: str
    digest: str


class Place(msgspec.Struct, frozen=True):
    """One find."""

    path: str
    digest: str
    said: str  # file:line rule (commit …, digest …)


class Seen(msgspec.Struct):
    """What was looked at so far, and what was found."""

    commits: int = 0
    files: int = 0
    binary: int = 0
    places: list[Place] = []


async def no_secrets(context: GateContext) -> Finding:
    """Raises ProbeBroken (the gate's verdict is then `error`) when the scanner does not end well."""
    commits = await context.repo.commits_between(await _base(context), context.commit.sha)
    seen = Seen(commits=len(commits))
    batch: list[Added] = []
    size = 0
    async for piece in _added(context, commits, seen):
        batch.append(piece)
        size += len(piece.text)
        if size > BATCH_BYTES:
            seen.places += await _scan(context, batch)
            batch, size = [], 0
    if batch:
        seen.places += await _scan(context, batch)
    return _verdict(seen, context.policy.allowed_secrets)


async def _base(context: GateContext) -> str:
    """Since which commit secrets are looked for."""
    return context.asked.since or (await context.repo.resolve(context.policy_ref)).sha


async def _added(context: GateContext, commits: Sequence[str], seen: Seen) -> AsyncIterator[Added]:
    for start in range(0, len(commits), PATCHES_AT_ONCE):
        some = commits[start : start + PATCHES_AT_ONCE]
        patches = await asyncio.gather(*(context.repo.patch(sha) for sha in some))
        for sha, patch in zip(some, patches, strict=True):
            added, binary = parse_patch(sha, patch)
            seen.binary += binary
            seen.files += len(added)
            for piece in added:
                yield piece


def _verdict(seen: Seen, allowed: Sequence[AllowedSecret]) -> Finding:
    excused = [
        (place, one)
        for place in seen.places
        for one in allowed
        if one.digest == place.digest and matches(place.path, (one.path,))
    ]
    good = {place.said for place, _ in excused}
    found = list(dict.fromkeys(place.said for place in seen.places if place.said not in good))
    counts = {
        "commits": seen.commits,
        "files": seen.files,
        "binary": seen.binary,
        "found": len(found),
        "allowed": len(good),
    }
    aside = _asides(
        [(place.said, one) for place, one in excused], [one for one in allowed if one not in [e for _, e in excused]]
    )
    if found:
        return Finding(
            "no-secrets",
            Verdict.FAIL,
            detail=f"{_listed(found)}.{aside}",
            fix="change the secret where it is valid (it counts as known), take it out of the branch's history "
            "with `git rebase -i`, and push again; what is none, a reviewer names in [[gates.allowed_secrets]]",
            metrics=counts,
        )
    unread = f"; {counted(seen.binary, 'binary file')} named only" if seen.binary else ""
    read = f"{counted(seen.commits, 'commit')} ({counted(seen.files, 'file')}{unread})"
    return Finding("no-secrets", Verdict.PASS, detail=f"Nothing in the added lines of {read}.{aside}", metrics=counts)


def _asides(excused: Sequence[tuple[str, AllowedSecret]], idle: Sequence[AllowedSecret]) -> str:
    said = ""
    if excused:
        said += f" Allowed by the policy: {_listed([_reviewed(*one) for one in excused])}."
    if idle:
        # It would excuse whatever has this value some day, and nobody would look again.
        names = _listed([f"{one.digest} in {one.path}" for one in idle])
        said += f" Allowed by the policy and not found here: {names}."
    return said


def _reviewed(place: str, allowed: AllowedSecret) -> str:
    return f"{place}: {allowed.reason}, reviewed by {allowed.reviewed_by}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more


async def _scan(context: GateContext, batch: list[Added]) -> list[Place]:
    """The batch in as many parts as there are processors, each in a child of its own."""
    parts = min(os.cpu_count() or 1, CHILDREN) if sum(len(piece.text) for piece in batch) > SMALL_BYTES else 1
    found = await asyncio.gather(*(_scan_part(context, batch[start::parts]) for start in range(parts)))
    return [place for part in found for place in part]


async def _scan_part(context: GateContext, batch: list[Added]) -> list[Place]:
    done = await context.runner.run(
        (sys.executable, "-I", "-m", "sluice.gates.scanner"),
        timeout_s=SCAN_DEADLINE_S,
        stdin=msgspec.json.encode([{"path": piece.path, "text": piece.text} for piece in batch]),
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
    return [_place(batch[hit.text], hit) for hit in hits]


def _place(piece: Added, hit: Hit) -> Place:
    return Place(piece.path, hit.digest, piece.place(hit.line, hit.rule, hit.digest))
