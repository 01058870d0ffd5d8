"""What goes out, joined: per event-loop tick one write to each socket, however many frames it gets.

An event is encoded once and framed once. A room keeps the tick's broadcasts in one list; a socket with nothing of its
own to be sent gets the joined list, the same bytes object for everybody. A socket that also has frames of its own
(acks, a join's answers) merges them with the room's list when they are sent, so its order is that of the calls.

What nobody waits for (who came and went) may be sent soon instead of now: when a thousand people come back at once,
each of them is news to all the others, and one write for some dozens of news is enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

TEXT, CLOSE = 0x1, 0x8
# Half of what people notice. It joins the news of everybody who comes in that time.
SOON_S = 0.05


class Transport(Protocol):
    """The part of asyncio's transport that is used."""

    def write(self, data: bytes) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def abort(self) -> None: ...


def framed(payload: bytes, opcode: int = TEXT) -> bytes:
    """A whole server frame (RFC 6455 section 5.2): FIN, unmasked, one piece."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


class Socket:
    """The sending side of one connection."""

    __slots__ = ("choked", "closing", "key", "mark", "own", "room", "transport", "write")

    def __init__(self, key: int, transport: Transport) -> None:
        self.key = key
        self.transport = transport
        self.write: Callable[[bytes], None] = transport.write
        self.own: list[bytes] | None = None
        self.room: RoomOut | None = None
        self.mark = 0  # how much of the room's list is merged into `own`, or is not for this socket
        self.choked = False  # the transport is over its high-water mark
        self.closing = False


class RoomOut:
    """The sockets of a room and the broadcasts that wait; `due` when they are written at the end of this tick."""

    __slots__ = ("due", "pending", "sockets")

    def __init__(self) -> None:
        self.sockets: dict[Socket, None] = {}
        self.pending: list[bytes] = []
        self.due = False


class Outbox:
    """Collects frames and writes them at the end of the tick."""

    def __init__(self, limit: int, too_slow: Callable[[Socket], None], flushed: Callable[[int, float], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._too_slow = too_slow
        self._flushed = flushed
        self._rooms: dict[str, RoomOut] = {}
        self._dirty_rooms: list[RoomOut] = []
        self._dirty: list[Socket] = []
        self._scheduled = False

    def send(self, socket: Socket, frame: bytes) -> None:
        """A finished frame to one socket; ignored after its close frame."""
        if socket.closing:
            return
        own = self._own(socket)
        room = socket.room
        if room is not None and socket.mark < len(room.pending):
            own += room.pending[socket.mark :]
            socket.mark = len(room.pending)
        own.append(frame)

    def _own(self, socket: Socket) -> list[bytes]:
        if socket.own is None:
            socket.own = []
            self._dirty.append(socket)
            self._schedule()
        return socket.own

    def broadcast(self, room_id: str, frame: bytes, *, soon: bool = False) -> None:
        """A finished frame to every socket of the room, in order; `soon`: with the next ones, or in SOON_S."""
        room = self._rooms.get(room_id)
        if room is None:
            return
        room.pending.append(frame)
        if not soon:
            self._due(room)
        elif len(room.pending) == 1:
            self._loop.call_later(SOON_S, self._due, room)

    def _due(self, room: RoomOut) -> None:
        if room.pending and not room.due:
            room.due = True
            self._dirty_rooms.append(room)
            self._schedule()

    def enter(self, socket: Socket, room_id: str) -> None:
        """The socket gets the room's broadcasts from here on. It must be in no room."""
        room = self._rooms.get(room_id)
        if room is None:
            room = self._rooms[room_id] = RoomOut()
        self._own(socket)
        room.sockets[socket] = None
        socket.room, socket.mark = room, len(room.pending)

    def exit(self, socket: Socket, room_id: str) -> None:
        """The socket gets no further broadcasts; those made already stay in its order."""
        room, socket.room = socket.room, None
        if room is None:
            return
        if socket.mark < len(room.pending):
            own = self._own(socket)
            own += room.pending[socket.mark :]
        socket.mark = 0
        del room.sockets[socket]
        if not room.sockets:
            self._rooms.pop(room_id, None)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write everything collected: one write for each socket that has something."""
        self._scheduled, began = False, time.monotonic()
        rooms, self._dirty_rooms = self._dirty_rooms, []
        dirty, self._dirty = self._dirty, []
        written = 0
        choked: list[Socket] = []
        for room in rooms:
            joined = b"".join(room.pending)
            for socket in room.sockets:
                if socket.own is None:
                    socket.write(joined if not socket.mark else b"".join(room.pending[socket.mark :]))
                    socket.mark = 0
                    if socket.choked:
                        choked.append(socket)
            written += len(room.pending) * len(room.sockets)
        for socket in dirty:
            self._flush_own(socket)
            if socket.choked:
                choked.append(socket)
        for room in rooms:
            room.pending, room.due = [], False
        for socket in choked:
            if not socket.closing and socket.transport.get_write_buffer_size() > self._limit:
                self._too_slow(socket)
        self._flushed(written, time.monotonic() - began)

    def _flush_own(self, socket: Socket) -> None:
        own, socket.own = socket.own, None
        if own is None:
            return
        room = socket.room
        if room is not None:
            own += room.pending[socket.mark :]
            # What it gets ahead of its room's turn it must not get again.
            socket.mark = 0 if room.due else len(room.pending)
        if own:
            socket.write(b"".join(own))

    def forget(self, socket: Socket) -> None:
        """The connection is lost: nothing more is written to it."""
        socket.own, socket.closing = None, True
