"""What the rollout bench computes of journals and counts, and whose memory it counts: no engine is asked."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

# The bench is a directory of scripts, not a package.
sys.path.insert(0, str(Path(__file__).parents[1]))

import rollout
import rollout_load
import rollout_peers
from harness import BenchError, Record

STEPS = {
    "planning": 1.0,
    "smoking_private": 2.0,
    "switching": 0.5,
    "smoking_public": 2.0,
    "draining": 3.0,
    "watching": 10.0,
}


def journal(*, before: float = 1.0, **took: float) -> list[Record]:
    """Entries of a run whose steps follow each other, the first one so long after 1000."""
    at, entries = 1000 + before, [{"entry": "opened", "at": 1000.0}]
    for name, seconds in took.items():
        entries += [
            {"entry": "intent", "state": name, "at": at},
            {"entry": "observed", "state": name, "at": at + seconds},
        ]
        at += seconds
    return [*entries, {"entry": "observed", "state": "skipped", "at": at}, {"entry": "ended", "at": at}]


def a_command(seconds: float, **took: float) -> Record:
    """As it is kept of a command of ours."""
    memory = {"alone": 50.0, "tool": 80.0, "everything": 110.0}
    return {"seconds": seconds, "began": 1000.0, "memory_mib": memory, **rollout.steps(journal(**took))}


def seen(**more: Any) -> Record:
    """As the load tells of a phase."""
    phase = rollout_load.Phase(requests=100, answers_s=[0.01], away_s=[0.2, 0.4], said={"a"})
    return {**phase.as_record(0, 0), **more}


def a_cell(server: str = "ours", **of_rollout: Any) -> Record:
    """One way in one round."""
    back = {name: seconds for name, seconds in STEPS.items() if name not in {"watching", "planning"}}
    took: Record = {"rollout": a_command(25, **STEPS), "rollback": a_command(10, **back)}
    if server == "ours":
        took["docker"] = {"build": 1.0, "create": 2.0, "stop": 1.5}
        took["ingress_mib"] = 100.0
        for fault in rollout.FAULTS:
            bad = a_command(12, switching=1.0, watching=4.0, restoring=2.0)
            took[fault] = bad | rollout.told_of_fault(bad, seen(marks=[1003.0]))
    phases = {what: seen() for what in took if what != "ingress_mib"} | {"rollout": seen(**of_rollout)}
    return {"server": server, "sockets": 200, "took": took, "seen": phases}


def test_overhead_is_what_neither_policy_nor_docker_takes() -> None:
    """The command without smokes, drain and watch, and without Docker's own commands of the same round."""
    took = a_cell()["took"]
    assert rollout.chosen_s(took["rollout"]) == pytest.approx(2 + 2 + 3 + 10)
    assert rollout.overhead_s(took) == pytest.approx(25 - 17 - 4.5)
    assert rollout.beside_s(took["rollout"]) == pytest.approx(
        {"before the first": 1.0, "after the last": 25 - 1 - 18.5, "between them": 0.0}
    )


def test_a_step_that_was_skipped_took_no_time() -> None:
    """Only what had an intent and was observed counts; one that was begun and never ended does not."""
    entries = [*journal(building=2.0), {"entry": "intent", "state": "starting", "at": 1003.0}]
    assert rollout.steps(entries)["steps"] == {"building": 2.0}


def test_a_fault_is_noticed_when_restoring_begins() -> None:
    """Counted from the release's own mark; without a mark, or without a restoration, there is no number."""
    bad = a_command(12, switching=1.0, watching=4.0, restoring=2.0)
    told = rollout.told_of_fault(bad, seen(marks=[1004.0, 1003.0]))
    assert told == pytest.approx({"noticed_s": 3.0, "restored_s": 2.0})
    with pytest.raises(BenchError, match="never showed"):
        rollout.told_of_fault(bad, seen())
    with pytest.raises(BenchError, match="nothing was restored"):
        rollout.told_of_fault(a_command(12, watching=4.0), seen(marks=[1003.0]))


def test_the_bars_judge_ours_alone_and_one_bad_round_is_enough() -> None:
    """A peer's failed requests break no promise of ours; one failed request, loss or slow return of ours does."""
    peer = a_cell("compose", failed=900, away_s=[9.0])
    good = {bar.what: bar for bar in rollout.bars({"cells": [a_cell(), peer]})}
    assert {what for what, bar in good.items() if not bar.met} == {"rollout, overhead over Docker's own commands"}
    bad = rollout.bars({"cells": [a_cell(), a_cell(failed=1, lost=1, away_s=[2.5])]})
    assert [bar.value for bar in bad[:3]] == [1, 1, 2.5]
    assert not any(bar.met for bar in bad[:3])
    assert rollout.bars({"cells": [peer]}) == []


def test_the_tables_come_from_plain_json() -> None:
    """Every way has its line in both tables; without ours there is nothing of steps and faults."""
    cells = [a_cell(), a_cell("compose", failed=900), a_cell("by-hand", away_s=[])]
    drawn = "\n".join(rollout.lines(json.loads(json.dumps({"cells": cells}))))
    assert all(drawn.count(f"  {label} ") == 2 for label in rollout.LABELS.values())
    assert "our overhead: 3.50 s" in drawn
    assert "it cut its sockets" in drawn
    assert "overhead" not in "\n".join(rollout.lines({"cells": cells[1:]}))


def test_memory_is_counted_by_whose_program_it_is() -> None:
    """Docker's programs and the service's smoke are not the tool's; a process that is only forked is nobody's."""
    parent = ["/venv/bin/python", "/venv/bin/sluice", "rollout"]
    assert rollout_peers.whose(["/venv/bin/docker-compose", "up"], parent) == "docker"
    assert rollout_peers.whose(["python3", "/state/tree/smoke.py", "canary"], parent) == "service"
    assert rollout_peers.whose(["git", "fetch"], parent) == "tool"
    assert rollout_peers.whose(parent, parent) == rollout_peers.whose([], parent) == ""
    memory = rollout_peers.Memory()
    memory.add(10, 30, 90)
    memory.add(20, 25, 80)
    assert memory == rollout_peers.Memory(20, 30, 90)


async def test_a_message_is_lost_or_doubled_only_by_what_sockets_heard() -> None:
    """One that some socket never heard is lost once for each; the same number or another one again is doubled."""
    users = rollout_load.Users(1, 2, 1)
    one, two = users.listeners
    for key in ("a", "b"):
        users.now.said.add(f"{users.name}-{key}")
    one._heard({"messages": [[1, f"{users.name}-a", ""], [2, "somebody else's", ""], [3, f"{users.name}-b", ""]]})
    two._heard({"messages": [[1, f"{users.name}-a", ""], [1, f"{users.name}-a", ""]]})
    for each in users.listeners:
        each.joined = True
    users._until = lambda *_: asyncio.sleep(0)  # type: ignore[method-assign]
    told = (await users.end())[""]
    assert (told["messages"], told["lost"], told["doubled"]) == (2, 1, 1)


async def test_a_socket_that_stays_away_counts_as_cut() -> None:
    """Who is back has a time; who is not is said, and neither is left out of how many were cut."""
    users = rollout_load.Users(1, 2, 1)
    back, away = users.listeners
    for each in (back, away):
        each._heard({"joined": 0})
        each._out(1012)
    back._heard({"joined": 0})
    users._until = lambda *_: asyncio.sleep(0)  # type: ignore[method-assign]
    told = (await users.end())[""]
    assert (told["cut"], told["never_back"], len(told["away_s"]), told["codes"]) == (2, 1, 1, {"1012": 1})


def test_without_an_engine_the_bench_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A BenchError, which lets the other benches go on: with no `docker`, and with one that reaches no engine."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="no container engine answers"):
        rollout_peers.World(tmp_path)
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect' >&2\nexit 1\n")
    docker.chmod(0o755)
    with pytest.raises(BenchError, match="Cannot connect"):
        rollout_peers.World(tmp_path)
