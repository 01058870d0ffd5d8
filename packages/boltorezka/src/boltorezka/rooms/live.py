"""One room while somebody of this process is in it: its feed, its sockets, and those that are about to enter."""

from __future__ import annotations

from boltorezka import protocol
from boltorezka.rooms.connection import Connection
from boltorezka.rooms.feed import Feed
from boltorezka.rooms.model import Event, EventKind, Page, Room

# One read of the log: a whole delta, in a few milliseconds.
READ_LIMIT = protocol.MAX_DELTA
# Characters of the texts of one delta, at most six bytes each: below what may wait for one socket. A larger one would
# cut off a slow client each time it comes back; it is better off with the pages of the history.
MAX_DELTA_TEXT = 128 * 1024


class Waiting:
    """A socket that looks into the room as soon as the feed has reached `need`."""

    __slots__ = ("conn", "need")

    def __init__(self, conn: Connection, need: int) -> None:
        self.conn = conn
        self.need = need


class LiveRoom:
    """A room with sockets, or one that had some a short while ago (its feed answers those who come back)."""

    __slots__ = ("_page", "empty_since", "feed", "loaded", "reading", "reset_due", "room", "sockets", "waiting")

    def __init__(self, room: Room) -> None:
        self.room = room
        self.feed = Feed(room.epoch, room.last_seq)
        self.waiting: list[Waiting] = []
        self.reading = False
        self.loaded = False  # the first read of this feed came to the log's end
        self.reset_due = False
        self.sockets: dict[int, Connection] = {}
        self.empty_since: float | None = None
        self._page: tuple[int, int, Page | None] = (-1, 0, None)

    def rebuild(self, epoch: str, top: int) -> None:
        """The log has a new epoch: begin anew, and tell everybody who is here once the top is known."""
        self.room = Room(
            self.room.id, self.room.slug, self.room.title, self.room.is_public, self.room.created_at, epoch, top
        )
        self.feed = Feed(epoch, top)
        self.reading = self.loaded = False
        self.reset_due = True
        self._page = (-1, 0, None)

    def shown(self, event: Event) -> protocol.Durable:
        """An event as clients see it."""
        return _SHOWN[event.kind](event, self.room.slug, self.feed.epoch)

    def catch_up(self, after: protocol.Position) -> protocol.RoomDelta | protocol.RoomReset:
        """What a client at this position needs: all of it, or the advice to start anew; never a part."""
        epoch, head, slug = self.feed.epoch, self.feed.head, self.room.slug
        events = self.feed.since(after.seq, protocol.MAX_DELTA) if after.epoch == epoch else None
        if events is None or sum(len(event.text) for event in events) > MAX_DELTA_TEXT:
            return protocol.RoomReset(slug, epoch, head)
        packed = tuple(protocol.in_delta(self.shown(event)) for event in events)
        return protocol.RoomDelta(slug, epoch, min(after.seq + 1, head), head, packed)

    def page(self, limit: int) -> Page | None:
        """The newest messages as the store's `page` would answer; None when not enough is kept. The last is kept."""
        head, kept_limit, page = self._page
        if (head, kept_limit) == (self.feed.head, limit):
            return page
        found = self.feed.page(limit)
        room = self.room
        if found is not None:
            top = Room(room.id, room.slug, room.title, room.is_public, room.created_at, self.feed.epoch, self.feed.head)
            page = Page(top, *found)
        else:
            page = None
        self._page = (self.feed.head, limit, page)
        return page


def _message(event: Event, slug: str, epoch: str) -> protocol.Durable:
    return protocol.ChatMessage(
        event.id, event.room_id, slug, event.user_id, event.user_name, event.text,
        protocol.iso_time(event.created_at), event.seq, epoch, event.request_id,
    )  # fmt: skip


def _edited(event: Event, slug: str, epoch: str) -> protocol.Durable:
    return protocol.ChatEdited(
        event.ref or "", event.room_id, slug, event.text, protocol.iso_time(event.created_at), event.user_id,
        event.seq, epoch,
    )  # fmt: skip


def _deleted(event: Event, slug: str, epoch: str) -> protocol.Durable:
    return protocol.ChatDeleted(
        event.ref or "", event.room_id, slug, event.user_id, protocol.iso_time(event.created_at), event.seq, epoch
    )


def _joined(event: Event, slug: str, epoch: str) -> protocol.Durable:
    return protocol.MemberJoined(
        event.room_id, slug, event.user_id, event.user_name, event.text, event.ref or event.user_id,
        protocol.iso_time(event.created_at), event.seq, epoch,
    )  # fmt: skip


def _left(event: Event, slug: str, epoch: str) -> protocol.Durable:
    return protocol.MemberLeft(
        event.room_id, slug, event.user_id, event.user_name, event.ref or event.user_id,
        protocol.iso_time(event.created_at), event.seq, epoch,
    )  # fmt: skip


_SHOWN = {
    EventKind.MESSAGE: _message, EventKind.EDIT: _edited, EventKind.DELETE: _deleted, EventKind.JOINED: _joined,
    EventKind.LEFT: _left,
}  # fmt: skip
