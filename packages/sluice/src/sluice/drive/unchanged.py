"""Whether a release's artifact is still what was verified: the ledger's record, its own file, and what lies on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from sluice.drive.world import World, command, forward
from sluice.hosts.releases import digest_of
from sluice.ledger import Ledger
from sluice.model.errors import Refused, StepFailed, UsageError
from sluice.model.release import Release
from sluice.ports import Releases


def recorded_as(release: Release) -> str:
    """What the record of the run that leaves this release says of its file."""
    return digest_of(msgspec.json.encode(release))


def forged(records: Iterable[Mapping[str, Any]], releases: Releases, release_id: str) -> str:
    """Why the file of a release is not believed: no run that was done left it, or it says something else now.

    Only the ledger is signed: whoever can write the state folder can write a release's file, and its commands run
    with the environment's secrets. "": it is as it was recorded, or the ledger has no run that was done at all (it was
    begun anew): then nothing tells.
    """
    done = [one for one in records if _left(one)]
    mine = [one for one in done if one.get("release") == release_id]
    if not mine:
        return f"the ledger has no run that left the release {release_id}" if done else ""
    known = {str(one["release_digest"]) for one in mine if one.get("release_digest")}
    if not known:
        return f"run {mine[0]['run']} left the release {release_id} before records told what its file says"
    try:
        now = releases.digest(release_id)
    except UsageError:
        return f"the file of the release {release_id} is gone"
    if now not in known:
        return f"the file of the release {release_id} says something else than was recorded in run {mine[0]['run']}"
    return ""


def _left(record: Mapping[str, Any]) -> bool:
    """Whether this run left its release with users; not everything has to have gone well after that."""
    return record.get("outcome") == "done" or (record.get("outcome"), record.get("decision")) == ("degraded", "go")


def arrivals(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Each release that a run left with users, and the number of its first record: which came after which.

    Its id has the time of a clock that somebody may have set back since. Pure.
    """
    numbers: dict[str, int] = {}
    for record in records:
        if _left(record) and record.get("release"):
            numbers.setdefault(str(record["release"]), int(record["n"]))
    return numbers


def must_be_recorded(world: World, release: Release, override: str) -> str:
    """Before anything is read out of a release's file: "", or its id where an override lets a forged one pass.

    Raises Refused.
    """
    why = forged(Ledger(world.paths.ledger).records(), world.releases, release.id)
    if not why or override:
        return release.id if why else ""
    raise Refused(
        f"{release.commit.describe} ({release.id}) is not gone back to: {why}.",
        world="Nothing was started.",
        next="find out who writes there; where that is known and harmless (a ledger that was begun anew, say): "
        f"{command(world, 'rollback')} --override 'WHY'",
    )


def must_be_vouched(world: World, release: Release) -> Release:
    """The release to be started again where a run is undone, as its file says. Raises StepFailed for a forged one."""
    if why := forged(Ledger(world.paths.ledger).records(), world.releases, release.id):
        raise StepFailed(f"The old release {release.id} is not started again: {why}")
    return world.releases.get(release.id)


async def altered(world: World, release: Release, record: Mapping[str, Any]) -> str:
    """What of the artifact is not as `record` says; "" when all is. Reads every byte of it."""
    artifact = release.artifact
    recorded = (str(record.get("artifact_key")), dict(record.get("artifact_digests") or {}))
    if recorded != (artifact.key, artifact.digests):
        return f"the release {release.id} names another artifact than its record in the ledger"
    return await world.runtime.changed(artifact)


async def must_be_unaltered(world: World, release: Release, override: str) -> str:
    """Before a verified release is started again: "", or the run that verified it where it was changed since.

    Raises Refused for a changed one, unless somebody says why it may be started: users may need it at once.
    """
    told = [one for one in Ledger(world.paths.ledger).records() if one.get("release") == release.id]
    # A release of a ledger that was begun anew has no record; what lies on disk still has to be what its file says.
    done = [one for one in told if one.get("outcome") == "done" and one.get("artifact_key")]
    why = await (altered(world, release, done[0]) if done else world.runtime.changed(release.artifact))
    if not why:
        return ""
    if override:
        return str(done[0]["run"]) if done else release.id
    raise Refused(
        f"The artifact of {release.commit.describe} ({release.id}) was changed after it was verified: {why}.",
        world="Nothing was started from it.",
        next=f"to build it anew: {forward(world, release.commit.branch)}; where the change is known and harmless "
        f"(a container that writes into its own folder, say): {command(world, 'rollback')} --override 'WHY'",
    )
