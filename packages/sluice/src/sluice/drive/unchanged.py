"""Whether a release's artifact is still what was verified: the ledger's record, its own file, and what lies on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.drive.world import World
from sluice.ledger import Ledger
from sluice.model.errors import Refused
from sluice.model.release import Release


async def altered(world: World, release: Release, record: Mapping[str, Any]) -> str:
    """What of the artifact is not as `record` says; "" when all is. Reads every byte of it.

    Only the ledger is signed: whoever can change an artifact can change the release's file beside it.
    """
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
        next=f"to build it anew: sluice rollout --branch {release.commit.branch}; where the change is known and "
        "harmless (a container that writes into its own folder, say): sluice rollback --override 'WHY'",
    )
