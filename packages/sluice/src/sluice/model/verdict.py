"""Verdicts of gates, checks and criteria: a broken probe is never a bad release, a missing measurement never a pass."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Verdict(StrEnum):
    """What one gate, check or criterion says."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"  # not enough data
    ERROR = "error"  # the probe broke
    SKIPPED = "skipped"  # with a reason; never a pass; not allowed where policy requires the check
    WAIVED = "waived"  # with a reason and a name; recorded; shown ever after


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One verdict with its evidence. The same shape for gates, checks, criteria and plug-in output lines.

    `detail` is one redacted sentence of evidence, `fix` the next thing to do when it is not a pass. A `dry_run` finding
    is recorded with its verdict and vetoes nothing; only the policy makes one, never a plug-in.
    """

    name: str
    verdict: Verdict
    ms: int = 0
    detail: str = ""
    fix: str = ""
    metrics: dict[str, Any] = {}
    dry_run: bool = False


def coded(*codes: str) -> dict[str, Any]:
    """The metrics of a finding that says why by stable codes, the first being the one to tell alone."""
    return {"codes": list(dict.fromkeys(codes))}


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def worst(findings: list[Finding], required: frozenset[str] = frozenset()) -> Verdict:
    """One verdict for many: fail beats error beats inconclusive beats pass.

    An empty list is inconclusive, as is a missing or skipped check whose name is in `required`. Dry runs do not count.
    """
    findings = [finding for finding in findings if not finding.dry_run]
    verdicts = {finding.verdict for finding in findings}
    judged = {f.name for f in findings if f.verdict is not Verdict.SKIPPED}
    for verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    if not judged or not required <= judged:
        return Verdict.INCONCLUSIVE
    return Verdict.PASS
