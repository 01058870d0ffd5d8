"""What all criteria share: K of N beside a control group, and how counting becomes a verdict.

A criterion that is bad on the old slot too says nothing of the new release: the database died, or the machine did.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sluice.criteria.observations import Observation, Side, Trouble
from sluice.model.verdict import Finding, Verdict

UNMEASURED = "the old slot was not measured, so there is nothing to compare with"


class Criterion(Protocol):
    """Counts, and judges when asked. No clock, no I/O: `at` is seconds since the watch began, never decreasing."""

    name: str

    def observe(self, at: float, seen: Observation) -> None:
        """Take one observation; those of no interest are passed over."""
        ...

    @property
    def broken(self) -> bool:
        """The new slot is over the limit, whoever's fault that is."""
        ...

    @property
    def sure(self) -> bool:
        """The new slot broke and the old one did not: nothing that is still to come can change the verdict."""
        ...

    def finding(self) -> Finding:
        """The verdict on what was seen so far."""
        ...

    def now(self) -> str:
        """The value that is compared, for people."""
        ...

    def limit(self) -> str:
        """What it is compared with, for people."""
        ...


@dataclass
class Window:
    """The newest answers of one address."""

    size: int
    answers: deque[tuple[float, str]] = field(default_factory=deque)  # when, and "" or what was bad
    total: int = 0

    def add(self, at: float, problem: str) -> None:
        """One more answer; the oldest one is forgotten when there are more than `size`."""
        self.answers.append((at, problem))
        self.total += 1
        if len(self.answers) > self.size:
            self.answers.popleft()

    @property
    def bad(self) -> int:
        """How many of the newest were bad."""
        return sum(1 for _, problem in self.answers if problem)

    @property
    def last(self) -> str:
        """The newest problem in the window, or ""."""
        return next((problem for _, problem in reversed(self.answers) if problem), "")


@dataclass
class KofN:
    """K bad of the last N on the new slot, with the old slot's answers as the control group."""

    failures: int
    size: int
    with_old: bool
    what: str  # plural noun: probes, calls
    new: Window = field(init=False)
    old: Window = field(init=False)
    broke: str = ""  # the sentence of the first break; a slot that recovers was bad all the same
    _since: float = 0.0  # the first bad answer of that break

    def __post_init__(self) -> None:
        self.new, self.old = Window(self.size), Window(self.size)

    def add(self, slot: Side, at: float, problem: str) -> None:
        """One more answer. Of two answers of one moment the control's goes first."""
        window = self.new if slot == "new" else self.old
        window.add(at, problem)
        if slot == "new" and not self.broke and window.bad >= self.failures:
            self._since = next(when for when, bad in window.answers if bad)
            self.broke = f"{window.bad} of the last {len(window.answers)} {self.what} bad ({window.last})"

    @property
    def needed(self) -> int:
        """So many good answers make it certain that those of one whole window would not break it."""
        return self.size - self.failures + 1

    @property
    def doubt(self) -> str:
        """Why a break would not be the release's fault, or ""."""
        # One bad answer of the old slot is enough for doubt: whatever dies takes both within a moment.
        if self.old.bad:
            return f"the old slot is bad too ({self.old.last}), so it is not the release"
        return UNMEASURED if self.with_old and not self.old.total else ""

    @property
    def sure(self) -> bool:
        """Broken, and a control that answered since the trouble began is fine."""
        fresh = not self.with_old or any(when >= self._since for when, _ in self.old.answers)
        return bool(self.broke) and not self.doubt and fresh

    def now(self) -> str:
        """For people."""
        return f"{self.new.bad} of {len(self.new.answers)} {self.what} bad"

    def counts(self) -> dict[str, dict[str, int]]:
        """For the evidence."""
        told = {"new": {"total": self.new.total, "bad": self.new.bad}}
        return told | ({"old": {"total": self.old.total, "bad": self.old.bad}} if self.with_old else {})


def conclude(
    name: str,
    *,
    broke: str = "",
    doubt: str = "",
    trouble: Trouble | None = None,
    missing: str = "",
    good: str = "",
    metrics: Mapping[str, Any] | None = None,
) -> Finding:
    """One verdict, in the order that counts: a break, then what kept it from measuring, then what is missing.

    Every text is a sentence without its full stop; `broke` names the slot.
    """
    told = dict(metrics or {})
    if broke and doubt:
        return Finding(name, Verdict.INCONCLUSIVE, detail=f"{broke}; but {doubt}.", metrics=told)
    if broke:
        return Finding(name, Verdict.FAIL, detail=f"{broke}.", metrics=told)
    if trouble is not None:
        where = "On the old slot: " if trouble.slot == "old" else ""
        return Finding(name, trouble.verdict, detail=f"{where}{trouble.detail}", fix=trouble.fix, metrics=told)
    if missing:
        return Finding(name, Verdict.INCONCLUSIVE, detail=f"{missing}.", metrics=told)
    return Finding(name, Verdict.PASS, detail=f"{good}.", metrics=told)
