"""Bytes that no well-behaved client sends: each gets the close code of the contract, and nobody else notices."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import struct

import pytest

from boltorezka.protocol import MAX_FRAME, CloseCode

from .conftest import DEADLINE_S, ORIGIN

MASK = b"\x01\x02\x03\x04"

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10


def frame(
    opcode: int, payload: bytes = b"", flags: int = FIN, *, masked: bool = True, size: int | None = None
) -> bytes:
    """One frame of RFC 6455; `size` is the length that is claimed when it is not that of the payload."""
    claimed = len(payload) if size is None else size
    bit = 0x80 if masked else 0
    if claimed < 126:
        head = struct.pack("!BB", flags | opcode, bit | claimed)
    elif claimed < 1 << 16:
        head = struct.pack("!BBH", flags | opcode, bit | 126, claimed)
    else:
        head = struct.pack("!BBQ", flags | opcode, bit | 127, claimed)
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


class Wire:
    """A connection whose every byte is ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, port: int, request: bytes | None = None, ticket: str = "") -> Wire:
        """Connect, and ask for the upgrade (or send something else)."""
        wire = cls(*await asyncio.open_connection("127.0.0.1", port))
        key = base64.b64encode(b"0123456789abcdef").decode()
        lines = [
            f"GET /v1/realtime/ws?ticket={ticket} HTTP/1.1", "Host: rooms.example", f"Origin: {ORIGIN}",
            "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
        ]  # fmt: skip
        wire.send("\r\n".join([*lines, "", ""]).encode() if request is None else request)
        return wire

    def send(self, data: bytes) -> None:
        """Write, whatever has become of the other side."""
        self.writer.write(data)

    async def head(self) -> bytes:
        """The head of the HTTP answer; empty when the connection just ends."""
        try:
            return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def hear(self) -> tuple[int, bytes] | None:
        """The next frame of the server; None when the connection has ended."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                first, second = await self.reader.readexactly(2)
                assert not second & 0x80, "a server does not mask"
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack("!H", await self.reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
                return first & 0x0F, await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def ended(self) -> tuple[list[str], int | None]:
        """Codes of the `error` frames up to the end, and the close code; None when there was no close frame."""
        errors = []
        while (heard := await self.hear()) is not None:
            opcode, payload = heard
            if opcode == CLOSE:
                return errors, struct.unpack("!H", payload[:2])[0] if payload else None
            if opcode == TEXT and (told := json.loads(payload))["type"] == "error":
                errors.append(told["payload"]["code"])
        return errors, None

    async def answers(self, request_id: str) -> bool:
        """Whether a ping is still acked."""
        ping = json.dumps({"type": "ping", "requestId": request_id}).encode()
        self.send(frame(TEXT, ping))
        while (heard := await self.hear()) is not None:
            opcode, payload = heard
            if opcode == TEXT and json.loads(payload)["payload"].get("requestId") == request_id:
                return True
        return False

    async def close(self) -> None:
        """Let go."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@pytest.fixture
async def open_wire(rooms):
    """Makes connections that were let in."""
    wires = []

    async def make() -> Wire:
        wire = await Wire.dial(rooms.port, ticket=await rooms.ticket("mallory"))
        wires.append(wire)
        assert b" 101 " in await wire.head()
        heard = await wire.hear()
        assert heard is not None
        assert json.loads(heard[1])["type"] == "server.ready"
        return wire

    yield make
    for wire in wires:
        await wire.close()


PIECE = frame(TEXT, b'{"type"', 0)
BREACHES = {
    "not masked": (frame(TEXT, b'{"type":"ping"}', masked=False), 1002),
    "first reserved bit": (frame(TEXT, b"x", FIN | RSV1), 1002),
    "second reserved bit": (frame(TEXT, b"x", FIN | RSV2), 1002),
    "third reserved bit": (frame(TEXT, b"x", FIN | RSV3), 1002),
    "reserved data opcode": (frame(3, b"x"), 1002),
    "reserved control opcode": (frame(11, b"x"), 1002),
    "a continuation of nothing": (frame(0, b"x"), 1002),
    "a second beginning": (PIECE + PIECE, 1002),
    "a whole message between two pieces": (PIECE + frame(TEXT, b"{}"), 1002),
    "a ping that is too long": (frame(PING, b"x" * 126), 1002),
    "a ping in pieces": (frame(PING, b"x", 0), 1002),
    "a close that is too long": (frame(CLOSE, struct.pack("!H", 1000) + b"x" * 124), 1002),
    "a length written long": (b"\x81\xfe\x00\x02" + MASK + b"\x7a\x7f", 1002),
    "a message of bytes": (frame(BINARY, b"x"), 1003),
    "bytes in pieces": (frame(BINARY, b"x", 0), 1003),
    "one byte too many": (frame(TEXT, b"x" * (MAX_FRAME + 1)), 1009),
    "far too much": (frame(TEXT, b"x" * (4 * MAX_FRAME)), 1009),
    "a claim of ten megabytes": (frame(TEXT, b"x", size=10_000_000), 1009),
    "a claim of more than there is memory": (frame(TEXT, b"x", size=(1 << 62)), 1009),
    "pieces that are too much together": (PIECE + frame(0, b"x" * MAX_FRAME), 1009),
}


@pytest.mark.parametrize("name", BREACHES)
async def test_a_breach_is_closed_with_its_code(name, rooms, open_wire):
    """A frame against the rules ends its own connection with the code of the contract, and no other."""
    data, expected = BREACHES[name]
    bystander = await rooms.talker("ann")
    wire = await open_wire()
    wire.send(data)
    errors, code = await wire.ended()
    assert code == expected
    assert set(errors) <= {"ValidationError", "PayloadTooLarge"}
    await bystander.say("ping")
    assert (await bystander.until("ack"))[-1]["type"] == "ack"


BORNE = {
    "a pong nobody asked for": frame(PONG, b"x"),
    "an empty message": frame(TEXT),
    "text that is not UTF-8": frame(TEXT, b'{"type":"ping","requestId":"\xff"}'),
    "text that is not UTF-8, inside a signal": frame(TEXT, b'{"type":"call.ice","payload":{"signal":"\xed\xa0\x80"}}'),
    "nested without end": frame(TEXT, b"[" * MAX_FRAME),
    "a message of the largest size": frame(TEXT, b"x" * MAX_FRAME),
    "a ping between two pieces": PIECE + frame(PING, b"x") + frame(0, b':"ping"}'),
    "an empty last piece": PIECE + frame(0, b':"ping"}', 0) + frame(0),
}


@pytest.mark.parametrize("name", BORNE)
async def test_what_is_allowed_or_only_malformed_leaves_the_socket_open(name, open_wire):
    """Odd frames within the rules, and malformed JSON, are answered, and the socket goes on."""
    wire = await open_wire()
    wire.send(BORNE[name])
    assert await wire.answers("after")


CLOSES = [b"", b"\x03", *(struct.pack("!H", code) for code in (999, 1000, 1005, 65535)), b"\x03\xe8\xff"]


@pytest.mark.parametrize("payload", CLOSES, ids=repr)
async def test_every_close_ends_the_connection(payload, rooms, open_wire):
    """However a client closes, with a code there is or not, the connection ends and is counted once."""
    wire = await open_wire()
    wire.send(frame(CLOSE, payload))
    _, code = await wire.ended()
    assert code is None or 1000 <= code < 5000
    bystander = await rooms.talker("ann")
    await bystander.say("ping")
    assert (await bystander.until("ack"))[-1]["type"] == "ack"


async def test_pieces_without_end_are_bounded(open_wire):
    """A message in countless empty pieces is cut off, instead of being collected for ever."""
    wire = await open_wire()
    wire.send(PIECE + frame(0, b"", 0) * 100_000)
    _, code = await wire.ended()
    assert code == CloseCode.TOO_BIG


HANDSHAKES = {
    "noise": bytes(range(256)) + b"\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200 + b"\r\n\r\n",
    "no key": b"GET /v1/realtime/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n",
    "a key that is not one": b"GET /v1/realtime/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \xff\r\n\r\n",
    "an old version": b"GET /v1/realtime/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
    "no upgrade": b"GET /v1/realtime/ws HTTP/1.1\r\nHost: x\r\n\r\n",
    "by POST": b"POST /v1/realtime/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
    "a header without end": b"GET /v1/realtime/ws HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n",
    "a line folded": b"GET /v1/realtime/ws HTTP/1.1\r\nHost: x\r\nX-Folded: a\r\n b\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "length and chunks": b"POST /v1/rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
}


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_a_garbage_handshake_opens_nothing(name, rooms):
    """What is not an upgrade is refused or dropped, never let in, and the next client is served."""
    wire = await Wire.dial(rooms.port, HANDSHAKES[name])
    wire.writer.write_eof()
    answer = await wire.head()
    await wire.close()
    assert b" 101 " not in answer
    assert not answer or 400 <= int(answer.split()[1]) < 500
    assert (await rooms.talker("ann")) is not None


def some_bytes(dice: random.Random) -> bytes:
    """A few frames, some damaged."""
    texts = [b'{"type":"ping","requestId":"x"}', b'{"type":"room.join","payload":{"roomSlug":"general"}}', b"{"]
    out = bytearray()
    for _ in range(dice.randint(1, 5)):
        payload = dice.choice([*texts, dice.randbytes(dice.randint(0, 300))])
        flags = dice.choice([FIN, FIN, FIN, 0, FIN | RSV1])
        one = bytearray(frame(dice.choice([0, TEXT, TEXT, TEXT, BINARY, CLOSE, PING, PONG, 5]), payload, flags))
        if dice.random() < 0.4:
            one[dice.randrange(len(one))] = dice.randrange(256)
        if dice.random() < 0.2:
            del one[dice.randrange(len(one)) :]
        out += one
    return bytes(out)


DOCUMENTED = {*map(int, CloseCode), 1000}


async def test_random_frames_never_harm_the_server(rooms, open_wire):
    """After 200 connections of random frames every close had a documented code, no socket is left, the server works."""
    dice = random.Random(20_261_123)
    for _ in range(200):
        wire = await open_wire()
        wire.send(some_bytes(dice))
        wire.writer.write_eof()
        errors, code = await wire.ended()
        assert code is None or code in DOCUMENTED or 1000 <= code < 5000
        assert set(errors) <= {"ValidationError", "UnknownEvent", "PayloadTooLarge", "RateLimited"}
        await wire.close()
    survivor = await rooms.talker("ann")
    await survivor.say("chat.send", {"text": "still here"})
    assert (await survivor.messages(1))[0]["text"] == "still here"
