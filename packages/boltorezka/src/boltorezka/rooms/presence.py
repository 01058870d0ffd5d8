"""Who is in which room: sockets of a user count once, over all processes.

Ours are counted by socket; those of other processes are facts read from the store. Somebody is present while either
says so, and a change is reported only when the merged answer changes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Person(msgspec.Struct, frozen=True):
    """One user in one room."""

    room_id: str
    user_id: str
    user_name: str


class Roster:
    """The merged presence of all rooms."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, str], int] = {}
        self._remote: dict[tuple[str, str], str] = {}
        self._rooms: dict[str, dict[str, str]] = {}

    def enter(self, person: Person) -> tuple[bool, bool]:
        """One more socket of ours; answers (first of ours, first of all)."""
        key = (person.room_id, person.user_id)
        self._sockets[key] = count = self._sockets.get(key, 0) + 1
        return count == 1, count == 1 and self._show(person)

    def leave(self, person: Person) -> tuple[bool, bool]:
        """One socket of ours less; answers (last of ours, last of all)."""
        key = (person.room_id, person.user_id)
        count = self._sockets[key] - 1
        if count:
            self._sockets[key] = count
            return False, False
        del self._sockets[key]
        return True, key not in self._remote and self._hide(person)

    def observe(self, elsewhere: Iterable[Person]) -> tuple[list[Person], list[Person]]:
        """Replace what other processes hold; answers who came and who went by that."""
        people = {(person.room_id, person.user_id): person for person in elsewhere}
        before, self._remote = self._remote, {key: person.user_name for key, person in people.items()}
        came = [person for person in people.values() if self._show(person)]
        gone = [Person(*key, name) for key, name in before.items() if key not in people and key not in self._sockets]
        for person in gone:
            self._hide(person)
        return came, gone

    def ours(self) -> list[Person]:
        """Everybody present through this process."""
        return [Person(room_id, user_id, self._rooms[room_id][user_id]) for room_id, user_id in self._sockets]

    def is_here(self, room_id: str, user_id: str) -> bool:
        """Whether the user is in the room through a socket of ours."""
        return (room_id, user_id) in self._sockets

    def users(self, room_id: str) -> dict[str, str]:
        """Names by user id of everybody in a room."""
        return self._rooms.get(room_id, {})

    def _show(self, person: Person) -> bool:
        room = self._rooms.setdefault(person.room_id, {})
        if person.user_id in room:
            return False
        room[person.user_id] = person.user_name
        return True

    def _hide(self, person: Person) -> bool:
        room = self._rooms[person.room_id]
        del room[person.user_id]
        if not room:
            del self._rooms[person.room_id]
        return True
