"""All criteria of one watch, fed with observations. Pure: a recorded watch or a made-up one gives the same verdicts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sluice.criteria.auth import Auth
from sluice.criteria.calls import CallSetup
from sluice.criteria.health import Health
from sluice.criteria.messages import Messages
from sluice.criteria.observations import Observation, Source
from sluice.criteria.sockets import Disconnects
from sluice.criteria.verdicts import Criterion
from sluice.model.spec import WatchSpec
from sluice.model.verdict import Finding, Verdict

CRITERIA = ("health", "ws-disconnects", "call-setup", "auth", "messages")
STATES = {Verdict.PASS: "good", Verdict.FAIL: "bad", Verdict.ERROR: "unclear", Verdict.SKIPPED: "skipped"}


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """One criterion while the watch runs: the value now against its limit."""

    name: str
    state: str  # good | bad | waiting (not enough seen yet) | unclear (bad on both slots, or the probe broke) | skipped
    now: str
    limit: str
    dry_run: bool = False


class Panel:
    """The five criteria, those without a source skipped with the reason."""

    def __init__(self, policy: WatchSpec, *, with_old: bool, sources: frozenset[Source]) -> None:
        """`sources`: what is configured besides Sluice's own health probes."""
        self._policy = policy
        self._judges: dict[str, Criterion] = {"health": Health(policy, with_old=with_old)}
        self._skipped: dict[str, str] = {}
        if Source.CANARY in sources:
            self._judges["ws-disconnects"] = Disconnects(policy, with_old=with_old)
            self._judges["messages"] = Messages(policy, with_old=with_old)
        else:
            self._skipped |= dict.fromkeys(("ws-disconnects", "messages"), "The service has no [smoke] canary.")
        if Source.CALLS in sources:
            self._judges["call-setup"] = CallSetup(policy, with_old=with_old)
        else:
            self._skipped["call-setup"] = "The service has no [smoke] calls."
        probes, metrics = Source.REFUSALS in sources, Source.METRICS in sources
        if probes or metrics:
            self._judges["auth"] = Auth(policy, with_old=with_old, probes=probes, metrics=metrics)
        else:
            self._skipped["auth"] = "The service has no [smoke] refusals, and [watch] names no metrics."

    def observe(self, at: float, seen: Observation) -> None:
        """One observation, `at` seconds after the watch began."""
        for judge in self._judges.values():
            judge.observe(at, seen)

    @property
    def sure(self) -> bool:
        """A criterion that has a veto broke for certain: no more needs to be seen."""
        return any(judge.sure for name, judge in self._judges.items() if name not in self._policy.dry_run)

    def findings(self) -> list[Finding]:
        """One verdict per criterion, as things stand, and one for every required name that is no criterion."""
        unknown = sorted(set(self._policy.required_criteria) - set(CRITERIA))
        return [self._finding(name) for name in (*CRITERIA, *unknown)]

    def _finding(self, name: str) -> Finding:
        if name in self._judges:
            finding = self._judges[name].finding()
        else:
            reason = self._skipped.get(name, "There is no such criterion.")
            finding = Finding(name, Verdict.SKIPPED, detail=reason)
        if finding.verdict is Verdict.SKIPPED and name in self._policy.required_criteria:
            finding = Finding(
                name,
                Verdict.INCONCLUSIVE,
                detail=f"Required by the policy, but: {finding.detail}",
                fix=f"give it its source, or take {name!r} out of [watch] required_criteria in the policy",
            )
        return msgspec.structs.replace(finding, dry_run=name in self._policy.dry_run)

    def readings(self) -> list[Reading]:
        """Every criterion now, for people."""
        told = []
        for finding in self.findings():
            judge = self._judges.get(finding.name)
            waiting = "unclear" if judge and judge.broken else "waiting"
            state = STATES.get(finding.verdict, waiting)
            now, limit = (judge.now(), judge.limit()) if judge and state != "skipped" else (finding.detail, "")
            told.append(Reading(finding.name, state, now, limit, finding.dry_run))
        return told


def replay(
    policy: WatchSpec, seen: Iterable[tuple[float, Observation]], *, with_old: bool, sources: frozenset[Source]
) -> tuple[list[Finding], float | None]:
    """The verdicts on a whole watch, and when a break was sure (the watch would have ended there), or None."""
    panel = Panel(policy, with_old=with_old, sources=sources)
    for at, observation in seen:
        panel.observe(at, observation)
        if panel.sure:
            return panel.findings(), at
    return panel.findings(), None
