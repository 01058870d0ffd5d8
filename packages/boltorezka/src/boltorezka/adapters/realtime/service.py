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

from boltorezka.adapters.realtime.outbox import CLOSE, Outbox, Socket, Transport, framed
from boltorezka.adapters.realtime.peers import Peers
from boltorezka.adapters.realtime.presence import PresenceWriter
from boltorezka.adapters.realtime.settings import RealtimeSettings
from boltorezka.errors import RateLimited, Refusal, Unavailable
from boltorezka.ports import Clock, Ids, NewEvent, RealtimeMetrics, Store
from boltorezka.protocol import REASONS, CloseCode
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import Limits
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.live import READ_LIMIT
from boltorezka.rooms.model import Event, EventKind

log = logging.getLogger("boltorezka.realtime")

# How often heartbeats that are due, gaps and leftovers are looked at: the heartbeat's own precision.
_LOOK_S = 1.0
# When fewer messages wait than came together before, their fellows are on their way: a commit and 200 writes are saved
# for each that is waited for. A fifth of what a commit itself takes on a common disk.
_GATHER_S = 0.001
# A draining socket whose messages are being stored is given this long for its acks, in steps.
_DRAIN_PATIENCE_S = 1.0
_DRAIN_STEP_S = 0.02


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


class Realtime:
    """See `start`, `stop`, `drain`; the socket adapter calls `opened`, `received` and `closed`."""

    def __init__(
        self, store: Store, clock: Clock, ids: Ids, metrics: RealtimeMetrics, settings: RealtimeSettings, instance: str
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self.settings = settings
        self._core = RoomsCore(
            Limits(settings.pre_auth_frames, settings.pre_auth_bytes, settings.heartbeat_s, settings.unanswered)
        )
        self._presence = PresenceWriter(store, instance)
        self._peers = Peers(store, clock, self._core, self._presence, instance, settings, self._run)
        self._clients: dict[int, Client] = {}
        self._keys = itertools.count(1)
        self._appends: list[tuple[do.Append, NewEvent, float]] = []
        self._append_wanted = asyncio.Event()
        self._appending = False
        self._stored_at: list[float] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._background: list[asyncio.Task[None]] = []
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self._running = False
        self._outbox: Outbox
        self._do: dict[type[Effect], Callable[[Any], None]] = {
            do.Send: self._send,
            do.Broadcast: self._broadcast,
            do.Append: self._append,
            do.Enter: lambda effect: self._with(effect.key, lambda it: self._outbox.enter(it, effect.room_id)),
            do.Exit: lambda effect: self._with(effect.key, lambda it: self._outbox.exit(it, effect.room_id)),
            do.Close: self._close,
            do.PauseReading: lambda effect: self._with(effect.key, lambda it: it.pause()),
            do.ResumeReading: lambda effect: self._with(effect.key, lambda it: it.resume()),
            do.CheckTicket: lambda effect: self._spawn(self._check_ticket(effect)),
            do.FindRoom: lambda effect: self._spawn(self._find_room(effect)),
            do.AddMember: lambda effect: self._spawn(self._add_member(effect)),
            do.ReadLog: lambda effect: self._spawn(self._read_log(effect)),
            do.PresenceChanged: self._presence_changed,
        }

    # life

    async def start(self) -> None:
        """Take the lease and begin; raises Unavailable when the store cannot be written."""
        self._outbox = Outbox(self.settings.send_queue_bytes, self._too_slow, self._flushed)
        await self._peers.start()
        self._running = True
        self._background = [
            asyncio.create_task(self._append_loop(), name="realtime-append"),
            asyncio.create_task(self._look_loop(), name="realtime-look"),
            asyncio.create_task(self._peers.run(), name="realtime-peers"),
        ]
        for task in self._background:
            task.add_done_callback(_report_death)

    async def stop(self) -> None:
        """Drain, wait for messages that were accepted, cut who is left, give the lease back. Safe to call again.

        Cancelled while draining it leaves everything running; the next call finishes.
        """
        if not self._running:
            return
        self.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_spread_s + _DRAIN_PATIENCE_S + self.settings.close_grace_s):
                await self._all_gone.wait()
        self._running = False
        for client in list(self._clients.values()):
            client.transport.abort()
            self.closed(client)
        pending = [*self._background, *self._tasks]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._peers.stop()

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

    def recent(self, room_id: str, limit: int) -> tuple[str, int, tuple[Event, ...]] | None:
        """(epoch, head, newest events, oldest first) of a room somebody here is in; None: ask the store."""
        return self._core.hall.recent(room_id, limit)

    def close_session(self, session_id: str, code: int = CloseCode.SESSION_ENDED) -> None:
        """The session has ended: its sockets close at once, and tickets of it being checked let nobody in."""
        self._run(self._core.ended(session_id, CloseCode(code), self._clock.now(), self._clock.monotonic()))

    def close_user(self, user_id: str, code: int = CloseCode.BANNED) -> None:
        """The user may no longer be here: as `close_session`, for all their sessions."""
        self.close_session(user_id, code)

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
        self._run(self._core.received(client.key, frame, self._clock.now()))

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
            self._outbox.send(client, framed(effect.frame))
        if effect.code:
            self._metrics.nacked(effect.event_type, effect.code)
        elif effect.event_type:
            self._metrics.acked(effect.event_type)

    def _broadcast(self, effect: do.Broadcast) -> None:
        self._outbox.broadcast(effect.room_id, framed(effect.frame))

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

    def _flushed(self, frames: int) -> None:
        if frames:
            self._metrics.delivered(frames)
        if self._stored_at:
            now = self._clock.monotonic()
            for since in self._stored_at:
                self._metrics.delivery_seconds(now - since)
            self._stored_at = []

    def _presence_changed(self, effect: do.PresenceChanged) -> None:
        self._presence.wish(effect)
        if self._presence.wanted:
            self._spawn(self._presence.write())

    # messages

    def _append(self, effect: do.Append) -> None:
        if len(self._appends) >= self.settings.append_queue:
            busy = RateLimited("The server is storing as fast as it can; try again in a second.", retry_after_ms=1000)
            self._run(self._core.append_failed([effect], busy, self._clock.now()))
            return
        new = NewEvent(
            effect.room_id, EventKind.MESSAGE, self._ids.new_id(), effect.user_id, effect.user_name, effect.text,
            self._clock.now(), effect.request_id, effect.idempotency_key,
        )  # fmt: skip
        self._appends.append((effect, new, self._clock.monotonic()))
        self._append_wanted.set()

    async def _append_loop(self) -> None:
        """One batch at a time: what comes while a batch is being committed is the next one."""
        last = 0
        while True:
            await self._append_wanted.wait()
            if len(self._appends) < last:
                await asyncio.sleep(_GATHER_S)
            self._append_wanted.clear()
            last = len(self._appends)
            batch, self._appends = self._appends, []
            asked = [effect for effect, _, _ in batch]
            try:
                answers = await self._store.append([new for _, new, _ in batch])
            except Refusal as error:
                self._run(self._core.append_failed(asked, error, self._clock.now()))
            except Exception:
                log.exception("a batch of messages was not stored")
                self._run(self._core.append_failed(asked, _broken(), self._clock.now()))
            else:
                self._stored_at += [since for _, _, since in batch]
                self._run(self._core.appended(asked, answers, self._clock.now()))

    # questions to the store

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
            effects = failed(_broken())
        self._run(effects)

    async def _check_ticket(self, effect: do.CheckTicket) -> None:
        async def ask() -> Sequence[Effect]:
            grant = await self._store.take_ticket(effect.ticket_hash)
            found = None if grant is None else await self._store.session(grant.session_id)
            client = self._clients.get(effect.key)
            if client is None:
                return ()
            now = self._clock.now()
            effects = self._core.ticket_checked(effect.key, grant, found, now, client.connected_at)
            if self._core.is_open(effect.key) and not client.admitted:
                client.admitted = True
                self._metrics.socket_opened()
                if client.auth_timer is not None:
                    client.auth_timer.cancel()
                    client.auth_timer = None
            return effects

        await self._asked(ask(), lambda error: self._core.ticket_failed(effect.key, error, self._clock.now()))

    async def _find_room(self, effect: do.FindRoom) -> None:
        async def ask() -> Sequence[Effect]:
            room = await self._store.room_by_slug(effect.slug)
            is_member = room is not None and await self._store.is_member(room.id, effect.user_id)
            return self._core.room_found(effect.key, room, self._clock.now(), is_member=is_member)

        await self._asked(ask(), lambda error: self._core.join_failed(effect.key, error, self._clock.now()))

    async def _add_member(self, effect: do.AddMember) -> None:
        async def ask() -> Sequence[Effect]:
            await self._store.add_member(effect.room_id, effect.user_id, self._clock.now())
            room = await self._store.room_by_slug(effect.slug)
            return self._core.room_found(effect.key, room, self._clock.now(), is_member=True)

        await self._asked(ask(), lambda error: self._core.join_failed(effect.key, error, self._clock.now()))

    async def _read_log(self, effect: do.ReadLog) -> None:
        async def ask() -> Sequence[Effect]:
            events = await self._store.delta(effect.room_id, effect.after, READ_LIMIT)
            return self._core.log_read(effect, events, self._clock.now())

        await self._asked(ask(), lambda error: self._core.log_failed(effect, error, self._clock.now()))

    async def _look_loop(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._run(self._core.look_again(self._clock.now(), self._clock.monotonic()))
            if self._presence.wanted:
                self._spawn(self._presence.write())


def _report_death(task: asyncio.Task[None]) -> None:
    """These tasks end only when they are cancelled; anything else is a bug: `healthy` shows it, the log explains it."""
    if not task.cancelled() and task.exception() is not None:
        log.error("%s died; this process must be restarted", task.get_name(), exc_info=task.exception())


def _broken() -> Refusal:
    return Unavailable("Something broke in the server; it was logged.")
