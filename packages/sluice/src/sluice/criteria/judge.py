"""Verdicts over time, without time: pure counting, so that every case is a table row in the tests.

A criterion that is bad on the old slot too says nothing of the new release: the database died, or the machine did.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sluice.model.spec import WatchSpec
from sluice.model.verdict import Finding, Verdict

# Sockets that close without notice: a client may lose one or two to the network during a watch, not more.
CUTS_ALLOWED = 2


@dataclass
class Probes:
    """The newest answers of one address."""

    window: int
    answers: deque[str] = field(default_factory=deque)  # "" is good, else why not
    total: int = 0

    def add(self, problem: str) -> None:
        """One more answer."""
        self.answers.append(problem)
        self.total += 1
        if len(self.answers) > self.window:
            self.answers.popleft()

    @property
    def bad(self) -> int:
        """How many of the newest were bad."""
        return sum(1 for answer in self.answers if answer)

    @property
    def last(self) -> str:
        """The newest problem in the window, or ""."""
        return next((answer for answer in reversed(self.answers) if answer), "")


@dataclass
class Health:
    """The criterion `health`: K bad answers of the last N, on the public address or on the new slot."""

    failures: int
    window: int
    expected: int  # answers needed before nothing bad counts as good
    targets: dict[str, Probes] = field(default_factory=dict)
    control: Probes | None = None
    broke: str = ""  # the sentence of the first break; a slot that recovers was unstable all the same

    def add(self, target: str, problem: str) -> None:
        """An answer of `public`, `new` or `old` (the control)."""
        if target == "old":
            self.control = self.control or Probes(self.window)
            self.control.add(problem)
            return
        probes = self.targets.setdefault(target, Probes(self.window))
        probes.add(problem)
        if probes.bad >= self.failures and not self.broke:
            self.broke = f"{target}: {probes.bad} of the last {len(probes.answers)} probes bad ({probes.last})"

    @property
    def sure(self) -> bool:
        """Broken, and the control group is fine: nothing that is still to come can change the verdict."""
        return bool(self.broke) and not self._control_bad()

    def _control_bad(self) -> bool:
        # One bad answer of the old slot in the window is enough for doubt: whatever dies takes both within a moment.
        return self.control is not None and self.control.bad > 0

    def finding(self) -> Finding:
        """The verdict on what was seen so far."""
        counts = {name: {"probes": p.total, "bad": p.bad} for name, p in sorted(self.targets.items())}
        if self.control is not None:
            counts["old"] = {"probes": self.control.total, "bad": self.control.bad}
        if self.broke and self._control_bad():
            old = self.control.last if self.control else ""
            detail = f"{self.broke}; but the old slot is bad too ({old}), so it is not the release."
            return Finding("health", Verdict.INCONCLUSIVE, detail=detail, metrics=counts)
        if self.broke:
            return Finding("health", Verdict.FAIL, detail=f"{self.broke}.", metrics=counts)
        seen = min((p.total for p in self.targets.values()), default=0)
        if seen < self.expected:
            detail = f"Only {seen} probes of {self.expected} needed."
            return Finding("health", Verdict.INCONCLUSIVE, detail=detail, metrics=counts)
        return Finding("health", Verdict.PASS, detail=f"{seen} probes each of {', '.join(counts)}.", metrics=counts)


class SlotCount(msgspec.Struct, frozen=True):
    """What the canary counted on one slot."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    cut: int = 0


@dataclass
class Messages:
    """The criterion `messages`: what the canary's newest round says, judged by the policy's thresholds."""

    policy: WatchSpec
    with_old: bool
    new: SlotCount | None = None
    old: SlotCount | None = None
    trouble: Finding | None = None  # the newest line without counts: the canary could not measure

    def add(self, line: Finding) -> None:
        """One line of the canary."""
        try:
            self.new = _count(line.metrics, "new") or self.new
            self.old = _count(line.metrics, "old") or self.old
            self.trouble = None if _count(line.metrics, "new") else line
        except msgspec.ValidationError:
            detail = "the canary's metrics are not counts"
            self.trouble = Finding(line.name, Verdict.ERROR, detail=detail)

    @property
    def sure(self) -> bool:
        """The new slot broke and the old one did not."""
        return bool(self.breaks(self.new)) and not self.breaks(self.old)

    def breaks(self, count: SlotCount | None) -> str:
        """Why these counts break the criterion, or ""."""
        if count is None:
            return ""
        limits = {
            "lost": (count.lost, self.policy.lost_messages),
            "duplicated": (count.duplicated, self.policy.duplicated_messages),
            "out of order": (count.reordered, 0),
            "sockets cut": (count.cut, CUTS_ALLOWED),
        }
        over = [f"{seen} {what} (at most {limit})" for what, (seen, limit) in limits.items() if seen > limit]
        return f"of {count.sent} messages {', '.join(over)}" if over else ""

    def finding(self, ended: Finding | None = None) -> Finding:
        """The verdict; `ended` is what was wrong with how the canary itself ended, if anything."""
        metrics = {
            name: msgspec.structs.asdict(count) for name, count in (("new", self.new), ("old", self.old)) if count
        }
        new, old = self.breaks(self.new), self.breaks(self.old)
        if new and old:
            detail = f"New slot: {new}; but the old slot too: {old}; so it is not the release."
            return Finding("messages", Verdict.INCONCLUSIVE, detail=detail, metrics=metrics)
        if new:
            return Finding("messages", Verdict.FAIL, detail=f"New slot: {new}.", metrics=metrics)
        trouble = ended or self.trouble
        if trouble is not None:
            verdict = Verdict.ERROR if trouble.verdict is Verdict.ERROR else Verdict.INCONCLUSIVE
            return Finding("messages", verdict, detail=trouble.detail, fix=trouble.fix, metrics=metrics)
        if self.new is None or not self.new.sent or not self.new.received or (self.with_old and self.old is None):
            detail = "No message came back, so nothing was measured."
            return Finding("messages", Verdict.INCONCLUSIVE, detail=detail, metrics=metrics)
        aside = f"; the old slot: {old}" if old else ""
        detail = f"{self.new.received} messages heard on the new slot, each once and in order{aside}."
        return Finding("messages", Verdict.PASS, detail=detail, metrics=metrics)


def _count(metrics: Mapping[str, Any], slot: str) -> SlotCount | None:
    return msgspec.convert(metrics[slot], SlotCount) if slot in metrics else None
