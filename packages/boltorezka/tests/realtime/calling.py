"""Taking a seat in voice over a real socket, losing the socket, and waiting for what the store says of seats."""

from __future__ import annotations

import asyncio

from .conftest import DEADLINE_S
from .contract import asked as answered


async def asked(talker, kind: str, payload: dict | None = None) -> dict:
    """Ask, and answer the payload of the ack or nack; whatever comes before it is passed over."""
    return (await answered(talker, kind, payload))["payload"]


async def heard(talker, kind: str) -> dict:
    """The payload of the next frame of this type."""
    return (await talker.until(kind))[-1]["payload"]


async def in_voice(rooms, name: str, room: str = "general"):
    """Somebody with a seat; answers the socket and the ack."""
    talker = await rooms.talker(name, room)
    ack = await asked(talker, "call.join")
    assert "seatId" in ack, ack
    assert (await heard(talker, "call.joined"))["seatId"] == ack["seatId"]
    return talker, ack


async def seats_become(rooms, *users: str) -> list:
    """Wait until exactly these users have seats in the store."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            seats = await rooms.store.seats(rooms.clock.now())
            if sorted(seat.user_id for seat in seats) == sorted(f"user-{name}" for name in users):
                return seats


async def one_is_held(rooms) -> None:
    """Wait until some seat is without its socket."""
    async with asyncio.timeout(DEADLINE_S):
        while not any(seat.held_until for seat in await rooms.store.seats(rooms.clock.now())):
            pass


def cut(talker) -> None:
    """Lose the connection without a goodbye."""
    talker.ws.transport.abort()
