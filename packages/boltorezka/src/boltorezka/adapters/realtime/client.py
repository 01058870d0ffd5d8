"""One socket as the shell sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from boltorezka.adapters.realtime.outbox import Socket, Transport


class Client(Socket):
    """A socket with what only the shell knows of it."""

    __slots__ = ("admitted", "auth_timer", "connected_at", "pause", "reason", "resume")

    def __init__(self, key: int, transport: Transport, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        super().__init__(key, transport)
        self.pause = pause
        self.resume = resume
        self.admitted = False
        self.connected_at = 0
        self.reason = "lost"
        self.auth_timer: asyncio.TimerHandle | None = None
