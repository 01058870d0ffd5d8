"""Every bench as a quick look: what it counts adds up, nothing is lost or doubled, its tables come from plain JSON.

Nothing is said about speed here: a busy machine changes every number, and no assertion.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

# The bench is a directory of scripts, not a package.
sys.path.insert(0, str(Path(__file__).parents[1]))

import fanout
import harness
import history
import memory
import processes
import report
import storm
from harness import Bar, Bench, Record

pytestmark = pytest.mark.drill

EVERYTHING = ("ours-postgres", "node-batching")


@pytest.fixture(scope="module")
def under() -> Iterator[fanout.Ground]:
    """One PostgreSQL and one NATS for all looks; each server makes a database of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        # The account that PostgreSQL runs as has to pass.
        Path(name).chmod(0o711)
        yield fanout.ground(EVERYTHING, stack, Path(name))


@pytest.fixture(autouse=True)
def _shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "under" in request.fixturenames:
        for module in (fanout, memory, storm, history, processes):
            monkeypatch.setattr(module, "ground", lambda *_: request.getfixturevalue("under"))


def _quick(bench: Bench, *servers: str) -> Record:
    """The record of a quick look, as it comes back from the disk, with its tables drawn once."""
    options = replace(harness.quick(bench), only=servers or bench.servers)
    record: Record = json.loads(json.dumps(harness.perform(bench, options)))
    drawn = "\n".join(bench.lines(record))
    for server in servers or bench.servers:
        assert getattr(sys.modules[bench.run.__module__], "LABELS", {}).get(server, "") in drawn
    return record


def _spent(cell: Record) -> float:
    cpu = cell["cpu"]
    assert cpu["server"] == pytest.approx(cpu["user"] + cpu["system"])
    return float(cpu["server"])


def test_fanout_counts_every_delivery_once(under: fanout.Ground) -> None:
    """Each message reaches every socket once and is in the store; the promises are computed of these counts."""
    record = _quick(fanout.BENCH)
    cells = record["cells"]
    assert {(cell["server"], cell["in_flight"]) for cell in cells} == {
        (name, level) for name in fanout.LABELS for level in fanout.IN_FLIGHT
    }
    for cell in cells:
        assert cell["deliveries"] == cell["messages"] * cell["sockets"] > 0
        assert _spent(cell) > 0
        assert all(earlier <= later for earlier, later in pairwise(cell["delivery_ms"]))
        assert cell["ack_ms"][0] <= cell["delivery_ms"][3]
        assert (cell["cpu"]["database"] > 0) == (cell["server"] != "ours")
    (bar,) = record["bars"]
    mine = [cell for cell in cells if (cell["server"], cell["in_flight"]) == ("ours", fanout.MESSAGE_IN_FLIGHT)]
    assert bar["value"] == pytest.approx(mine[0]["cpu"]["server"] / mine[0]["messages"] * 1e6)


def test_memory_is_the_growth_of_the_process(under: fanout.Ground) -> None:
    """What is printed for a socket is what the process has grown by, divided by the sockets that came."""
    record = _quick(memory.BENCH)
    for cell in record["cells"]:
        assert cell["rss_after"] >= cell["uss_after"] > 0
        each = memory.per_socket(record, cell["server"], cell["sockets"], "uss")
        assert each * cell["sockets"] == pytest.approx(cell["uss_after"] - cell["uss_before"])


def test_storm_loses_and_doubles_nothing(under: fanout.Ground) -> None:
    """Everybody who was cut comes back, and in the end has every message that was acked, once."""
    record = _quick(storm.BENCH, "ours", "node-batching")
    for cell in record["cells"]:
        assert (cell["lost"], cell["doubled"]) == (0, 0)
        assert cell["acked"] > 0
        assert all(earlier <= later for earlier, later in pairwise(cell["back_ms"]))
        assert _spent(cell) > 0
    peer = [cell for cell in record["cells"] if cell["server"] == "node-batching"]
    assert [cell["log_reads"] for cell in peer] == [cell["sockets"] for cell in peer]
    assert all(bar["met"] for bar in record["bars"])


def test_history_answers_whole_pages(under: fanout.Ground) -> None:
    """Every answer was the whole page that the first one was, and the CPU of each server was counted."""
    record = _quick(history.BENCH, "ours", "fastify")
    assert {(cell["server"], cell["page"]) for cell in record["cells"]} == {
        (name, page) for name in ("ours", "fastify") for page in history.PATHS
    }
    for cell in record["cells"]:
        assert cell["requests"] >= history.CONNECTIONS
        assert cell["bytes"] > history.PAGE * len("message")
        assert _spent(cell) > 0


def test_processes_deliver_to_each_other(under: fanout.Ground) -> None:
    """A message said through one process reaches the sockets of all once, in one room and in many."""
    record = _quick(processes.BENCH, "1", "2")
    assert {(cell["processes"], cell["scene"]) for cell in record["cells"]} == {
        (count, scene) for count in (1, 2) for scene in processes.SCENES
    }
    for cell in record["cells"]:
        assert cell["deliveries"] == cell["messages"] * (cell["sockets"] // cell["rooms"]) > 0
        assert cell["busiest"] <= _spent(cell) + 0.05


def test_a_bar_says_whether_it_is_met_and_by_how_much() -> None:
    """More is better or less is better, nought is nought, and the verdict is a multiple of what was promised."""
    assert Bar("ratio", 10, 15, "x", at_least=True).verdict == "met, 1.5 x of it"
    assert Bar("ratio", 10, 5, "x", at_least=True).verdict == "not met, 0.50 x of it"
    assert Bar("cost", 150, 75, "µs", at_least=False).verdict == "met, 2.0 x of it"
    assert Bar("cost", 150, 300, "µs", at_least=False).verdict == "not met, 0.50 x of it"
    assert Bar("lost", 0, 0, "", at_least=False).verdict == "met"
    assert Bar("lost", 0, 2, "", at_least=False).verdict == "not met, 2 too many"


def test_everybody_takes_their_turn_and_another_begins_each_round() -> None:
    """No server is always measured first, when the machine is cool."""
    assert list(harness.turns(("a", "b"), 3)) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]


def test_the_report_replaces_only_what_is_between_its_markers() -> None:
    """The page keeps its words; the tables of an earlier run go."""
    cell = {"server": "ours", "sockets": 1000, "rss_before": 0, "rss_after": 6_144_000}
    cell |= {"uss_before": 0, "uss_after": 5_120_000}
    record: Record = {
        "bench": "memory", "at": "2026-01-02T03:04:05+00:00", "rounds": 2, "took_s": 9.5, "versions": {"node": "v20"},
        "machine": {"cpus": 2, "kernel": "6.1", "python": "3.11.7"}, "cells": [cell],
    }  # fmt: skip
    bar = Bar("idle socket", 12, 6, "KiB", at_least=False).as_record()
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    text = report.placed(page, {"benches": [record], "bars": [bar]})
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "| idle socket | ≤ 12 KiB | 6.0 KiB | met, 2.0 x of it |" in text
    assert "6.0" in text.split("### ")[1]
    with pytest.raises(ValueError, match="needs a line"):
        report.placed("no markers", {"benches": [record], "bars": [bar]})
