"""What the wire contract says of each event of the server, and a client's ways to ask and to hear by it."""

from __future__ import annotations

import asyncio

from .conftest import DEADLINE_S

# What each event of the server holds at least, as the contract writes it; more may be added.
FIELDS = {
    "server.ready": "userId userName connectedAt connectionId heartbeatMs",
    "server.heartbeat": "rooms",
    "pong": "ts",
    "ack": "requestId eventType ts",
    "nack": "requestId eventType code message retryable ts",
    "room.joined": "roomId roomSlug roomTitle epoch lastSeq",
    "room.delta": "roomSlug epoch fromSeq toSeq events",
    "room.reset": "roomSlug epoch lastSeq",
    "room.presence": "roomId roomSlug users",
    "room.left": "",
    "room.read": "seq",
    "presence.joined": "userId userName roomSlug presenceCount",
    "presence.left": "userId userName roomSlug presenceCount",
    "chat.message": "id roomId roomSlug userId userName text createdAt seq epoch senderRequestId",
    "chat.edited": "id roomId roomSlug text editedAt editedByUserId seq epoch",
    "chat.deleted": "id roomId roomSlug deletedByUserId ts seq epoch",
    "chat.typing": "userId roomSlug",
    "member.joined": "userId seq epoch",
    "call.initial_state": "roomSlug participants",
    "call.joined": "userId seatId",
}
ACKS = {
    "room.join": "roomId roomSlug",
    "chat.send": "messageId seq",
    "call.join": "seatId engine iceServers participants engineData",
}
DURABLE = {"chat.message", "chat.edited", "chat.deleted", "member.joined", "member.left"}
# Positions of a log, which are no events of it.
PLACED = {"ack", "room.joined", "room.delta", "room.reset", "room.read"}


class MovedClock:
    """The machine's clocks, that can be put forward."""

    def __init__(self, clock) -> None:
        self._clock = clock
        self.ahead_s = 0

    def now(self) -> int:
        return self._clock.now() + self.ahead_s * 1_000_000

    def monotonic(self) -> float:
        return self._clock.monotonic()


def legal(frame: dict) -> dict:
    """The payload of a frame, after comparing it with the contract."""
    kind, payload = frame["type"], frame["payload"]
    assert set(FIELDS[kind].split()) <= set(payload), frame
    if kind == "ack":
        assert set(ACKS.get(payload["eventType"], "").split()) <= set(payload), frame
    if kind in DURABLE:
        assert isinstance(payload["epoch"], str)
        assert 0 < payload["seq"] < 2**53
    elif kind not in PLACED:
        assert not {"seq", "epoch"} & set(payload), frame
    return payload


async def asked(talker, kind: str, payload: dict | None = None, key: str | None = None) -> dict:
    """Ask, and answer the ack or nack itself."""
    request_id = await talker.say(kind, payload, key)
    while True:
        frame = (await talker.until("ack", "nack"))[-1]
        if frame["payload"]["requestId"] == request_id:
            return frame


async def acked(talker, kind: str, payload: dict | None = None, key: str | None = None) -> dict:
    """The payload of the ack."""
    frame = await asked(talker, kind, payload, key)
    assert frame["type"] == "ack", frame
    return legal(frame)


async def nacked(talker, kind: str, payload: dict | None = None, key: str | None = None) -> str:
    """The code of the nack."""
    frame = await asked(talker, kind, payload, key)
    assert frame["type"] == "nack", frame
    return legal(frame)["code"]


async def heard(talker, kind: str) -> dict:
    """The payload of the next frame of this type."""
    return legal((await talker.until(kind))[-1])


async def all_until_pong(talker) -> list[dict]:
    """Everything that came before the answer to a ping: what is not in it was not said before."""
    request_id = await talker.say("ping")
    frames = await talker.until("pong")
    assert (await talker.hear())["payload"]["requestId"] == request_id
    return frames[:-1]


async def position(talker) -> tuple[str, int]:
    """Epoch and seq of a message that is said now."""
    await talker.say("chat.send", {"text": "a mark"})
    frames: dict[str, dict] = {}
    while not {"ack", "chat.message"} <= set(frames):  # in any order: behind a gap the message waits for the log
        frame = await talker.hear()
        frames[frame["type"]] = frame["payload"]
    return frames["chat.message"]["epoch"], frames["chat.message"]["seq"]


async def passed_on(talker, said: str, payload: dict, listener) -> dict:
    """Say it until the listener hears it: what is ephemeral may be lost while two processes get to know each other."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await acked(talker, said, payload)
            for frame in await all_until_pong(listener):
                if frame["type"] == said:
                    return legal(frame)
