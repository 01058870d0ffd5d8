"""The criterion `messages`: numbered canary messages that were lost, doubled or out of order."""

from __future__ import annotations

from sluice.criteria.canary import FromCanary
from sluice.criteria.observations import SlotCount
from sluice.model.verdict import Finding

REORDERED_ALLOWED = 0  # a room has one order; a message that overtakes another is a defect at any rate


class Messages(FromCanary):
    """Judges the canary's counts by the policy's thresholds."""

    name = "messages"

    def breaks(self, count: SlotCount | None) -> str:
        """See FromCanary."""
        if count is None:
            return ""
        limits = {
            "lost": (count.lost, self.policy.lost_messages),
            "duplicated": (count.duplicated, self.policy.duplicated_messages),
            "out of order": (count.reordered, REORDERED_ALLOWED),
        }
        over = [f"{seen} {what} (at most {limit})" for what, (seen, limit) in limits.items() if seen > limit]
        return f"of {count.sent} messages {', '.join(over)}" if over else ""

    def finding(self) -> Finding:
        """See Criterion."""
        new, missing = self.new or SlotCount(), ""
        if not new.sent or not new.received:
            missing = "No message came back, so nothing was measured"
        elif self.with_old and self.old is None:
            missing = "The canary counted nothing on the old slot, so there is no control group"
        return self.concluded(missing, f"{new.received} messages heard on the new slot, each once and in order")

    def now(self) -> str:
        """See Criterion."""
        new = self.new or SlotCount()
        return f"{new.received} heard, {new.lost} lost, {new.duplicated} doubled"

    def limit(self) -> str:
        """See Criterion."""
        return f"at most {self.policy.lost_messages} lost, {self.policy.duplicated_messages} doubled, none out of order"
