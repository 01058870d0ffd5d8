"""The criterion `ws-disconnects`: so many of the canary's own sockets were cut without a notice. A drain is no cut."""

from __future__ import annotations

from sluice.criteria.canary import FromCanary
from sluice.criteria.observations import Observation, SlotCount
from sluice.model.spec import WatchSpec
from sluice.model.verdict import Finding, Verdict

# One socket alone is lost to the network now and then, and is no mass, however few sockets the canary has.
FEWEST_CUTS = 2


def sockets_of(count: SlotCount | None) -> int:
    """How many sockets the canary holds on a slot."""
    return count.senders + count.listeners if count else 0


class Disconnects(FromCanary):
    """Judges cuts and refused reconnects in the watch as a share of the sockets."""

    name = "ws-disconnects"

    def __init__(self, policy: WatchSpec, *, with_old: bool) -> None:
        """See FromCanary."""
        super().__init__(policy, with_old=with_old)
        self._ever_connected = False

    def observe(self, at: float, seen: Observation) -> None:
        """See Criterion."""
        super().observe(at, seen)
        self._ever_connected = self._ever_connected or bool(self.new and self.new.connected)

    def breaks(self, count: SlotCount | None) -> str:
        """See FromCanary."""
        sockets = sockets_of(count)
        if count is None or not sockets or count.cut < FEWEST_CUTS or count.cut / sockets <= self.policy.cut_share:
            return ""
        limit = f"at most {self.policy.cut_share:.0%} of them"
        return f"{count.cut} times a socket of {sockets} was cut or refused without a drain ({limit})"

    def finding(self) -> Finding:
        """See Criterion."""
        new, missing = self.new or SlotCount(), ""
        if self.new and not self.trouble and not any((sockets_of(new), new.connected, new.cut, new.drained)):
            return Finding(self.name, Verdict.SKIPPED, detail="The canary holds no sockets.")
        if not sockets_of(self.new):
            missing = "The canary did not say how many sockets it holds (senders, listeners)"
        elif not self._ever_connected:
            missing = "No socket of the canary was ever open, so nothing was measured"
        elif self.with_old and not sockets_of(self.old):
            missing = "The canary counted no socket on the old slot, so there is no control group"
        good = f"{sockets_of(self.new)} sockets on the new slot, {new.cut} cut, {new.drained} drained"
        return self.concluded(missing, good)

    def now(self) -> str:
        """See Criterion."""
        new = self.new or SlotCount()
        return f"{new.cut} cut, {new.drained} drained of {sockets_of(self.new)} sockets"

    def limit(self) -> str:
        """See Criterion."""
        return f"at most {self.policy.cut_share:.0%} cut"
