"""`disk-space`: there is room for a release before anything is built; measured as quick-check measures it."""

from __future__ import annotations

import msgspec

from sluice.gates.context import GateContext
from sluice.model.verdict import Finding, Verdict

NAME = "disk-space"


async def disk_space(context: GateContext) -> Finding:
    """Raises what the check `disk` raises, which is the verdict `error`."""
    if context.disk is None:
        return Finding(NAME, Verdict.SKIPPED, detail="Nobody here measures the disk.")
    return msgspec.structs.replace(await context.disk(), name=NAME)
