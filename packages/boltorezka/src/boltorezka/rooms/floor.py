"""What every handler of a request works with: the sockets and the rooms of this process."""

from __future__ import annotations

from collections.abc import Callable

from boltorezka import protocol
from boltorezka.errors import NoActiveRoom
from boltorezka.rooms.connection import Connection, Limits
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.hall import Hall
from boltorezka.rooms.live import LiveRoom
from boltorezka.rooms.seating import Seating, Voice


class Floor:
    """The state of one process's rooms. `connections` holds every socket, `of` finds those that were let in."""

    def __init__(self, limits: Limits, voice: Voice | None = None) -> None:
        self.limits = limits
        self.hall = Hall()
        self.connections: dict[int, Connection] = {}
        self.seating = Seating(self.hall, self.connections, voice or Voice())
        self._theirs: dict[str, dict[int, Connection]] = {}  # by user and by session

    def admit(self, conn: Connection) -> None:
        """The socket belongs to a user and a session from now on."""
        for who in (conn.user_id, conn.session_id):
            self._theirs.setdefault(who, {})[conn.key] = conn

    def forget(self, key: int) -> Connection | None:
        """The socket is gone; the state it had, if it was known."""
        conn = self.connections.pop(key, None)
        if conn is not None and conn.user_id:
            for who in (conn.user_id, conn.session_id):
                theirs = self._theirs[who]
                del theirs[key]
                if not theirs:
                    del self._theirs[who]
        return conn

    def of(self, who: str) -> list[Connection]:
        """Every socket of the user, or of the session, of this id."""
        return list(self._theirs.get(who, {}).values())

    def joined(self, conn: Connection) -> LiveRoom:
        """The room the socket is in. Raises NoActiveRoom."""
        live = self.hall.room_of(conn)
        if live is None:
            raise NoActiveRoom("Join a room first.")
        return live


# (floor, socket, request, wall microseconds, monotonic seconds, effects): may raise a Refusal, then nothing was done.
Handler = Callable[[Floor, Connection, protocol.Request, int, float, list[Effect]], None]
