"""No secret in what the branch adds: every commit of policy_ref..branch, its lines, new files' names and message.

What a later commit took away again is read too: a secret that was ever pushed is known to everybody who fetched; so
each commit is looked at, not the sum of them. Of the policy's own branch: every commit since the last promotion, and
before the first one its whole history.
The scanner (sluice.gates.scanner) runs in a child without our environment: it can be killed at a deadline, it cannot be
steered by variables, and its library has no way to validate a find over the network.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence

import msgspec

from sluice.gates.added import MESSAGE, NAMED, Added, Opaque, added_of, around, message_of, name_of, parse_patch
from sluice.gates.context import GateContext
from sluice.gates.globs import matches
from sluice.gates.opaque import Line, only_new, readable
from sluice.gates.secret_finds import Answer, Hit, Text
from sluice.gates.secret_span import NAME, Span, is_known, span_of
from sluice.gates.secret_values import digest_of
from sluice.hosts.git import PatchTooLarge
from sluice.model.errors import ProbeBroken
from sluice.model.policy import AllowedSecret
from sluice.model.verdict import Finding, Verdict, counted

PATCHES_AT_ONCE = 4  # git processes beside each other; more only fight for the disk
MESSAGES_AT_ONCE = 500  # a command line holds their names
BATCH_BYTES = 16 * 1024 * 1024  # one child's input; keeps memory bounded whatever the branch brings
SCAN_DEADLINE_S = 60.0
CHILDREN = 4  # beside each other; the rest of the machine serves users
SMALL_BYTES = 512 * 1024  # a second child costs more to start than it saves here
SHOWN = 5  # named in the sentence; the rest is counted
BRANCH_S = 110.0  # below the deadline of all gates: what is said here says more
# Of the policy's own branch, whose whole history may have to be read: once, before the first promotion. Two slow cores
# read some two megabytes of added lines a second, so this is a history of gigabytes.
HISTORY_S = 1800.0
_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
TOO_LARGE = "unread-large-file"  # its digest is that of the content's hash, so a reviewer can answer for it


class Place(msgspec.Struct, frozen=True):
    """One find."""

    path: str
    digest: str
    said: str  # file:line rule (commit …, digest …)


class Scanned(msgspec.Struct, frozen=True):
    """What a child found, the paths that are finds, and the files in which it found more than it can say."""

    places: list[Place]
    named: set[str]
    truncated: list[str]


class Seen(msgspec.Struct):
    """What was looked at so far, and what was found."""

    span: Span
    commits: int = 0
    files: int = 0
    binary: int = 0  # files of which no patch was read but what can be read in them
    places: list[Place] = []
    named: set[str] = set()  # paths that are finds themselves, and so are not shown
    truncated: list[str] = []  # files with more finds than are told


async def no_secrets(context: GateContext) -> Finding:
    """Raises ProbeBroken (the gate's verdict is then `error`) when the scanner does not end well, or in time."""
    seen = Seen(await span_of(context))
    deadline = HISTORY_S if context.commit.branch == context.policy_ref else BRANCH_S
    try:
        async with asyncio.timeout(deadline):
            await _look(context, seen)
        context.names.whole = True
    except TimeoutError:
        raise ProbeBroken(
            f"{seen.commits} of {counted(len(seen.span.commits), 'commit')} were read within {deadline:g} s",
            next="ask again when the machine has less to do; of a branch: bring it to the policy's branch in parts",
        ) from None
    finally:
        context.names.secret |= seen.named
    return _verdict(seen, context.policy.allowed_secrets)


async def _look(context: GateContext, seen: Seen) -> None:
    batch: list[Added] = []
    size = 0
    async for piece in _added(context, seen):
        batch.append(piece)
        size += len(piece.text)
        if size > BATCH_BYTES:
            await _scan(context, batch, seen)
            batch, size = [], 0
    if batch:
        await _scan(context, batch, seen)


async def _added(context: GateContext, seen: Seen) -> AsyncIterator[Added]:
    for start in range(0, len(seen.span.commits), MESSAGES_AT_ONCE):
        for sha, message in await context.repo.messages(seen.span.commits[start : start + MESSAGES_AT_ONCE]):
            yield message_of(sha, message)
    for start in range(0, len(seen.span.commits), PATCHES_AT_ONCE):
        some = seen.span.commits[start : start + PATCHES_AT_ONCE]
        found = await asyncio.gather(*(_of_commit(context, sha) for sha in some))
        for added, opaque in found:
            seen.commits += 1
            seen.binary += len(opaque)
            seen.files += len(added) + len(opaque)
            for piece in added:
                yield await _with_its_head(context, piece)
            for file in opaque:
                for piece in await _read(context, file, seen):
                    yield piece


async def _of_commit(context: GateContext, sha: str) -> tuple[list[Added], list[Opaque]]:
    try:
        return parse_patch(sha, await context.repo.patch(sha))
    except PatchTooLarge:  # somebody committed a library, or data: its files are read one by one
        return [], [Opaque(sha, *one) for one in await context.repo.contents(sha)]


async def _with_its_head(context: GateContext, piece: Added) -> Added:
    """All of the file where the patch shows a part of what may be a private key, and not where it begins."""
    raw = await context.repo.blob(piece.whole) if piece.whole else None
    if raw is None or b"PRIVATE KEY" not in raw:
        return piece
    return around(piece, raw.decode(errors="replace"))


async def _read(context: GateContext, file: Opaque, seen: Seen) -> list[Added]:
    """What can be read in a binary file and could not be before."""
    raw = await context.repo.blob(file.new)
    if raw is None:
        whole, digest = Added(file.commit, file.path, "", (1,)), digest_of(file.new)
        seen.places.append(_place(whole, Hit(0, 1, TOO_LARGE, digest)))
        return name_of(file)
    older = [old for name in file.old if (old := await context.repo.blob(name)) is not None]
    # Off the loop: some seconds for the largest.
    kept = await asyncio.to_thread(_new_lines, raw, older)
    return [*name_of(file), *(added_of(file, *lines) for lines in kept)]


def _new_lines(raw: bytes, older: Sequence[bytes]) -> list[tuple[list[Line], list[int]]]:
    before = [lines for old in older for lines in readable(old)]
    return [kept for lines in readable(raw) if (kept := only_new(lines, before))[0]]


def _verdict(seen: Seen, allowed: Sequence[AllowedSecret]) -> Finding:
    _hide_names(seen)
    by_digest: dict[str, list[AllowedSecret]] = {}
    for one in allowed:
        by_digest.setdefault(one.digest, []).append(one)
    excused = [
        (place, one)
        for place in seen.places
        for one in by_digest.get(place.digest, ())
        if matches(place.path, (one.path,))
    ]
    # By the path as well: of a name that is a find, the sentence does not show it.
    good = {(place.path, place.said) for place, _ in excused}
    found = list(dict.fromkeys(place.said for place in seen.places if (place.path, place.said) not in good))
    counts = {
        "commits": seen.commits,
        "files": seen.files,
        "binary": seen.binary,
        "found": len(found),
        "allowed": len(good),
        **seen.span.covered,
    }
    used = {one for _, one in excused}
    aside = _asides([(place.said, one) for place, one in excused], [one for one in allowed if one not in used])
    if found:
        return Finding(
            NAME,
            Verdict.FAIL,
            detail=f"{_listed(found)}. Looked at: {_read_so_far(seen)}.{aside}",
            fix=_fix(seen, found),
            metrics=counts,
        )
    if seen.truncated:
        # All that was told is allowed; what was not told nobody allowed.
        raise ProbeBroken(
            f"{_listed(list(dict.fromkeys(seen.truncated)))} has more finds than are told of one file",
            next="take the file out, or make its values from a seed where they are used",
        )
    read = _read_so_far(seen)
    return Finding(NAME, Verdict.PASS, detail=f"Nothing in the added lines of {read}.{aside}", metrics=counts)


def _hide_names(seen: Seen) -> None:
    # Evidence shows no value, and these paths are some.
    seen.places = [_unnamed(place) if place.path in seen.named else place for place in seen.places]
    seen.truncated = [NAMED if path in seen.named else path for path in seen.truncated]


def _unnamed(place: Place) -> Place:
    shown = place.path if place.path.isprintable() else ascii(place.path)
    return msgspec.structs.replace(place, said=place.said.replace(shown, NAMED))


def _read_so_far(seen: Seen) -> str:
    binary = f"; of {counted(seen.binary, 'binary file')} what can be read" if seen.binary else ""
    return f"{counted(seen.commits, 'commit')} ({counted(seen.files, 'file')}{binary}){seen.span.words}"


def _fix(seen: Seen, found: Sequence[str]) -> str:
    review = "what is none, or was changed long ago, a reviewer names in [[gates.allowed_secrets]] of the policy"
    change = "change the secret where it is valid (it counts as known)"
    if all(f" {TOO_LARGE} (" in one for one in found):
        return f"take the file out of the repository, or let a reviewer look at it and name it: {review}"
    if seen.span.words:  # on the policy's branch others build upon what is there already
        return f"{change}; {review}"
    return f"{change}, take it out of the branch's history with `git rebase -i`, and push again; {review}"


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


async def _scan(context: GateContext, batch: list[Added], seen: Seen) -> None:
    """The batch in as many parts as there are processors, each in a child of its own."""
    parts = min(os.cpu_count() or 1, CHILDREN) if sum(len(piece.text) for piece in batch) > SMALL_BYTES else 1
    for found in await asyncio.gather(*(_scan_part(context, batch[start::parts]) for start in range(parts))):
        seen.places += found.places
        seen.named |= found.named
        seen.truncated += found.truncated


async def _scan_part(context: GateContext, batch: list[Added]) -> Scanned:
    found = Scanned([], set(), [])
    while batch:
        answer = await _ask(context, batch)
        if not 0 < answer.read <= len(batch):
            raise ProbeBroken("the secret scanner's answer could not be read")
        commits = await _commits_named(context, batch, answer.hits)
        for piece, hit in ((batch[hit.text], hit) for hit in answer.hits):
            if piece.path != MESSAGE or hit.digest not in commits:
                found.places.append(_place(piece, hit))
            if not piece.number(hit.line):
                found.named.add(piece.path)
        if answer.truncated:
            found.truncated.append(batch[answer.read - 1].path)
        batch = batch[answer.read :]
    return found


async def _commits_named(context: GateContext, batch: list[Added], hits: list[Hit]) -> set[str]:
    """Digests of what was found in messages and is the name of a commit that we have (`token: 4f2a…`)."""
    messages = {hit.text: batch[hit.text].text for hit in hits if batch[hit.text].path == MESSAGE}
    names = {digest_of(name): name for text in messages.values() for name in _COMMIT.findall(text)}
    found = names.keys() & {hit.digest for hit in hits}
    return {digest for digest in found if await is_known(context, names[digest])}


async def _ask(context: GateContext, batch: list[Added]) -> Answer:
    done = await context.runner.run(
        (sys.executable, "-I", "-m", "sluice.gates.scanner"),
        timeout_s=SCAN_DEADLINE_S,
        stdin=msgspec.json.encode([Text(piece.path, piece.text, piece.old) for piece in batch]),
    )
    if done.timed_out:
        raise ProbeBroken(f"the secret scanner did not end within {SCAN_DEADLINE_S:g} s")
    if done.exit_code != 0:
        # Its own words may quote what it read, so only the fact is passed on.
        raise ProbeBroken(f"the secret scanner ended with exit code {done.exit_code}")
    try:
        return msgspec.json.decode(done.stdout, type=Answer)
    except msgspec.DecodeError:
        raise ProbeBroken("the secret scanner's answer could not be read") from None


def _place(piece: Added, hit: Hit) -> Place:
    often = f", {hit.times} times" if hit.times > 1 else ""
    return Place(piece.path, hit.digest, piece.place(hit.line, hit.rule, f"{hit.digest}{often}"))
