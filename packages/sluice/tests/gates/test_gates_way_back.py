"""The gate `way-back`: a rollback must be possible before anything is touched."""

from __future__ import annotations

import pytest

from sluice.gates.context import Asked
from sluice.gates.way_back import way_back
from sluice.model.release import Artifact, Commit, Release
from sluice.model.spec import RunSpec, ServiceSpec
from sluice.model.verdict import Verdict


def release(*required):
    """What serves, and needs these names."""
    commit = Commit("a" * 40, "b" * 40, "main", "v1", "Ann", "2030-01-01T00:00:00Z")
    spec = ServiceSpec(name="shop", run=RunSpec(required_env=required))
    return Release("r1", "shop", "test", commit, Artifact("k", "/nowhere", "b" * 40), spec, "f")


class Values:
    """An env file with one name."""

    def check(self):
        """Good."""

    def values(self):
        return {"KEPT": None}


async def judged(origin, asked, why=""):
    """The gate's finding."""

    async def startable(_release, _same_values):
        return why

    return await way_back(await origin.context(asked=asked, env_file=Values(), startable=startable))


@pytest.mark.parametrize(
    ("serving", "why", "verdict", "said"),
    [
        (None, "", Verdict.SKIPPED, "nothing to go back to"),
        (release("KEPT"), "", Verdict.PASS, "v1 could be started again"),
        (release("KEPT", "GONE"), "", Verdict.FAIL, "it needs GONE, which the env file does not set"),
        (release(), "required variable OLD is missing.", Verdict.FAIL, "required variable OLD is missing."),
    ],
)
async def test_what_serves_can_be_started_again(origin, serving, why, verdict, said):
    """A name that was taken out of the env file, or whatever the runtime says, refuses the run and is named."""
    finding = await judged(origin, Asked(serving=serving), why)
    assert finding.verdict is verdict
    assert said in finding.detail
    assert bool(finding.fix) is (verdict is Verdict.FAIL)
