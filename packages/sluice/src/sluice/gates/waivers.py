"""Waivers: somebody answers by name for passing over a gate. The gate runs all the same, and its evidence stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from sluice.gates.context import Asked
from sluice.model.errors import CodedRefusal
from sluice.model.policy import GatesSpec
from sluice.model.spec import EnvironmentName
from sluice.model.text import one_line
from sluice.model.verdict import Finding, Verdict

# What no policy can make waivable, and what to do instead.
NEVER = {"bad-release": "say why it is good now: --override 'REASON'"}
NEVER_IN_PROD = {
    "branch-policy": "merge the branch; only a promotion reaches prod",
    "contains-main": "merge the branch; only a promotion reaches prod",
}
TO_WAIVE = frozenset({Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE})
MAX_REASON = 500  # a sentence; it is shown in every later report


class BadWaiver(CodedRefusal):
    """`code` says why: WaiverUnknown, WaiverEmpty, WaiverForbidden."""


def must_be_waivable(
    waivers: Mapping[str, str], known: Iterable[str], policy: GatesSpec, environment: EnvironmentName
) -> None:
    """Raises BadWaiver for the first waiver that cannot be taken."""
    names = sorted(known)
    for gate, reason in waivers.items():
        if gate not in names:
            raise BadWaiver("WaiverUnknown", f"There is no gate {gate!r} to waive.", f"one of: {', '.join(names)}")
        if not 0 < len(one_line(reason)) <= MAX_REASON:
            raise BadWaiver(
                "WaiverEmpty",
                f"The waiver of {gate} gives no reason, or one longer than {MAX_REASON} characters.",
                f"--waive {gate}='WHY'",
            )
        instead = NEVER | (NEVER_IN_PROD if environment is EnvironmentName.PROD else {})
        if gate in instead:
            raise BadWaiver("WaiverForbidden", f"{gate} is never waived.", instead[gate])
        if gate in policy.never_waive:
            raise BadWaiver(
                "WaiverForbidden",
                f"The policy forbids to waive {gate} ([gates] never_waive).",
                "mend what it found; nobody passes over this gate",
            )


def waived(finding: Finding, asked: Asked) -> Finding:
    """Pure: the finding as it counts. What passed stays as it is, and says that the waiver was not needed."""
    reason = one_line(asked.waivers.get(finding.name, ""))
    if not reason:
        return finding
    if finding.verdict not in TO_WAIVE:
        note = "There was nothing to waive."
        return msgspec.structs.replace(finding, detail=f"{finding.detail} {note}".strip())
    who = one_line(asked.owner) or "nobody named"
    told = {"by": who, "reason": reason, "verdict": finding.verdict.value}
    was = "could not be judged" if finding.verdict is Verdict.ERROR else f"said {finding.verdict.value}"
    return msgspec.structs.replace(
        finding,
        verdict=Verdict.WAIVED,
        detail=f"Waived by {who}: {reason.rstrip('.')}. The gate {was}: {finding.detail}",
        metrics={**finding.metrics, "waived": told},
    )


def taken(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """What was really passed over, for the ledger: gate, who, why, and what the gate had said."""
    return [
        {"gate": one.name, **one.metrics["waived"], "evidence": one.detail}
        for one in findings
        if one.verdict is Verdict.WAIVED and "waived" in one.metrics
    ]


def passed_over(record: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    """What the run of this ledger record passed over, as in `taken`: waived gates, and a bad release by an override."""
    return tuple(
        _told(record, one, one.get("metrics", {}).get("waived"))
        for one in record.get("gates") or ()
        if one.get("verdict") == Verdict.WAIVED.value
    )


def _told(record: Mapping[str, Any], gate: Mapping[str, Any], waived: Mapping[str, Any] | None) -> dict[str, str]:
    overridden = {"by": record.get("owner"), "reason": record.get("override"), "verdict": Verdict.FAIL.value}
    told = {key: str(value) for key, value in (waived or overridden).items() if key in overridden}
    return {"gate": str(gate["name"]), **told, "evidence": str(gate.get("detail", ""))}


def sentence(waiver: Mapping[str, Any]) -> str:
    """One of `taken` for people."""
    return f"{waiver['gate']}, by {waiver['by']}: {waiver['reason']} (it said {waiver['verdict']})"
