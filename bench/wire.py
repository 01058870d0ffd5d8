"""The wire as a client of the bench sees it: frames, requests, what comes back. Knows no server's code.

Every client process of the benches is built on this module, so that all servers are asked by the same bytes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

PATH = "/v1/realtime/ws"
ROOM = "general"
# A sentence as people write it.
TEXT = "The release is out, the canary looks calm, and nobody noticed anything. Lunch at one? I booked the table."

FINAL_TEXT, FINAL_CLOSE, FINAL_PING = 0x81, 0x88, 0x89

# A server that has not answered an HTTP request for this long, on a machine however busy, is broken.
ANSWER_S = 30.0
# A ticket, a health answer: some hundred bytes.
MAX_ANSWER = 1 << 20


class Wrong(Exception):
    """The server did something it must not do."""


@dataclass(frozen=True)
class Door:
    """Where somebody comes in: a server's port and their session token."""

    port: int
    token: str


class Said(msgspec.Struct, rename="camel"):
    """The payload of anything a server says; what a type does not have is None."""

    request_id: str | None = None
    event_type: str | None = None
    sender_request_id: str | None = None
    text: str | None = None
    seq: int | None = None
    epoch: str | None = None
    last_seq: int | None = None
    from_seq: int | None = None
    to_seq: int | None = None
    events: list[Any] | None = None
    duplicate: bool = False
    code: str | None = None
    message: str | None = None


class Frame(msgspec.Struct):
    """One text frame of a server."""

    type: str
    payload: Said


_decode = msgspec.json.Decoder(Frame).decode


def decode(body: bytes) -> Frame:
    """Read one text frame. Raises Wrong."""
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise Wrong(f"{body[:80]!r} is not a frame of the contract: {error}") from None


def request(kind: str, request_id: str, key: str | None = None, **payload: object) -> bytes:
    """A client's request, framed and masked with the key of zeros: legal, and free."""
    said: dict[str, object] = {"type": kind, "requestId": request_id, "payload": payload}
    if key is not None:
        said["idempotencyKey"] = key
    return masked(FINAL_TEXT, json.dumps(said, separators=(",", ":")).encode())


def masked(opcode: int, body: bytes) -> bytes:
    """A frame as clients send it."""
    size = len(body)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((opcode,)) + length + b"\0\0\0\0" + body


def frame_end(data: bytes | bytearray, at: int) -> int:
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


def body_of(frame: bytes) -> bytes:
    """The inside of a whole unmasked frame."""
    return frame[4 if frame[1] == 126 else 10 if frame[1] == 127 else 2 :]


def frames(data: bytes) -> Iterator[tuple[int, int]]:
    """(begin, end) of every whole frame in the data; what follows the last one is the beginning of the next."""
    at = 0
    while (end := frame_end(data, at)) <= len(data):
        yield at, end
        at = end


def upgrade_request(ticket: str) -> bytes:
    """Ask for the WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {PATH}?ticket={ticket} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def after_upgrade(data: bytes) -> int:
    """Where the frames begin after the answer to the upgrade. Raises Wrong unless it was granted."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise Wrong("the answer to the upgrade came in pieces")
    if not data.startswith(b"HTTP/1.1 101 "):
        status = data.partition(b"\r")[0]
        raise Wrong(f"the upgrade was refused: {status!r}")
    return end + 4


async def ticket(door: Door, source: str | None = None) -> str:
    """Fetch a ticket over a connection of its own, as every browser does. Raises Wrong."""
    answer = await get(door, "/v1/auth/ws-ticket", source)
    return str(json.loads(answer)["ticket"])


async def get(door: Door, path: str, source: str | None = None) -> bytes:
    """The body of one GET. Raises Wrong on anything but 200."""
    local = None if source is None else (source, 0)
    async with asyncio.timeout(ANSWER_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, local_addr=local)
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {door.token}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            answer = await reader.read(MAX_ANSWER)
            while chunk := await reader.read(MAX_ANSWER):
                answer += chunk
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0]
    if b" 200 " not in status:
        raise Wrong(f"{path} answered {status!r} {body[:200]!r}")
    return body


def durable(data: object) -> int | None:
    """The seq of a durable event inside a `room.delta`, whether bare or in its envelope."""
    inside = data.get("payload", data) if isinstance(data, dict) else {}
    seq = inside.get("seq") if isinstance(inside, dict) else None
    return seq if isinstance(seq, int) else None
