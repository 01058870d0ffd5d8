"""The outbox alone: whatever is sent, broadcast now or soon, entered and left, each socket gets its frames in order."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from boltorezka.adapters.realtime.outbox import Outbox, Socket


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.arrived = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))
        self.arrived.set()

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        raise AssertionError("nobody is slow here")


STEP = st.tuples(st.sampled_from(["send", "now", "soon", "enter", "exit", "tick", "wait"]), st.integers(0, 2))


@given(st.lists(STEP, max_size=60))
def test_every_socket_gets_what_was_meant_for_it_once_and_in_order(steps):
    """Model: a socket is to get its own frames and the broadcasts made while it was in the room, in the order made."""

    async def story() -> None:
        outbox = Outbox(1 << 20, lambda _socket: None, lambda _frames, _took: None)
        wires = [Wire() for _ in range(3)]
        sockets = [Socket(number, wire) for number, wire in enumerate(wires)]
        meant: list[list[bytes]] = [[], [], []]
        inside: set[int] = set()
        for number, (kind, who) in enumerate(steps):
            frame = b"<%d>" % number
            if kind == "send":
                outbox.send(sockets[who], frame)
                meant[who].append(frame)
            elif kind in {"now", "soon"}:
                outbox.broadcast("room", frame, soon=kind == "soon")
                for each in inside:
                    meant[each].append(frame)
            elif kind == "enter" and who not in inside:
                outbox.enter(sockets[who], "room")
                inside.add(who)
            elif kind == "exit" and who in inside:
                outbox.exit(sockets[who], "room")
                inside.discard(who)
            elif kind == "tick":
                outbox.flush()
        # One more of each kind ends every wait.
        outbox.broadcast("room", b"<end>")
        outbox.flush()
        for who, wire in enumerate(wires):
            assert b"".join(wire.written) == b"".join(meant[who]) + (b"<end>" if who in inside else b"")
            assert b"" not in wire.written

    asyncio.run(story())


async def test_what_is_sent_soon_arrives_by_itself_and_together():
    """Several news of one moment are one write, without anybody broadcasting anything else."""
    flushed: list[int] = []
    outbox = Outbox(1 << 20, lambda _socket: None, lambda frames, _took: flushed.append(frames))
    wire = Wire()
    outbox.enter(Socket(1, wire), "room")
    outbox.flush()
    for frame in (b"<1>", b"<2>", b"<3>"):
        outbox.broadcast("room", frame, soon=True)
    outbox.flush()
    assert wire.written == []
    wire.arrived.clear()
    async with asyncio.timeout(10):
        await wire.arrived.wait()
    assert wire.written == [b"<1><2><3>"]
    assert flushed[-1] == 3
