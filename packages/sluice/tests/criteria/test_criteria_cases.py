"""Whole watches as data (cases/README.md): what the sources saw, and what the criteria must say of it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from sluice.criteria.observations import Observation, Source
from sluice.criteria.panel import CRITERIA, Panel, replay
from sluice.model.spec import WatchSpec
from sluice.model.verdict import Verdict, worst

FILES = sorted((Path(__file__).parent / "cases").glob("*.json"))
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['about']}") for file in FILES for case in json.loads(file.read_text())
]
KEYS = {"about", "policy", "old", "sources", "seen", "expect", "sure_at", "says"}


def moments(case: dict) -> list[tuple[float, Observation]]:
    """Every observation with its time, in the order of time."""
    told = []
    for entry in case["seen"]:
        first, last = entry["at"] if isinstance(entry["at"], list) else (entry["at"], entry["at"])
        for at in range(first, last + 1):
            told += [(float(at), seen) for seen in msgspec.convert(entry["of"], list[Observation])]
    return sorted(told, key=lambda moment: moment[0])


@pytest.mark.parametrize("case", CASES)
def test_every_case_gets_its_verdicts(case):
    """The recorded watch is judged as the case says, and ends when a break is sure."""
    assert case.keys() <= KEYS
    policy = msgspec.convert(case.get("policy", {}), WatchSpec)
    sources = frozenset(map(Source, case.get("sources", [])))
    findings, sure_at = replay(policy, moments(case), with_old=case.get("old", True), sources=sources)
    judged = {finding.name: finding for finding in findings}
    assert {name: judged[name].verdict.value for name in case["expect"]} == case["expect"]
    assert sure_at == case.get("sure_at")
    for name, words in case.get("says", {}).items():
        assert words in judged[name].detail


@pytest.mark.parametrize("case", CASES)
def test_a_sure_break_fails_and_nothing_else_does_so_early(case):
    """Whenever a watch ends early, the verdict is a fail; and every state of it can be shown."""
    policy = msgspec.convert(case.get("policy", {}), WatchSpec)
    panel = Panel(policy, with_old=case.get("old", True), sources=frozenset(map(Source, case.get("sources", []))))
    for at, seen in moments(case):
        panel.observe(at, seen)
        assert {reading.name for reading in panel.readings()} >= set(CRITERIA)
        assert not panel.sure or worst(panel.findings()) is Verdict.FAIL


def test_a_dry_run_is_marked_and_has_no_veto():
    """Its fail stands in the findings, and the watch as a whole passes."""
    panel = Panel(WatchSpec(dry_run=("auth",), duration_s=5), with_old=False, sources=frozenset({Source.REFUSALS}))
    for at in range(5):
        for target in ("public", "new"):
            panel.observe(at, msgspec.convert({"type": "answer", "target": target}, Observation))
        breach = {"type": "refusals", "slot": "new", "let_in": {"refused-origin": "101"}}
        panel.observe(at, msgspec.convert(breach, Observation))
    auth = next(finding for finding in panel.findings() if finding.name == "auth")
    assert (auth.verdict, auth.dry_run) == (Verdict.FAIL, True)
    assert worst(panel.findings()) is Verdict.PASS
    assert not panel.sure


def test_a_dry_run_alone_is_no_pass():
    """Where everything that was judged has no veto, nothing was judged."""
    panel = Panel(WatchSpec(dry_run=CRITERIA), with_old=False, sources=frozenset())
    assert worst(panel.findings()) is Verdict.INCONCLUSIVE
