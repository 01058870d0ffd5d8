"""One room while somebody of this process is in it: its feed, and the sockets that are about to enter."""

from __future__ import annotations

from boltorezka import protocol
from boltorezka.rooms.connection import Connection
from boltorezka.rooms.feed import Feed
from boltorezka.rooms.model import Event, Room

# One read of the log: a whole delta, in a few milliseconds.
READ_LIMIT = protocol.MAX_DELTA


class LiveRoom:
    """A room with sockets, or one that had some a short while ago (its feed answers those who come back)."""

    __slots__ = ("empty_since", "feed", "joining", "loaded", "reading", "reset_due", "room", "sockets")

    def __init__(self, room: Room) -> None:
        self.room = room
        self.feed = Feed(room.epoch, room.last_seq)
        self.joining: list[tuple[Connection, int]] = []
        self.reading = False
        self.loaded = False  # the first read of this feed came to the log's end
        self.reset_due = False
        self.sockets = 0
        self.empty_since: float | None = None

    def rebuild(self, room: Room) -> None:
        """The log has a new epoch: begin anew, and tell everybody who is here once the top is known."""
        self.room = room
        self.feed = Feed(room.epoch, room.last_seq)
        self.reading = self.loaded = False
        self.reset_due = True

    def message(self, event: Event) -> protocol.ChatMessage:
        """An event as clients see it."""
        return protocol.ChatMessage(
            event.id, event.room_id, self.room.slug, event.user_id, event.user_name, event.text,
            protocol.iso_time(event.created_at), event.seq, self.feed.epoch, event.request_id,
        )  # fmt: skip

    def catch_up(self, after: protocol.Position) -> protocol.RoomDelta | protocol.RoomReset:
        """What a client at this position needs: all of it, or the advice to start anew; never a part."""
        epoch, head, slug = self.feed.epoch, self.feed.head, self.room.slug
        events = self.feed.since(after.seq, protocol.MAX_DELTA) if after.epoch == epoch else None
        if events is None:
            return protocol.RoomReset(slug, epoch, head)
        packed = tuple(protocol.DeltaEvent(protocol.ChatMessage.EVENT, self.message(event)) for event in events)
        return protocol.RoomDelta(slug, epoch, min(after.seq + 1, head), head, packed)
