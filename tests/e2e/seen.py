"""What users by the hundred saw of a service: sockets that were cut, failures, and messages lost or doubled."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

SOCKETS = 200


@dataclass
class Cut:
    """One socket that was closed, and how long until it was in the room again."""

    phase: str
    code: int
    seconds: float


@dataclass
class Seen:
    """What the users saw."""

    phase: str = ""
    requests: int = 0
    rate: float = 0.0  # of requests, a second
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    sent: dict[str, str] = field(default_factory=dict)  # idempotency key -> text
    heard: dict[int, str] = field(default_factory=dict)  # seq -> text; the same for everybody
    cuts: list[Cut] = field(default_factory=list)
    served: list[tuple[float, str]] = field(default_factory=list)  # since when (UNIX time), which commit
    healed: int = 0  # messages a server kept back, and a socket that noticed the gap asked for

    def fail(self, what: str) -> None:
        """Something a user would have noticed."""
        self.failures.append(f"[{self.phase}] {what}")

    def serves(self, sha: str) -> None:
        """A commit that answered just now."""
        if not self.served or self.served[-1][1] != sha:
            self.served.append((time.time(), sha))

    def doubled(self) -> list[str]:
        """Texts stored more than once."""
        mine = set(self.sent.values())
        return [text for text, count in Counter(self.heard.values()).items() if count > 1 and text in mine]

    def lost(self) -> list[str]:
        """Texts that were sent and stand nowhere in the room."""
        return sorted(set(self.sent.values()) - set(self.heard.values()))

    def times(self, phase: str = "") -> str:
        """How long sockets were away, as a sentence."""
        chosen = [cut for cut in self.cuts if cut.phase.startswith(phase)]
        if not chosen:
            return "no socket was cut"
        away = [cut.seconds for cut in chosen]
        codes = dict(Counter(cut.code for cut in chosen))
        return f"{len(away)} cut {codes}, back after {statistics.median(away):.2f} s (median), {max(away):.2f} s (max)"

    def report(self) -> str:
        """The numbers."""
        phases = list(dict.fromkeys(cut.phase for cut in self.cuts))
        lines = [
            f"requests {self.requests} ({self.rate:.0f} a second, slowest {self.slowest_s * 1000:.0f} ms)",
            f"failures {len(self.failures)}",
            f"messages {len(self.sent)} to {SOCKETS} sockets, lost {len(self.lost())}, doubled {len(self.doubled())}",
            f"deliveries that a server kept back and a client asked for: {self.healed}",
            *(f"{phase}: {self.times(phase)}" for phase in phases),
        ]
        return "\n".join(f"  {line}" for line in lines)
