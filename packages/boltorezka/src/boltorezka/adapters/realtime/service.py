"""The sockets of one process: the core's effects are executed here, and the world's answers brought back to it.

Everything runs on one event loop. Three things happen beside the sockets: one task writes messages (all that wait go
into one transaction), one keeps the lease and hears what other processes wrote, one looks at heartbeats and gaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from boltorezka.adapters.realtime.appender import Appender
from boltorezka.adapters.realtime.client import Client
from boltorezka.adapters.realtime.outbox import CLOSE, Outbox, Socket, Transport, framed
from boltorezka.adapters.realtime.peers import Peers
from boltorezka.adapters.realtime.presence import PresenceWriter
from boltorezka.adapters.realtime.questions import Questions
from boltorezka.adapters.realtime.seats import SeatKeeper
from boltorezka.adapters.realtime.settings import RealtimeSettings
from boltorezka.ports import Bus, Clock, Ids, NewEvent, RealtimeMetrics, Store
from boltorezka.protocol import REASONS, CloseCode
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import Limits
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.hints import Look
from boltorezka.rooms.model import Appended, Page, User
from boltorezka.rooms.seating import Voice

log = logging.getLogger("boltorezka.realtime")

# How often heartbeats that are due, gaps and leftovers are looked at: the heartbeat's own precision.
_LOOK_S = 1.0
# A draining socket whose messages are being stored is given this long for its acks, in steps.
_DRAIN_PATIENCE_S = 1.0
_DRAIN_STEP_S = 0.02


class Realtime:
    """See `start`, `stop`, `drain`; the socket adapter calls `opened`, `received` and `closed`."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        ids: Ids,
        metrics: RealtimeMetrics,
        settings: RealtimeSettings,
        instance: str,
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._metrics = metrics
        self.settings = settings
        limits = Limits(
            settings.pre_auth_frames, settings.pre_auth_bytes, settings.heartbeat_s, settings.unanswered,
            settings.frames, settings.rates,
        )  # fmt: skip
        engine = settings.engine()
        self._core = RoomsCore(limits, Voice(instance, engine.caps, settings.ice))
        self._seats = SeatKeeper(store, bus, clock, ids, self._core, engine, self._run)
        self._presence = PresenceWriter(store, instance, lambda: bus.publish(Look()))
        self._peers = Peers(store, bus, clock, self._core, self._presence, settings, self._run)
        questions = Questions(store, clock, self._core, metrics, self._run, self._admitted)
        self._appender = Appender(store, clock, ids, self._core, settings.append_queue, self._run)
        self._clients: dict[int, Client] = {}
        self._keys = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._background: list[asyncio.Task[None]] = []
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self._running = False
        self._stopped = True
        self._outbox: Outbox
        self._do = self._actions(questions)

    def _actions(self, questions: Questions) -> dict[type[Effect], Callable[[Any], None]]:
        """What is done for each kind of effect."""
        metrics = self._metrics
        return {
            do.Send: self._send,
            do.Broadcast: self._broadcast,
            do.Append: self._appender.append,
            do.Enter: lambda effect: self._with(effect.key, lambda it: self._outbox.enter(it, effect.room_id)),
            do.Exit: lambda effect: self._with(effect.key, lambda it: self._outbox.exit(it, effect.room_id)),
            do.Close: self._close,
            do.PauseReading: lambda effect: self._with(effect.key, lambda it: it.pause()),
            do.ResumeReading: lambda effect: self._with(effect.key, lambda it: it.resume()),
            do.CheckTicket: lambda effect: self._spawn(questions.check_ticket(effect)),
            do.FindRoom: lambda effect: self._spawn(questions.find_room(effect)),
            do.ReadLog: lambda effect: self._spawn(questions.read_log(effect)),
            do.SetRead: lambda effect: self._spawn(questions.set_read(effect)),
            do.Publish: lambda effect: self._bus.publish(effect.hint),
            do.PresenceChanged: self._presence_changed,
            do.CountSetup: lambda effect: metrics.voice_setup(effect.outcome, effect.seconds),
            do.CountRelayed: lambda effect: metrics.voice_relayed(effect.event_type, effect.seats),
            **self._seats.effects,
        }

    # life

    async def start(self) -> None:
        """Take the lease and begin; raises Unavailable when the store cannot be written."""
        self._outbox = Outbox(self.settings.send_queue_bytes, self._too_slow, self._flushed)
        await self._peers.start()
        await self._seats.start()
        self._running, self._stopped = True, False
        self._background = [
            asyncio.create_task(self._appender.run(), name="realtime-append"),
            asyncio.create_task(self._look_loop(), name="realtime-look"),
            asyncio.create_task(self._peers.run(), name="realtime-peers"),
            asyncio.create_task(self._seats.run(), name="realtime-seats"),
        ]
        for task in self._background:
            task.add_done_callback(_report_death)

    async def stop(self) -> None:
        """Drain, wait for messages that were accepted, cut who is left, give the lease back. Safe to call again.

        Cancelled while draining it leaves everything running; the next call finishes, whatever this one has done.
        """
        if self._stopped:
            return
        if self._running:
            self.drain()
            patience = self.settings.drain_spread_s + _DRAIN_PATIENCE_S + self.settings.close_grace_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._all_gone.wait()
        self._running = False
        for client in list(self._clients.values()):
            client.transport.abort()
            self.closed(client)
        pending = [*self._background, *self._tasks]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self._appender.give_up()
        await self._seats.stop()
        await self._peers.stop()
        self._stopped = True

    def drain(self) -> None:
        """Ask every socket, spread over `drain_spread_s`, to come back; go on accepting. May be called again."""
        clients = list(self._clients.values())
        loop = asyncio.get_running_loop()
        for index, client in enumerate(clients):
            after = self.settings.drain_spread_s * index / len(clients)
            loop.call_later(after, self._drain_one, client, _DRAIN_PATIENCE_S)

    def _drain_one(self, client: Client, patience: float) -> None:
        if patience > 0 and self._core.unanswered(client.key):
            asyncio.get_running_loop().call_later(_DRAIN_STEP_S, self._drain_one, client, patience - _DRAIN_STEP_S)
            return
        self._run(self._core.close(client.key, CloseCode.DRAINING, "This server is going.", self._clock.now()))

    @property
    def sockets(self) -> int:
        """How many connections are open, those whose ticket is being checked included."""
        return len(self._clients)

    @property
    def healthy(self) -> bool:
        """Whether messages are being written and other processes heard."""
        return self._running and not any(task.done() for task in self._background)

    @property
    def bus_healthy(self) -> bool:
        """Whether hints to and from other processes travel."""
        return self._bus.healthy

    # what HTTP calls

    def recent(self, slug: str, user_id: str, limit: int) -> Page | None:
        """The newest messages of a room from memory, for a user who may read them; None: ask the store."""
        return self._core.hall.recent(slug, user_id, limit)

    async def store_event(self, new: NewEvent) -> Appended:
        """Store an event that no socket sent, and deliver it like any other. Raises the Refusal."""
        return await self._appender.store(new)

    def close_session(self, session_id: str) -> None:
        """The session has ended: its sockets close at once, and tickets of it being checked let nobody in."""
        now, tick = self._clock.now(), self._clock.monotonic()
        self._run(self._core.ended(session_id, CloseCode.SESSION_ENDED, now, tick))
        self._bus.publish(Look())

    def user_changed(self, user: User) -> None:
        """A user was banned, or has another role: their sockets close, or know it, here and everywhere, at once."""
        self._run(self._core.user_changed(user, self._clock.now(), self._clock.monotonic()))
        self._bus.publish(Look())

    # what the socket adapter calls

    def opened(
        self,
        transport: Transport,
        ticket: str | None,
        pause: Callable[[], None],
        resume: Callable[[], None],
        *,
        has_origin: bool,
    ) -> Client:
        """A socket was upgraded. The adapter keeps what is returned and gives it back with every call."""
        key = next(self._keys)
        client = self._clients[key] = Client(key, transport, pause, resume)
        client.connected_at = self._clock.now()
        self._all_gone.clear()
        client.auth_timer = asyncio.get_running_loop().call_later(self.settings.auth_timeout_s, self._auth_expired, key)
        tick, jitter = self._clock.monotonic(), random.random()  # noqa: S311 - it only spreads heartbeats
        self._run(self._core.opened(key, ticket, has_origin=has_origin, tick=tick, jitter=jitter))
        return client

    def received(self, client: Client, frame: bytes) -> None:
        """A whole text message."""
        self._run(self._core.received(client.key, frame, *self._times()))

    def breach(self, client: Client, code: CloseCode, message: str) -> None:
        """The peer broke a rule of the connection itself."""
        self._run(self._core.close(client.key, code, message, self._clock.now()))

    def closed(self, client: Client) -> None:
        """The connection is lost or ended; calling it twice is fine."""
        if self._clients.get(client.key) is not client:
            return
        self._run(self._core.closed(client.key))
        del self._clients[client.key]
        self._outbox.forget(client)
        if client.auth_timer is not None:
            client.auth_timer.cancel()
        if client.admitted:
            self._metrics.socket_closed(client.reason)
            lasted = (self._clock.now() - client.connected_at) // 1000
            log.info("socket closed", extra={"connection": client.key, "reason": client.reason, "ms": lasted})
        if not self._clients:
            self._all_gone.set()

    def refused_origin(self) -> None:
        """A page that may not open sockets tried to."""
        self._metrics.refused("Origin")

    def _auth_expired(self, key: int) -> None:
        self._run(self._core.auth_expired(key, self._clock.now()))

    # effects

    def _run(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._do[type(effect)](effect)

    def _with(self, key: int, act: Callable[[Client], None]) -> None:
        client = self._clients.get(key)
        if client is not None:
            act(client)

    def _send(self, effect: do.Send) -> None:
        client = self._clients.get(effect.key)
        if client is not None:
            if effect.droppable and client.choked:
                self._metrics.dropped("ephemeral", 1)
                return
            self._outbox.send(client, framed(effect.frame))
        if effect.code:
            self._metrics.nacked(effect.event_type, effect.code)
        elif effect.event_type:
            self._metrics.acked(effect.event_type)

    def _broadcast(self, effect: do.Broadcast) -> None:
        self._outbox.broadcast(effect.room_id, framed(effect.frame), soon=effect.soon)

    def _close(self, effect: do.Close) -> None:
        reason = REASONS.get(effect.code, "Closed")
        if effect.refused:
            self._metrics.refused(reason)
        client = self._clients.get(effect.key)
        if client is None or client.closing:
            return
        client.reason = reason
        if effect.frame is not None:
            self._outbox.send(client, framed(effect.frame))
        self._outbox.send(client, framed(effect.code.to_bytes(2, "big") + reason.encode(), CLOSE))
        client.closing = True
        client.resume()  # its answer to the close has to be read
        # A peer that does not answer the close is cut; one that does has ended the connection before.
        asyncio.get_running_loop().call_later(self.settings.close_grace_s, client.transport.abort)

    def _too_slow(self, socket: Socket) -> None:
        self._metrics.dropped("slow_consumer", 1)
        close = self._core.close(socket.key, CloseCode.SLOW_CONSUMER, "Too much is waiting.", self._clock.now())
        self._run(close)

    def _flushed(self, frames: int, took: float) -> None:
        if frames:
            self._metrics.delivered(frames)
            self._appender.fan_out_s = took
        if self._appender.stored_at:
            now = self._clock.monotonic()
            for since in self._appender.stored_at:
                self._metrics.delivery_seconds(now - since)
            self._appender.stored_at = []

    def _presence_changed(self, effect: do.PresenceChanged) -> None:
        self._presence.wish(effect)
        if self._presence.wanted:
            self._spawn(self._presence.write())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _times(self) -> tuple[int, float]:
        return self._clock.now(), self._clock.monotonic()

    def _admitted(self, key: int) -> None:
        client = self._clients.get(key)
        if client is None or client.admitted:
            return
        client.admitted = True
        self._metrics.socket_opened()
        if client.auth_timer is not None:
            client.auth_timer.cancel()
            client.auth_timer = None
        log.info("socket opened", extra={"connection": key, "user_id": self._core.who(key)})

    async def _look_loop(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._run(self._core.look_again(self._clock.now(), self._clock.monotonic()))
            self._seats.tick()
            self._metrics.voice_seats(*self._core.seats.counts)
            if self._presence.wanted:
                self._spawn(self._presence.write())


def _report_death(task: asyncio.Task[None]) -> None:
    """These tasks end only when they are cancelled; anything else is a bug: `healthy` shows it, the log explains it."""
    if not task.cancelled() and task.exception() is not None:
        log.error("%s died; this process must be restarted", task.get_name(), exc_info=task.exception())
