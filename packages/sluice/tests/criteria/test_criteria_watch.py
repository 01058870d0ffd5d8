"""The watch window over real addresses, on virtual time, with a canary that says what the test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from sluice.criteria import WatchContext, watch
from sluice.model.release import Completed, Slot
from sluice.model.spec import RunSpec, WatchSpec
from sluice.model.verdict import Verdict

GOOD = {"sent": 9, "received": 18, "lost": 0, "duplicated": 0, "reordered": 0}
NOWHERE = "http://127.0.0.1:1"


class Clock:
    """Time that passes only while somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> str:
        return "2026-01-01T00:00:00.000Z"

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


class Canary:
    """A runner whose one command prints the lines, and then ends, or runs on until it is killed."""

    def __init__(self, *lines: dict, exit_code: int = 0, endless: bool = False) -> None:
        self.lines = [json.dumps({"name": "messages", "verdict": "pass", "metrics": line}) for line in lines]
        self.exit_code, self.endless = exit_code, endless
        self.environment: dict[str, str] = {}
        self.killed = False
        self.started = asyncio.Event()

    async def run(self, argv, *, environment, on_line, **_):
        self.environment = environment
        self.started.set()
        for line in self.lines:
            on_line(line)
            await asyncio.sleep(0)
        if self.endless:
            try:
                await asyncio.Event().wait()
            finally:
                self.killed = True
        return Completed(tuple(argv), self.exit_code, "\n".join(self.lines), "", 1)


@pytest.fixture
async def alive() -> AsyncIterator[str]:
    """A server that always answers 200."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def context(new: str, old: str | None, canary: Canary, **changes: object) -> WatchContext:
    """A watch of ten seconds."""
    fields = {
        "policy": WatchSpec(duration_s=10, interval_s=1),
        "run": RunSpec(command=("serve",)),
        "public_url": new,
        "new": Slot("r2", "u2", 2, new),
        "old": Slot("r1", "u1", 1, old) if old else None,
        "canary_argv": ("canary",),
        "release": "r2",
        "environment": "test",
        "credentials": None,
        "expect_sso_host": "",
        "runner": canary,
        "clock": Clock(),
    }
    return WatchContext(**(fields | changes))


async def verdicts(watched: WatchContext) -> dict[str, Verdict]:
    """What the criteria say; each is told once."""
    told: list = []
    findings = await watch(watched, told.append)
    assert told == findings
    return {finding.name: finding.verdict for finding in findings}


async def test_a_good_release_is_watched_to_the_end(alive):
    """Both criteria pass after the whole duration; the canary knew both slots."""
    canary = Canary({"new": GOOD, "old": GOOD})
    watched = context(alive, alive, canary)
    assert await verdicts(watched) == {"health": Verdict.PASS, "messages": Verdict.PASS}
    assert watched.clock.time >= 10
    assert (canary.environment["SLUICE_URL"], canary.environment["SLUICE_OLD_URL"]) == (alive, alive)


async def test_a_dead_slot_ends_the_watch_early(alive):
    """Three bad probes beside a healthy old slot are sure; the canary is killed."""
    canary = Canary({"new": GOOD, "old": GOOD}, endless=True)
    watched = context(NOWHERE, alive, canary)
    assert (await verdicts(watched))["health"] is Verdict.FAIL
    assert watched.clock.time < 5
    assert canary.killed


async def test_loss_ends_the_watch_early(alive):
    """The first lost message on the new slot alone is enough."""
    canary = Canary({"new": GOOD, "old": GOOD}, {"new": GOOD | {"lost": 1}, "old": GOOD}, endless=True)
    watched = context(alive, alive, canary)
    assert (await verdicts(watched))["messages"] is Verdict.FAIL
    assert watched.clock.time < 5


async def test_when_everything_is_dead_it_is_not_the_release():
    """Bad on both slots is inconclusive, after the whole time."""
    counts = GOOD | {"lost": 5}
    watched = context(NOWHERE, NOWHERE, Canary({"new": counts, "old": counts}))
    assert await verdicts(watched) == {"health": Verdict.INCONCLUSIVE, "messages": Verdict.INCONCLUSIVE}
    assert watched.clock.time >= 10


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [
        (Canary(), Verdict.ERROR),
        (Canary({"new": GOOD}, exit_code=3), Verdict.ERROR),
        (Canary({}), Verdict.INCONCLUSIVE),
    ],
)
async def test_a_canary_that_breaks_is_no_pass_and_no_fail(alive, canary, verdict):
    """Silence, a crash or lines without counts say nothing of the release."""
    assert (await verdicts(context(alive, None, canary)))["messages"] is verdict


async def test_without_a_canary_the_criterion_is_skipped_with_a_reason(alive):
    """Never a pass."""
    assert (await verdicts(context(alive, None, Canary(), canary_argv=())))["messages"] is Verdict.SKIPPED


async def test_cancelling_kills_the_canary(alive):
    """Nothing of the watch outlives it."""
    canary = Canary({"new": GOOD}, endless=True)
    task = asyncio.create_task(watch(context(alive, None, canary), lambda _: None))
    await canary.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert canary.killed
