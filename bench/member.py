"""One socket of the bench's room, and the log that all of them are compared with.

All sockets of a room are sent the same bytes for the same message. So the first socket that gets a message parses and
checks it, and what the others get is compared with it byte by byte: exact, and cheap enough not to starve the server.
"""

from __future__ import annotations

import asyncio
import base64
import os
from bisect import bisect_right
from typing import Protocol, cast

from boltorezka import protocol
from boltorezka.errors import ValidationError
from boltorezka.protocol import Ack, ChatMessage, ChatSend, Error, Nack

# A sentence as people write it.
TEXT = "The release is out, the canary looks calm, and nobody noticed anything. Lunch at one? I booked the table."

_FINAL_TEXT, _FINAL_PING = 0x81, 0x89


class Wrong(Exception):
    """The server did something it must not do."""


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

    def add(self, frame: bytes, message: ChatMessage) -> None:
        """The next message. Raises Wrong unless it is one of ours and continues the log."""
        if self._next_seq is not None and message.seq != self._next_seq:
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

    def acked(self, member: Member, ack: Ack) -> None:
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

    def __init__(self, watcher: Watcher, number: int, path: str) -> None:
        self._watcher = watcher
        self.number = number
        self._path = path
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self.upgraded = asyncio.Event()
        # How far into the log's bytes this socket is.
        self.position = 0
        self.acks: asyncio.Queue[Ack] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports keep the interface without the inheritance.
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._transport.write(request.encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._watcher.fail(f"socket {self.number} was closed: {exc or 'the server ended the connection'}")

    def say(self, frame: bytes) -> None:
        """Send one text frame, masked with the key of zeros: legal, and free."""
        size = len(frame)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self._write(b"\x81" + length + b"\0\0\0\0" + frame)

    def _write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise Wrong(f"socket {self.number} is closed")
        self._transport.write(data)

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
        at = 0 if self.upgraded.is_set() else self._upgrade(data)
        while at < len(data):
            end = _frame_end(data, at)
            if end > len(data):
                break
            self._frame(data, at, end)
            at = end
        self._rest = data[at:]

    def _upgrade(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            raise Wrong("the answer to the upgrade came in pieces")
        if not data.startswith(b"HTTP/1.1 101 "):
            status = data.partition(b"\r")[0]
            raise Wrong(f"the upgrade was refused: {status!r}")
        self.upgraded.set()
        return end + 4

    def _frame(self, data: bytes, at: int, end: int) -> None:
        log = self._watcher.log
        frame = data[at:end]
        if self.position < len(log.data) and log.data.startswith(frame, self.position):
            self.position += len(frame)
            return
        body = frame[4 if frame[1] == 126 else 10 if frame[1] == 127 else 2 :]
        if frame[0] == _FINAL_PING:
            # Control frames are short, so the length is one byte; the answer carries the same body.
            self._write(bytes((0x8A, 0x80 | len(body))) + b"\0\0\0\0" + body)
            return
        if frame[0] != _FINAL_TEXT:
            raise Wrong(f"an unexpected frame {frame[0]:#x} came: {body[:80]!r}")
        self._payload(frame, body)

    def _payload(self, frame: bytes, body: bytes) -> None:
        log = self._watcher.log
        try:
            payload = protocol.decode_server(body)
        except ValidationError as error:
            raise Wrong(error.message) from None
        if isinstance(payload, ChatMessage):
            if self.position != len(log.data):
                raise Wrong(f"message {payload.seq} is not what other sockets got there: lost, doubled or changed")
            log.add(frame, payload)
            self.position = len(log.data)
        elif isinstance(payload, Nack | Error):
            raise Wrong(f"{payload.EVENT} {payload.code}: {payload.message}")
        elif isinstance(payload, Ack) and payload.event_type == ChatSend.EVENT:
            self._watcher.acked(self, payload)
        elif isinstance(payload, Ack):
            self.acks.put_nowait(payload)


def _frame_end(data: bytes, at: int) -> int:
    """Where the unmasked frame that begins at `at` ends; beyond the data when its header is not there yet."""
    if at + 2 > len(data):
        return at + 2
    size = data[at + 1]
    if size < 126:
        return at + 2 + size
    wide = 2 if size == 126 else 8
    if at + 2 + wide > len(data):
        return at + 2 + wide
    return at + 2 + wide + int.from_bytes(data[at + 2 : at + 2 + wide], "big")
