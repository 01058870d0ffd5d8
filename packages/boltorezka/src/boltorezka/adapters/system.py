"""The real clock and the real dice."""

from __future__ import annotations

import os
import secrets
import time

# One call of the system's generator brings randomness for this many ids: a call for each was a twentieth of a message.
_POOLED_IDS = 256
_ID_BYTES = 10


class SystemClock:
    """The machine's clocks (ports.Clock)."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


class SystemIds:
    """UUIDv7 (RFC 9562 section 5.7) and random secrets from the system's generator (ports.Ids).

    Ids are drawn from a pool, for one thread; secrets are always fresh.
    """

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def new_id(self) -> str:
        if self._used >= len(self._pool):
            self._pool, self._used = os.urandom(_POOLED_IDS * _ID_BYTES), 0
        start = self._used
        self._used = start + _ID_BYTES
        random = int.from_bytes(self._pool[start : self._used], "big") >> 6  # 74 bits
        milliseconds = time.time_ns() // 1_000_000
        value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
        value |= 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & 0x3FFF_FFFF_FFFF_FFFF
        return f"{value:032x}"

    def new_secret(self) -> str:
        return secrets.token_urlsafe(32)
