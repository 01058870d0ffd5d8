"""`boltorezka serve` that kills itself: `dying_server.py STAGE:COUNT serve ...`, or `- serve ...` to live.

At the COUNTth batch of messages, at one of the places where a message's fate is decided: `insert` (its rows are in the
transaction, not committed), `commit` (committed, nobody told), `publish` (the other processes were told, the sender was
not), `ack` (acks and deliveries were just given to the sockets).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from boltorezka import cli
from boltorezka.adapters.nats_bus import NatsBus
from boltorezka.adapters.postgres.append import Append
from boltorezka.adapters.realtime.outbox import Outbox
from boltorezka.adapters.sqlite import store as sqlite_store
from boltorezka.adapters.sqlite.bus import SqliteBus
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.hints import Committed
from boltorezka.rooms.model import EventKind


class Fate:
    """Counts batches of messages and ends the process."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.stored = False  # a batch was stored since the last write to the sockets

    def meet(self) -> None:
        """One more."""
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def at_insert(fate: Fate) -> None:
    """After the rows are written, before the commit.

    PostgreSQL stores a common batch in one statement: there, when the statement is on its way and nobody knows.
    """
    real: Callable[..., Any] = sqlite_store.append

    def append(db: Any, batch: Any) -> Any:
        answers = real(db, batch)
        if any(new.kind is EventKind.MESSAGE for new in batch):
            fate.meet()
        return answers

    sqlite_store.append = append
    real_alone, real_in_transaction = Append.alone, Append.in_transaction

    async def alone(self: Append, db: Any) -> Any:
        stored = asyncio.ensure_future(real_alone(self, db))
        # Each turn of the loop brings the statement a step further: into the buffer, onto the wire.
        for _ in range(3):
            await asyncio.sleep(0)
        fate.meet()
        return await stored

    async def in_transaction(self: Append, db: Any) -> Any:
        answers = await real_in_transaction(self, db)
        fate.meet()
        return answers

    Append.alone = alone  # type: ignore[method-assign]
    Append.in_transaction = in_transaction  # type: ignore[method-assign]


def at_commit(fate: Fate) -> None:
    """When the store has answered, before anything is done with it."""
    real = RoomsCore.appended

    def appended(self: RoomsCore, batch: Any, *more: Any) -> Any:
        if any(asked.kind is EventKind.MESSAGE for asked in batch):
            fate.meet()
        return real(self, batch, *more)

    RoomsCore.appended = appended  # type: ignore[method-assign]


def at_publish(fate: Fate) -> None:
    """When the bus was given the events."""
    for bus in (SqliteBus, NatsBus):
        real: Callable[..., Any] = bus.publish

        def publish(self: Any, hint: Any, real: Callable[..., Any] = real) -> None:
            real(self, hint)
            if isinstance(hint, Committed):
                fate.meet()

        bus.publish = publish  # type: ignore[method-assign]


def at_ack(fate: Fate) -> None:
    """When the sockets have been written to after a batch."""
    real_appended, real_flush = RoomsCore.appended, Outbox.flush

    def appended(self: RoomsCore, batch: Any, *more: Any) -> Any:
        fate.stored = any(asked.kind is EventKind.MESSAGE for asked in batch)
        return real_appended(self, batch, *more)

    def flush(self: Outbox) -> None:
        real_flush(self)
        if fate.stored:
            fate.stored = False
            fate.meet()

    RoomsCore.appended = appended  # type: ignore[method-assign]
    Outbox.flush = flush  # type: ignore[method-assign]


STAGES = {"insert": at_insert, "commit": at_commit, "publish": at_publish, "ack": at_ack}


if __name__ == "__main__":
    stage, _, count = sys.argv[1].partition(":")
    if stage in STAGES:
        STAGES[stage](Fate(int(count)))
    sys.exit(cli.main(sys.argv[2:]))
