"""One room's log as this process delivers it: each event once, in order, without holes.

Events are offered as they become known: our own commits, what another process wrote, what a read of the log brought.
The feed lets a contiguous run through and holds what lies beyond a gap; the gap is filled from the log, which is the
truth. It keeps the newest events, so that a reconnect storm is answered without the database.

Theory: `head` is the last seq let through. An offer with seq <= head is a repetition and is dropped; head + 1 goes
through, with everything held that follows it; more is held, and `gap` is true until somebody offers what is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

import msgspec

from boltorezka.rooms.model import Event, EventKind

# Enough for any delta (protocol.MAX_DELTA) and for some pages of history; about 300 kB for a busy room.
KEEP = 400
# Events beyond a gap; more are forgotten, and read from the log again when the gap is filled.
MAX_HELD = 4096


class Feed:
    """The state of one room's delivery, begun from what was read of the room a moment ago.

    It starts `KEEP` events below that top, with a gap, so that the log is read at least once after the feed exists:
    what was committed between the two moments is in that read, and everything later is offered.
    """

    def __init__(self, epoch: str, top: int) -> None:
        self.epoch = epoch
        self.head = max(0, top - KEEP)
        # A head heard of (another process's, a client's position) that the log has to confirm.
        self.rumoured = self.head + 1
        self._late = 0
        self._kept: deque[Event] = deque(maxlen=KEEP)
        self._held: dict[int, Event] = {}

    def offer(self, events: Iterable[Event]) -> list[Event]:
        """Take events in any order, with repetitions; return those to be delivered now, in order."""
        run: list[Event] = []
        for event in events:
            if event.seq == self.head + 1:
                self._pass(event, run)
            elif event.seq > self.head:
                if len(self._held) < MAX_HELD:
                    self._held[event.seq] = event
                self.rumoured = max(self.rumoured, event.seq)
        return run

    def _pass(self, event: Event, run: list[Event]) -> None:
        following: Event | None = event
        while following is not None:
            self.head = following.seq
            if following.kind is EventKind.DELETE:
                self._erase(following)
            self._kept.append(following)
            run.append(following)
            following = self._held.pop(self.head + 1, None)
        self.rumoured = max(self.rumoured, self.head)

    def _erase(self, delete: Event) -> None:
        """What was taken back is not told to those who come later: the store has erased it too."""
        for index, event in enumerate(self._kept):
            if event.text and delete.ref in {event.id, event.ref}:
                self._kept[index] = msgspec.structs.replace(event, text="")

    def rumour(self, head: int) -> None:
        """Somebody says the log reaches at least this far."""
        self.rumoured = max(self.rumoured, head)
        self._late = max(self._late, head)

    def reading(self) -> None:
        """A read of the log begins: what is rumoured from now on may be younger than its snapshot."""
        self._late = 0

    def settle(self) -> None:
        """The read came to the log's end: what was rumoured before it, and was not there, does not exist."""
        self.rumoured = max(self.head, self._late, max(self._held, default=0))

    @property
    def gap(self) -> bool:
        """Whether the log has to be read from `head`."""
        return self.rumoured > self.head

    def since(self, seq: int, limit: int) -> tuple[Event, ...] | None:
        """The events after a position up to `head`; None when they are too many or no longer kept."""
        missing = self.head - seq
        if missing < 0 or missing > limit or missing > len(self._kept):
            return None
        return tuple(islice(self._kept, len(self._kept) - missing, None))

    def is_removed(self, user_id: str, since: int) -> bool:
        """Whether the last word after this seq on a user's membership is that it ended.

        True as well when what was said since is no longer kept: nobody enters on a right that old.
        """
        for event in reversed(self._kept):
            if event.seq <= since:
                return False
            if event.user_id == user_id and event.kind in {EventKind.JOINED, EventKind.LEFT}:
                return event.kind is EventKind.LEFT
        return self.head - since > len(self._kept)

    def page(self, limit: int) -> tuple[tuple[Event, ...], bool] | None:
        """The newest messages as they are shown now, oldest first, and whether there are older ones.

        None when too few are kept to say.
        """
        shown: dict[str, Event] = {}
        for event in self._kept:
            if event.kind is EventKind.MESSAGE:
                shown[event.id] = event
            elif event.kind is EventKind.DELETE:
                shown.pop(event.ref or "", None)
            elif event.kind is EventKind.EDIT and event.ref in shown:
                first = shown[event.ref]
                shown[event.ref] = msgspec.structs.replace(first, text=event.text, edited_at=event.created_at)
        from_the_start = len(self._kept) == self.head
        if len(shown) <= limit and not from_the_start:
            return None
        return tuple(shown.values())[-limit:], len(shown) > limit
