"""One socket of the bench's room, and the log that all of them are compared with.

All sockets of a room are sent the same bytes for the same message. So the first socket that gets a message parses and
checks it, and what the others get is compared with it byte by byte: exact, and cheap enough not to starve the server.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import Protocol, cast

import wire
from wire import FINAL_PING, FINAL_TEXT, TEXT, Said, Wrong


class Log:
    """What the room was told so far: the messages' frames end to end, each checked when it came for the first time."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.starts: list[int] = []
        self.request_ids: list[str] = []
        self.seqs: dict[str, int] = {}
        self._next_seq: int | None = None

    @property
    def top(self) -> int | None:
        """The seq of the newest message, if there was one."""
        return None if self._next_seq is None else self._next_seq - 1

    def end(self, index: int) -> int:
        """Where the message of this index ends."""
        return self.starts[index + 1] if index + 1 < len(self.starts) else len(self.data)

    def forget(self) -> None:
        """Drop the bytes that everybody has; the next message still has to continue the seq."""
        self.data.clear()
        self.starts.clear()
        self.request_ids.clear()
        self.seqs.clear()

    def add(self, frame: bytes, message: Said) -> None:
        """The next message. Raises Wrong unless it is one of ours and continues the log."""
        if message.seq is None or (self._next_seq is not None and message.seq != self._next_seq):
            raise Wrong(f"seq {message.seq} came where {self._next_seq} was due")
        if message.text != TEXT or message.sender_request_id is None or message.sender_request_id in self.seqs:
            raise Wrong(f"message {message.seq} is not one that was sent, or came twice")
        self._next_seq = message.seq + 1
        self.seqs[message.sender_request_id] = message.seq
        self.request_ids.append(message.sender_request_id)
        self.starts.append(len(self.data))
        self.data += frame


class Watcher(Protocol):
    """Who wants to know what the sockets get."""

    log: Log

    def acked(self, member: Member, ack: Said) -> None:
        """A sender learned that its message is stored. Raises Wrong."""
        ...

    def moved(self) -> None:
        """Some socket got something."""
        ...

    def fail(self, sentence: str) -> None:
        """The run is over."""
        ...


class Member(asyncio.Protocol):
    """One socket of the room."""

    def __init__(self, watcher: Watcher, number: int, ticket: str) -> None:
        self._watcher = watcher
        self.number = number
        self._ticket = ticket
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self.upgraded = asyncio.Event()
        # How far into the log's bytes this socket is.
        self.position = 0
        self.acks: asyncio.Queue[Said] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports keep the interface without the inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(wire.upgrade_request(self._ticket))

    def connection_lost(self, exc: Exception | None) -> None:
        self._watcher.fail(f"socket {self.number} was closed: {exc or 'the server ended the connection'}")

    def say(self, frame: bytes) -> None:
        """Send one masked frame."""
        if self._transport is None or self._transport.is_closing():
            raise Wrong(f"socket {self.number} is closed")
        self._transport.write(frame)

    def close(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            if not self._rest and self.upgraded.is_set() and self._watcher.log.data.startswith(data, self.position):
                self.position += len(data)
            else:
                self._parse(data)
            self._watcher.moved()
        except Wrong as error:
            self._watcher.fail(f"socket {self.number}: {error}")

    def _parse(self, data: bytes) -> None:
        log = self._watcher.log
        if self._rest:
            data = self._rest + data
        elif log.starts and self.position < len(log.data):
            # The last chunk may have ended inside a message that matched so far: take that part again.
            start = log.starts[bisect_right(log.starts, self.position) - 1]
            data = bytes(log.data[start : self.position]) + data
            self.position = start
        self._rest = b""
        if not self.upgraded.is_set():
            data = data[wire.after_upgrade(data) :]
            self.upgraded.set()
        at = 0
        for begin, at in wire.frames(data):
            self._frame(data[begin:at])
        self._rest = data[at:]

    def _frame(self, frame: bytes) -> None:
        log = self._watcher.log
        if self.position < len(log.data) and log.data.startswith(frame, self.position):
            self.position += len(frame)
            return
        body = wire.body_of(frame)
        if frame[0] == FINAL_PING:
            self.say(wire.masked(0x8A, body))
            return
        if frame[0] != FINAL_TEXT:
            raise Wrong(f"an unexpected frame {frame[0]:#x} came: {body[:80]!r}")
        self._told(frame, wire.decode(body))

    def _told(self, frame: bytes, told: wire.Frame) -> None:
        log = self._watcher.log
        said = told.payload
        if told.type == "chat.message":
            if self.position != len(log.data):
                raise Wrong(f"message {said.seq} is not what other sockets got there: lost, doubled or changed")
            log.add(frame, said)
            self.position = len(log.data)
        elif told.type in {"nack", "error"}:
            raise Wrong(f"{told.type} {said.code}: {said.message}")
        elif told.type == "ack" and said.event_type == "chat.send":
            self._watcher.acked(self, said)
        elif told.type == "ack":
            self.acks.put_nowait(said)
