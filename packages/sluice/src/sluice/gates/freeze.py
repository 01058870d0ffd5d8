"""`freeze`: no window of the policy forbids a rollout now."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from sluice.gates.context import GateContext
from sluice.gates.windows import Ruling, rule
from sluice.model.policy import FreezeKind
from sluice.model.verdict import Finding, Verdict

NAME = "freeze"


async def freeze(context: GateContext) -> Finding:
    """By the host's clock, the policy's windows and the owner's name."""
    windows = context.policy.freeze
    if not windows:
        return Finding(NAME, Verdict.SKIPPED, detail="The policy has no freeze windows ([[gates.freeze]]).")
    now = dt.datetime.fromisoformat(context.clock.now())
    environment, asked = context.environment.value, context.asked
    # Anybody can type --owner; an exemption is for the person, whom only the key of the connection tells.
    owner = asked.owner if asked.owner_source.startswith("ssh-key") else ""
    ruling = rule(windows, now, environment, owner)
    exempt = [one.name for one in windows if environment in one.environments and owner in one.exempt]
    aside = f" {owner} is exempt from {', '.join(exempt)}." if exempt else ""
    if ruling.allowed:
        inside = f"Within {', '.join(one.name for one in ruling.windows)}." if ruling.windows else ""
        return Finding(NAME, Verdict.PASS, detail=f"{inside or 'No window forbids a rollout now.'}{aside}")
    return Finding(NAME, Verdict.FAIL, detail=f"{sentence(ruling)}{aside}", fix=_fix(ruling))


def sentence(ruling: Ruling) -> str:
    """Which window, and until when, in its own zone."""
    names = " and ".join(repr(one.name) for one in ruling.windows)
    first = ruling.windows[0]
    when = f"{ruling.changes.astimezone(ZoneInfo(first.zone)):%a %Y-%m-%d %H:%M} {first.zone}" if ruling.changes else ""
    if first.kind is FreezeKind.DENY:
        return f"Frozen by {names} " + (f"until {when}." if when else "without an end in the next two weeks.")
    return f"A rollout is allowed only within {names}; " + (
        f"the next one begins {when}." if when else "none comes soon."
    )


def _fix(ruling: Ruling) -> str:
    wait = "wait until then" if ruling.changes else "wait for a change of the policy"
    return f"{wait}, or --waive {NAME}='REASON' where the policy lets it be waived"
