"""The watch window: probes and the canary run beside each other until the time is up or a break is sure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sluice.checks.http import client, probe
from sluice.checks.plugin import PluginCall, deadline_after
from sluice.checks.smoke import LineReader, verdict_on
from sluice.criteria.judge import Health, Messages
from sluice.model.release import Slot
from sluice.model.spec import RunSpec, WatchSpec
from sluice.model.verdict import Finding, Verdict
from sluice.ports import Clock, Runner

# The canary sends until 3.5 s before its deadline and then waits for what is still under way (a message is lost after
# 3 s); so its deadline lies that much behind the end of the watch, and it ends at once when nothing is missing.
CANARY_TAIL_S = 4.0
KILL_GRACE_S = 1.0
LINES_PER_S = 20  # one is asked for; far more is a canary gone wild
OnFinding = Callable[[Finding], None]


@dataclass(frozen=True)
class WatchContext:
    """One watch. `old` is the control group: the slot that served until now, kept warm; None on a first rollout."""

    policy: WatchSpec
    run: RunSpec
    public_url: str
    new: Slot
    old: Slot | None
    canary_argv: tuple[str, ...]  # rendered; empty: the service has no canary
    release: str
    environment: str
    credentials: Path | None
    expect_sso_host: str
    runner: Runner
    clock: Clock


async def watch(context: WatchContext, on_finding: OnFinding) -> list[Finding]:
    """Judge the criteria `health` and `messages` for `policy.duration_s`; end early on a sure break.

    Bad on both slots is `inconclusive`; so is data that did not come. Cancellation kills the canary.
    """
    policy = context.policy
    rounds = max(1, int(policy.duration_s / policy.interval_s))
    health = Health(policy.health_failures, policy.health_window, min(policy.health_window, rounds))
    messages = Messages(policy, with_old=context.old is not None)
    broke = asyncio.Event()
    started = context.clock.monotonic()

    canary = asyncio.create_task(_canary(context, messages, broke), name="canary") if context.canary_argv else None
    probing = asyncio.create_task(_probe(context, health, broke), name="health probes")
    try:
        await _first(probing, broke)
        # Loss in the canary's tail is judged too; a sure break needs no more of it.
        if canary is not None and not broke.is_set():
            await _first(canary, broke)
    finally:
        ended = await _end(probing, canary)
    findings = [health.finding()]
    if context.canary_argv:
        findings.append(messages.finding(ended))
    else:
        findings.append(Finding("messages", Verdict.SKIPPED, detail="The service has no [smoke] canary."))
    ms = round((context.clock.monotonic() - started) * 1000)
    findings = [Finding(f.name, f.verdict, ms, f.detail, f.fix, f.metrics) for f in findings]
    for finding in findings:
        on_finding(finding)
    return findings


async def _first(task: asyncio.Task[object], broke: asyncio.Event) -> None:
    """Wait for the task or for a sure break, whichever comes first; the task's own error is raised."""
    waiting = asyncio.create_task(broke.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if task.done():
        task.result()


async def _end(probing: asyncio.Task[None], canary: asyncio.Task[Finding | None] | None) -> Finding | None:
    """Stop what still runs; how the canary ended, when it ended by itself."""
    ended = canary.result() if canary is not None and canary.done() and not canary.cancelled() else None
    for task in (probing, canary):
        if task is not None and not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return ended


async def _probe(context: WatchContext, health: Health, broke: asyncio.Event) -> None:
    addresses = {"public": context.public_url, "new": context.new.url}
    if context.old is not None:
        addresses["old"] = context.old.url
    path, clock = context.run.health_path, context.clock
    end = clock.monotonic() + context.policy.duration_s
    async with client() as http:
        while (began := clock.monotonic()) < end:
            answers = await asyncio.gather(*(probe(http, url, path) for url in addresses.values()))
            # The control first: a break is judged with its answer of the same moment.
            for name, problem in sorted(zip(addresses, answers, strict=True), key=lambda item: item[0] != "old"):
                health.add(name, problem)
            if health.sure:
                broke.set()
            spent = clock.monotonic() - began
            await clock.sleep(max(0.0, min(context.policy.interval_s - spent, end - clock.monotonic())))


async def _canary(context: WatchContext, messages: Messages, broke: asyncio.Event) -> Finding | None:
    def on_finding(finding: Finding) -> None:
        messages.add(finding)
        if messages.sure:
            broke.set()

    duration = context.policy.duration_s + CANARY_TAIL_S
    reader = LineReader(on_finding, limit=round(duration * LINES_PER_S))
    call = PluginCall(
        url=context.new.url,
        old_url=context.old.url if context.old is not None else "",
        public_url=context.public_url,
        release=context.release,
        environment=context.environment,
        expect_sso_host=context.expect_sso_host,
        credentials=context.credentials,
    )
    done = await context.runner.run(
        context.canary_argv,
        timeout_s=duration + KILL_GRACE_S,
        environment=call.variables(deadline_after(context.clock.now(), duration)),
        on_line=reader.live,
    )
    reader.finish(done.stdout)
    return verdict_on(done, reader)
