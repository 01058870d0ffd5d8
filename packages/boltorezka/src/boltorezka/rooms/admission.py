"""Who is let in: what a ticket stands for, and who has been sent away meanwhile."""

from __future__ import annotations

import hashlib

from boltorezka import protocol
from boltorezka.auth.model import Session, TicketGrant
from boltorezka.protocol import CloseCode
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import Connection, Stage, ack, close
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.floor import Floor
from boltorezka.rooms.model import User

# Longer than any ticket check: a session that ended during one must not slip in.
_ENDED_KEPT_S = 60.0


class Admission:
    """The way from an upgraded connection to a user's socket."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._ended: dict[str, float] = {}

    def check(self, conn: Connection, ticket: str) -> Effect:
        """Ask what the ticket stands for; what the socket sends meanwhile waits."""
        conn.stage = Stage.CHECKING
        return do.CheckTicket(conn.key, hashlib.sha256(ticket.encode()).digest())

    def first(self, conn: Connection, frame: bytes, now: int) -> list[Effect]:
        """The first frame of a socket that came without a ticket: it must bring it."""
        request = protocol.decode(frame)
        if isinstance(request, protocol.Request) and isinstance(request.said, protocol.Auth):
            conn.request_id = request.request_id
            return [self.check(conn, request.said.ticket)]
        return refused(
            conn, CloseCode.MISSING_TICKET, "The first frame must be `auth`, or the address must have a ticket.", now
        )

    def checked(
        self,
        conn: Connection,
        grant: TicketGrant | None,
        found: tuple[Session, User] | None,
        now: int,
    ) -> list[Effect]:
        """What the ticket stood for; both None when there is no such ticket."""
        refusal = self._judge(conn, grant, found, now)
        if refusal is not None:
            return refused(conn, *refusal, now)
        if found is None:
            raise TypeError("a ticket without a session was let in")
        session, user = found
        conn.stage, conn.session_id, conn.expires_at = Stage.OPEN, session.id, session.expires_at
        conn.user_id, conn.user_name, conn.role = user.id, user.name, user.role
        self._floor.admit(conn)
        beat_ms = int(self._floor.limits.heartbeat_s * 1000)
        at = protocol.iso_time(now)
        ready = protocol.ServerReady(user.id, user.name, at, str(conn.key), beat_ms)
        return [
            do.Send(conn.key, protocol.encode(ready)),
            *ack(conn.key, conn.request_id, protocol.Auth.EVENT, now),
        ]

    def _judge(
        self, conn: Connection, grant: TicketGrant | None, found: tuple[Session, User] | None, now: int
    ) -> tuple[CloseCode, str] | None:
        """Why this ticket lets nobody in, or None."""
        if grant is None or grant.expires_at <= now:
            return CloseCode.INVALID_TICKET, "The ticket is unknown, used or expired."
        if not conn.has_origin and not grant.via_bearer:
            return CloseCode.INVALID_TICKET, "Without an Origin, fetch the ticket with a Bearer token."
        ended = CloseCode.SESSION_ENDED, "The session has ended; sign in again."
        if found is None:
            return ended
        session, user = found
        # Asked first: a ban ends the session too, and signing in again would be the wrong advice.
        if user.banned or self._ended.get(user.id, -1.0) >= conn.since:
            return CloseCode.BANNED, "This account is banned."
        if session.revoked_at is not None or session.expires_at <= now:
            return ended
        return ended if self._ended.get(session.id, -1.0) >= conn.since else None

    def expired(self, conn: Connection, now: int) -> list[Effect]:
        """The time to come in is over."""
        if conn.stage is Stage.CHECKING:
            return refused(conn, CloseCode.TRY_LATER, "The ticket could not be checked in time.", now)
        if conn.stage is Stage.EXPECTING:
            return refused(conn, CloseCode.MISSING_TICKET, "No ticket came in time.", now)
        return []

    def ended(self, who: str, tick: float) -> None:
        """A session (or user) of this id has ended: no ticket of it that is being checked lets anybody in."""
        self._ended = {each: at for each, at in self._ended.items() if at > tick - _ENDED_KEPT_S}
        self._ended[who] = tick


def refused(conn: Connection, code: CloseCode, message: str, now: int) -> list[Effect]:
    """Send a socket away that was never let in."""
    conn.stage, conn.waiting = Stage.CLOSED, None
    return [close(conn.key, code, message, now, refused=True)]
