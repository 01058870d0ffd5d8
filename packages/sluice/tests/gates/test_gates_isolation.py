"""The gate that keeps two environments of one host apart."""

from __future__ import annotations

import pytest

from sluice.gates.isolation import SHOWN, host_isolation
from sluice.gates.run import run_gates
from sluice.model.errors import ConfigError, Refused, StepFailed
from sluice.model.verdict import Verdict


def saying(*found: str, error: Exception | None = None):
    """An answer of the runtime."""

    async def overlaps() -> list[str]:
        if error is not None:
            raise error
        return list(found)

    return overlaps


async def test_everything_that_would_be_shared_is_named_up_to_a_bound(origin):
    """A shared volume fails the gate by name; of many the first few are shown and the rest counted."""
    finding = await host_isolation(await origin.context(overlaps=saying("test and prod would share the volume data")))
    assert finding.verdict is Verdict.FAIL
    assert "the volume data" in finding.detail
    many = saying(*(f"overlap {number}" for number in range(SHOWN + 3)))
    assert "and 3 more" in (await host_isolation(await origin.context(overlaps=many))).detail


@pytest.mark.parametrize("error", [ConfigError("the file is wrong."), Refused("the database changed.", next="say how")])
async def test_files_that_cannot_run_fail_here_before_anything_is_touched(origin, error):
    """What the release would be refused for later is told by the gate, with what to do."""
    finding = await host_isolation(await origin.context(overlaps=saying(error=error)))
    assert (finding.verdict, finding.detail, finding.fix) == (Verdict.FAIL, error.what, error.next)


async def test_an_engine_that_cannot_be_asked_is_an_error_and_no_pass(origin):
    """The gate is among the gates, and a broken look is the verdict `error`."""
    context = await origin.context(overlaps=saying(error=StepFailed("the engine does not answer.")))
    findings = {finding.name: finding for finding in await run_gates(context, lambda _finding: None)}
    assert findings["host-isolation"].verdict is Verdict.ERROR
    apart = await origin.context()
    assert (await host_isolation(apart)).verdict is Verdict.PASS
