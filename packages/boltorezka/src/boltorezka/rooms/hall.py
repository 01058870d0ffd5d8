"""The rooms that are live in this process: who enters and leaves, and what their logs deliver.

A join: the room row is read, the feed is told how far the log reaches, the log is read if the feed is behind, and then,
in one step, the socket enters and is told the top, what it missed, and who is there. Broadcasts before that step are in
what it was told, broadcasts after it reach it live: nothing is lost or doubled between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from boltorezka import protocol
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import Connection, Stage, ack
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.live import READ_LIMIT, LiveRoom
from boltorezka.rooms.model import Event, Room
from boltorezka.rooms.presence import Person, Roster

# A room nobody is in keeps its newest events this long: everybody of a dropped network is back within minutes.
UNLOAD_AFTER_S = 300.0


class Hall:
    """Live rooms and presence."""

    def __init__(self) -> None:
        self.roster = Roster()
        self._rooms: dict[str, LiveRoom] = {}

    # entering and leaving

    def expect(self, conn: Connection, request: protocol.Request, room: Room) -> LiveRoom:
        """The socket will enter this room as soon as the feed has what its row and the client's position promise."""
        live = self._rooms.get(room.id)
        if live is None:
            live = self._rooms[room.id] = LiveRoom(room)
        elif live.feed.epoch != room.epoch:
            live.rebuild(room)
        need = room.last_seq
        after = request.said.after if isinstance(request.said, protocol.RoomJoin) else None
        if after is not None and after.epoch == room.epoch:
            need = max(need, after.seq)
        live.feed.rumour(need)
        live.joining.append((conn, need))
        live.empty_since = None
        return live

    def advance(self, live: LiveRoom, now: int, out: list[Effect]) -> list[Connection]:
        """Ask for the log while there is a gap; let in everybody whose position is reached, and return them."""
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
        ready = [conn for conn, need in live.joining if need <= live.feed.head or not live.feed.gap]
        live.joining = [(conn, need) for conn, need in live.joining if need > live.feed.head and live.feed.gap]
        entered = [conn for conn in ready if conn.stage is Stage.OPEN and conn.joining is not None]
        for conn in entered:
            self._enter(conn, live, now, out)
        return entered

    def _enter(self, conn: Connection, live: LiveRoom, now: int, out: list[Effect]) -> None:
        request = conn.joining
        if request is None or not isinstance(request.said, protocol.RoomJoin):
            raise TypeError("only a socket that joins can enter")
        if conn.room is live:
            # Joining again is how a client draws anew: no one else needs to know.
            out.append(do.Exit(conn.key, live.room.id))
        else:
            self.leave(conn, out)
            self._arrive(Person(live.room.id, conn.user_id, conn.user_name), live, out)
            conn.room = live
            live.sockets += 1
        conn.busy, conn.joining = False, None
        room = live.room
        out.append(do.Enter(conn.key, room.id))
        told: list[protocol.Payload] = [
            protocol.RoomJoined(room.id, room.slug, room.title, live.feed.epoch, live.feed.head)
        ]
        if request.said.after is not None:
            told.append(live.catch_up(request.said.after))
        present = self.roster.users(room.id)
        users = tuple(protocol.PresentUser(user_id, name) for user_id, name in present.items())
        told.append(protocol.RoomPresence(room.id, room.slug, users))
        out += [do.Send(conn.key, protocol.encode(payload)) for payload in told]
        out += ack(conn.key, request.request_id, protocol.RoomJoin.EVENT, now, room_id=room.id, room_slug=room.slug)

    def _arrive(self, person: Person, live: LiveRoom, out: list[Effect]) -> None:
        first_here, first = self.roster.enter(person)
        if first_here:
            out.append(do.PresenceChanged(person.room_id, person.user_id, person.user_name, present=True))
        if first:
            self._tell(live, person, protocol.PresenceJoined, out)

    def leave(self, conn: Connection, out: list[Effect]) -> None:
        """Take the socket out of its room, if it is in one."""
        live, conn.room = conn.room, None
        if live is None:
            return
        live.sockets -= 1
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
        out.append(do.Broadcast(person.room_id, protocol.encode(payload)))

    def observe(self, elsewhere: Iterable[Person], out: list[Effect]) -> None:
        """Replace what other processes hold, and tell the rooms what that changed."""
        came, gone = self.roster.observe(elsewhere)
        for people, what in ((came, protocol.PresenceJoined), (gone, protocol.PresenceLeft)):
            for person in people:
                live = self._rooms.get(person.room_id)
                if live is not None:
                    self._tell(live, person, what, out)

    # the logs

    def offer(self, room_id: str, events: Sequence[Event], out: list[Effect]) -> LiveRoom | None:
        """Our own commits. A room that is not live needs none of it: it reads the log when somebody comes."""
        live = self._rooms.get(room_id)
        if live is not None:
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
        waiting, live.joining = [conn for conn, _ in live.joining], []
        return waiting

    def _asking(self, asked: do.ReadLog) -> LiveRoom | None:
        live = self._rooms.get(asked.room_id)
        if live is None or live.feed.epoch != asked.epoch:
            return None
        live.reading = False
        return live

    def _deliver(self, live: LiveRoom, run: Sequence[Event], out: list[Effect]) -> None:
        if live.sockets:
            out += [do.Broadcast(live.room.id, protocol.encode(live.message(event))) for event in run]

    def again(self, key: int, event: Event) -> list[Effect]:
        """The first message of a repeated key, for its sender alone."""
        live = self._rooms.get(event.room_id)
        return [] if live is None else [do.Send(key, protocol.encode(live.message(event)))]

    def rumour(self, heads: dict[str, int]) -> list[LiveRoom]:
        """How far the logs reach; returns the rooms that are behind."""
        behind: list[LiveRoom] = []
        for room_id, live in self._rooms.items():
            live.feed.rumour(heads.get(room_id, 0))
            if live.feed.gap:
                behind.append(live)
        return behind

    def unfinished(self, tick: float) -> list[LiveRoom]:
        """Rooms whose gap nobody is filling; rooms that have been empty for long are forgotten on the way."""
        for room_id, live in list(self._rooms.items()):
            if live.sockets or live.joining:
                live.empty_since = None
            elif live.empty_since is None:
                live.empty_since = tick
            elif tick - live.empty_since > UNLOAD_AFTER_S:
                del self._rooms[room_id]
        return [live for live in self._rooms.values() if live.feed.gap and not live.reading]

    def recent(self, room_id: str, limit: int) -> tuple[str, int, tuple[Event, ...]] | None:
        """The newest events of a room that is live and not behind."""
        live = self._rooms.get(room_id)
        if live is None or live.feed.gap:
            return None
        events = live.feed.newest(limit)
        return None if events is None else (live.feed.epoch, live.feed.head, events)
