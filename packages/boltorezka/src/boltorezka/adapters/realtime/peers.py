"""Other processes on the same database: our lease, who else is live, and what they wrote.

What another process does reaches us as hints. Some carry the events themselves, the others say only that something is
new: then the store is asked how far every log reaches, who is present, which sessions ended and which users changed;
the core works out what is new. A lost hint is made good by the next one, or at the next renewal of the lease: the store
is the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from boltorezka.adapters.realtime.presence import PresenceWriter
from boltorezka.adapters.realtime.settings import RealtimeSettings
from boltorezka.errors import Refusal
from boltorezka.ports import Bus, Clock, Presence, Store
from boltorezka.protocol import CloseCode
from boltorezka.rooms import effects as do
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.hints import AnyHint, Committed, Look, Relay
from boltorezka.rooms.presence import Person

log = logging.getLogger("boltorezka.realtime")

# A session's end carries the time at which its process decided it, a little before the commit we hear of.
_DECIDED_SLACK_US = 30 * 1_000_000
# Hints come in bursts (a thousand people come back): one look answers all of a burst. People notice above 100 ms.
_LOOK_SPACING_S = 0.02
# With ten thousand people elsewhere a look is work, and must not be all that is done: as long a pause follows it, but
# none that could cost the lease.
_LOOK_SPACING_MAX_S = 0.5


class Peers:
    """Keeps the lease and listens. `run` is the task; `start` and `stop` take and give back the lease."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        core: RoomsCore,
        presence: PresenceWriter,
        settings: RealtimeSettings,
        execute: Callable[[Sequence[Effect]], None],
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._core = core
        self._presence = presence
        self._instance = presence.instance
        self._settings = settings
        self._execute = execute
        self._hint = asyncio.Event()
        self._others: list[str] = []

    async def start(self) -> None:
        """Take the lease; hear of others from here on."""
        await self._bus.start(self._heard)
        await self.renew()

    async def stop(self) -> None:
        """Give the lease back; a store that cannot be written lets it run out instead."""
        try:
            await self._store.release_lease(self._instance, self._clock.now())
            self._bus.publish(Look())
        except Refusal as error:
            log.warning("the lease was not given back: %s", error.message)
        await self._bus.stop()

    def _heard(self, hint: AnyHint) -> None:
        """Another process says something."""
        now, tick = self._clock.now(), self._clock.monotonic()
        if isinstance(hint, Committed):
            self._execute(self._core.committed(hint, now, tick))
        elif isinstance(hint, Relay):
            self._execute(self._core.relayed(hint))
        else:
            self._hint.set()

    async def run(self) -> None:
        """Renew the lease in time, and look after every hint, one look at a time."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._settings.lease_renew_s
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._hint.wait()
            if loop.time() >= due:  # asked of the clock: hints that never pause must not starve the lease
                due = loop.time() + self._settings.lease_renew_s
                await self._try(self.renew)
            if self._hint.is_set():
                self._hint.clear()
                began = self._clock.monotonic()
                await self._try(self.look)
                took = self._clock.monotonic() - began
                await asyncio.sleep(min(max(_LOOK_SPACING_S, took), _LOOK_SPACING_MAX_S))

    async def _try(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except Refusal as error:
            log.warning("other processes were not heard: %s", error.message)

    async def renew(self) -> None:
        """Renew the lease and look what others did, commands among them: a lost hint costs one interval, not more."""
        now = self._clock.now()
        expires_at = now + int(self._settings.lease_expires_s * 1_000_000)
        others = await self._store.renew_lease(self._instance, now, expires_at)
        if others != self._others:
            self._bus.set_peers_live(bool(others))
        self._others = others
        self._hint.set()

    async def look(self) -> None:
        """Bring what others wrote to the core: logs, presence, ended sessions."""
        self._execute([do.LookSeats()])
        heads = await self._store.heads()
        self._execute(self._core.heads(heads, self._clock.now(), self._clock.monotonic()))
        changes, settled = self._presence.changes, self._presence.settled
        rows = await self._store.presence()
        elsewhere = [Person(row.room_id, row.user_id, row.user_name) for row in rows if row.instance != self._instance]
        self._execute(self._core.presence_seen(elsewhere))
        if settled and self._presence.settled and changes == self._presence.changes:
            here = self._core.hall.roster.ours()
            self._presence.repair(
                rows, [Presence(each.room_id, each.user_id, each.user_name, self._instance) for each in here]
            )
        now, tick = self._clock.now(), self._clock.monotonic()
        revoked = await self._store.revoked_since(now - _DECIDED_SLACK_US)
        # A ban ends the user's sessions too: read after them and told before them, it is the reason people see.
        for user in await self._store.changed_users(now - _DECIDED_SLACK_US):
            self._execute(self._core.user_changed(user, now, tick))
        for session_id in revoked:
            self._execute(self._core.ended(session_id, CloseCode.SESSION_ENDED, now, tick))
