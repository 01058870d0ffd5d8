"""The way of events into the store: all that wait go into one transaction, one batch at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from boltorezka.errors import RateLimited, Refusal, Unavailable
from boltorezka.ports import Clock, Ids, LogStore, NewEvent
from boltorezka.rooms import effects as do
from boltorezka.rooms.core import RoomsCore
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.model import Appended, EventKind

log = logging.getLogger("boltorezka.realtime")

# While several people talk, a batch waits as long as more comes: each message that is waited for saves a commit and a
# write to every socket of its room. Looked at this often, about as long as a commit takes.
_GATHER_S = 0.001
# And batches keep a distance of this many times what writing the last one to its sockets took, so that the writes of a
# busy room are a part of the work and not most of it.
_PACE = 4
# Ended in any case long before anybody notices, at 100 ms.
_GATHER_MAX_S = 0.02

_Item = tuple[do.Append, NewEvent, float, "asyncio.Future[Appended] | None"]


class Appender:
    """`run` is the task. Whatever becomes of an event, its socket or its caller hears it, once."""

    def __init__(
        self,
        store: LogStore,
        clock: Clock,
        ids: Ids,
        core: RoomsCore,
        queue: int,
        execute: Callable[[Sequence[Effect]], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._core = core
        self._queue = queue
        self._execute = execute
        self._items: list[_Item] = []
        self._batch: list[_Item] = []  # is being stored
        self._ended = False
        self._wanted = asyncio.Event()
        self.fan_out_s = 0.0  # how long the last writing to sockets took
        self.stored_at: list[float] = []  # when the messages were read whose deliveries have not been written yet

    def append(self, effect: do.Append) -> None:
        """A socket's event."""
        refusal = self._refusal()
        if refusal is not None:
            self._execute(self._core.append_failed([effect], refusal, self._clock.now(), self._clock.monotonic()))
            return
        new = NewEvent(
            effect.room_id, effect.kind, self._ids.new_id(), effect.user_id, effect.user_name, effect.text,
            self._clock.now(), effect.request_id, effect.idempotency_key, effect.ref,
        )  # fmt: skip
        self._put(effect, new, None)

    async def store(self, new: NewEvent) -> Appended:
        """Somebody else's event, by the same way; raises the Refusal. Cancelled, it may be stored all the same."""
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        effect = do.Append(0, "", new.kind, new.room_id, new.user_id, new.user_name, new.text, ref=new.ref)
        answer: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._put(effect, new, answer)
        found = await answer
        if isinstance(found, Refusal):
            raise found
        return found

    def _refusal(self) -> Refusal | None:
        if self._ended:
            return _stopping()
        if len(self._items) < self._queue:
            return None
        sentence = "The server is storing as fast as it can; try again in a second."
        return RateLimited(sentence, retry_after_ms=1000)

    def _put(self, effect: do.Append, new: NewEvent, waiter: asyncio.Future[Appended] | None) -> None:
        self._items.append((effect, new, self._clock.monotonic(), waiter))
        self._wanted.set()

    async def run(self) -> None:
        """One batch at a time: what comes while a batch is being committed is the next one."""
        try:
            await self._run()
        finally:
            self.give_up()

    async def _run(self) -> None:
        last, began = 0, 0.0
        while True:
            await self._wanted.wait()
            if last > 1:
                await self._gather(began)
            self._wanted.clear()
            last, began = len(self._items), self._clock.monotonic()
            self._batch, self._items = self._items, []
            await self._commit(self._batch)
            self._batch = []

    async def _gather(self, began: float) -> None:
        """Wait while more comes, and until the last batch, which began then, is far enough away; within the bound."""
        now = self._clock.monotonic()
        until, seen = min(now + _GATHER_MAX_S, began + _PACE * self.fan_out_s), 0
        end = now + _GATHER_MAX_S
        while now < until or (len(self._items) > seen and now < end):
            seen = len(self._items)
            await asyncio.sleep(_GATHER_S)
            now = self._clock.monotonic()

    async def _commit(self, batch: list[_Item]) -> None:
        asked = [effect for effect, _, _, _ in batch]
        answers: Sequence[Appended]
        try:
            answers = await self._store.append([new for _, new, _, _ in batch])
        except Refusal as error:
            answers = [error] * len(batch)
        except Exception:
            log.exception("a batch of messages was not stored")
            answers = [Unavailable("Something broke in the server; it was logged.")] * len(batch)
        else:
            self.stored_at += [since for effect, _, since, _ in batch if effect.kind is EventKind.MESSAGE]
        self._execute(self._core.appended(asked, answers, self._clock.now(), self._clock.monotonic()))
        for (_, _, _, waiter), answer in zip(batch, answers, strict=True):
            if waiter is not None and not waiter.done():
                waiter.set_result(answer)

    def give_up(self) -> None:
        """Nothing is stored any more: whoever still waits is told that nobody knows, whoever comes later at once."""
        self._ended = True
        items, self._batch, self._items = self._batch + self._items, [], []
        for _, _, _, waiter in items:
            if waiter is not None and not waiter.done():
                waiter.set_result(_stopping())


def _stopping() -> Refusal:
    return Unavailable("The server is stopping; try again.")
