"""What the sources of a watch saw, as values: the criteria eat these, and a corpus of bad releases is a list of them.

Each is one JSON object with its `type`. Times are not in them: whoever feeds a criterion says when.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec

from sluice.model.verdict import Finding, Verdict

Side = Literal["new", "old"]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Source(StrEnum):
    """Where observations come from."""

    PROBES = "probes"  # health, asked by Sluice itself
    CANARY = "canary"
    CALLS = "calls"
    REFUSALS = "refusals"
    METRICS = "metrics"


class SlotCount(msgspec.Struct, frozen=True):
    """What the canary counted on one slot since its start. Missing counts are 0."""

    sent: Count = 0
    received: Count = 0
    lost: Count = 0
    duplicated: Count = 0
    reordered: Count = 0
    senders: Count = 0
    listeners: Count = 0
    connected: Count = 0  # sockets open now
    cut: Count = 0  # closed or refused without a drain
    drained: Count = 0  # closed after a drain notice


class Answer(msgspec.Struct, frozen=True, tag="answer", forbid_unknown_fields=True):
    """One health probe; `problem` is empty when it was good."""

    target: Literal["public", "new", "old"]
    problem: str = ""


class Restarted(msgspec.Struct, frozen=True, tag="restarted", forbid_unknown_fields=True):
    """How often anything of the new slot ended since the watch began, and was started again by whoever keeps it up."""

    times: Count


class Counts(msgspec.Struct, frozen=True, tag="counts", forbid_unknown_fields=True):
    """One line of the canary."""

    new: SlotCount
    old: SlotCount | None = None


class Call(msgspec.Struct, frozen=True, tag="call", forbid_unknown_fields=True):
    """One call that was tried to its end; `problem` is empty when it was set up."""

    slot: Side
    problem: str = ""
    setup_ms: float | None = None


class Refusals(msgspec.Struct, frozen=True, tag="refusals", forbid_unknown_fields=True):
    """One round of negative probes: which were refused, as they must be, and which were let in, with the evidence."""

    slot: Side
    held: tuple[str, ...] = ()
    let_in: dict[str, str] = {}


class Scrape(msgspec.Struct, frozen=True, tag="scrape", forbid_unknown_fields=True):
    """The counters of one slot: the metric of a limit -> one of its series -> its value."""

    slot: Side
    values: dict[str, dict[str, float]]


class Trouble(msgspec.Struct, frozen=True, tag="trouble", forbid_unknown_fields=True):
    """A source could not measure. That says nothing of the release, and is never a pass."""

    source: Source
    verdict: Verdict  # error or inconclusive
    detail: str
    slot: Side = "new"
    fix: str = ""


Observation = Answer | Restarted | Counts | Call | Refusals | Scrape | Trouble


def read_canary(line: Finding) -> Counts | Trouble:
    """One line of the canary; its own verdict does not count, the policy judges its numbers."""
    if "new" not in line.metrics:
        return trouble(Source.CANARY, line, "the canary's line has no counts of the new slot")
    try:
        return msgspec.convert({name: line.metrics.get(name) for name in ("new", "old")}, Counts)
    except msgspec.ValidationError:
        return Trouble(Source.CANARY, Verdict.ERROR, "The canary's metrics are not counts.")


def read_call(slot: Side, found: list[Finding], ended: Finding | None) -> Call | Trouble:
    """What one run of `[smoke] calls` reported, and what was wrong with how it ended, if anything."""
    failed = next((finding for finding in found if finding.verdict is Verdict.FAIL), None)
    if failed is not None:
        return Call(slot, failed.detail or f"{failed.name} failed")
    doubtful = ended or next((f for f in found if f.verdict in {Verdict.ERROR, Verdict.INCONCLUSIVE}), None)
    if doubtful is None and not any(finding.verdict is Verdict.PASS for finding in found):
        doubtful = next(iter(found), Finding("calls", Verdict.INCONCLUSIVE))
    if doubtful is not None:
        return trouble(Source.CALLS, doubtful, "no call was tried", slot)
    times = [finding.metrics["setup_ms"] for finding in found if _is_time(finding.metrics.get("setup_ms"))]
    return Call(slot, setup_ms=max(times, default=None))


def read_refusals(slot: Side, found: list[Finding], ended: Finding | None) -> Refusals | Trouble:
    """What one run of `[smoke] refusals` reported. A probe named `refused-…` that fails was let in."""
    probes = [finding for finding in found if finding.name.startswith("refused-")]
    let_in = {f.name: f.detail or "was let in" for f in probes if f.verdict is Verdict.FAIL}
    held = tuple(f.name for f in probes if f.verdict is Verdict.PASS)
    if let_in:
        return Refusals(slot, held, let_in)
    # A failure of anything else (no session to try with) is no breach, and it means that less was tried than should be.
    doubtful = ended or next((f for f in found if f.verdict not in {Verdict.PASS, Verdict.SKIPPED}), None)
    if doubtful is None and not held:
        doubtful = next(iter(found), Finding("refusals", Verdict.INCONCLUSIVE))
    if doubtful is not None:
        return trouble(Source.REFUSALS, doubtful, "nothing forbidden was tried", slot)
    return Refusals(slot, held)


def trouble(source: Source, finding: Finding, otherwise: str, slot: Side = "new") -> Trouble:
    """A finding that is no measurement; `otherwise` is the detail where it has none."""
    verdict = Verdict.ERROR if finding.verdict is Verdict.ERROR else Verdict.INCONCLUSIVE
    return Trouble(source, verdict, finding.detail or f"{otherwise[0].upper()}{otherwise[1:]}.", slot, finding.fix)


def _is_time(value: Any) -> bool:
    # A bool is an int to Python; NaN compares false with everything.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
