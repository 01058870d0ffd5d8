"""A release that ends in its watch and is up again before it is asked: nobody's health probe sees that, users do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import COMMAND_S, TinyWorld

pytestmark = pytest.mark.e2e

PORTS = {"process": 19320, "compose": 19340}
# Between two probes there is time enough for a container to be up again, and one bad answer more is no break yet.
CALM = "interval_s = 3\nhealth_failures = 3\nhealth_window = 3"


@pytest.fixture(params=list(PORTS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TinyWorld]:
    """One for each runtime, whose watch asks seldom."""
    base = request.getfixturevalue("images").python if request.param == "compose" else ""
    made = TinyWorld(tmp_path, request.param, PORTS[request.param], base, prefix="ends", watch_s=12)
    spec = (tmp_path / "work" / "sluice.toml").read_text()
    often = "interval_s = 0.2\nhealth_failures = 2\nhealth_window = 3"
    assert often in spec
    made.branch("main", **{"sluice.toml": spec.replace(often, CALM)})
    yield made
    made.stop()


def test_a_release_that_ends_and_comes_back_is_rolled_back(world: TinyWorld) -> None:
    """It is asked to end once its watch has begun: whoever keeps it up has it back, and counts that."""
    world.good("rollout", "--branch", "main")
    sha = world.branch("feature/ends")
    with world.start("rollout", "--branch", "feature/ends", "--json") as child:
        assert child.stdout is not None
        told = (json.loads(line) for line in child.stdout)
        next(one for one in told if one["event"] == "watch" and "public" in str(one["data"]))
        assert world.served()[0] == sha
        world.ask("/end")
        result = next(one for one in told if one["event"] == "result")
        assert child.wait(COMMAND_S) == 3
    assert "it ended and was started again, 1 time" in result["data"]["what"]
    assert world.served()[0] == world.shas["main"]
