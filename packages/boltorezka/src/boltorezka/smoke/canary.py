"""Numbered messages on both slots during the watch: what was lost, doubled or reordered, once a second."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass, field

import httpx
from websockets.exceptions import WebSocketException

from boltorezka.smoke.report import CheckFailed, Report, describe
from boltorezka.smoke.socket import Frame, Socket, fetch_ticket
from boltorezka.smoke.target import Person, Target

SEND_EVERY_S = 0.5
REPORT_EVERY_S = 1.0
# A message that is not there after this long is lost to a person who is talking.
LOST_AFTER_S = 3.0
# Sending stops this long before the deadline, so that the last message has its time to arrive or to be lost.
TAIL_S = LOST_AFTER_S + 0.5
# Sending ends this long before the deadline, so that the last message, too, is either heard or lost.
TAIL_S = LOST_AFTER_S + 0.5
LOOK_AGAIN_S = 0.1
# The last line must be out before the deadline, at which this process is killed.
MARGIN_S = 0.3
# A slot that cut the socket is tried again this soon; it may be draining, which is no fault.
RECONNECT_AFTER_S = 0.25
DRAINING = 4012


@dataclass
class Track:
    """What one listener should hear of one sender, and did."""

    sent: dict[int, float] = field(default_factory=dict)  # number -> when it was first tried
    heard: dict[int, int] = field(default_factory=dict)  # number -> how often
    highest: int = 0
    reordered: int = 0

    def hear(self, number: int) -> None:
        """One delivery."""
        self.heard[number] = self.heard.get(number, 0) + 1
        if number < self.highest and self.heard[number] == 1:
            self.reordered += 1
        self.highest = max(self.highest, number)

    def lost(self, now: float) -> set[int]:
        """Overtaken by a later one, or not there in time. A late arrival is taken back from it."""
        return {
            n for n, at in self.sent.items() if n not in self.heard and (n < self.highest or now - at > LOST_AFTER_S)
        }

    @property
    def complete(self) -> bool:
        """Everything sent was heard."""
        return self.sent.keys() <= self.heard.keys()

    @property
    def duplicated(self) -> int:
        """Deliveries beyond the first."""
        return sum(times - 1 for times in self.heard.values())


@dataclass
class Troubles:
    """How often the slot cut a socket or refused one, and the newest reason."""

    count: int = 0
    newest: str = ""

    def add(self, what: str) -> None:
        """One more."""
        self.count += 1
        self.newest = what


class Listener:
    """Hears everything in the canary room through one slot, over however many sockets that takes."""

    def __init__(self, url: str, person: Person, room: str) -> None:
        """`run` connects."""
        self.url, self.person, self.room = url, person, room
        self.tracks: dict[str, Track] = {}
        self.settled = asyncio.Event()  # it hears, or it was refused once
        self.troubles = Troubles()
        self._heard = asyncio.Event()
        self._position: Frame | None = None

    async def run(self, http: httpx.AsyncClient) -> None:
        """Until cancelled. A drain and the reconnect after it are no fault; anything else is kept as one."""
        while True:
            try:
                await self._listen(http)
            except (CheckFailed, httpx.HTTPError, WebSocketException, OSError) as error:
                self.troubles.add(describe(error))
                self.settled.set()
            await asyncio.sleep(RECONNECT_AFTER_S)

    async def _listen(self, http: httpx.AsyncClient) -> None:
        socket = await Socket.open(self.url, await fetch_ticket(http, self.url, self.person.token), LOST_AFTER_S)
        seen = 0
        try:
            after = {"after": self._position} if self._position else {}
            await socket.send("room.join", {"roomSlug": self.room} | after)
            while (frame := await socket.frame(seen)) is not None:
                seen += 1
                self._take(frame)
            if socket.close_code != DRAINING:
                raise CheckFailed(f"the socket was closed with {socket.close_code}")
        finally:
            await socket.close()

    def _take(self, frame: Frame) -> None:
        kind, payload = frame["type"], frame.get("payload", {})
        if kind == "room.joined" and self._position is None:
            self._position = {"epoch": payload["epoch"], "seq": payload["lastSeq"]}
        elif kind == "chat.message":
            self._hear(payload)
        elif kind == "room.delta":
            for event in payload["events"]:
                self._hear(event["payload"])
        elif kind == "room.reset":
            self.troubles.add("room.reset: the log could not be continued")
        elif kind == "nack":
            raise CheckFailed(f"room.join was refused: {payload.get('code')}")
        elif kind == "ack":
            self.settled.set()

    def _hear(self, message: Frame) -> None:
        self._position = {"epoch": message["epoch"], "seq": message["seq"]}
        run, _, number = str(message["text"]).rpartition(" ")
        if run in self.tracks:
            self.tracks[run].hear(int(number))
            self._heard.set()

    async def nothing_missing(self) -> None:
        """Wait until everything acknowledged so far was heard."""
        while any(track.sent.keys() - track.heard.keys() for track in self.tracks.values()):
            self._heard.clear()
            await self._heard.wait()


class Sender:
    """Sends one numbered message after another through one slot."""

    def __init__(self, url: str, person: Person, room: str, listeners: list[Listener]) -> None:
        """`name` marks this sender's messages in the room."""
        self.url, self.person, self.room = url, person, room
        self.name = f"canary {uuid.uuid4().hex[:12]}"
        self.tracks = [listener.tracks.setdefault(self.name, Track()) for listener in listeners]
        self.number = 0
        self.stopped = asyncio.Event()
        self.troubles = Troubles()

    async def run(self, http: httpx.AsyncClient) -> None:
        """Until `stopped`, or cancelled. What a cut left without an answer is sent again under its key."""
        pending: tuple[int, str] | None = None
        while not self.stopped.is_set():
            try:
                socket = await Socket.open(
                    self.url, await fetch_ticket(http, self.url, self.person.token), LOST_AFTER_S
                )
            except (CheckFailed, httpx.HTTPError, WebSocketException, OSError) as error:
                self.troubles.add(describe(error))
                pending = pending or self._next()
                await asyncio.sleep(RECONNECT_AFTER_S)
                continue
            try:
                await socket.request("room.join", {"roomSlug": self.room})
                while not self.stopped.is_set():
                    pending = pending or self._next()
                    await socket.request("chat.send", {"text": f"{self.name} {pending[0]}"}, pending[1])
                    pending = None
                    await _settled(self.stopped, SEND_EVERY_S)
            except (CheckFailed, WebSocketException, OSError) as error:
                if socket.close_code != DRAINING:
                    self.troubles.add(describe(error))
            finally:
                await socket.close()
            await _settled(self.stopped, RECONNECT_AFTER_S)

    def _next(self) -> tuple[int, str]:
        """The next message counts as sent from its first try: a slot that takes none must not look like a quiet one."""
        self.number += 1
        for track in self.tracks:
            track.sent[self.number] = time.monotonic()
        return self.number, str(uuid.uuid4())


async def _settled(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or that long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


async def run(target: Target, report: Report) -> None:
    """Until the deadline: one line a second about the new slot and, when there is one, the old as control group."""
    people, room = target.people()
    slots = {"new": target.url} | ({"old": target.old_url} if target.old_url else {})
    listeners = {name: Listener(url, people[1], room) for name, url in slots.items()}
    senders = {name: Sender(url, people[0], room, list(listeners.values())) for name, url in slots.items()}
    async with httpx.AsyncClient(timeout=LOST_AFTER_S) as http, asyncio.TaskGroup() as group:
        tasks = [group.create_task(listener.run(http)) for listener in listeners.values()]
        await _all_settled(listeners, target.deadline - TAIL_S)
        tasks += [group.create_task(sender.run(http)) for sender in senders.values()]
        while (left := target.deadline - TAIL_S - time.monotonic()) > 0:
            await asyncio.sleep(min(REPORT_EVERY_S, left))
            _say(report, listeners, senders)
        for sender in senders.values():
            sender.stopped.set()
        # ten looks at many counts; an event per message would be more machinery than it saves
        while (left := target.deadline - MARGIN_S - time.monotonic()) > 0 and not _all_heard(senders):  # noqa: ASYNC110
            await asyncio.sleep(min(LOOK_AGAIN_S, left))
        _say(report, listeners, senders)
        for task in tasks:
            task.cancel()


def _all_heard(senders: dict[str, Sender]) -> bool:
    return all(track.complete for sender in senders.values() for track in sender.tracks)


async def _all_settled(listeners: dict[str, Listener], deadline: float) -> None:
    """Nothing is sent before everybody listens: a slow start is not a loss. Who was refused is not waited for."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline - time.monotonic()):
            for listener in listeners.values():
                await listener.settled.wait()


def measure(listeners: dict[str, Listener], senders: dict[str, Sender], now: float) -> dict[str, dict[str, int]]:
    """The numbers of each slot.

    A message that its own slot's listener misses is that slot's loss, and is not counted against the other one, which
    never got it. One that only the other slot's listener misses is charged to the new slot: either could be at fault,
    but the old one has served until now.
    """
    counts: dict[str, dict[str, int]] = {}
    for name, sender in senders.items():
        heard = listeners[name].tracks.values()
        counts[name] = {
            "sent": sender.number,
            "received": sum(len(track.heard) for track in heard),
            "lost": 0,
            "duplicated": sum(track.duplicated for track in heard),
            "reordered": sum(track.reordered for track in heard),
            "cut": listeners[name].troubles.count + sender.troubles.count,
        }
    for name, sender in senders.items():
        own = listeners[name].tracks[sender.name].lost(now)
        elsewhere = {
            n for other, each in listeners.items() if other != name for n in each.tracks[sender.name].lost(now)
        }
        counts[name]["lost"] += len(own)
        counts["new"]["lost"] += len(elsewhere - own)
    return counts


def _say(report: Report, listeners: dict[str, Listener], senders: dict[str, Sender]) -> None:
    counts = measure(listeners, senders, time.monotonic())
    verdict, words = "pass", []
    for name, numbers in counts.items():
        if numbers["lost"] or numbers["duplicated"] or numbers["reordered"]:
            verdict = "fail"
        elif not numbers["received"] or not numbers["sent"]:
            verdict = "inconclusive" if verdict == "pass" else verdict
        words.append(
            f"{name}: {numbers['received']} heard, {numbers['lost']} lost, {numbers['duplicated']} doubled"
            + "".join(
                f" (last trouble: {each.troubles.newest})"
                for each in (listeners[name], senders[name])
                if each.troubles.count
            )
        )
    report.say("messages", verdict, int(REPORT_EVERY_S * 1000), "; ".join(words), dict(counts))
