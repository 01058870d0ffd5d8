"""`freeze`: no window of the policy forbids a rollout now, and no operator froze the environment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from sluice.gates.context import Asked, GateContext
from sluice.gates.windows import Ruling, rule
from sluice.ledger import Frozen, frozen_by
from sluice.model.policy import FreezeKind, GatesSpec
from sluice.model.verdict import Finding, Verdict, coded

NAME = "freeze"


async def freeze(context: GateContext) -> Finding:
    """See `judge`: now, by the host's clock and the environment's ledger."""
    return judge(context.policy, context.environment.value, context.asked, context.records(), context.clock.now())


def judge(
    policy: GatesSpec, environment: str, asked: Asked, records: Iterable[Mapping[str, Any]], moment: str
) -> Finding:
    """Pure: by the policy's windows, what operators froze, the time and the owner's key. Deny wins.

    Of a promotion by the windows and exemptions of the policies before it as well: each must let it through.
    """
    now = dt.datetime.fromisoformat(moment)
    frozen = frozen_by(records, now)
    found = _judged(policy, environment, asked, now, frozen)
    for former in asked.before:
        if found.verdict is not Verdict.FAIL:
            before = _judged(former.gates, environment, asked, now, frozen)
            if before.verdict is Verdict.FAIL:
                detail = f"By the policy of release {former.release}, which the candidate's must keep: {before.detail}"
                found = msgspec.structs.replace(before, detail=detail)
            elif found.verdict is Verdict.SKIPPED:
                found = before
    return found


def _judged(policy: GatesSpec, environment: str, asked: Asked, now: dt.datetime, frozen: list[Frozen]) -> Finding:
    windows = policy.freeze
    if not windows and not frozen:
        detail = f"The policy has no freeze windows ([[gates.freeze]]), and nobody froze {environment}."
        return Finding(NAME, Verdict.SKIPPED, detail=detail)
    # Anybody can type --owner; an exemption is for the person, whom only the key of the connection tells.
    owner = asked.owner if asked.owner_source.startswith("ssh-key") else ""
    ruling = rule(windows, now, environment, owner)
    exempt = [one.name for one in windows if environment in one.environments and owner in one.exempt]
    if owner in policy.freeze_exempt and frozen:
        exempt, frozen = [*exempt, *(f"the freeze of {one.owner}" for one in frozen)], []
    aside = f" {owner} is exempt from {', '.join(exempt)}." if exempt else ""
    closed = [_frozen(one) for one in frozen] + ([] if ruling.allowed else [sentence(ruling)])
    if not closed:
        inside = f"Within {', '.join(one.name for one in ruling.windows)}." if ruling.windows else ""
        return Finding(NAME, Verdict.PASS, detail=f"{inside or 'No window forbids a rollout now.'}{aside}")
    codes = ["FreezeOperator"] * bool(frozen) + ["FreezeWindow"] * (not ruling.allowed)
    fix = _fix(ruling, frozen, environment)
    return Finding(NAME, Verdict.FAIL, detail=f"{' '.join(closed)}{aside}", fix=fix, metrics=coded(*codes))


def _frozen(one: Frozen) -> str:
    return f"Frozen by {one.owner} until {one.until}, since {one.since}: {one.reason.rstrip('.')}."


def sentence(ruling: Ruling) -> str:
    """Which window, and until when, in its own zone."""
    names = " and ".join(repr(one.name) for one in ruling.windows)
    first = ruling.windows[0]
    when = f"{ruling.changes.astimezone(ZoneInfo(first.zone)):%a %Y-%m-%d %H:%M} {first.zone}" if ruling.changes else ""
    if first.kind is FreezeKind.DENY:
        # Days and times are followed for two weeks; a window's own end is known however far it is.
        last = [f"{one.until} {one.zone}" for one in ruling.windows if one.until]
        known = f"until {' and '.join(last)} at the latest." if len(last) == len(ruling.windows) else ""
        return f"Frozen by {names} " + (f"until {when}." if when else known or "without an end in the next two weeks.")
    return f"A rollout is allowed only within {names}; " + (
        f"the next one begins {when}." if when else "none comes soon."
    )


def _fix(ruling: Ruling, frozen: list[Frozen], environment: str) -> str:
    lift = f", or lift it (sluice freeze --env {environment} --lift --reason 'WHY')" if frozen else ""
    wait = "wait until then" if ruling.changes or ruling.allowed else "wait for a change of the policy"
    return f"{wait}{lift}, or --waive {NAME}='REASON' where the policy lets it be waived"
