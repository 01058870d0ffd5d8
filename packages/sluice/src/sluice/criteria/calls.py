"""The criterion `call-setup`: calls that fail, or take much longer to set up than they may or than on the old slot."""

from __future__ import annotations

from collections import deque
from statistics import median_low
from typing import Any

from sluice.criteria.observations import Call, Observation, Side, Source, Trouble
from sluice.criteria.verdicts import KofN, conclude
from sluice.model.spec import WatchSpec
from sluice.model.verdict import Finding

# A multiple of a quick set-up is still quick: below a quarter of a second more nobody notices at the start of a call,
# and two WebRTC stacks that start on two busy cores differ by that much from one call to the next.
NOISE_MS = 250


class CallSetup:
    """Counts failed calls (K of N) and compares the median set-up times of the newest calls."""

    name = "call-setup"

    def __init__(self, policy: WatchSpec, *, with_old: bool) -> None:
        """`with_old`: calls are made on the old slot too, as the control group."""
        self._policy, self._with_old = policy, with_old
        self._calls = KofN(policy.call_failures, policy.call_window, with_old, "calls")
        self._setups: dict[Side, deque[float]] = {
            "new": deque(maxlen=policy.call_window),
            "old": deque(maxlen=policy.call_window),
        }
        self._trouble: Trouble | None = None

    def observe(self, at: float, seen: Observation) -> None:
        """See Criterion."""
        if isinstance(seen, Call):
            self._calls.add(seen.slot, at, seen.problem)
            if not seen.problem and seen.setup_ms is not None:
                self._setups[seen.slot].append(seen.setup_ms)
        elif isinstance(seen, Trouble) and seen.source is Source.CALLS:
            self._trouble = seen

    @property
    def broken(self) -> bool:
        """See Criterion."""
        return bool(self._calls.broke or self._slow())

    @property
    def sure(self) -> bool:
        """See Criterion."""
        return self._calls.sure or (bool(self._slow()) and not self._slow_doubt())

    def finding(self) -> Finding:
        """See Criterion."""
        failed, slow = self._calls.broke, self._slow()
        good, control = self._calls.new.total - self._calls.new.bad, self._calls.old.total
        measured = good >= self._calls.needed and (control or not self._with_old)
        missing = f"Only {good} good calls of {self._calls.needed} needed ended: calls are slow or duration_s is short"
        if good >= self._calls.needed:
            missing = "No call ended on the old slot, so there is no control group"
        return conclude(
            self.name,
            broke=f"New slot: {failed or slow}" if self.broken else "",
            doubt=self._calls.doubt if failed else self._slow_doubt(),
            trouble=None if measured else self._trouble,
            missing="" if measured else missing,
            good=f"{good} calls set up on the new slot, median {_ms(self._median('new'))}"
            + (f" (old slot: {_ms(self._median('old'))})" if self._with_old else ""),
            metrics=self._metrics(),
        )

    def _median(self, slot: Side) -> float | None:
        # The lower one of the two middle values: one cold start among two calls is no slow service.
        return median_low(self._setups[slot]) if self._setups[slot] else None

    def _allowed(self) -> tuple[float, str]:
        """Milliseconds, and where that limit comes from."""
        absolute, old = float(self._policy.call_setup_ms), self._median("old")
        relative = max(self._policy.call_slower * old, old + NOISE_MS) if old is not None else absolute
        if relative < absolute:
            return relative, f"the old slot's median is {_ms(old)}"
        return absolute, "call_setup_ms"

    def _slow(self) -> str:
        new, (allowed, why) = self._median("new"), self._allowed()
        # As many as it takes failures: what one call alone shows is not judged.
        if new is None or len(self._setups["new"]) < self._policy.call_failures or new <= allowed:
            return ""
        return f"set-up takes {_ms(new)}, more than {_ms(allowed)} ({why})"

    def _slow_doubt(self) -> str:
        old = self._median("old")
        if old is not None and old > self._policy.call_setup_ms:
            return f"the old slot is slow too ({_ms(old)}), so it is not the release"
        return self._calls.doubt

    def _metrics(self) -> dict[str, Any]:
        told: dict[str, Any] = self._calls.counts()
        for slot in told:
            middle = self._median("new" if slot == "new" else "old")
            told[slot] |= {} if middle is None else {"setup_ms": round(middle)}
        return told

    def now(self) -> str:
        """See Criterion."""
        return f"{self._calls.now()}, median {_ms(self._median('new'))}"

    def limit(self) -> str:
        """See Criterion."""
        return f"under {self._policy.call_failures} of {self._policy.call_window}, {_ms(self._allowed()[0])}"


def _ms(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f} ms"
