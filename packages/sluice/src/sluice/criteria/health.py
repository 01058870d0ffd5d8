"""The criterion `health`: K bad answers of the last N, on the public address or on the new slot, or one that ended."""

from __future__ import annotations

from sluice.criteria.observations import Answer, Observation, Restarted, Source, Trouble
from sluice.criteria.verdicts import KofN, conclude
from sluice.model.spec import WatchSpec
from sluice.model.verdict import Finding, counted

TARGETS = ("public", "new")


class Health:
    """Counts the answers to Sluice's own probes."""

    name = "health"

    def __init__(self, policy: WatchSpec, *, with_old: bool) -> None:
        """`with_old`: the old slot answers too, as the control group."""
        self._policy, self._with_old = policy, with_old
        self._targets = {
            target: KofN(policy.health_failures, policy.health_window, with_old, "probes") for target in TARGETS
        }
        # A watch too short for a whole window is judged by the probes it has time for.
        self._trouble: Trouble | None = None
        self._restarted = 0
        self._needed = min(policy.health_window, max(1, int(policy.duration_s / policy.interval_s)))

    def observe(self, at: float, seen: Observation) -> None:
        """See Criterion."""
        if isinstance(seen, Trouble) and seen.source is Source.PROBES:
            self._trouble = seen
        if isinstance(seen, Restarted):
            self._restarted = max(self._restarted, seen.times)
        if not isinstance(seen, Answer):
            return
        if seen.target == "old":
            for judged in self._targets.values():
                judged.add("old", at, seen.problem)
        else:
            self._targets[seen.target].add("new", at, seen.problem)

    @property
    def broken(self) -> bool:
        """See Criterion."""
        return bool(self._restarted) or any(judged.broke for judged in self._targets.values())

    @property
    def sure(self) -> bool:
        """See Criterion."""
        ended = bool(self._restarted) and not self._targets["new"].doubt
        return ended or any(judged.sure for judged in self._targets.values())

    def finding(self) -> Finding:
        """See Criterion."""
        counts = {name: {"probes": each.new.total, "bad": each.new.bad} for name, each in self._targets.items()}
        control = self._targets["new"].old
        if self._with_old:
            counts["old"] = {"probes": control.total, "bad": control.bad}
        target, broken = next(((name, each) for name, each in self._targets.items() if each.broke), ("", None))
        broke, doubt = (f"{target}: {broken.broke}", broken.doubt) if broken else ("", "")
        if self._restarted and (doubt or not broke):
            # It is back before it is asked again, and answers well: whoever was connected to it was not so lucky.
            often = counted(self._restarted, "time")
            broke, doubt = f"new: it ended and was started again, {often}", self._targets["new"].doubt
        seen = min(each.new.total for each in self._targets.values())
        return conclude(
            self.name,
            broke=broke,
            doubt=doubt,
            trouble=self._trouble,
            missing=f"Only {seen} probes of {self._needed} needed" if seen < self._needed else "",
            good=f"{seen} probes each of {', '.join(counts)}",
            metrics=counts | ({"restarts": self._restarted} if self._restarted else {}),
        )

    def now(self) -> str:
        """See Criterion."""
        told = (f"{name} {each.new.bad} of {len(each.new.answers)}" for name, each in self._targets.items())
        return f"{', '.join(told)} bad" + (f", ended {counted(self._restarted, 'time')}" if self._restarted else "")

    def limit(self) -> str:
        """See Criterion."""
        return f"under {self._policy.health_failures} of {self._policy.health_window}"
