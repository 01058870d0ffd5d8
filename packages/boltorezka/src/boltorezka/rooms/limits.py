"""How often somebody may do something: a token bucket, told the time."""

from __future__ import annotations

import math

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """`burst` at once, then `per_s` a second."""

    per_s: float
    burst: float


class TokenBucket:
    """A bucket that starts full and fills at its rate; every act takes tokens out."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = -math.inf

    def take(self, tick: float, cost: float = 1.0) -> float:
        """Take tokens at this moment (monotonic seconds); 0.0 when they were there, else the seconds until they are.

        What costs more than the bucket holds takes a full bucket.
        """
        if tick > self._at:
            self._tokens = min(self._burst, self._tokens + (tick - self._at) * self._per_s)
            self._at = tick
        cost = min(cost, self._burst)
        if self._tokens >= cost:
            self._tokens -= cost
            return 0.0
        return (cost - self._tokens) / self._per_s
