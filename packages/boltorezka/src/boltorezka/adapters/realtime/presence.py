"""Tells the store who is present through us: changes are collected and written one transaction at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from boltorezka.errors import Refusal
from boltorezka.ports import InstanceStore, Presence
from boltorezka.rooms.effects import PresenceChanged

log = logging.getLogger("boltorezka.realtime")


class PresenceWriter:
    """The newest wish for each (room, user) wins; what could not be written stays wished. `written` is called after."""

    def __init__(self, store: InstanceStore, instance: str, written: Callable[[], None]) -> None:
        self._store = store
        self.instance = instance
        self._written = written
        self._wished: dict[tuple[str, str], PresenceChanged] = {}
        self._writing = False
        self.changes = 0

    @property
    def settled(self) -> bool:
        """Whether the store has everything that was wished."""
        return not self._wished and not self._writing

    @property
    def wanted(self) -> bool:
        """Whether somebody should call `write`."""
        return bool(self._wished) and not self._writing

    def wish(self, change: PresenceChanged) -> None:
        """Somebody came or went."""
        self.changes += 1
        self._wished[change.room_id, change.user_id] = change

    async def write(self) -> None:
        """Write until nothing is wished, unless somebody does. A failure is logged and leaves the wishes for later."""
        if self._writing:
            return
        self._writing = True
        try:
            while self._wished:
                batch, self._wished = self._wished, {}
                try:
                    await self._store.set_presence(
                        self.instance,
                        self._rows(each for each in batch.values() if each.present),
                        self._rows(each for each in batch.values() if not each.present),
                    )
                except Refusal as error:
                    self._wished = batch | self._wished
                    log.warning("presence was not written: %s", error.message)
                    return
                self._written()
        finally:
            self._writing = False

    def _rows(self, changes: Iterable[PresenceChanged]) -> list[Presence]:
        return [Presence(each.room_id, each.user_id, each.user_name, self.instance) for each in changes]

    def repair(self, stored: Iterable[Presence], here: Iterable[Presence]) -> None:
        """Wish whatever the store says wrongly of us (our lease had run out, or a write was half known)."""
        wrong = {(row.room_id, row.user_id): row for row in stored if row.instance == self.instance}
        for row in here:
            if wrong.pop((row.room_id, row.user_id), None) is None:
                self.wish(PresenceChanged(row.room_id, row.user_id, row.user_name, present=True))
        for row in wrong.values():
            self.wish(PresenceChanged(row.room_id, row.user_id, row.user_name, present=False))
