"""The criterion `auth`: something forbidden is let in, or people are refused far more often than before.

Two sources, either of which is enough: negative probes that must be refused, and the service's own counters.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sluice.criteria.counters import Meter
from sluice.criteria.observations import Observation, Refusals, Scrape, Side, Source, Trouble
from sluice.criteria.verdicts import UNMEASURED, KofN, conclude
from sluice.model.spec import MetricLimit, WatchSpec
from sluice.model.verdict import Finding, Verdict

# The service's own counters step: one burst of a few must not be taken for a rate that stays.
SCRAPES_TO_BE_SURE = 2
# With fewer seconds than this, one round of negative probes would look like an attack.
SHORTEST_S = 5.0
WORST_FIRST = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS)


class Breaches:
    """Rounds of negative probes, each probe for itself: K of N rounds in which it was let in."""

    name = "auth"

    def __init__(self, policy: WatchSpec, *, with_old: bool) -> None:
        """`with_old`: the probes are made on the old slot too, as the control group."""
        self._policy, self._with_old = policy, with_old
        self._probes: dict[str, KofN] = {}
        self._rounds: dict[Side, int] = {"new": 0, "old": 0}
        self._trouble: Trouble | None = None

    def observe(self, at: float, seen: Observation) -> None:
        """See Criterion."""
        if isinstance(seen, Refusals):
            self._rounds[seen.slot] += 1
            for probe in (*seen.held, *seen.let_in):
                self._probe(probe).add(seen.slot, at, seen.let_in.get(probe, ""))
        elif isinstance(seen, Trouble) and seen.source is Source.REFUSALS:
            self._trouble = seen

    def _probe(self, name: str) -> KofN:
        failures, size = self._policy.refusal_failures, self._policy.refusal_window
        return self._probes.setdefault(name, KofN(failures, size, self._with_old, "tries"))

    @property
    def broken(self) -> bool:
        """See Criterion."""
        return any(probe.broke for probe in self._probes.values())

    @property
    def sure(self) -> bool:
        """See Criterion."""
        return any(probe.sure for probe in self._probes.values())

    def finding(self) -> Finding:
        """See Criterion."""
        broken = sorted((item for item in self._probes.items() if item[1].broke), key=lambda item: bool(item[1].doubt))
        name, worst = broken[0] if broken else ("", None)
        needed = self._policy.refusal_window - self._policy.refusal_failures + 1
        measured = self._rounds["new"] >= needed and (self._rounds["old"] or not self._with_old)
        missing = f"Only {self._rounds['new']} rounds of {needed} needed tried what must be refused"
        if self._rounds["new"] >= needed:
            missing = "Nothing was tried on the old slot, so there is no control group"
        return conclude(
            self.name,
            broke=f"New slot: {name} was let in: {worst.broke}" if worst else "",
            doubt=worst.doubt if worst else "",
            trouble=None if measured else self._trouble,
            missing="" if measured else missing,
            good=f"{len(self._probes)} things that must be refused were, {self._rounds['new']} times",
            metrics={"rounds": dict(self._rounds), "let_in": {n: probe.new.bad for n, probe in broken}},
        )

    def now(self) -> str:
        """See Criterion."""
        bad = sum(1 for probe in self._probes.values() if probe.new.bad)
        return f"{bad} of {len(self._probes)} let in"

    def limit(self) -> str:
        """See Criterion."""
        return f"under {self._policy.refusal_failures} of {self._policy.refusal_window} rounds"


class Rate:
    """One counter of the service against its limit."""

    name = "auth"

    def __init__(self, limit: MetricLimit, policy: WatchSpec, *, with_old: bool) -> None:
        """`with_old`: the old slot's counters are read too, as the control group."""
        self._limit, self._with_old = limit, with_old
        shortest = min(SHORTEST_S, policy.duration_s / 2)
        self._meters: dict[Side, Meter] = {"new": Meter(shortest), "old": Meter(shortest)}
        self._judged = self._over = 0
        self._broke = ""
        self._trouble: Trouble | None = None

    def observe(self, at: float, seen: Observation) -> None:
        """See Criterion."""
        if isinstance(seen, Trouble) and seen.source is Source.METRICS and seen.slot == "new":
            self._trouble = seen
        if not isinstance(seen, Scrape) or self._limit.metric not in seen.values:
            return
        self._meters[seen.slot].add(at, seen.values[self._limit.metric])
        rate = self._meters["new"].rate
        if seen.slot == "new" and rate is not None:
            self._judged += 1
            self._over = self._over + 1 if rate > self._limit.max_per_s else 0
            if self._over >= SCRAPES_TO_BE_SURE and not self._broke:
                self._broke = f"{self._limit.metric} grows by {rate:.1f} a second (at most {self._limit.max_per_s:g})"

    @property
    def share(self) -> float:
        """How much of its limit the new slot uses; not measured counts as nothing."""
        rate = self._meters["new"].rate or 0.0
        return rate / self._limit.max_per_s if self._limit.max_per_s else rate

    @property
    def _doubt(self) -> str:
        old = self._meters["old"].rate
        if not self._with_old:
            return ""
        if old is None:
            return UNMEASURED
        return (
            f"the old slot is bad too ({old:.1f} a second), so it is not the release"
            if old > self._limit.max_per_s
            else ""
        )

    @property
    def broken(self) -> bool:
        """See Criterion."""
        return bool(self._broke)

    @property
    def sure(self) -> bool:
        """See Criterion."""
        return bool(self._broke) and not self._doubt

    def finding(self) -> Finding:
        """See Criterion.

        An old slot that does not tell (its token was changed since it started) excuses nothing, and is not needed for
        a pass: the limit is absolute.
        """
        new, old = self._meters["new"].rate, self._meters["old"].rate
        missing = f"{self._limit.metric} was not measured long enough on the new slot"
        metrics: dict[str, Any] = {"new": new} | ({"old": old} if self._with_old else {})
        measured = self._judged >= SCRAPES_TO_BE_SURE
        return conclude(
            self.name,
            broke=f"New slot: {self._broke}" if self._broke else "",
            doubt=self._doubt,
            trouble=None if measured else self._trouble,
            missing="" if measured else missing,
            good=f"{self._limit.metric} grows by {new or 0:.1f} a second",
            metrics={self._limit.metric: {slot: round(rate, 2) for slot, rate in metrics.items() if rate is not None}},
        )

    def now(self) -> str:
        """See Criterion."""
        rate = self._meters["new"].rate
        return "not measured yet" if rate is None else f"{rate:.1f}/s"

    def limit(self) -> str:
        """See Criterion."""
        return f"{self._limit.max_per_s:g}/s"


class Auth:
    """The worst of its parts."""

    name = "auth"

    def __init__(self, policy: WatchSpec, *, with_old: bool, probes: bool, metrics: bool) -> None:
        """`probes`, `metrics`: which of the two sources there are; at least one."""
        self._parts: list[Breaches | Rate] = [Breaches(policy, with_old=with_old)] if probes else []
        if metrics:
            self._parts += [Rate(limit, policy, with_old=with_old) for limit in policy.auth]

    def observe(self, at: float, seen: Observation) -> None:
        """See Criterion."""
        for part in self._parts:
            part.observe(at, seen)

    @property
    def broken(self) -> bool:
        """See Criterion."""
        return any(part.broken for part in self._parts)

    @property
    def sure(self) -> bool:
        """See Criterion."""
        return any(part.sure for part in self._parts)

    def finding(self) -> Finding:
        """See Criterion."""
        findings = [part.finding() for part in self._parts]
        worst = min((finding.verdict for finding in findings), key=WORST_FIRST.index)
        told = [finding for finding in findings if finding.verdict is worst]
        rates = self._rates
        if worst is Verdict.PASS and len(rates) > 1:
            # Seven good counters are one good sentence: the one that came nearest to its limit says it for all.
            told = [*told[: len(findings) - len(rates)], rates[0].finding()]
            rest = f" {len(rates) - 1} other counters are further from theirs."
            told[-1] = msgspec.structs.replace(told[-1], detail=told[-1].detail + rest)
        detail, fix = " ".join(each.detail for each in told), next((each.fix for each in told if each.fix), "")
        metrics = {name: value for finding in findings for name, value in finding.metrics.items()}
        return Finding(self.name, worst, detail=detail, fix=fix, metrics=metrics)

    @property
    def _rates(self) -> list[Rate]:
        """The counters, the one nearest to its limit first."""
        return sorted((part for part in self._parts if isinstance(part, Rate)), key=lambda part: -part.share)

    @property
    def _shown(self) -> list[Breaches | Rate]:
        return [*(part for part in self._parts if isinstance(part, Breaches)), *self._rates[:1]]

    def now(self) -> str:
        """See Criterion."""
        return ", ".join(part.now() for part in self._shown)

    def limit(self) -> str:
        """See Criterion."""
        return ", ".join(part.limit() for part in self._shown)
