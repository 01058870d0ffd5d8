"""The load of the fan-out bench: it counts what is right, and nothing that is wrong gets past it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

# The bench is a directory of scripts, not a package.
sys.path.insert(0, str(Path(__file__).parents[1]))

import load
import wire

AT = "2026-01-02T03:04:05.678Z"
SOCKETS = 3
# The message with which something goes wrong; some have arrived before it.
MARKED = 3

# What is done to a message: (its frame, which socket, its seq) to the frames that are sent.
Tamper = Callable[[bytes, int, int], list[bytes]]


def _honest(frame: bytes, _socket: int, _seq: int) -> list[bytes]:
    return [frame]


class _Room:
    """A server that tells every socket everything, unless it is made to err."""

    def __init__(self, tamper: Tamper, ack_seq: Callable[[int], int], piece: int) -> None:
        self._tamper = tamper
        self._ack_seq = ack_seq
        self._piece = piece
        self._seqs = itertools.count(1)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.create_task(self._serve(reader, writer)))

    async def ended(self) -> None:
        """Every connection is closed; its client has gone before."""
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        try:
            if b"/v1/auth/ws-ticket" in asked:
                writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"ticket":"t"}')
                return
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            self._writers.append(writer)
            while True:
                frame = await _read_frame(reader)
                # A frame is written in pieces; another one must not come between them.
                async with self._turn:
                    await self._answer(writer, frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        asked: dict[str, Any] = json.loads(frame)
        kind, request_id = asked["type"], asked["requestId"]
        ack = {"requestId": request_id, "eventType": kind, "ts": AT}
        if kind == "ping":
            await self._write(writer, _framed("pong", ts=AT))
        if kind != "chat.send":
            await self._write(writer, _framed("ack", **ack))
            return
        seq = next(self._seqs)
        text = asked["payload"]["text"]
        message = {"id": f"m{seq}", "text": text, "seq": seq, "epoch": "e", "senderRequestId": request_id}
        whole = _framed("chat.message", **message, createdAt=AT, userName="U" * 40)
        for socket, each in enumerate(list(self._writers)):
            for told in self._tamper(whole, socket, seq):
                await self._write(each, told)
        await self._write(writer, _framed("ack", **ack, messageId=message["id"], seq=self._ack_seq(seq)))

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for at in range(0, len(data), self._piece):
            writer.write(data[at : at + self._piece])
            # Lets the other side read a piece of a frame.
            await asyncio.sleep(0)


def _framed(kind: str, **payload: object) -> bytes:
    body = json.dumps({"type": kind, "payload": payload}).encode()
    size = len(body)
    return (bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")) + body


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    size = (await reader.readexactly(2))[1] & 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    await reader.readexactly(4)
    return await reader.readexactly(size)


@asynccontextmanager
async def _crowd(
    tamper: Tamper = _honest, ack_seq: Callable[[int], int] = lambda seq: seq, piece: int = 4096
) -> AsyncIterator[load.Crowd]:
    room = _Room(tamper, ack_seq, piece)
    server = await asyncio.start_server(room.serve, "127.0.0.1", 0)
    crowd = load.Crowd()
    try:
        port = server.sockets[0].getsockname()[1]
        await crowd.connect([wire.Door(port, "token")] * SOCKETS)
        yield crowd
    finally:
        crowd.close()
        await room.ended()
        server.close()
        await server.wait_closed()


async def _talk(crowd: load.Crowd) -> tuple[int, int]:
    """Until the marked message is surely among them."""
    return await crowd.talk(2, 0.03)


async def _talk_to_the_end(crowd: load.Crowd) -> None:
    await _talk(crowd)
    await crowd.barrier()


def _lose(frame: bytes, socket: int, seq: int) -> list[bytes]:
    return [] if (socket, seq) == (1, MARKED) else [frame]


def _lose_for_all(frame: bytes, _socket: int, seq: int) -> list[bytes]:
    return [] if seq == MARKED else [frame]


def _double(frame: bytes, socket: int, seq: int) -> list[bytes]:
    return [frame, frame] if (socket, seq) == (1, MARKED) else [frame]


def _change(frame: bytes, socket: int, seq: int) -> list[bytes]:
    return [frame.replace(b"Lunch", b"Brunc")] if (socket, seq) == (1, MARKED) else [frame]


def _change_for_all(frame: bytes, _socket: int, seq: int) -> list[bytes]:
    return [frame.replace(b"Lunch", b"Brunc")] if seq == MARKED else [frame]


class _Swap:
    """One socket gets a message after the next one."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []

    def __call__(self, frame: bytes, socket: int, seq: int) -> list[bytes]:
        if socket != 1:
            return [frame]
        if seq == MARKED:
            self._kept = [frame]
            return []
        kept, self._kept = self._kept, []
        return [frame, *kept]


@pytest.mark.parametrize("tamper", [_lose, _lose_for_all, _double, _change, _change_for_all, _Swap()])
async def test_a_wrong_delivery_ends_the_run(tamper: Tamper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message lost, doubled, changed or out of order, for one socket or for all, is never counted as delivered."""
    monkeypatch.setattr(load, "STALL_S", 0.1)
    async with _crowd(tamper) as crowd:
        with pytest.raises(wire.Wrong):
            await _talk_to_the_end(crowd)


async def test_an_ack_of_another_seq_ends_the_run() -> None:
    """What is acked must be what was delivered."""
    async with _crowd(ack_seq=lambda seq: seq + 1) as crowd:
        with pytest.raises(wire.Wrong, match="another seq"):
            await _talk(crowd)


@pytest.mark.parametrize("piece", [1, 7, 100, 4096])
async def test_what_is_right_is_counted_however_it_is_cut(piece: int) -> None:
    """TCP may cut frames anywhere: every message still counts once for every socket, run after run."""
    async with _crowd(piece=piece) as crowd:
        (first, deliveries), (second, _) = await _talk(crowd), await _talk(crowd)
        assert deliveries == first * SOCKETS > 0
        assert await crowd.barrier() == first + second
