"""The heart of the sockets: (state, event, now) in, effects out.

A socket is EXPECTING a ticket, CHECKING it, OPEN, then CLOSED. Frames that come before it is open wait and are served
in order. Requests are served one after the other; a join takes a while (the room has to be found, its log read), and
what the socket sends meanwhile waits too. Messages do not wait for one another: each is acked when it is durable.

Times: `now` is wall time in microseconds, `tick` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from boltorezka import protocol
from boltorezka.auth.model import Session, TicketGrant
from boltorezka.errors import RateLimited, Refusal, ValidationError
from boltorezka.protocol import CloseCode
from boltorezka.rooms import calls, chat, subscriptions
from boltorezka.rooms import effects as do
from boltorezka.rooms.admission import Admission, refused
from boltorezka.rooms.connection import CHAT, ROOMS, SIGNS, Connection, Limits, Stage, ack, close, refuse
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.floor import Floor, Handler
from boltorezka.rooms.hints import Committed, Look, Relay
from boltorezka.rooms.limits import TokenBucket
from boltorezka.rooms.live import LiveRoom
from boltorezka.rooms.model import Appended, Entrance, Event, Stored, Unchanged, User
from boltorezka.rooms.presence import Person
from boltorezka.rooms.seat_changes import SeatChanges
from boltorezka.rooms.seating import Voice

# A drained socket may come back at once: the ingress has switched already, and the closes themselves are spread.
RETRY_AFTER_DRAIN_MS = 100
# A client that heeds `retryAfterMs` never comes near; one that does not costs more than it is worth.
_MAX_OVERRUN = 200
# A frame costs a token more for each of these: a burst of the largest ones stays below what may wait for a socket, so
# that nobody can have the others of a room cut as slow consumers. What people type and browsers signal is smaller.
_TOKEN_BYTES = 4096


class RoomsCore:
    """All sockets and rooms of one process. Single-threaded; every method returns what is to be done, in order."""

    def __init__(self, limits: Limits, voice: Voice | None = None) -> None:
        self._limits = limits
        self._floor = Floor(limits, voice)
        self.seats = SeatChanges(self._floor, self._pump)
        self._connections = self._floor.connections
        self.hall = self._floor.hall
        self._admission = Admission(self._floor)

    # coming and going

    def opened(self, key: int, ticket: str | None, *, has_origin: bool, tick: float, jitter: float) -> list[Effect]:
        """A socket is there. `jitter` in [0, 1) spreads the heartbeats of sockets that came together."""
        beat = tick + self._limits.heartbeat_s * jitter
        conn = self._connections[key] = Connection(key, has_origin=has_origin, since=tick, next_beat=beat)
        return [] if ticket is None else [self._admission.check(conn, ticket)]

    def ticket_checked(
        self,
        key: int,
        grant: TicketGrant | None,
        found: tuple[Session, User] | None,
        now: int,
        tick: float,
    ) -> list[Effect]:
        """What the ticket stood for; both None when there is no such ticket."""
        conn = self._connections.get(key)
        if conn is None or conn.stage is not Stage.CHECKING:
            return []
        out = self._admission.checked(conn, grant, found, now)
        self._pump(conn, now, tick, out)
        return out

    def ticket_failed(self, key: int, error: Refusal, now: int) -> list[Effect]:
        """The ticket could not be checked: the client may come back with a new one."""
        conn = self._connections.get(key)
        if conn is None or conn.stage is not Stage.CHECKING:
            return []
        return refused(conn, CloseCode.TRY_LATER, error.message, now)

    def auth_expired(self, key: int, now: int) -> list[Effect]:
        """The time to come in is over."""
        conn = self._connections.get(key)
        return [] if conn is None else self._admission.expired(conn, now)

    def closed(self, key: int) -> list[Effect]:
        """The socket is gone."""
        out: list[Effect] = []
        conn = self._floor.forget(key)
        if conn is not None:
            conn.stage, conn.waiting = Stage.CLOSED, None
            self.hall.leave(conn, out)
            self.seats.socket_gone(conn, out)
        return out

    def close(self, key: int, code: CloseCode, message: str, now: int) -> list[Effect]:
        """Send a socket away; it is out of its room at once."""
        conn = self._connections.get(key)
        if conn is None or conn.stage is Stage.CLOSED:
            return []
        out: list[Effect] = []
        if code is CloseCode.DRAINING:
            out.append(do.Send(key, protocol.encode(protocol.ServerDraining(RETRY_AFTER_DRAIN_MS))))
            out.append(do.Close(key, code))
        else:
            out.append(close(key, code, message, now))
        conn.stage, conn.waiting = Stage.CLOSED, None
        self.hall.leave(conn, out)
        self.seats.socket_gone(conn, out, sent_away=code in {CloseCode.BANNED, CloseCode.SESSION_ENDED})
        return out

    def ended(self, who: str, code: CloseCode, now: int, tick: float) -> list[Effect]:
        """A session (or user) of this id has ended: its sockets close, and none that is being checked comes in."""
        self._admission.ended(who, tick)
        sentence = "This account is banned." if code is CloseCode.BANNED else "The session has ended; sign in again."
        out: list[Effect] = []
        for conn in self._floor.of(who):
            out += self.close(conn.key, code, sentence, now)
        self.seats.ended(who, out)
        return out

    def user_changed(self, user: User, now: int, tick: float) -> list[Effect]:
        """A user's role or ban is different now: a ban closes their sockets, a role counts from here on."""
        if user.banned:
            return self.ended(user.id, CloseCode.BANNED, now, tick)
        for conn in self._floor.of(user.id):
            conn.role = user.role
        return []

    def is_open(self, key: int) -> bool:
        """Whether the socket was let in and not sent away."""
        conn = self._connections.get(key)
        return conn is not None and conn.stage is Stage.OPEN

    def unanswered(self, key: int) -> int:
        """How many of the socket's messages are being stored."""
        conn = self._connections.get(key)
        return 0 if conn is None else conn.unanswered

    def who(self, key: int) -> str:
        """The user of a socket, empty before it was let in."""
        conn = self._connections.get(key)
        return "" if conn is None else conn.user_id

    # what a socket says

    def received(self, key: int, frame: bytes, now: int, tick: float) -> list[Effect]:
        """A text frame."""
        conn = self._connections.get(key)
        if conn is None or conn.stage is Stage.CLOSED:
            return []
        if conn.stage is Stage.EXPECTING:
            return self._admission.first(conn, frame, now)
        out: list[Effect] = []
        if conn.stage is Stage.OPEN and not conn.busy:
            self._serve(conn, frame, now, tick, out)
            return out
        conn.wait(frame)
        if conn.overfull(self._limits):
            if conn.stage is Stage.CHECKING:
                return refused(conn, CloseCode.POLICY, "Too much was sent before the ticket was checked.", now)
            if not conn.paused:
                conn.paused = True
                out.append(do.PauseReading(key))
        return out

    def _pump(self, conn: Connection, now: int, tick: float, out: list[Effect]) -> None:
        """Serve what waited, as far as possible."""
        while conn.waiting and conn.stage is Stage.OPEN and not conn.busy:
            frame = conn.waiting.pop(0)
            conn.waiting_bytes -= len(frame)
            self._serve(conn, frame, now, tick, out)
        if not conn.waiting:
            conn.waiting = None
            if conn.paused:
                conn.paused = False
                out.append(do.ResumeReading(conn.key))

    def _serve(self, conn: Connection, frame: bytes, now: int, tick: float, out: list[Effect]) -> None:
        request = protocol.decode(frame)
        event = request.event_type if isinstance(request, protocol.Refused) else request.said.EVENT
        try:
            self._limit(conn, request, len(frame), tick)
            if isinstance(request, protocol.Refused):
                raise request.error
            _HANDLERS[type(request.said)](self._floor, conn, request, now, tick, out)
        except Refusal as error:
            out.append(refuse(conn.key, request.request_id, event, error, now))
            if conn.overrun > _MAX_OVERRUN:
                out += self.close(conn.key, CloseCode.POLICY, "Too many frames came too fast, for too long.", now)

    def _limit(self, conn: Connection, request: protocol.Request | protocol.Refused, size: int, tick: float) -> None:
        """Take the tokens this frame costs. Raises RateLimited; then it cost none but the connection's own."""
        if conn.frames is None:
            conn.frames = TokenBucket(self._limits.frames.per_s, self._limits.frames.burst)
        wait = conn.frames.take(tick)
        if not wait and isinstance(request, protocol.Request):
            name = _LIMITED.get(type(request.said))
            if name is not None:
                said = request.said  # each room is a read of its own
                cost = len(said.rooms) if isinstance(said, protocol.Resume) else 1 + size // _TOKEN_BYTES
                wait = conn.bucket(name, self._limits.rates).take(tick, cost)
        if wait:
            conn.overrun += 1
            raise RateLimited("Too many requests came too fast; wait a moment.", retry_after_ms=int(wait * 1000) + 1)
        conn.overrun = 0

    # what the store answers

    def room_found(self, key: int, entrance: Entrance | None, now: int, tick: float) -> list[Effect]:
        """The room a socket looks for, as its user finds it."""
        conn = self._visiting(key)
        if conn is None:
            return []
        out: list[Effect] = []
        try:
            live = subscriptions.found(self._floor, conn, entrance, out)
        except Refusal as error:
            return self.visit_failed(key, error, now, tick)
        if live is not None:
            self._go_on(live, now, tick, out)
        return out

    def _visiting(self, key: int) -> Connection | None:
        conn = self._connections.get(key)
        return None if conn is None or conn.stage is not Stage.OPEN or conn.visit is None else conn

    def visit_failed(self, key: int, error: Refusal, now: int, tick: float) -> list[Effect]:
        """The room cannot be looked into; the socket stays where it was."""
        conn = self._visiting(key)
        out: list[Effect] = []
        if conn is not None and subscriptions.failed(conn, error, now, out):
            self._pump(conn, now, tick, out)
        return out

    def log_read(self, asked: do.ReadLog, events: Sequence[Event], now: int, tick: float) -> list[Effect]:
        """What the log has after the position that was asked for."""
        out: list[Effect] = []
        live = self.hall.read(asked, events, out)
        if live is not None:
            self._go_on(live, now, tick, out)
        return out

    def log_failed(self, asked: do.ReadLog, error: Refusal, now: int, tick: float) -> list[Effect]:
        """The log could not be read: visits fail, the gap stays and is tried again at the next `look_again`."""
        out: list[Effect] = []
        for conn in self.hall.give_up(asked):
            out += self.visit_failed(conn.key, error, now, tick)
        return out

    def appended(self, batch: Sequence[do.Append], answers: Sequence[Appended], now: int, tick: float) -> list[Effect]:
        """What became of events: one answer each, in order."""
        out: list[Effect] = []
        fresh: dict[str, list[Event]] = {}
        for asked, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Stored) and not answer.duplicate:
                fresh.setdefault(asked.room_id, []).append(answer.event)
        for room_id, events in fresh.items():
            self.seats.removed(events, out)
            live = self.hall.offer(room_id, events, out)
            if live is None:
                out.append(do.Publish(Look()))
            else:
                out.append(do.Publish(Committed(room_id, live.feed.epoch, tuple(events))))
                self._go_on(live, now, tick, out)
        for asked, answer in zip(batch, answers, strict=True):
            self._answer(asked, answer, now, tick, out)
        return out

    def append_failed(self, batch: Sequence[do.Append], error: Refusal, now: int, tick: float) -> list[Effect]:
        """The batch could not be stored, or nobody knows whether it was."""
        out: list[Effect] = []
        for asked in batch:
            self._answer(asked, error, now, tick, out)
        return out

    def _answer(self, asked: do.Append, answer: Appended, now: int, tick: float, out: list[Effect]) -> None:
        conn = self._connections.get(asked.key)
        if conn is None:
            return
        if asked.event_type == protocol.RoomJoin.EVENT:
            if isinstance(answer, Refusal):
                out += self.visit_failed(asked.key, answer, now, tick)
            else:
                subscriptions.member_now(conn, out)
            return
        conn.unanswered -= 1
        if isinstance(answer, Refusal):
            out.append(refuse(asked.key, asked.request_id, asked.event_type, answer, now))
        elif isinstance(answer, Unchanged):
            out += ack(asked.key, asked.request_id, asked.event_type, now)
        else:
            behind = self.hall.again(conn, answer.event, out) if answer.duplicate else None
            if behind is not None:
                self._go_on(behind, now, tick, out)
            out += ack(
                asked.key, asked.request_id, asked.event_type, now, message_id=answer.event.ref or answer.event.id,
                seq=answer.event.seq, idempotency_key=asked.idempotency_key, duplicate=answer.duplicate,
            )  # fmt: skip

    def read_set(self, asked: do.SetRead, seq: int, now: int) -> list[Effect]:
        """A read pointer is at this seq now."""
        return chat.read_set(self._floor, asked, seq, now)

    def read_failed(self, asked: do.SetRead, error: Refusal, now: int) -> list[Effect]:
        """A read pointer was not moved."""
        return [refuse(asked.key, asked.request_id, protocol.RoomRead.EVENT, error, now)]

    # what other processes say

    def committed(self, hint: Committed, now: int, tick: float) -> list[Effect]:
        """Another process stored these."""
        out: list[Effect] = []
        self.seats.removed(hint.events, out)
        live = self.hall.offer(hint.room_id, hint.events, out, hint.epoch)
        if live is not None:
            self._go_on(live, now, tick, out)
        return out

    def relayed(self, hint: Relay) -> list[Effect]:
        """Another process passes an ephemeral frame on."""
        if hint.seats:
            return self.seats.relayed(hint)
        out: list[Effect] = []
        chat.relayed(self._floor, hint, out)
        return out

    def heads(self, heads: Mapping[str, tuple[str, int]], now: int, tick: float) -> list[Effect]:
        """Which epoch the logs have and how far they reach, by room: what another process wrote is read from here."""
        out: list[Effect] = []
        for live in self.hall.rumour(heads):
            self._go_on(live, now, tick, out)
        return out

    def presence_seen(self, elsewhere: Iterable[Person]) -> list[Effect]:
        """Everybody present through other processes."""
        out: list[Effect] = []
        self.hall.observe(elsewhere, out)
        return out

    def look_again(self, now: int, tick: float) -> list[Effect]:
        """The regular look: heartbeats that are due, sessions that ran out, gaps whose read failed, empty rooms."""
        out: list[Effect] = []
        for conn in list(self._connections.values()):
            if conn.stage is Stage.OPEN and conn.next_beat <= tick:
                conn.next_beat = tick + self._limits.heartbeat_s
                if conn.expires_at <= now:
                    out += self.close(conn.key, CloseCode.SESSION_ENDED, "The session has ended; sign in again.", now)
                    continue
                live = self.hall.room_of(conn)
                heads = () if live is None else (protocol.RoomHead(live.room.id, live.feed.head),)
                out.append(do.Send(conn.key, protocol.encode(protocol.ServerHeartbeat(heads))))
        for live in self.hall.unfinished(tick):
            self._go_on(live, now, tick, out)
        self.seats.look_again(now, out)
        return out

    def _go_on(self, live: LiveRoom, now: int, tick: float, out: list[Effect]) -> None:
        """Read the log where there is a gap; serve those whose position is reached, and what they sent meanwhile."""
        for conn in self.hall.advance(live, out):
            if subscriptions.reached(self._floor, conn, live, now, out):
                self._pump(conn, now, tick, out)


def _ping(
    _floor: Floor, conn: Connection, request: protocol.Request, now: int, _tick: float, out: list[Effect]
) -> None:
    out.append(do.Send(conn.key, protocol.encode(protocol.Pong(protocol.iso_time(now)))))
    out += ack(conn.key, request.request_id, protocol.Ping.EVENT, now)


def _auth(
    _floor: Floor, _conn: Connection, _request: protocol.Request, _now: int, _tick: float, _out: list[Effect]
) -> None:
    raise ValidationError("This socket is authenticated already.")


_HANDLERS: dict[type[protocol.Said], Handler] = {
    protocol.Ping: _ping,
    protocol.Auth: _auth,
    **subscriptions.HANDLERS,
    **chat.HANDLERS,
    **calls.HANDLERS,
}
# Typing takes its own token: too much of it is left out, not refused.
_LIMITED: dict[type[protocol.Said], str] = {
    protocol.ChatSend: CHAT,
    protocol.ChatEdit: CHAT,
    protocol.ChatDelete: CHAT,
    protocol.RoomJoin: ROOMS,
    protocol.Resume: ROOMS,
    protocol.RoomRead: SIGNS,
    **calls.LIMITED,
}
