"""Checks asked at the same time, each with its own deadline: one that hangs or breaks is `error` and delays nobody."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from sluice.model.errors import SluiceError
from sluice.model.verdict import Finding, Verdict

T = TypeVar("T")
OnFinding = Callable[[Finding], None]

# Closing a connection or killing a child takes a few milliseconds; a probe that ignores its cancellation gets no more.
CANCEL_GRACE_S = 0.2
SHOWN = 4  # problems in one line of evidence; the rest is counted


@dataclass(frozen=True)
class Probe:
    """One question. `ask` gives a finding for each of `names`, in that order."""

    names: tuple[str, ...]
    ask: Callable[[], Awaitable[list[Finding]]]
    deadline_s: float


def probe_of(name: str, ask: Callable[[], Awaitable[Finding]], deadline_s: float) -> Probe:
    """A question with one answer."""

    async def one() -> list[Finding]:
        return [await ask()]

    return Probe((name,), one, deadline_s)


async def ask_all(
    probes: Sequence[Probe], on_finding: OnFinding, redact: Callable[[str], str] = lambda text: text
) -> list[Finding]:
    """Every finding in the order of the probes; each goes to `on_finding` as soon as it is known.

    A probe that raises, or that has not answered by its deadline, is `error` under each of its names. Nothing is
    raised but cancellation, which cancels every probe.
    """

    async def one(probe: Probe) -> list[Finding]:
        findings = await _asked(probe, redact)
        for finding in findings:
            on_finding(finding)
        return findings

    tasks = [asyncio.create_task(one(probe), name="+".join(probe.names)) for probe in probes]
    try:
        groups = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    return [finding for group in groups for finding in group]


async def _asked(probe: Probe, redact: Callable[[str], str]) -> list[Finding]:
    started = time.monotonic()
    task = asyncio.ensure_future(probe.ask())
    try:
        done, _ = await asyncio.wait({task}, timeout=probe.deadline_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    ms = round((time.monotonic() - started) * 1000)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_GRACE_S)
        return _broken(probe, ms, f"it had not answered after {probe.deadline_s:g} s")
    if task.cancelled():
        return _broken(probe, ms, "it was cancelled")
    if failure := task.exception():
        fault = failure.what if isinstance(failure, SluiceError) else f"{type(failure).__name__}: {failure}"
        return _broken(probe, ms, redact(" ".join(fault.split()))[:300])
    return [_timed(finding, ms, redact) for finding in task.result()]


def _timed(finding: Finding, ms: int, redact: Callable[[str], str]) -> Finding:
    return msgspec.structs.replace(finding, ms=finding.ms or ms, detail=redact(finding.detail))


def _broken(probe: Probe, ms: int, why: str) -> list[Finding]:
    detail = f"The check could not be made: {why.rstrip('.')}."
    return [Finding(name, Verdict.ERROR, ms, detail) for name in probe.names]


async def aside(function: Callable[[], T]) -> T:
    """Call a blocking function in a thread that nobody waits for: not a cancelled caller, not the end of the process.

    A name server or a network disk that does not answer holds a thread for as long as it likes, and nothing else.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, failure: BaseException | None) -> None:
        if answer.done():
            return
        if failure is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(result)  # type: ignore[arg-type] # T may itself be optional

    def call() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - handed to the caller, whatever it is
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop ended meanwhile; nobody wants the answer
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=call, daemon=True, name="aside").start()
    return await answer


def sentence(problems: Sequence[str]) -> str:
    """A few problems as one line of evidence, and how many more there are."""
    shown = "; ".join(problems[:SHOWN])
    return f"{shown}; and {len(problems) - SHOWN} more." if len(problems) > SHOWN else f"{shown}."
