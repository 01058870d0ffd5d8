"""`disk-space`: there is room for a release before anything is built; measured as quick-check measures it."""

from __future__ import annotations

import msgspec

from sluice.gates.context import GateContext
from sluice.model.verdict import Finding, Verdict, coded

NAME = "disk-space"


async def disk_space(context: GateContext) -> Finding:
    """Raises what the check `disk` raises, which is the verdict `error`."""
    if context.disk is None:
        return Finding(NAME, Verdict.SKIPPED, detail="Nobody here measures the disk.")
    found = await context.disk()
    metrics = found.metrics if found.verdict is Verdict.PASS else found.metrics | coded("DiskFull")
    return msgspec.structs.replace(found, name=NAME, metrics=metrics)
