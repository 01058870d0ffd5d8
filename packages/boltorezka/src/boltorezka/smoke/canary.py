"""Numbered messages on both slots during the watch: what was lost, doubled or reordered, once a second.

On each slot two people send and eight sockets listen; everybody hears everybody, whichever slot they are on. Two
senders make messages meet in one batch. Eight sockets of four people are enough that a slot that forgets somebody's
second tab, or one socket in eight, is caught in seconds, and cost a slot 3 % of a core. It stays far below what the
service allows: 2 messages a second for each sender (of 10), 3 tickets at once for each session (of 30).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass

from boltorezka.smoke.canary_sockets import LOST_AFTER_S, Listener, RoomSocket, Sender
from boltorezka.smoke.report import Report
from boltorezka.smoke.socket import client
from boltorezka.smoke.target import Person, Target

SENDERS = 2
LISTENERS = 8
REPORT_EVERY_S = 1.0
# Sending ends this long before the deadline, so that the last message, too, is either heard or lost.
TAIL_S = LOST_AFTER_S + 0.5
LOOK_AGAIN_S = 0.1
# The last line must be out before the deadline, at which this process is killed.
MARGIN_S = 0.3
# Of a slot's newest troubles: one line has to be read in a second.
SHOWN_TROUBLES = 2


@dataclass
class SlotSockets:
    """The canary's sockets through one slot."""

    listeners: list[Listener]
    senders: list[Sender]

    @property
    def all(self) -> list[RoomSocket]:
        """Those that listen, and those that send."""
        return [*self.listeners, *self.senders]


def sockets_for(slots: dict[str, str], people: list[Person], room: str) -> dict[str, SlotSockets]:
    """The sockets of each slot (name -> address), not connected yet; every sender is listened to on all of them."""
    listeners = {
        name: [Listener(url, person, room) for person in itertools.islice(itertools.cycle(people), LISTENERS)]
        for name, url in slots.items()
    }
    everybody = [listener for each in listeners.values() for listener in each]
    return {
        name: SlotSockets(listeners[name], [Sender(url, person, room, everybody) for person in people[:SENDERS]])
        for name, url in slots.items()
    }


async def run(target: Target, report: Report) -> None:
    """Until the deadline: one line a second about the new slot and, when there is one, the old as control group."""
    _, room = target.people()
    slots = {"new": target.url} | ({"old": target.old_url} if target.old_url else {})
    sides = sockets_for(slots, target.canary_people(), room)
    listeners = [listener for side in sides.values() for listener in side.listeners]
    senders = [sender for side in sides.values() for sender in side.senders]
    async with client(LOST_AFTER_S, *slots.values()) as http, asyncio.TaskGroup() as group:
        tasks = [group.create_task(listener.run(http)) for listener in listeners]
        await _all_settled(listeners, target.deadline - TAIL_S)
        tasks += [group.create_task(sender.run(http)) for sender in senders]
        while (left := target.deadline - TAIL_S - time.monotonic()) > 0:
            await asyncio.sleep(min(REPORT_EVERY_S, left))
            _say(report, sides)
        for sender in senders:
            sender.stopped = True
        # ten looks at many counts; an event per message would be more machinery than it saves
        while (left := target.deadline - MARGIN_S - time.monotonic()) > 0 and not _all_heard(senders):  # noqa: ASYNC110
            await asyncio.sleep(min(LOOK_AGAIN_S, left))
        _say(report, sides)
        for task in tasks:
            task.cancel()


def _all_heard(senders: list[Sender]) -> bool:
    return not any(track.missing for sender in senders for track in sender.tracks)


async def _all_settled(listeners: list[Listener], deadline: float) -> None:
    """Nothing is sent before everybody listens: a slow start is not a loss. Who was refused is not waited for."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline - time.monotonic()):
            for listener in listeners:
                await listener.settled.wait()


def measure(sides: dict[str, SlotSockets], now: float) -> dict[str, dict[str, int]]:
    """The numbers of each slot; `received` and `duplicated` count deliveries, `lost` messages, once each.

    A message that a listener of its own slot misses is that slot's loss, and is not counted against the other one,
    which may never have got it. One that only the other slot's listeners miss is charged to the new slot: either could
    be at fault, but the old one has served until now.
    """
    counts: dict[str, dict[str, int]] = {}
    for name, side in sides.items():
        heard = [track for listener in side.listeners for track in listener.tracks.values()]
        counts[name] = {
            "sent": sum(sender.number for sender in side.senders),
            "received": sum(track.heard for track in heard),
            "lost": 0,
            "duplicated": sum(track.duplicated for track in heard),
            "reordered": sum(track.reordered for track in heard),
            "senders": len(side.senders),
            "listeners": len(side.listeners),
            "connected": sum(each.connected for each in side.all),
            "cut": sum(each.cut for each in side.all),
            "drained": sum(each.drained for each in side.all),
        }
    for name, side in sides.items():
        for sender in side.senders:
            missed: dict[str, set[int]] = {
                where: set().union(*(listener.tracks[sender.name].lost(now) for listener in each.listeners))
                for where, each in sides.items()
            }
            own = missed.pop(name)
            counts[name]["lost"] += len(own)
            counts["new"]["lost"] += len(set().union(*missed.values()) - own)
    return counts


def _say(report: Report, sides: dict[str, SlotSockets]) -> None:
    counts = measure(sides, time.monotonic())
    verdict, words = "pass", []
    for name, numbers in counts.items():
        if numbers["lost"] or numbers["duplicated"] or numbers["reordered"]:
            verdict = "fail"
        elif not numbers["received"] or not numbers["sent"]:
            verdict = "inconclusive" if verdict == "pass" else verdict
        troubles = list(dict.fromkeys(each.trouble for each in sides[name].all if each.trouble))[:SHOWN_TROUBLES]
        words.append(
            f"{name}: {numbers['sent']} sent, {numbers['received']} heard, {numbers['lost']} lost, "
            f"{numbers['duplicated']} doubled, {numbers['connected']} of {len(sides[name].all)} sockets open"
            + (f", {numbers['cut']} cut ({'; '.join(troubles)})" if troubles else "")
        )
    report.say("messages", verdict, int(REPORT_EVERY_S * 1000), "; ".join(words), dict(counts))
