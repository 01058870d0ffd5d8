"""The watch window: sources run beside each other and feed the criteria until the time is up or a break is sure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sluice.criteria import sources
from sluice.criteria.observations import Observation, Source, Trouble
from sluice.criteria.panel import Panel
from sluice.criteria.sources import Feed, WatchContext
from sluice.model.verdict import Finding, Verdict

READ_EVERY_S = 1.0  # how often people are told the values: a terminal that changes faster is not calm

OnFinding = Callable[[Finding], None]
OnReading = Callable[[dict[str, Any]], None]
Run = Callable[[WatchContext, Feed, float], Awaitable[None]]

SOURCES: dict[Source, Run] = {
    Source.PROBES: sources.probes,
    Source.CANARY: sources.canary,
    Source.CALLS: sources.calls,
    Source.REFUSALS: sources.refusals,
    Source.METRICS: sources.metrics,
}


async def watch(context: WatchContext, on_finding: OnFinding, on_reading: OnReading | None = None) -> list[Finding]:
    """Judge the five criteria for `policy.duration_s`; end early on a sure break of one that has a veto.

    Bad on both slots is `inconclusive`; so is data that did not come; a criterion without a source is `skipped`.
    `on_reading` is told once a second how things stand: {"left_s": …, "criteria": [Reading, …]}.
    Cancellation kills every plug-in.
    """
    clock, policy = context.clock, context.policy
    panel = Panel(policy, with_old=context.old is not None, sources=context.sources)
    started = clock.monotonic()
    end, broke = started + policy.duration_s, asyncio.Event()

    def feed(seen: Observation) -> None:
        if not broke.is_set():  # what comes after a sure break cannot change it, and must not blur its evidence
            panel.observe(clock.monotonic() - started, seen)
            if panel.sure:
                broke.set()

    def show() -> None:
        if on_reading is not None:
            left = max(0.0, end - clock.monotonic())
            on_reading({"left_s": round(left, 1), "criteria": msgspec.to_builtins(panel.readings())})

    running = [
        asyncio.create_task(_guarded(source, context, feed, end), name=source.value)
        for source in SOURCES
        if source is Source.PROBES or source in context.sources
    ]
    telling = asyncio.create_task(_tell(context, show), name="readings")
    try:
        await _all_or(running, broke)
    finally:
        await _cancel([*running, telling])
    show()
    ms = round((clock.monotonic() - started) * 1000)
    findings = [msgspec.structs.replace(finding, ms=ms) for finding in panel.findings()]
    for finding in findings:
        on_finding(finding)
    return findings


async def _guarded(source: Source, context: WatchContext, feed: Feed, end: float) -> None:
    """A source whose own defect is the verdict `error` of what it feeds, and ends no watch."""
    try:
        await SOURCES[source](context, feed, end)
    except Exception as defect:  # noqa: BLE001 - a broken probe is never a bad release, and never ends the tool
        detail = f"The probe itself broke: {type(defect).__name__}."
        feed(Trouble(source, Verdict.ERROR, detail, fix="this is a defect of Sluice: please report it"))


async def _tell(context: WatchContext, show: Callable[[], None]) -> None:
    while True:
        show()
        await context.clock.sleep(READ_EVERY_S)


async def _all_or(tasks: list[asyncio.Task[None]], broke: asyncio.Event) -> None:
    """Wait until every task has ended or a break is sure, whichever comes first."""
    ended = asyncio.gather(*tasks)
    waiting = asyncio.create_task(broke.wait(), name="sure break")
    both: set[asyncio.Future[Any]] = {ended, waiting}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel(list(both))


async def _cancel(tasks: list[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
