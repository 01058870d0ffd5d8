"""Where observations come from: Sluice's own probes, the service's plug-ins, its Prometheus text.

A source runs until the window is over and feeds what it sees, the old slot's answer before the new one's of the same
moment, so that a break is judged beside its control. None raises for what a service or a plug-in does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.checks.http import client, probe
from sluice.checks.plugin import PluginCall, deadline_after
from sluice.checks.smoke import LineReader, verdict_on
from sluice.criteria.counters import NotMetrics, read
from sluice.criteria.observations import (
    Answer,
    Observation,
    Restarted,
    Scrape,
    Side,
    Source,
    Trouble,
    read_call,
    read_canary,
    read_refusals,
    trouble,
)
from sluice.model.errors import SluiceError
from sluice.model.release import Slot
from sluice.model.secret import Secret
from sluice.model.spec import RunSpec, WatchSpec
from sluice.model.verdict import Finding, Verdict
from sluice.ports import Clock, Runner

if TYPE_CHECKING:
    import httpx

# The canary sends until 3.5 s before its deadline and then waits for what is still under way (a message is lost after
# 3 s); so its deadline lies that much behind the end of the watch, and it ends at once when nothing is missing. A call
# that is under way when the window ends gets the same time.
TAIL_S = 3.5
KILL_GRACE_S = 1.0
# Where calls or rounds are too few at the end of the window, the watch holds for more: what a call takes at most. It
# costs nobody anything, since the old slot is still warm, and an early end would roll a good release back.
HOLD_S = 20.0
LINES_PER_S = 20  # one is asked for; far more is a canary gone wild

# A service limits tickets to 60 a minute and session, logins to 300 a minute and address (Boltorezka's own limits), and
# the canary takes some of them too. A call takes one ticket of each person and a round of refusals takes one, on each
# slot. With a call every 5 s and a round every 10 s that is 12 + 12 a minute. A short watch must be denser to see
# enough, and has no time to use up a minute's limit: at most 6 calls and 3 rounds.
CALL_EVERY_S = 5.0
CALLS_PER_WATCH = 6
ROUND_EVERY_S = 10.0
ROUNDS_PER_WATCH = 3
# One at a time, alternating: two calls at once would be slowed by each other and be heard in one room.
CALL_TIMEOUT_S = 20.0  # what the plug-in's `voice` allows itself
REFUSALS_TIMEOUT_S = 10.0  # a handful of small requests
SCRAPE_EVERY_S = 1.0  # a parsed page costs milliseconds; more often than health is asked it is not read
MAX_METRICS = 1024 * 1024  # far more than a service of this size has to say; it is parsed in our own process

Feed = Callable[[Observation], None]


async def _never() -> int:
    return 0


@dataclass(frozen=True)
class WatchContext:
    """One watch. `old` is the control group: the slot that served until now, kept warm; None on a first rollout.

    The argv tuples are rendered; an empty one: the service has no such plug-in.
    """

    policy: WatchSpec
    run: RunSpec
    public_url: str
    new: Slot
    old: Slot | None
    canary_argv: tuple[str, ...]
    release: str
    environment: str
    credentials: Path | None  # minted once, shared by every plug-in of the watch
    expect_sso_host: str
    runner: Runner
    clock: Clock
    calls_argv: tuple[str, ...] = ()
    refusals_argv: tuple[str, ...] = ()
    metrics_token: Secret | None = None  # None although the policy names one: the env file does not have it
    ca_file: str = ""  # who signed the public address's certificate, where that is nobody the system trusts
    http: Callable[[str], httpx.AsyncClient] = client
    restarts: Callable[[], Awaitable[int]] = _never  # of the new slot, by whoever keeps it up; raises SluiceError

    @property
    def slots(self) -> dict[Side, Slot]:
        """The control first."""
        both: dict[Side, Slot] = {"old": self.old} if self.old is not None else {}
        return both | {"new": self.new}

    @property
    def sources(self) -> frozenset[Source]:
        """What is configured besides Sluice's own health probes."""
        configured = {
            Source.CANARY: self.canary_argv,
            Source.CALLS: self.calls_argv,
            Source.REFUSALS: self.refusals_argv,
            Source.METRICS: self.policy.metrics_path and self.policy.auth,
        }
        return frozenset(source for source, given in configured.items() if given)


async def probes(context: WatchContext, feed: Feed, end: float) -> None:
    """Health of the public address and of every slot, and whether the new one stays up, once per interval."""
    addresses = {name: slot.url for name, slot in context.slots.items()}
    asked = [("old", addresses["old"])] if "old" in addresses else []
    asked += [("public", context.public_url), ("new", addresses["new"])]
    path, clock = context.run.health_path, context.clock
    before = await _restarts(context)
    async with context.http(context.ca_file) as http:
        while (began := clock.monotonic()) < end:
            answers = await asyncio.gather(*(probe(http, url, path) for _, url in asked))
            for (target, _), problem in zip(asked, answers, strict=True):
                feed(_answer(target, problem))
            now = await _restarts(context)
            before = now if before is None else before
            if before is not None and now is not None and now > before:
                feed(Restarted(now - before))
            await _until(clock, min(began + context.policy.interval_s, end))


async def _restarts(context: WatchContext) -> int | None:
    """None: whoever keeps the slot up cannot be asked now, which says nothing of the release."""
    try:
        return await context.restarts()
    except SluiceError:
        return None


def _answer(target: str, problem: str) -> Answer:
    return Answer("old" if target == "old" else "public" if target == "public" else "new", problem)


async def canary(context: WatchContext, feed: Feed, end: float) -> None:
    """Every line of the canary, and how it ended when that was not well."""
    duration = end + TAIL_S - context.clock.monotonic()
    reader = LineReader(lambda line: feed(read_canary(line)), limit=round(duration * LINES_PER_S))
    old_url = context.old.url if context.old is not None else ""
    call = _call(context, context.new, old_url)
    done = await context.runner.run(
        context.canary_argv,
        timeout_s=duration + KILL_GRACE_S,
        environment=call.variables(deadline_after(context.clock.now(), duration)),
        on_line=reader.live,
    )
    reader.finish(done.stdout)
    if ended := verdict_on(done, reader):
        feed(trouble(Source.CANARY, ended, "the canary broke"))


async def calls(context: WatchContext, feed: Feed, end: float) -> None:
    """One call after the other, on the new slot and on the old one in turn."""
    clock, sides = context.clock, list(reversed(context.slots.items()))
    every = min(CALL_EVERY_S, (end - clock.monotonic()) / CALLS_PER_WATCH)
    ended: Counter[str] = Counter()

    def enough() -> bool:
        needed = context.policy.call_window - context.policy.call_failures + 1
        return ended["new"] >= needed and (context.old is None or bool(ended["old"]))

    turn = 0
    while (began := clock.monotonic()) < _last_moment(end, enough()):
        side, slot = sides[turn % len(sides)]
        turn += 1
        answer = await _ask(context, context.calls_argv, slot, CALL_TIMEOUT_S, _cutoff(end, enough()))
        if answer is not None:
            ended[side] += 1
            feed(read_call(side, *answer))
        await _until(clock, min(began + every, _last_moment(end, enough())))


async def refusals(context: WatchContext, feed: Feed, end: float) -> None:
    """Rounds of negative probes, on both slots at once."""
    clock, needed = context.clock, context.policy.refusal_window - context.policy.refusal_failures + 1
    every = min(ROUND_EVERY_S, (end - clock.monotonic()) / ROUNDS_PER_WATCH)
    rounds = 0
    while (began := clock.monotonic()) < _last_moment(end, rounds >= needed):
        cutoff = _cutoff(end, rounds >= needed)
        answers = await asyncio.gather(
            *(_ask(context, context.refusals_argv, slot, REFUSALS_TIMEOUT_S, cutoff) for slot in context.slots.values())
        )
        for side, answer in zip(context.slots, answers, strict=True):
            if answer is not None:
                feed(read_refusals(side, *answer))
        rounds += None not in answers
        await _until(clock, min(began + every, _last_moment(end, rounds >= needed)))


def _last_moment(end: float, enough: bool) -> float:
    """Until when a plug-in is started again: a slow machine gets longer, rather than a good release the blame."""
    return end if enough else end + HOLD_S


def _cutoff(end: float, enough: bool) -> float:
    return end + (TAIL_S if enough else HOLD_S)


async def metrics(context: WatchContext, feed: Feed, end: float) -> None:
    """The counters of every slot's private address, about once a second."""
    policy, clock = context.policy, context.clock
    if policy.metrics_token and context.metrics_token is None:
        detail = f"The env file has no {policy.metrics_token}, so the metrics cannot be read."
        fix = "set it on the server, or correct [watch] metrics_token"
        feed(Trouble(Source.METRICS, Verdict.ERROR, detail, fix=fix))
        return
    async with context.http(context.ca_file) as http:
        while (began := clock.monotonic()) < end:
            slots = context.slots.items()
            for seen in await asyncio.gather(*(_scrape(http, context, side, slot) for side, slot in slots)):
                feed(seen)
            await _until(clock, min(began + max(SCRAPE_EVERY_S, policy.interval_s), end))


async def _scrape(http: httpx.AsyncClient, context: WatchContext, side: Side, slot: Slot) -> Scrape | Trouble:
    import httpx

    path, token = context.policy.metrics_path, context.metrics_token
    headers = {"Authorization": f"Bearer {token.reveal()}"} if token is not None else {}
    names = [limit.metric for limit in context.policy.auth]
    try:
        text = await _text(http, slot.url.rstrip("/") + path, headers)
        values = read(text, names)
    except NotMetrics as error:
        return _no_metrics(side, f"GET {path} answered {error}")
    # An exception's own words may hold the request, and that holds the token: only its kind is told.
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return _no_metrics(side, f"GET {path}: {type(error).__name__}")
    unknown = [name for name in names if name not in values]
    return _no_metrics(side, f"GET {path} has no {', '.join(unknown)}") if unknown else Scrape(side, values)


def _no_metrics(side: Side, detail: str) -> Trouble:
    return Trouble(
        Source.METRICS, Verdict.INCONCLUSIVE, f"{detail}.", side, "correct [watch] metrics_path or its names"
    )


async def _text(http: httpx.AsyncClient, url: str, headers: dict[str, str]) -> str:
    import httpx

    body = b""
    async with http.stream("GET", url, headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            raise NotMetrics(str(response.status_code))
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_METRICS:
                raise NotMetrics(f"more than {MAX_METRICS} bytes")
    return body.decode()


async def _ask(
    context: WatchContext, argv: tuple[str, ...], slot: Slot, timeout_s: float, cutoff: float
) -> tuple[list[Finding], Finding | None] | None:
    """One run of a plug-in on a slot: what it reported, and what was wrong with how it ended.

    None: the end of the watch cut it short, which says nothing of anybody.
    """
    allowed, left = timeout_s + KILL_GRACE_S, cutoff - context.clock.monotonic()
    reader = LineReader(lambda _: None)
    done = await context.runner.run(
        argv,
        timeout_s=min(allowed, left),
        environment=_call(context, slot).variables(deadline_after(context.clock.now(), timeout_s)),
    )
    if done.timed_out and left < allowed:
        return None
    reader.finish(done.stdout)
    return reader.found, verdict_on(done, reader)


def _call(context: WatchContext, slot: Slot, old_url: str = "") -> PluginCall:
    return PluginCall(
        url=slot.url,
        old_url=old_url,
        public_url=context.public_url,
        release=slot.release_id,
        side="new" if slot == context.new else "old",
        environment=context.environment,
        expect_sso_host=context.expect_sso_host,
        credentials=context.credentials,
        ca_file=context.ca_file,
    )


async def _until(clock: Clock, moment: float) -> None:
    await clock.sleep(max(0.0, moment - clock.monotonic()))
