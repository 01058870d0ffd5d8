"""`way-back`: what serves now can be started again with the env file as it is now, or a rollback would not be one."""

from __future__ import annotations

from sluice.gates.context import GateContext
from sluice.model.errors import Refused
from sluice.model.verdict import Finding, Verdict, coded

NAME = "way-back"


async def way_back(context: GateContext) -> Finding:
    """A variable that only the old release needs stays in the env file until the new one has proven itself."""
    release = context.asked.serving
    if release is None:
        return Finding(NAME, Verdict.SKIPPED, detail="Nothing serves: there is nothing to go back to.")
    try:
        values = context.env_file.values()
    except Refused as error:
        return Finding(NAME, Verdict.ERROR, detail=error.what, fix=error.next, metrics=coded("WayBackUnknown"))
    lacking = sorted(set(release.spec.run.required_env) - values.keys())
    why = f"it needs {', '.join(lacking)}, which the env file does not set" if lacking else ""
    # With the very values it was started with, its files need not be read again: that costs half a second.
    same = release.env_fingerprint == context.asked.env_fingerprint
    why = why or (await context.startable(release, same) if context.startable else "")
    if not why:
        return Finding(NAME, Verdict.PASS, detail=f"{release.commit.describe} could be started again.")
    return Finding(
        NAME,
        Verdict.FAIL,
        detail=f"{release.commit.describe}, which serves, could not be started again: {why.rstrip('.')}.",
        fix="keep what it needs until the new release has proven itself; then it may go",
        metrics=coded("WayBackMissing"),
    )
