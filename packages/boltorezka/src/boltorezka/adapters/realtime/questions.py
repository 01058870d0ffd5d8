"""What the core wants to know of the store, asked and answered; a question that fails is answered too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from boltorezka.errors import Refusal, Unavailable
from boltorezka.ports import Clock, RealtimeMetrics, Store
from boltorezka.rooms import effects as do
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.live import READ_LIMIT

log = logging.getLogger("boltorezka.realtime")


class Questions:
    """Each method is a task of its own: ask, and give the answer to the core. `admitted` is told who was let in."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        core: RoomsCore,
        metrics: RealtimeMetrics,
        execute: Callable[[Sequence[Effect]], None],
        admitted: Callable[[int], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._core = core
        self._metrics = metrics
        self._execute = execute
        self._admitted = admitted

    async def _asked(
        self, work: Coroutine[Any, Any, Sequence[Effect]], failed: Callable[[Refusal], Sequence[Effect]]
    ) -> None:
        """Run the question and its answer's effects; whatever goes wrong is answered too: nobody waits forever."""
        try:
            effects = await work
        except Refusal as error:
            effects = failed(error)
        except Exception:
            log.exception("a question to the store failed")
            effects = failed(Unavailable("Something broke in the server; it was logged."))
        self._execute(effects)

    def _times(self) -> tuple[int, float]:
        return self._clock.now(), self._clock.monotonic()

    async def check_ticket(self, effect: do.CheckTicket) -> None:
        """Consume a ticket and look its session up."""

        async def ask() -> Sequence[Effect]:
            grant = await self._store.take_ticket(effect.ticket_hash)
            found = None if grant is None else await self._store.session(grant.session_id)
            effects = self._core.ticket_checked(effect.key, grant, found, *self._times())
            if self._core.is_open(effect.key):
                self._admitted(effect.key)
            return effects

        await self._asked(ask(), lambda error: self._core.ticket_failed(effect.key, error, self._clock.now()))

    async def find_room(self, effect: do.FindRoom) -> None:
        """Read a room and a membership."""

        async def ask() -> Sequence[Effect]:
            entrance = await self._store.entrance(effect.slug, effect.user_id)
            return self._core.room_found(effect.key, entrance, *self._times())

        await self._asked(ask(), lambda error: self._core.visit_failed(effect.key, error, *self._times()))

    async def read_log(self, effect: do.ReadLog) -> None:
        """Read a piece of a log."""

        async def ask() -> Sequence[Effect]:
            self._metrics.log_read("delta")
            events = await self._store.delta(effect.room_id, effect.after, READ_LIMIT)
            return self._core.log_read(effect, events, *self._times())

        await self._asked(ask(), lambda error: self._core.log_failed(effect, error, *self._times()))

    async def set_read(self, effect: do.SetRead) -> None:
        """Move a read pointer."""

        async def ask() -> Sequence[Effect]:
            seq = await self._store.set_read(effect.room_id, effect.user_id, effect.seq)
            return self._core.read_set(effect, seq, self._clock.now())

        await self._asked(ask(), lambda error: self._core.read_failed(effect, error, self._clock.now()))
