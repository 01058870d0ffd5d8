"""Voice seats as this process sees them: which of its sockets hold one, and who has to be told what.

A seat and the text subscription are separate: a socket keeps its seat while it reads another room. So what happens in
a room's voice is told to every socket in that room, and to the sockets that hold a seat of it from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from boltorezka import protocol
from boltorezka.errors import Forbidden, NoActiveRoom
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import Connection, Stage
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.hall import Hall
from boltorezka.rooms.hints import Relay
from boltorezka.voice.engine import Caps
from boltorezka.voice.mesh import MeshEngine
from boltorezka.voice.model import Seat
from boltorezka.voice.seats import SeatBook
from boltorezka.voice.setups import Outcome, Setups
from boltorezka.voice.turn import IceServers

# Later than any hold ends: such a seat is held, and its hold is not over.
UNTIL_KNOWN = 1 << 62

Reason = Literal["left", "lost", "moved", "kicked"]


class Voice(msgspec.Struct, frozen=True):
    """What this process runs voice with; `instance` is its name in the store."""

    instance: str = ""
    caps: Caps = MeshEngine.caps
    ice: IceServers = IceServers()


class Mic:
    """What one seat's microphone and ears do: what was told last, and the newest that was said."""

    __slots__ = ("newest", "sent", "sent_at", "waking")

    def __init__(self, seat: Seat) -> None:
        self.newest = self.sent = (seat.muted, False, seat.audio_muted)
        self.sent_at = float("-inf")
        self.waking = False  # somebody will say when it may be told


class Holder:
    """A socket of ours that holds a seat."""

    __slots__ = ("engine_data", "key", "mic", "room_id", "seat_id", "slug")

    def __init__(self, key: int, seat: Seat, slug: str, engine_data: dict[str, Any]) -> None:
        self.key = key
        self.seat_id = seat.id
        self.room_id = seat.room_id
        self.slug = slug
        self.engine_data = engine_data
        self.mic = Mic(seat)


class Taking:
    """A `call.join` whose seat is being taken; `barred` when its user was sent away meanwhile."""

    __slots__ = ("barred", "request", "room_id", "session_id", "slug")

    def __init__(self, request: protocol.Request, room_id: str, slug: str, session_id: str) -> None:
        self.request = request
        self.session_id = session_id
        self.room_id = room_id
        self.slug = slug
        self.barred = False


class Seating:
    """The book of all seats, the sockets of ours that hold one, and the words about them."""

    def __init__(self, hall: Hall, connections: Mapping[int, Connection], voice: Voice) -> None:
        self.voice = voice
        self.book = SeatBook()
        self.taking: dict[int, Taking] = {}
        self.held: dict[str, str] = {}  # the sessions of seats whose socket is gone, by seat
        self.setups = Setups()
        self._hall = hall
        self._connections = connections
        self._holders: dict[str, Holder] = {}
        self._of_socket: dict[int, Holder] = {}
        self._speaking: set[str] = set()

    # who holds what

    def holder(self, seat_id: str) -> Holder | None:
        """The socket of ours that holds this seat."""
        return self._holders.get(seat_id)

    def holding(self, key: int) -> Holder | None:
        """What this socket holds."""
        return self._of_socket.get(key)

    def holders(self, room_id: str | None = None) -> list[Holder]:
        """Our sockets that hold a seat, of one room or of all."""
        return [each for each in self._holders.values() if room_id is None or each.room_id == room_id]

    def seated(self, conn: Connection) -> tuple[Seat, Holder]:
        """The socket's seat. Raises NoActiveRoom, or Forbidden in a room without a seat."""
        holder = self._of_socket.get(conn.key)
        seat = None if holder is None else self.book.get(holder.seat_id)
        if holder is not None and seat is not None:
            return seat, holder
        if conn.room_id is None:
            raise NoActiveRoom("Join a room first.")
        raise Forbidden("Take a voice seat first, with call.join.")

    def sit(self, conn: Connection, seat: Seat, slug: str, engine_data: dict[str, Any]) -> Holder:
        """From now on this socket holds this seat."""
        self.stand(seat.id)
        holder = self._holders[seat.id] = self._of_socket[conn.key] = Holder(conn.key, seat, slug, engine_data)
        self.held.pop(seat.id, None)
        return holder

    def stand(self, seat_id: str) -> Holder | None:
        """No socket of ours holds this seat any more; which one did."""
        holder = self._holders.pop(seat_id, None)
        if holder is not None:
            del self._of_socket[holder.key]
        return holder

    # what is shown

    def slug(self, room_id: str) -> str | None:
        """The room's name in addresses; None when nobody here has to do with it."""
        live = self._hall.live(room_id)
        if live is not None:
            return live.room.slug
        return next((each.slug for each in self._holders.values() if each.room_id == room_id), None)

    def participants(self, room_id: str) -> tuple[protocol.Participant, ...]:
        """Everybody in voice, those who are held included."""
        return tuple(protocol.Participant(*self._shown(seat)) for seat in self.book.in_room(room_id))

    def _shown(self, seat: Seat) -> tuple[str, str, str, bool, bool, bool, bool]:
        speaking = seat.id in self._speaking
        return seat.user_id, seat.user_name, seat.id, seat.muted, speaking, seat.audio_muted, seat.moderated

    def speaks(self, seat_id: str, *, speaking: bool) -> None:
        """Somebody began or stopped to speak."""
        if speaking and self.book.get(seat_id) is not None:
            self._speaking.add(seat_id)
        else:
            self._speaking.discard(seat_id)

    def initial_state(self, conn: Connection, room_id: str, slug: str) -> Effect:
        """Who is in voice in the room a socket has just joined."""
        return do.Send(conn.key, protocol.encode(protocol.CallInitialState(slug, self.participants(room_id))))

    # who is told

    def tell(self, room_id: str, payload: protocol.Payload, out: list[Effect]) -> None:
        """To everybody of this process who is in the room, or in its voice."""
        frame = protocol.encode(payload)
        live = self._hall.live(room_id)
        if live is not None and live.sockets:
            out.append(do.Broadcast(room_id, frame))
        out += [do.Send(conn.key, frame) for conn in self._elsewhere(room_id)]

    def _elsewhere(self, room_id: str) -> Iterator[Connection]:
        for holder in self._holders.values():
            conn = self._connections.get(holder.key)
            if holder.room_id == room_id and conn is not None and conn.room_id != room_id:
                yield conn

    def send(self, seats: list[Seat], payload: protocol.Payload, out: list[Effect], *, droppable: bool = False) -> int:
        """To the sockets that hold these seats, wherever they are; answers to how many. Held seats hear nothing."""
        frame = protocol.encode(payload)
        connected = [seat for seat in seats if seat.held_until is None]
        away = []
        for seat in connected:
            holder = self._holders.get(seat.id)
            if holder is None:
                away.append(seat.id)
            else:
                out.append(do.Send(holder.key, frame, droppable=droppable))
        if away:
            out.append(do.Publish(Relay(connected[0].room_id, frame.decode(), seats=tuple(away))))
        return len(connected)

    def mic_state(self, seat: Seat, now: int) -> protocol.RelayedMicState | None:
        """What is said of a seat; None when nobody here has to do with its room."""
        slug = self.slug(seat.room_id)
        if slug is None:
            return None
        return protocol.RelayedMicState(
            seat.user_id, seat.user_name, seat.id, seat.room_id, slug, protocol.iso_time(now), muted=seat.muted,
            speaking=seat.id in self._speaking, audio_muted=seat.audio_muted, moderated=seat.moderated,
        )  # fmt: skip

    # coming and going

    def came(self, seat: Seat, out: list[Effect]) -> None:
        """A seat was taken, here or elsewhere: everybody is told."""
        slug = self.slug(seat.room_id)
        if slug is not None:
            self.tell(seat.room_id, protocol.CallJoined(*self._shown(seat), seat.room_id, slug), out)
        for holder in self.holders(seat.room_id):
            if holder.seat_id != seat.id:
                self.count(self.setups.company(holder.seat_id), out)

    def gone(self, seat: Seat, reason: Reason, out: list[Effect]) -> None:
        """A seat is free again: everybody is told, and whoever held it."""
        slug = self.slug(seat.room_id)
        self.book.remove(seat.id)
        self._speaking.discard(seat.id)
        self.held.pop(seat.id, None)
        self.count(self.setups.gone(seat.id), out)
        holder = self.stand(seat.id)
        if slug is None:
            return
        left = protocol.CallLeft(seat.room_id, slug, seat.user_id, seat.user_name, seat.id, reason)
        self.tell(seat.room_id, left, out)
        conn = None if holder is None else self._connections.get(holder.key)
        if conn is not None and conn.room_id != seat.room_id and conn.stage is Stage.OPEN:
            out.append(do.Send(conn.key, protocol.encode(left)))

    def count(self, outcome: Outcome | None, out: list[Effect], seconds: float | None = None) -> None:
        """Count what became of a setup."""
        if outcome is not None:
            out.append(do.CountSetup(outcome, seconds))

    def change(self, seat: Seat, out: list[Effect], **said: bool) -> Seat:
        """Something else is said of a seat; the store keeps it and everybody will see it there."""
        changed: Seat = msgspec.structs.replace(seat, **said)
        self.book.put(changed)
        self.book.begin(seat.user_id)
        out.append(do.SetSeat(seat.id, seat.user_id, **said))
        return changed

    def hold(self, seat: Seat, out: list[Effect]) -> None:
        """The seat has no socket; the store keeps it a while for its user."""
        self.speaks(seat.id, speaking=False)
        # How long the store keeps it is not known before it has answered.
        self.book.put(msgspec.structs.replace(seat, held_until=UNTIL_KNOWN))
        self.book.begin(seat.user_id)
        out.append(do.HoldSeat(seat.id, seat.user_id))

    def hold_until(self, seat: Seat, until: int) -> None:
        """How long the store keeps it."""
        self.book.put(msgspec.structs.replace(seat, held_until=until))

    def drop(self, seat: Seat, reason: Reason, out: list[Effect]) -> None:
        """The seat is given up at once."""
        self.gone(seat, reason, out)
        self.book.begin(seat.user_id)
        out.append(do.DropSeat(seat.id, seat.user_id, kicked=reason == "kicked"))
