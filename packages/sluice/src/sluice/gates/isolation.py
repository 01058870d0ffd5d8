"""Test and prod on one host share nothing: no project, port, volume, network or database."""

from __future__ import annotations

from sluice.gates.context import GateContext
from sluice.model.errors import ConfigError, Refused, StepFailed
from sluice.model.verdict import Finding, Verdict, coded

SHOWN = 5  # enough to see the pattern; mending these often mends the rest


async def host_isolation(context: GateContext) -> Finding:
    """What the release would share with another environment or project of the host, before anything is touched."""
    gate = "host-isolation"
    try:
        found = await context.overlaps()
    except (ConfigError, Refused) as error:
        return Finding(gate, Verdict.FAIL, detail=error.what, fix=error.next, metrics=coded("HostRefused"))
    except StepFailed as error:
        return Finding(gate, Verdict.ERROR, detail=error.what, fix=error.next, metrics=coded("HostUnknown"))
    if not found:
        return Finding(gate, Verdict.PASS, detail="Nothing is shared with another environment or project of this host.")
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return Finding(
        gate,
        Verdict.FAIL,
        detail="; ".join(found[:SHOWN]) + f"{more}.",
        fix="give each environment its own, in its overlay of the Compose files or in its env file",
        metrics=coded("HostShared"),
    )
