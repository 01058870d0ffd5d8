"""The heart of the sockets: (state, event, now) in, effects out.

A socket is EXPECTING a ticket, CHECKING it, OPEN, then CLOSED. Frames that come before it is open wait and are served
in order. Requests are served one after the other; a join takes a while (the room has to be found, its log read), and
what the socket sends meanwhile waits too. Messages do not wait for one another: each is acked when it is durable.

Times: `now` is wall time in microseconds, `tick` is monotonic seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from boltorezka import protocol
from boltorezka.auth.model import Session, TicketGrant
from boltorezka.errors import (
    IdempotencyConflict,
    NoActiveRoom,
    RateLimited,
    Refusal,
    RoomNotFound,
    ValidationError,
)
from boltorezka.protocol import CloseCode
from boltorezka.rooms import effects as do
from boltorezka.rooms.access import entered
from boltorezka.rooms.connection import Connection, Limits, Stage, ack, close, refuse
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.hall import Hall
from boltorezka.rooms.live import LiveRoom
from boltorezka.rooms.model import Appended, Conflicting, Event, Room, Stored, User
from boltorezka.rooms.presence import Person

# A drained socket may come back at once: the ingress has switched already, and the closes themselves are spread.
RETRY_AFTER_DRAIN_MS = 100
# Longer than any ticket check: a session that ended during one must not slip in.
_ENDED_KEPT_S = 60.0


class RoomsCore:
    """All sockets and rooms of one process. Single-threaded; every method returns what is to be done, in order."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._connections: dict[int, Connection] = {}
        self.hall = Hall()
        self._ended: dict[str, float] = {}

    # coming and going

    def opened(self, key: int, ticket: str | None, *, has_origin: bool, tick: float, jitter: float) -> list[Effect]:
        """A socket is there. `jitter` in [0, 1) spreads the heartbeats of sockets that came together."""
        beat = tick + self._limits.heartbeat_s * jitter
        conn = self._connections[key] = Connection(key, has_origin=has_origin, since=tick, next_beat=beat)
        return [] if ticket is None else [self._check(conn, ticket)]

    def _check(self, conn: Connection, ticket: str) -> Effect:
        conn.stage = Stage.CHECKING
        return do.CheckTicket(conn.key, hashlib.sha256(ticket.encode()).digest())

    def ticket_checked(
        self, key: int, grant: TicketGrant | None, found: tuple[Session, User] | None, now: int, connected_at: int
    ) -> list[Effect]:
        """What the ticket stood for; both None when there is no such ticket."""
        conn = self._connections.get(key)
        if conn is None or conn.stage is not Stage.CHECKING:
            return []
        refusal = self._judge(conn, grant, found, now)
        if refusal is not None:
            return self._refused(conn, *refusal, now)
        if found is None:
            raise TypeError("a ticket without a session was let in")
        session, user = found
        conn.stage, conn.session_id, conn.expires_at = Stage.OPEN, session.id, session.expires_at
        conn.user_id, conn.user_name = user.id, user.name
        ready = protocol.ServerReady(
            user.id, user.name, protocol.iso_time(connected_at), str(key), int(self._limits.heartbeat_s * 1000)
        )
        out: list[Effect] = [do.Send(key, protocol.encode(ready))]
        out += ack(key, conn.request_id, protocol.Auth.EVENT, now)
        self._pump(conn, now, out)
        return out

    def _judge(
        self, conn: Connection, grant: TicketGrant | None, found: tuple[Session, User] | None, now: int
    ) -> tuple[CloseCode, str] | None:
        """Why this ticket lets nobody in, or None."""
        if grant is None or grant.expires_at <= now:
            return CloseCode.INVALID_TICKET, "The ticket is unknown, used or expired."
        if not conn.has_origin and not grant.via_bearer:
            return CloseCode.INVALID_TICKET, "Without an Origin, fetch the ticket with a Bearer token."
        if found is None or found[0].revoked_at is not None or found[0].expires_at <= now:
            return CloseCode.SESSION_ENDED, "The session has ended; sign in again."
        session, user = found
        if user.banned or self._ended.get(user.id, -1.0) >= conn.since:
            return CloseCode.BANNED, "This account is banned."
        if self._ended.get(session.id, -1.0) >= conn.since:
            return CloseCode.SESSION_ENDED, "The session has ended; sign in again."
        return None

    def ticket_failed(self, key: int, error: Refusal, now: int) -> list[Effect]:
        """The ticket could not be checked: the client may come back with a new one."""
        conn = self._connections.get(key)
        if conn is None or conn.stage is not Stage.CHECKING:
            return []
        return self._refused(conn, CloseCode.TRY_LATER, error.message, now)

    def auth_expired(self, key: int, now: int) -> list[Effect]:
        """The time to come in is over."""
        conn = self._connections.get(key)
        if conn is None or conn.stage not in {Stage.EXPECTING, Stage.CHECKING}:
            return []
        if conn.stage is Stage.CHECKING:
            return self._refused(conn, CloseCode.TRY_LATER, "The ticket could not be checked in time.", now)
        return self._refused(conn, CloseCode.MISSING_TICKET, "No ticket came in time.", now)

    def _refused(self, conn: Connection, code: CloseCode, message: str, now: int) -> list[Effect]:
        conn.stage, conn.waiting = Stage.CLOSED, None
        return [close(conn.key, code, message, now, refused=True)]

    def closed(self, key: int) -> list[Effect]:
        """The socket is gone."""
        out: list[Effect] = []
        conn = self._connections.pop(key, None)
        if conn is not None:
            conn.stage, conn.waiting = Stage.CLOSED, None
            self.hall.leave(conn, out)
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
        return out

    def ended(self, who: str, code: CloseCode, now: int, tick: float) -> list[Effect]:
        """A session (or user) of this id has ended: its sockets close, and none that is being checked comes in."""
        self._ended = {each: at for each, at in self._ended.items() if at > tick - _ENDED_KEPT_S}
        self._ended[who] = tick
        out: list[Effect] = []
        for conn in list(self._connections.values()):
            if who in {conn.session_id, conn.user_id}:
                out += self.close(conn.key, code, "The session has ended; sign in again.", now)
        return out

    def is_open(self, key: int) -> bool:
        """Whether the socket was let in and not sent away."""
        conn = self._connections.get(key)
        return conn is not None and conn.stage is Stage.OPEN

    def unanswered(self, key: int) -> int:
        """How many of the socket's messages are being stored."""
        conn = self._connections.get(key)
        return 0 if conn is None else conn.unanswered

    # what a socket says

    def received(self, key: int, frame: bytes, now: int) -> list[Effect]:
        """A text frame."""
        conn = self._connections.get(key)
        if conn is None or conn.stage is Stage.CLOSED:
            return []
        if conn.stage is Stage.EXPECTING:
            return self._first(conn, frame, now)
        out: list[Effect] = []
        if conn.stage is Stage.OPEN and not conn.busy:
            self._serve(conn, frame, now, out)
            return out
        conn.wait(frame)
        if conn.overfull(self._limits):
            if conn.stage is Stage.CHECKING:
                return self._refused(conn, CloseCode.POLICY, "Too much was sent before the ticket was checked.", now)
            if not conn.paused:
                conn.paused = True
                out.append(do.PauseReading(key))
        return out

    def _first(self, conn: Connection, frame: bytes, now: int) -> list[Effect]:
        request = protocol.decode(frame)
        if isinstance(request, protocol.Request) and isinstance(request.said, protocol.Auth):
            conn.request_id = request.request_id
            return [self._check(conn, request.said.ticket)]
        return self._refused(
            conn, CloseCode.MISSING_TICKET, "The first frame must be `auth`, or the address must have a ticket.", now
        )

    def _pump(self, conn: Connection, now: int, out: list[Effect]) -> None:
        """Serve what waited, as far as possible."""
        while conn.waiting and conn.stage is Stage.OPEN and not conn.busy:
            frame = conn.waiting.pop(0)
            conn.waiting_bytes -= len(frame)
            self._serve(conn, frame, now, out)
        if not conn.waiting:
            conn.waiting = None
            if conn.paused:
                conn.paused = False
                out.append(do.ResumeReading(conn.key))

    def _serve(self, conn: Connection, frame: bytes, now: int, out: list[Effect]) -> None:
        request = protocol.decode(frame)
        if isinstance(request, protocol.Refused):
            out.append(refuse(conn.key, request.request_id, request.event_type, request.error, now))
            return
        try:
            _HANDLERS[type(request.said)](self, conn, request, now, out)
        except Refusal as error:
            out.append(refuse(conn.key, request.request_id, request.said.EVENT, error, now))

    def _ping(self, conn: Connection, request: protocol.Request, now: int, out: list[Effect]) -> None:
        out.append(do.Send(conn.key, protocol.encode(protocol.Pong(protocol.iso_time(now)))))
        out += ack(conn.key, request.request_id, protocol.Ping.EVENT, now)

    def _auth(self, _conn: Connection, _request: protocol.Request, _now: int, _out: list[Effect]) -> None:
        raise ValidationError("This socket is authenticated already.")

    def _join(self, conn: Connection, request: protocol.Request, _now: int, out: list[Effect]) -> None:
        said = request.said
        if not isinstance(said, protocol.RoomJoin):
            raise TypeError("the table of handlers is wrong")
        conn.busy, conn.joining = True, request
        out.append(do.FindRoom(conn.key, said.room_slug, conn.user_id))

    def _part(self, conn: Connection, request: protocol.Request, now: int, out: list[Effect]) -> None:
        live = conn.room
        if live is None:
            raise NoActiveRoom("Join a room first.")
        self.hall.leave(conn, out)
        left = protocol.RoomLeft(live.room.id, live.room.slug)
        out.append(do.Send(conn.key, protocol.encode(left)))
        out += ack(
            conn.key, request.request_id, protocol.RoomLeave.EVENT, now, room_id=live.room.id, room_slug=live.room.slug
        )

    def _chat(self, conn: Connection, request: protocol.Request, _now: int, out: list[Effect]) -> None:
        said = request.said
        if not isinstance(said, protocol.ChatSend):
            raise TypeError("the table of handlers is wrong")
        if conn.room is None:
            raise NoActiveRoom("Join a room first.")
        if "\0" in said.text:
            raise ValidationError("The text must not contain a NUL character.")
        if conn.unanswered >= self._limits.unanswered:
            raise RateLimited("Too many messages are waiting to be stored; wait for their acks.", retry_after_ms=250)
        conn.unanswered += 1
        out.append(
            do.Append(
                conn.key, conn.room.room.id, conn.user_id, conn.user_name, said.text,
                request.request_id, request.idempotency_key,
            )
        )  # fmt: skip

    # what the store answers

    def room_found(self, key: int, room: Room | None, now: int, *, is_member: bool) -> list[Effect]:
        """The room a socket wants to enter, and whether its user is a member."""
        conn = self._connections.get(key)
        if conn is None or conn.stage is not Stage.OPEN or conn.joining is None:
            return []
        try:
            found = entered(room, is_member=is_member)
        except RoomNotFound as error:
            return self.join_failed(key, error, now)
        if not is_member:
            return [do.AddMember(key, found.id, found.slug, conn.user_id)]
        out: list[Effect] = []
        live = self.hall.expect(conn, conn.joining, found)
        self._go_on(live, now, out)
        return out

    def join_failed(self, key: int, error: Refusal, now: int) -> list[Effect]:
        """The room cannot be entered; the socket stays where it was."""
        conn = self._connections.get(key)
        if conn is None or conn.stage is not Stage.OPEN or conn.joining is None:
            return []
        out: list[Effect] = [refuse(key, conn.joining.request_id, protocol.RoomJoin.EVENT, error, now)]
        conn.busy, conn.joining = False, None
        self._pump(conn, now, out)
        return out

    def log_read(self, asked: do.ReadLog, events: Sequence[Event], now: int) -> list[Effect]:
        """What the log has after the position that was asked for."""
        out: list[Effect] = []
        live = self.hall.read(asked, events, out)
        if live is not None:
            self._go_on(live, now, out)
        return out

    def log_failed(self, asked: do.ReadLog, error: Refusal, now: int) -> list[Effect]:
        """The log could not be read: joins fail, the gap stays and is tried again at the next `look_again`."""
        out: list[Effect] = []
        for conn in self.hall.give_up(asked):
            out += self.join_failed(conn.key, error, now)
        return out

    def appended(self, batch: Sequence[do.Append], answers: Sequence[Appended], now: int) -> list[Effect]:
        """What became of messages: one answer each, in order."""
        out: list[Effect] = []
        fresh: dict[str, list[Event]] = {}
        for asked, answer in zip(batch, answers, strict=True):
            self._answered(asked)
            if isinstance(answer, Stored):
                if not answer.duplicate:
                    fresh.setdefault(asked.room_id, []).append(answer.event)
            elif isinstance(answer, Conflicting):
                self._nack(asked, IdempotencyConflict("This idempotencyKey was used for another message."), now, out)
            else:
                self._nack(asked, RoomNotFound("The room is gone."), now, out)
        for room_id, events in fresh.items():
            live = self.hall.offer(room_id, events, out)
            if live is not None:
                self._go_on(live, now, out)
        for asked, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Stored):
                self._ack_message(asked, answer, now, out)
        return out

    def append_failed(self, batch: Sequence[do.Append], error: Refusal, now: int) -> list[Effect]:
        """Nothing of the batch was stored."""
        out: list[Effect] = []
        for asked in batch:
            self._answered(asked)
            self._nack(asked, error, now, out)
        return out

    def _answered(self, asked: do.Append) -> None:
        conn = self._connections.get(asked.key)
        if conn is not None:
            conn.unanswered -= 1

    def _nack(self, asked: do.Append, error: Refusal, now: int, out: list[Effect]) -> None:
        if asked.key in self._connections:
            out.append(refuse(asked.key, asked.request_id, protocol.ChatSend.EVENT, error, now))

    def _ack_message(self, asked: do.Append, stored: Stored, now: int, out: list[Effect]) -> None:
        if asked.key not in self._connections:
            return
        if stored.duplicate:
            out += self.hall.again(asked.key, stored.event)
        out += ack(
            asked.key, asked.request_id, protocol.ChatSend.EVENT, now, message_id=stored.event.id,
            seq=stored.event.seq, idempotency_key=asked.idempotency_key, duplicate=stored.duplicate,
        )  # fmt: skip

    def heads(self, heads: dict[str, int], now: int) -> list[Effect]:
        """How far the logs reach, by room: what another process wrote is read from here."""
        out: list[Effect] = []
        for live in self.hall.rumour(heads):
            self._go_on(live, now, out)
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
                heads = () if conn.room is None else (protocol.RoomHead(conn.room.room.id, conn.room.feed.head),)
                out.append(do.Send(conn.key, protocol.encode(protocol.ServerHeartbeat(heads))))
        for live in self.hall.unfinished(tick):
            self._go_on(live, now, out)
        return out

    def _go_on(self, live: LiveRoom, now: int, out: list[Effect]) -> None:
        """Read the log where there is a gap; let in those whose position is reached; serve what they sent meanwhile."""
        for conn in self.hall.advance(live, now, out):
            self._pump(conn, now, out)


_Handler = Callable[[RoomsCore, Connection, protocol.Request, int, list[Effect]], None]
_HANDLERS: dict[type[protocol.Said], _Handler] = {
    protocol.Ping: RoomsCore._ping,  # noqa: SLF001 - the table is part of the class
    protocol.Auth: RoomsCore._auth,  # noqa: SLF001
    protocol.RoomJoin: RoomsCore._join,  # noqa: SLF001
    protocol.RoomLeave: RoomsCore._part,  # noqa: SLF001
    protocol.ChatSend: RoomsCore._chat,  # noqa: SLF001
}
