"""What one process knows of all voice seats: a view of the store, and what a newer look at it changes.

The store decides who sits where; this book remembers its last word. Between two looks our own changes are ahead of what
a look may show: it can have begun before our change was stored and arrive after it. So a change is announced with
`begin` before it goes to the store and `end` when it is answered, and a look that began before the end says nothing
about that user. A user has at most one seat on the whole server, so users are the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from boltorezka.voice.model import Seat


@dataclass
class Difference:
    """What a look changed: seats that are gone, new ones, and those of which something else is said now."""

    left: list[Seat] = field(default_factory=list)
    joined: list[Seat] = field(default_factory=list)
    changed: list[Seat] = field(default_factory=list)


class SeatBook:
    """All seats of the server, held ones included, as this process knows them."""

    def __init__(self) -> None:
        self._seats: dict[str, Seat] = {}
        self._users: dict[str, str] = {}
        self._rooms: dict[str, dict[str, None]] = {}
        self._pending: dict[str, int] = {}
        self._touched: dict[str, int] = {}
        self._version = 0

    def __iter__(self) -> Iterator[Seat]:
        return iter(self._seats.values())

    def get(self, seat_id: str | None) -> Seat | None:
        """The seat of this id."""
        return None if seat_id is None else self._seats.get(seat_id)

    def of_user(self, user_id: str) -> Seat | None:
        """The user's seat, wherever it is."""
        return self.get(self._users.get(user_id))

    def in_room(self, room_id: str) -> list[Seat]:
        """The seats of a room, in the order they became known."""
        return [self._seats[seat_id] for seat_id in self._rooms.get(room_id, ())]

    def recipients(self, sender: Seat, seat_id: str | None, user_id: str | None) -> list[Seat] | None:
        """The seats a signal is for: one seat, else a user's, else everybody's but the sender's; never the sender's.

        None when who is named has no seat in the sender's room.
        """
        others = [seat for seat in self.in_room(sender.room_id) if seat.id != sender.id]
        if seat_id is not None:
            others = [seat for seat in others if seat.id == seat_id]
        elif user_id is not None:
            others = [seat for seat in others if seat.user_id == user_id]
        else:
            return others
        return others or None

    def overdue(self, now: int) -> bool:
        """Whether a hold has ended, so that the store should be asked who is still there."""
        return any(seat.held_until is not None and seat.held_until <= now for seat in self._seats.values())

    # our own changes

    def begin(self, user_id: str) -> None:
        """A change of this user's seat goes to the store: until its `end`, looks say nothing about them."""
        self._pending[user_id] = self._pending.get(user_id, 0) + 1

    def end(self, user_id: str) -> None:
        """The store has answered a change that began."""
        left = self._pending[user_id] - 1
        if left:
            self._pending[user_id] = left
        else:
            del self._pending[user_id]
        self._version += 1
        self._touched[user_id] = self._version

    def is_pending(self, user_id: str) -> bool:
        """Whether a change of this user's seat is on its way to the store."""
        return user_id in self._pending

    def put(self, seat: Seat) -> bool:
        """This seat is there, and as it says; whether it was unknown. Another one of its user must be removed first."""
        old = self._seats.get(seat.id)
        if old is None and seat.user_id in self._users:
            raise ValueError("a user has at most one seat")
        self._seats[seat.id] = seat
        self._users[seat.user_id] = seat.id
        self._rooms.setdefault(seat.room_id, {})[seat.id] = None
        return old is None

    def remove(self, seat_id: str) -> Seat | None:
        """This seat is not there any more; what it was, or None when it was unknown."""
        seat = self._seats.pop(seat_id, None)
        if seat is None:
            return None
        del self._users[seat.user_id]
        room = self._rooms[seat.room_id]
        del room[seat_id]
        if not room:
            del self._rooms[seat.room_id]
        return seat

    # looks at the store

    def mark(self) -> int:
        """To be taken before the store is read, and given to `observe` with what it said. One look at a time."""
        return self._version

    def observe(self, stored: Iterable[Seat], mark: int) -> Difference:
        """Take over what the store said, except about users whose seat we changed since `mark`."""
        found = {seat.id: seat for seat in stored if not self._is_newer_here(seat.user_id, mark)}
        different = Difference()
        for seat in list(self._seats.values()):
            if seat.id not in found and not self._is_newer_here(seat.user_id, mark):
                self.remove(seat.id)
                different.left.append(seat)
        for seat in found.values():
            old = self._seats.get(seat.id)
            self.put(seat)
            if old is None:
                different.joined.append(seat)
            elif said_of(old) != said_of(seat):
                different.changed.append(seat)
        self._touched = {user_id: version for user_id, version in self._touched.items() if version > mark}
        return different

    def _is_newer_here(self, user_id: str, mark: int) -> bool:
        return user_id in self._pending or self._touched.get(user_id, 0) > mark


def said_of(seat: Seat) -> tuple[bool, bool, bool]:
    """What is said of a seat that people are shown."""
    return seat.muted, seat.audio_muted, seat.moderated
