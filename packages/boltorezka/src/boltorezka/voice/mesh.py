"""The engine without a server: every client sends its sound to every other, and we only carry their signals.

It costs the server nothing and the clients an upload each per listener, which is why the seats are few. It can refuse
nobody's sound: a mute is a wish that well-behaved clients obey, and whoever is connected learns the others' addresses.
"""

from __future__ import annotations

from collections.abc import Callable

from boltorezka.errors import TargetNotInRoom
from boltorezka.voice.engine import AnyEvent, Caps, Grant, Message, Stats, Ticket

# Each speaker sends 5 streams of about 40 kbit/s: what a slow home upload still carries beside everything else.
MAX_SEATS = 6


class MeshEngine:
    """Knows who takes part, for the counters; media and signals pass it by (voice.engine.MediaEngine)."""

    caps = Caps("mesh", "mesh", MAX_SEATS, enforces_mute=False, hides_addresses=False)

    def __init__(self) -> None:
        self._sessions: dict[str, str] = {}

    async def start(self, on_event: Callable[[AnyEvent], None]) -> None:
        """There is nothing to start, and nothing that would ever speak on its own."""

    async def stop(self) -> None:
        """Forget everybody."""
        self._sessions.clear()

    async def healthy(self) -> bool:
        """It lives in this process, and no longer than it."""
        return True

    async def join(self, room_id: str, grant: Grant) -> Ticket:
        """The seat is the session: no other id is needed where nobody else keeps one."""
        self._sessions[grant.seat_id] = room_id
        return Ticket(grant.seat_id)

    async def signal(self, session: str, message: Message) -> tuple[Message, ...]:
        """Signals are for other clients, so there is nobody here to answer one."""
        self._known(session)
        raise TargetNotInRoom(f"In a mesh a {message.kind} is for another participant, never for the server.")

    async def set_publish(self, session: str, *, allowed: bool) -> None:  # noqa: ARG002 - the clients obey, not we
        """The wish is in the seat, and the clients are told by the app."""
        self._known(session)

    async def leave(self, session: str) -> None:
        """Forget them."""
        self._sessions.pop(session, None)

    async def kick(self, session: str) -> None:
        """Forget them: the others hang up when they hear of it."""
        await self.leave(session)

    async def stats(self) -> Stats:
        """Who takes part through this process."""
        return Stats(len(set(self._sessions.values())), len(self._sessions))

    def _known(self, session: str) -> None:
        if session not in self._sessions:
            raise TargetNotInRoom("There is no such session.")
