"""The checks `voice` and `call`: two people talk over WebRTC, connected through our signals, and hear each other."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import WebSocketException

from boltorezka.smoke.report import CheckFailed, CheckSkipped, Note, Report
from boltorezka.smoke.socket import Frame, Socket, client, fetch_ticket
from boltorezka.smoke.target import Person, Target, UsageError

if TYPE_CHECKING:
    from boltorezka.smoke.voice_peer import VoicePeer

NAMES = ("smoke-1", "smoke-2")
# Neither is a harmonic of the other: a distorted one must not sound like the other.
TONES = (440, 1_250)
# A good run takes about two seconds; a call that is not up after this long nobody waits for.
BUDGET_S = 20.0
# From connected to a whole window of the tone: the ear's window, the jitter buffer, and a busy machine.
HEARD_WITHIN_S = 4.0
# From muted to a whole window of silence.
SILENT_WITHIN_S = 4.0
# A fact about a seat: one delivery.
TOLD_WITHIN_S = 5.0


@dataclass
class Progress:
    """What is being done now: for the sentence of a run that took too long."""

    step: str = "connecting"


async def check_voice(target: Target, report: Report) -> None:
    """Voice in the canary room: heard, muted, and left. Skipped where no sessions for that room were given."""
    async with report.check("voice") as note:
        try:
            people, room = target.people()
        except UsageError as missing:
            raise CheckSkipped(f"nobody may be disturbed in a public room, and {missing}") from None
        progress = Progress()
        await _in_time(target, progress, _talk(target, note, progress, (people[0], people[1]), room))


async def check_call(target: Target, report: Report) -> None:
    """One call, from taking seats to the first audio both ways; then hung up. For the watch, which repeats it.

    It meets no call of the other side, nor the check `voice`; and seats that a killed one left behind do not matter.
    """
    async with report.check("call") as note:
        try:
            people, room = target.callers()
        except UsageError as missing:
            raise CheckSkipped(f"nobody may be disturbed in a public room, and {missing}") from None
        progress = Progress()
        await _in_time(target, progress, _call(target, note, progress, (people[0], people[1]), room))


async def _in_time(target: Target, progress: Progress, work: Coroutine[None, None, None]) -> None:
    """Raises CheckFailed with the step it stopped at when it takes longer than a call may."""
    budget_s = max(0.0, min(BUDGET_S, target.deadline - time.monotonic()))
    limit = asyncio.timeout(budget_s)
    try:
        async with limit:
            await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise CheckFailed(f"voice was not done within {budget_s:.0f} s; it stopped at: {progress.step}") from None


@asynccontextmanager
async def _two_peers(
    target: Target, people: tuple[Person, Person], room: str
) -> AsyncIterator[tuple[httpx.AsyncClient, VoicePeer, VoicePeer]]:
    """Two people in the room, not in voice yet; on leaving they have left."""
    await asyncio.to_thread(_load_codecs)
    from boltorezka.smoke.voice_peer import addresses_for, open_peer

    async with AsyncExitStack() as stack:
        stack.enter_context(addresses_for(loopback=is_loopback(target.url)))
        http = await stack.enter_async_context(client(target.remaining(), target.url))
        first, second = [
            await stack.enter_async_context(open_peer(http, target, name, person, room, frequency))
            for name, person, frequency in zip(NAMES, people, TONES, strict=True)
        ]
        yield http, first, second


def _load_codecs() -> None:
    """Up to a second of a busy machine, which no other part of the smoke needs and none has to wait for."""
    import boltorezka.smoke.voice_peer  # noqa: F401


async def _call(target: Target, note: Note, progress: Progress, people: tuple[Person, Person], room: str) -> None:
    async with _two_peers(target, people, room) as (_, first, second):
        progress.step = "taking seats"
        await first.take_seat()
        began = time.monotonic()
        await _sit_down_beside(first, second)
        setup_ms = await _set_up(progress, first, second, began, judged=False)
        progress.step = "leaving"
        await _together(first.leave(), second.leave())
        note.metrics = {"setup_ms": setup_ms}
        note.detail = f"{setup_ms} ms from call.join to the first audio, both ways"


async def _talk(target: Target, note: Note, progress: Progress, people: tuple[Person, Person], room: str) -> None:
    async with _two_peers(target, people, room) as (http, first, second):
        progress.step = "taking seats"
        await first.take_seat()
        began = time.monotonic()
        await _sit_down_beside(first, second)
        setup_ms = await _set_up(progress, first, second, began)
        heard = f"{second.ear.describe(first.frequency)} and {first.ear.describe(second.frequency)}"
        progress.step = "muting"
        await _mute(first, second)
        progress.step = "leaving"
        await _leave(http, target, first, second, room)
        note.metrics = {"setup_ms": setup_ms}
        relayed = f", {second.relay} gives relay addresses" if second.relay else ""
        note.detail = (
            f"each heard the other ({heard}), {setup_ms} ms from call.join to the first audio; "
            f"a mute was silence, and the seat that was left is free{relayed}"
        )


async def _set_up(progress: Progress, first: VoicePeer, second: VoicePeer, began: float, *, judged: bool = True) -> int:
    """Connect the two until each hears the other, and tell the service how it went; milliseconds since `began`.

    What they hear is `judged`, or it is enough that audio comes.
    """
    try:
        progress.step = "signalling"
        await second.offer_to(first)
        await _together(first.answer(second), second.take_answer(first))
        progress.step = "connecting"
        await _together(first.connected(), second.connected())
        progress.step = "listening"
        await _together(first.first_audio(HEARD_WITHIN_S), second.first_audio(HEARD_WITHIN_S))
        if judged:
            await _together(_hears(first, second), _hears(second, first))
    except CheckFailed:
        with contextlib.suppress(WebSocketException):
            await _together(first.report_setup(None), second.report_setup(None))
        raise
    times = [round(((peer.first_audio_at or began) - began) * 1000) for peer in (first, second)]
    await _together(first.report_setup(times[0]), second.report_setup(times[1]))
    return max(times)


async def _together(*steps: Coroutine[None, None, None]) -> None:
    """All of them at once; the first that fails ends the others, and is what went wrong."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def is_loopback(url: str) -> bool:
    """Whether the service is asked on this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _sit_down_beside(first: VoicePeer, second: VoicePeer) -> None:
    """The second takes a seat and learns of the first; the first is told of the second."""
    await second.take_seat()
    if first.seat_id not in {each.get("seatId") for each in second.participants}:
        raise CheckFailed(f"the ack of {second.name}'s call.join does not list {first.name}, who is in voice")
    await first.socket.wait_for(
        f"call.joined of {second.name} to {first.name}",
        lambda frame: frame.get("type") == "call.joined" and frame["payload"].get("seatId") == second.seat_id,
        TOLD_WITHIN_S,
    )


async def _hears(listener: VoicePeer, speaker: VoicePeer) -> None:
    heard = await listener.until(lambda ear: ear.hears(speaker.frequency), HEARD_WITHIN_S)
    if heard is not None:
        own = ", its own tone" if listener.ear.hears(listener.frequency) else ""
        raise CheckFailed(
            f"{listener.name} does not hear {speaker.name}: "
            f"expected {speaker.frequency} Hz, heard {heard}{own}, for {HEARD_WITHIN_S:.0f} s"
        )


async def _mute(listener: VoicePeer, speaker: VoicePeer) -> None:
    """The speaker mutes: the listener is told and hears silence, while the speaker goes on hearing the listener."""
    await speaker.mute()
    await listener.socket.wait_for(
        f"call.mic_state of {speaker.name} to {listener.name}",
        lambda frame: (
            frame.get("type") == "call.mic_state"
            and frame["payload"].get("fromSeatId") == speaker.seat_id
            and frame["payload"].get("muted") is True
        ),
        TOLD_WITHIN_S,
    )
    await _together(_hears_nothing(listener, speaker), _hears(speaker, listener))


async def _hears_nothing(listener: VoicePeer, speaker: VoicePeer) -> None:
    heard = await listener.until(lambda ear: ear.hears_nothing, SILENT_WITHIN_S)
    if heard is not None:
        raise CheckFailed(
            f"{speaker.name} is muted: expected silence, {listener.name} heard {heard}, for {SILENT_WITHIN_S:.0f} s"
        )


async def _leave(http: httpx.AsyncClient, target: Target, stays: VoicePeer, leaves: VoicePeer, room: str) -> None:
    """One leaves voice: the other is told, and who enters the room anew is shown one seat and not two."""
    seat_id = leaves.seat_id
    await leaves.leave()
    await stays.socket.wait_for(
        f"call.left of {leaves.name} to {stays.name}",
        lambda frame: frame.get("type") == "call.left" and frame["payload"].get("seatId") == seat_id,
        TOLD_WITHIN_S,
    )
    seats = await _seats_shown(http, target, leaves.person, room)
    if seat_id in seats:
        raise CheckFailed(f"{leaves.name} left voice, and call.initial_state still lists the seat")
    if stays.seat_id not in seats:
        raise CheckFailed(f"{stays.name} is in voice, and call.initial_state does not list the seat")


async def _seats_shown(http: httpx.AsyncClient, target: Target, person: Person, room: str) -> set[str]:
    """The seats a fresh join of the room is told of."""
    socket = await Socket.open(target.url, await fetch_ticket(http, target.url, person.token), target.remaining())
    try:
        await socket.request("room.join", {"roomSlug": room})

        def is_state(frame: Frame) -> bool:
            return frame.get("type") == "call.initial_state" and frame["payload"].get("roomSlug") == room

        state = await socket.wait_for("call.initial_state", is_state, TOLD_WITHIN_S)
        return {each.get("seatId") for each in state["payload"].get("participants", [])}
    finally:
        await socket.close()
