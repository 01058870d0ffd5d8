"""Counting voice setups: from taking a seat to hearing the first sound.

The sound of a mesh passes between clients, so only they know when it came through; they report it (`call.setup`). A
setup starts when somebody has a seat and somebody else to hear, and each seat counts once: `ok` and `failed` are what
its client said, `unreported` is a seat that was given up before its client said anything. An old client never
reports; it must not look like a failure.
"""

from __future__ import annotations

from typing import Literal

Outcome = Literal["started", "ok", "failed", "unreported"]


class Setups:
    """The setups of this process's seats. Each method answers what is to be counted, or None."""

    def __init__(self) -> None:
        self._started: dict[str, bool] = {}

    def seated(self, seat_id: str, *, company: bool) -> Outcome | None:
        """A seat was taken; `company`: somebody else is in voice there."""
        self._started[seat_id] = company
        return "started" if company else None

    def company(self, seat_id: str) -> Outcome | None:
        """Somebody came whom this seat can hear."""
        if self._started.get(seat_id, True):
            return None
        self._started[seat_id] = True
        return "started"

    def reported(self, seat_id: str, *, connected: bool) -> Outcome | None:
        """The client said how it went; only the first word about a setup that started counts."""
        if not self._started.get(seat_id, False):
            return None
        del self._started[seat_id]
        return "ok" if connected else "failed"

    def gone(self, seat_id: str) -> Outcome | None:
        """The seat was given up."""
        return "unreported" if self._started.pop(seat_id, False) else None

    def moved(self, seat_id: str) -> None:
        """The seat is another process's business now, and was counted here."""
        self._started.pop(seat_id, None)
