"""The real clock and the real dice."""

from __future__ import annotations

import secrets
import time


class SystemClock:
    """The machine's clocks (ports.Clock)."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


class SystemIds:
    """UUIDv7 (RFC 9562 section 5.7) and random secrets from the system's generator (ports.Ids)."""

    def new_id(self) -> str:
        milliseconds = time.time_ns() // 1_000_000
        random = secrets.randbits(74)
        value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
        value |= 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & 0x3FFF_FFFF_FFFF_FFFF
        return f"{value:032x}"

    def new_secret(self) -> str:
        return secrets.token_urlsafe(32)
