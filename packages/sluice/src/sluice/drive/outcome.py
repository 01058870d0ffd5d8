"""What came of a step, and how many verdicts become one event. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sluice.engine import Event
from sluice.model.verdict import Finding, Verdict, worst


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step. `facts` go into the journal as they are, `notes` redacted."""

    event: Event
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


def judged(findings: list[Finding], required: frozenset[str] = frozenset()) -> Event:
    """Many verdicts as one event: anything that could not be judged is neither a pass nor the release's fault."""
    verdict = worst(findings, required)
    return {Verdict.PASS: Event.OK, Verdict.FAIL: Event.FAIL}.get(verdict, Event.BROKEN)


def evidence(findings: list[Finding], required: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The findings as notes, with the first sentence a person should read."""
    reason = next((f"{f.name}: {f.detail or f.verdict.value}" for f in worst_first(findings)), "")
    missing = sorted(required - {f.name for f in findings if f.verdict is not Verdict.SKIPPED})
    if not reason and missing:
        reason = f"required checks did not run: {', '.join(missing)}"
    return {"findings": msgspec.to_builtins(findings), "reason": reason}


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Those that did not pass: what failed, then what broke, then what is not known. Dry runs are not among them."""
    order = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE)
    return [f for verdict in order for f in findings if f.verdict is verdict and not f.dry_run]


def refusal(findings: list[Finding]) -> str:
    """The code under which gates refuse: of the finding whose sentence is the reason; of one without, its name."""
    first = next(iter(worst_first(findings)), None)
    if first is None:
        return ""
    return str(first.metrics.get("code") or next(iter(first.metrics.get("codes") or ()), first.name))
