"""The way of voice seats into the store and the engine: one change after the other, in the order they were wanted.

A seat that is held, taken again and dropped within a second must be so in that order, whatever each write takes. Reads
of all seats go the same way, so no older one can overtake a newer one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from boltorezka.errors import RateLimited, Refusal, Unavailable
from boltorezka.ports import SEAT_HOLD_US, Bus, Clock, Ids, Store
from boltorezka.rooms import effects as do
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.hints import Look
from boltorezka.voice.engine import AnyEvent, Grant, MediaEngine, Message, SignalOut
from boltorezka.voice.model import Seat

log = logging.getLogger("boltorezka.realtime")

# Joins that wait for the store: several seconds of its work. Holds and drops are at most one for each seat.
_MAX_WAITING = 1024

_Write = do.HoldSeat | do.SetSeat | do.DropSeat
_Change = do.TakeSeat | do.FindModerator | do.AskEngine | _Write


class _Session:
    """A seat as the engine knows it."""

    __slots__ = ("id", "may_publish")

    def __init__(self, session: str, *, may_publish: bool) -> None:
        self.id = session
        self.may_publish = may_publish


class SeatKeeper:
    """`run` is the task. What becomes of each change is told to the core, also when it fails."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        ids: Ids,
        core: RoomsCore,
        engine: MediaEngine,
        execute: Callable[[Sequence[Effect]], None],
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._core = core
        self._engine = engine
        self._execute = execute
        self._instance = core.seats.instance
        self._changes: deque[_Change] = deque()
        self._look_wanted = False
        self._behind = False
        self._wake = asyncio.Event()
        self._sessions: dict[str, _Session] = {}

    async def start(self) -> None:
        """Start the engine and read all seats. Raises Unavailable."""
        await self._engine.start(self._engine_said)
        await self._look()

    async def stop(self) -> None:
        """Stop the engine; the seats are held by whoever gives our lease back."""
        await self._engine.stop()

    @property
    def effects(self) -> dict[type[Effect], Callable[[Any], None]]:
        """What is done here of what the core wants."""
        changes = (do.TakeSeat, do.HoldSeat, do.SetSeat, do.DropSeat, do.FindModerator, do.AskEngine)
        return {do.LookSeats: lambda _: self.look(), do.WakeMic: self.wake_mic, **dict.fromkeys(changes, self.put)}

    def put(self, change: _Change) -> None:
        """A change the core wants."""
        if isinstance(change, do.TakeSeat) and len(self._changes) >= _MAX_WAITING:
            busy = RateLimited("Too many people are coming into voice; try again in a second.", retry_after_ms=1000)
            self._execute(self._core.seats.refused(change, busy, *self._times()))
            return
        self._changes.append(change)
        self._wake.set()

    def look(self) -> None:
        """Somebody else may have changed seats: read them soon."""
        self._look_wanted = True
        self._wake.set()

    def tick(self) -> None:
        """The regular look: what could not be written or read is looked at again."""
        if self._behind:
            self.look()

    def wake_mic(self, effect: do.WakeMic) -> None:
        """A microphone may be told again a little later."""
        asyncio.get_running_loop().call_later(effect.after_s, self._mic_due, effect.seat_id)

    def _mic_due(self, seat_id: str) -> None:
        self._execute(self._core.seats.mic_due(seat_id, *self._times()))

    async def run(self) -> None:
        """Changes first: a look shows them then."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._changes or self._look_wanted:
                if self._changes:
                    await self._change(self._changes.popleft())
                else:
                    self._look_wanted = False
                    await self._try_look()

    async def _change(self, change: _Change) -> None:
        try:
            if isinstance(change, do.TakeSeat):
                effects = await self._take(change)
            elif isinstance(change, do.FindModerator):
                found = await self._store.entrance(change.room_slug, change.user_id)
                effects = self._core.seats.judged(change, found, self._clock.now())
            elif isinstance(change, do.AskEngine):
                effects = await self._ask(change)
            else:
                effects = await self._write(change)
        except Refusal as error:
            effects = self._failed(change, error)
        except Exception:
            log.exception("a voice seat was not changed")
            effects = self._failed(change, Unavailable("Something broke in the server; it was logged."))
        else:
            if not isinstance(change, do.FindModerator | do.AskEngine):
                self._bus.publish(Look())
        self._execute(effects)

    async def _take(self, change: do.TakeSeat) -> list[Effect]:
        seat = Seat(
            self._ids.new_id(), change.room_id, change.user_id, change.user_name, self._instance, self._clock.now()
        )
        limit = self._engine.caps.max_seats
        taken = await self._store.take_seat(seat, limit, move=change.move)
        seat = taken.seat
        try:
            grant = Grant(seat.id, seat.user_id, seat.user_name, may_publish=not seat.moderated)
            ticket = await self._engine.join(seat.room_id, grant)
        except Refusal:
            await self._store.drop_seat(seat.id)
            raise
        self._sessions[seat.id] = _Session(ticket.session, may_publish=grant.may_publish)
        if taken.left is not None:
            await self._forget(taken.left.id)
        return self._core.seats.taken(change, taken, ticket.engine_data, *self._times())

    async def _ask(self, change: do.AskEngine) -> list[Effect]:
        session = self._sessions.get(change.seat_id)
        if session is None:
            return []
        answers = await self._engine.signal(session.id, Message(change.signal, change.body))
        said = [SignalOut(session.id, answer) for answer in answers]
        seats, times = self._core.seats, self._times()
        return [effect for each in said for effect in seats.engine_said(change.seat_id, each, *times)]

    async def _write(self, change: _Write) -> list[Effect]:
        if isinstance(change, do.HoldSeat):
            until = self._clock.now() + SEAT_HOLD_US
            await self._store.hold_seat(change.seat_id, self._instance, until)
            return self._core.seats.settled(change.user_id, change.seat_id, until)
        if isinstance(change, do.DropSeat):
            await self._store.drop_seat(change.seat_id)
            await self._forget(change.seat_id, kicked=change.kicked)
            return self._core.seats.settled(change.user_id)
        await self._store.set_seat(
            change.seat_id, muted=change.muted, audio_muted=change.audio_muted, moderated=change.moderated
        )
        if change.moderated is not None:
            await self._publishing(change.seat_id, allowed=not change.moderated)
        return self._core.seats.settled(change.user_id)

    def _failed(self, change: _Change, error: Refusal) -> list[Effect]:
        now, tick = self._times()
        if isinstance(change, do.TakeSeat):
            return self._core.seats.refused(change, error, now, tick)
        if isinstance(change, do.FindModerator):
            return self._core.seats.judged(change, error, now)
        log.warning("a voice seat was not changed: %s", error.message)
        if isinstance(change, do.AskEngine):
            return []
        self._behind = True
        return self._core.seats.settled(change.user_id)

    async def _try_look(self) -> None:
        try:
            await self._look()
        except Refusal as error:
            self._behind = True
            log.warning("the voice seats were not read: %s", error.message)
        except Exception:
            self._behind = True
            log.exception("the voice seats were not read")

    async def _look(self) -> None:
        mark = self._core.seats.mark()
        seats = await self._store.seats(self._clock.now())
        self._behind = False
        self._execute(self._core.seats.seen(seats, mark, self._clock.now()))
        mine = {seat.id: seat for seat in seats if seat.instance == self._instance}
        for seat_id in [known for known in self._sessions if known not in mine]:
            await self._forget(seat_id)
        for seat_id, seat in mine.items():
            await self._publishing(seat_id, allowed=not seat.moderated)

    # the engine

    async def _forget(self, seat_id: str, *, kicked: bool = False) -> None:
        session = self._sessions.pop(seat_id, None)
        if session is not None:
            await (self._engine.kick(session.id) if kicked else self._engine.leave(session.id))

    async def _publishing(self, seat_id: str, *, allowed: bool) -> None:
        session = self._sessions.get(seat_id)
        if session is not None and session.may_publish != allowed:
            await self._engine.set_publish(session.id, allowed=allowed)
            session.may_publish = allowed

    def _engine_said(self, event: AnyEvent) -> None:
        seat_id = next((seat_id for seat_id, it in self._sessions.items() if it.id == event.session), None)
        if seat_id is not None:
            self._execute(self._core.seats.engine_said(seat_id, event, *self._times()))

    def _times(self) -> tuple[int, float]:
        return self._clock.now(), self._clock.monotonic()
