"""How often somebody may do something: a token bucket, told the time."""

from __future__ import annotations

import math

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """`burst` at once, then `per_s` a second."""

    per_s: float
    burst: float


class TokenBucket:
    """A bucket that starts full and fills at its rate; every act takes one token out."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = -math.inf

    def take(self, tick: float) -> float:
        """Take a token at this moment (monotonic seconds); 0.0 when there was one, else the seconds until there is."""
        if tick > self._at:
            self._tokens = min(self._burst, self._tokens + (tick - self._at) * self._per_s)
            self._at = tick
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._per_s
