"""The rooms that are live in this process: who enters and leaves, and what their logs deliver.

A join: the room row is read, the feed is told how far the log reaches, the log is read if the feed is behind, and then,
in one step, the socket enters and is told the top, what it missed, and who is there. Broadcasts before that step are in
what it was told, broadcasts after it reach it live: nothing is lost or doubled between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from boltorezka import protocol
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import Connection
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.live import READ_LIMIT, LiveRoom, Waiting
from boltorezka.rooms.model import Event, EventKind, Page, Room
from boltorezka.rooms.presence import Person, Roster

# A room nobody is in keeps its newest events this long: everybody of a dropped network is back within minutes.
UNLOAD_AFTER_S = 300.0


class Hall:
    """Live rooms and presence."""

    def __init__(self) -> None:
        self.roster = Roster()
        self._rooms: dict[str, LiveRoom] = {}
        self._by_slug: dict[str, LiveRoom] = {}

    def room_of(self, conn: Connection) -> LiveRoom | None:
        """The room the socket is in."""
        return None if conn.room_id is None else self._rooms[conn.room_id]

    def live(self, room_id: str) -> LiveRoom | None:
        """The room, if somebody is, or lately was, in it."""
        return self._rooms.get(room_id)

    # entering and leaving

    def expect(self, conn: Connection, room: Room, after: protocol.Position | None) -> LiveRoom:
        """The socket looks into this room as soon as the feed has what its row and the client's position promise."""
        live = self._rooms.get(room.id)
        if live is None:
            live = self._rooms[room.id] = self._by_slug[room.slug] = LiveRoom(room)
        elif live.feed.epoch != room.epoch:
            live.rebuild(room.epoch, room.last_seq)
        need = room.last_seq
        if after is not None and after.epoch == room.epoch:
            need = max(need, after.seq)
        live.feed.rumour(need)
        live.waiting.append(Waiting(conn, need))
        live.empty_since = None
        return live

    def advance(self, live: LiveRoom, out: list[Effect]) -> list[Connection]:
        """Ask for the log while there is a gap; return everybody whose position is reached."""
        if live.feed.gap and not live.reading:
            live.reading = True
            live.feed.reading()
            out.append(do.ReadLog(live.room.id, live.feed.epoch, live.feed.head))
        if live.feed.gap and not live.loaded:
            return []
        live.loaded = True
        if live.reset_due:
            live.reset_due = False
            reset = protocol.RoomReset(live.room.slug, live.feed.epoch, live.feed.head)
            out.append(do.Broadcast(live.room.id, protocol.encode(reset)))
        ready = [each.conn for each in live.waiting if each.need <= live.feed.head or not live.feed.gap]
        live.waiting = [each for each in live.waiting if each.need > live.feed.head and live.feed.gap]
        return ready

    def enter(self, conn: Connection, live: LiveRoom, after: protocol.Position | None, out: list[Effect]) -> None:
        """Into the room, with everything a client needs to draw it."""
        room = live.room
        if conn.room_id == room.id:
            # Joining again is how a client draws anew: no one else needs to know.
            out.append(do.Exit(conn.key, room.id))
        else:
            self.leave(conn, out)
            self._arrive(Person(room.id, conn.user_id, conn.user_name), live, out)
            conn.room_id = room.id
            live.sockets[conn.key] = conn
        out.append(do.Enter(conn.key, room.id))
        told: list[protocol.Payload] = [
            protocol.RoomJoined(room.id, room.slug, room.title, live.feed.epoch, live.feed.head)
        ]
        if after is not None:
            told.append(live.catch_up(after))
        out += [do.Send(conn.key, protocol.encode(payload)) for payload in told]
        out.append(do.Send(conn.key, protocol.encode_presence(room.id, room.slug, self.roster.users(room.id))))

    def _arrive(self, person: Person, live: LiveRoom, out: list[Effect]) -> None:
        first_here, first = self.roster.enter(person)
        if first_here:
            out.append(do.PresenceChanged(person.room_id, person.user_id, person.user_name, present=True))
        if first:
            self._tell(live, person, protocol.PresenceJoined, out)

    def leave(self, conn: Connection, out: list[Effect]) -> None:
        """Take the socket out of its room, if it is in one."""
        live, conn.room_id = self.room_of(conn), None
        if live is None:
            return
        del live.sockets[conn.key]
        out.append(do.Exit(conn.key, live.room.id))
        person = Person(live.room.id, conn.user_id, conn.user_name)
        last_here, last = self.roster.leave(person)
        if last_here:
            out.append(do.PresenceChanged(person.room_id, person.user_id, person.user_name, present=False))
        if last:
            self._tell(live, person, protocol.PresenceLeft, out)

    def _tell(self, live: LiveRoom, person: Person, what: type[protocol.PresenceJoined], out: list[Effect]) -> None:
        count = len(self.roster.users(person.room_id))
        payload = what(person.user_id, person.user_name, live.room.slug, count)
        out.append(do.Broadcast(person.room_id, protocol.encode(payload), soon=True))

    def observe(self, elsewhere: Iterable[Person], out: list[Effect]) -> None:
        """Replace what other processes hold, and tell the rooms what that changed."""
        came, gone = self.roster.observe(elsewhere)
        for people, what in ((came, protocol.PresenceJoined), (gone, protocol.PresenceLeft)):
            for person in people:
                live = self._rooms.get(person.room_id)
                if live is not None:
                    self._tell(live, person, what, out)

    # the logs

    def offer(
        self, room_id: str, events: Sequence[Event], out: list[Effect], epoch: str | None = None
    ) -> LiveRoom | None:
        """What was committed, by us or (then with its epoch) by another process.

        A room that is not live needs none of it: it reads the log when somebody comes. Of a foreign epoch nothing is
        believed: the store says which one is true.
        """
        live = self._rooms.get(room_id)
        if live is None or (epoch is not None and epoch != live.feed.epoch):
            return None
        self._deliver(live, live.feed.offer(events), out)
        return live

    def read(self, asked: do.ReadLog, events: Sequence[Event], out: list[Effect]) -> LiveRoom | None:
        """The answer to `ReadLog`; None when the room was rebuilt or unloaded meanwhile."""
        live = self._asking(asked)
        if live is None:
            return None
        self._deliver(live, live.feed.offer(events), out)
        if len(events) < READ_LIMIT:
            live.feed.settle()
        else:
            live.feed.rumour(live.feed.head + 1)
        return live

    def give_up(self, asked: do.ReadLog) -> list[Connection]:
        """The read failed; returns the sockets that waited for it."""
        live = self._asking(asked)
        if live is None:
            return []
        waiting, live.waiting = [each.conn for each in live.waiting], []
        return waiting

    def _asking(self, asked: do.ReadLog) -> LiveRoom | None:
        live = self._rooms.get(asked.room_id)
        if live is None or live.feed.epoch != asked.epoch:
            return None
        live.reading = False
        return live

    def _deliver(self, live: LiveRoom, run: Sequence[Event], out: list[Effect]) -> None:
        """Each event to everybody who may have it: whoever is removed by one gets it, and nothing that comes after.

        While a new epoch is being read its old events are no news: the reset that follows stands for them.
        """
        for event in run:
            if not live.loaded and event.seq <= live.room.last_seq:
                continue
            if live.sockets:
                out.append(do.Broadcast(live.room.id, protocol.encode(live.shown(event))))
            if event.kind is EventKind.LEFT:
                self._remove(live, event, out)

    def _remove(self, live: LiveRoom, event: Event, out: list[Effect]) -> None:
        for conn in [each for each in live.sockets.values() if each.user_id == event.user_id]:
            self.leave(conn, out)
            out.append(do.Send(conn.key, protocol.encode(protocol.RoomLeft(live.room.id, live.room.slug))))

    def again(self, conn: Connection, event: Event, out: list[Effect]) -> LiveRoom | None:
        """The first event of a repeated key, for its sender alone if they are in the room.

        One that the feed has not reached is on its way to everybody: then the room that has to advance is answered.
        A message that was taken back meanwhile is not shown again.
        """
        live = self._rooms.get(event.room_id)
        if live is None or conn.room_id != event.room_id:
            return None
        if event.seq > live.feed.head:
            live.feed.rumour(event.seq)
            return live
        if event.text or event.kind is not EventKind.MESSAGE:
            out.append(do.Send(conn.key, protocol.encode(live.shown(event))))
        return None

    def rumour(self, heads: Mapping[str, tuple[str, int]]) -> list[LiveRoom]:
        """Which epoch the logs have and how far they reach; returns the rooms that are behind."""
        behind: list[LiveRoom] = []
        for room_id, live in self._rooms.items():
            epoch, top = heads.get(room_id, (live.feed.epoch, 0))
            if epoch != live.feed.epoch:
                live.rebuild(epoch, top)
            live.feed.rumour(top)
            if live.feed.gap:
                behind.append(live)
        return behind

    def unfinished(self, tick: float) -> list[LiveRoom]:
        """Rooms whose gap nobody is filling; rooms that have been empty for long are forgotten on the way."""
        for room_id, live in list(self._rooms.items()):
            if live.sockets or live.waiting:
                live.empty_since = None
            elif live.empty_since is None:
                live.empty_since = tick
            elif tick - live.empty_since > UNLOAD_AFTER_S:
                del self._rooms[room_id], self._by_slug[live.room.slug]
        return [live for live in self._rooms.values() if live.feed.gap and not live.reading]

    def recent(self, slug: str, user_id: str, limit: int) -> Page | None:
        """The newest messages of a room that is live and not behind, for somebody who may read it.

        A private room is readable for those who are in it: the log has told of everybody who was removed.
        """
        live = self._by_slug.get(slug)
        if live is None or live.feed.gap:
            return None
        if not live.room.is_public and not self.roster.is_here(live.room.id, user_id):
            return None
        return live.page(limit)
