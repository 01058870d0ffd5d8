"""What the criteria that read the canary share: the newest counts of each slot, and what verdict they make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from sluice.criteria.observations import Counts, Observation, SlotCount, Source, Trouble
from sluice.criteria.verdicts import UNMEASURED, conclude
from sluice.model.spec import WatchSpec
from sluice.model.verdict import Finding

# What takes both slots down shows on each within a second or two, but not always in the same line of the canary: two
# senders that send every half second notice one dead database at different moments. So a line is confirmed by the next.
LINES_TO_BE_SURE = 2


class FromCanary(ABC):
    """The newest line of the canary; a line without counts means that it cannot measure now."""

    name: str

    def __init__(self, policy: WatchSpec, *, with_old: bool) -> None:
        """`with_old`: every line should hold counts of the old slot too."""
        self.policy, self.with_old = policy, with_old
        self.new: SlotCount | None = None
        self.old: SlotCount | None = None
        self.trouble: Trouble | None = None
        self._broken_lines = 0

    @abstractmethod
    def breaks(self, count: SlotCount | None) -> str:
        """Why these counts break the criterion, or ""."""

    def observe(self, at: float, seen: Observation) -> None:  # noqa: ARG002 - totals need no time
        """See Criterion."""
        if isinstance(seen, Counts):
            self.new, self.old, self.trouble = seen.new, seen.old or self.old, None
            self._broken_lines += bool(self.breaks(self.new))
        elif isinstance(seen, Trouble) and seen.source is Source.CANARY:
            self.trouble = seen

    @property
    def broken(self) -> bool:
        """See Criterion."""
        return bool(self.breaks(self.new))

    @property
    def sure(self) -> bool:
        """See Criterion."""
        enough = LINES_TO_BE_SURE if self.with_old else 1
        return self._broken_lines >= enough and self.broken and not self.doubt

    @property
    def doubt(self) -> str:
        """Why a break would not be the release's fault, or ""."""
        if self.old is None:
            return UNMEASURED if self.with_old else ""
        old = self.breaks(self.old)
        return f"the old slot is bad too ({old}), so it is not the release" if old else ""

    def concluded(self, missing: str, good: str) -> Finding:
        """The verdict; of `missing`, what kept the counts from saying anything, and `good` see `conclude`."""
        old = self.breaks(self.old)
        return conclude(
            self.name,
            broke=f"New slot: {self.breaks(self.new)}" if self.broken else "",
            doubt=self.doubt,
            trouble=self.trouble,
            missing=missing,
            good=f"{good}; the old slot: {old}" if old else good,
            metrics=self._counts(),
        )

    def _counts(self) -> dict[str, Any]:
        return {name: msgspec.structs.asdict(each) for name, each in (("new", self.new), ("old", self.old)) if each}
