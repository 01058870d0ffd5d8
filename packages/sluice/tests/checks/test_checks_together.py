"""Probes at the same time: none waits for another, none may hang, none may break the rest."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sluice.checks.together import Probe, aside, ask_all, probe_of, sentence
from sluice.model.errors import StepFailed
from sluice.model.secret import Redactor, Secret
from sluice.model.verdict import Finding, Verdict

GOOD = Finding("good", Verdict.PASS, detail="well")


async def good() -> Finding:
    """A check that passes."""
    return GOOD


def nothing(_finding: Finding) -> None:
    """Nobody listens."""


async def test_a_probe_that_hangs_is_an_error_at_its_deadline_and_delays_nobody():
    """The others are told at once; the hanging one is cancelled."""
    cancelled, told = asyncio.Event(), []

    async def hang() -> Finding:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return GOOD

    findings = await ask_all([probe_of("hang", hang, 0.05), probe_of("good", good, 10)], told.append)
    assert [(f.name, f.verdict) for f in findings] == [("hang", Verdict.ERROR), ("good", Verdict.PASS)]
    assert [f.name for f in told] == ["good", "hang"]
    assert "had not answered after 0.05 s" in findings[0].detail
    assert cancelled.is_set()


async def test_a_probe_that_ignores_its_cancellation_is_left_behind():
    """It gets a moment to clean up and no more."""
    free = asyncio.Event()

    async def stubborn() -> Finding:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        return GOOD

    started = asyncio.get_running_loop().time()
    findings = await ask_all([probe_of("stubborn", stubborn, 0.01)], nothing)
    assert findings[0].verdict is Verdict.ERROR
    assert asyncio.get_running_loop().time() - started < 5
    free.set()


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (StepFailed("The engine is gone.", next="start it"), "The engine is gone."),
        (ZeroDivisionError("secret-token-value"), "ZeroDivisionError: [redacted]"),
        (ValueError("a\nb"), "ValueError: a b"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
    ],
)
async def test_a_probe_that_breaks_is_an_error_under_each_of_its_names(failure, says):
    """Never a pass, never an exception; what it says is one redacted line."""

    async def broken() -> list[Finding]:
        raise failure

    redactor = Redactor([Secret("secret-token-value")])
    findings = await ask_all([Probe(("a", "b"), broken, 1), probe_of("good", good, 1)], nothing, redactor)
    assert [(f.name, f.verdict) for f in findings] == [
        ("a", Verdict.ERROR),
        ("b", Verdict.ERROR),
        ("good", Verdict.PASS),
    ]
    assert says in findings[0].detail


async def test_findings_are_timed_and_redacted_and_keep_what_else_they_hold():
    """A secret in the evidence goes no further than the probe."""

    async def leaky() -> Finding:
        return Finding("leaky", Verdict.PASS, 7, "secret-token-value", "a fix", {"n": 1})

    redactor = Redactor([Secret("secret-token-value")])
    (found,) = await ask_all([probe_of("leaky", leaky, 1)], nothing, redactor)
    assert found == Finding("leaky", Verdict.PASS, 7, "[redacted]", "a fix", {"n": 1})


async def test_cancelling_the_whole_cancels_every_probe():
    """An interrupted smoke leaves no probe running."""
    cancelled, begun = [], asyncio.Event()

    async def hang() -> Finding:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)
        return GOOD

    asked = asyncio.create_task(ask_all([probe_of("a", hang, 60), probe_of("b", hang, 60)], nothing))
    await begun.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=5)
    assert cancelled == [True, True]


async def test_a_thread_that_blocks_for_ever_holds_up_nobody():
    """A name server or a network disk that does not answer is left to itself."""
    free = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await aside(free.wait)
    free.set()


async def test_what_is_called_aside_gives_its_result_or_its_error():
    """As if it had been called here."""
    assert await aside(lambda: 7) == 7

    def broken() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await aside(broken)


def test_many_problems_are_a_few_and_a_number():
    """Evidence is one line, however bad things are."""
    assert sentence(["a", "b"]) == "a; b."
    assert sentence([str(n) for n in range(7)]) == "0; 1; 2; 3; and 3 more."
