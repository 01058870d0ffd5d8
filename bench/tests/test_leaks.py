"""The bench of scanners: its corpus is large enough, always the same, and its shares are counted of plain JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

# The bench is a directory of scripts, not a package.
sys.path.insert(0, str(Path(__file__).parents[1]))

import harness
import leaks
from corpus import corpus

pytestmark = pytest.mark.drill


def test_the_corpus_is_labelled_large_and_the_same_every_time() -> None:
    """At least 60 true secrets and 200 look-alikes; another seed gives the same files with other values."""
    cases = corpus()
    assert cases == corpus()
    assert sum(bool(case.lines) for case in cases) >= 60
    assert sum(not case.lines for case in cases) >= 200
    assert len({case.name for case in cases}) == len(cases)
    others = corpus(1)
    assert [case.path for case in cases if case.lines] == [case.path for case in others if case.lines]
    assert all(
        one.text != other.text for one, other in zip(cases, others, strict=True) if "pem" in one.path and one.lines
    )


def test_each_scanner_is_judged_by_the_same_cases() -> None:
    """Recall and false alarms are shares of the labels; the promises are computed of ours."""
    options = replace(harness.quick(leaks.BENCH), only=tuple(leaks.SCANNERS))
    record = json.loads(json.dumps(harness.perform(leaks.BENCH, options)))
    drawn = "\n".join(leaks.lines(record))
    assert all(label in drawn for label in leaks.LABELS.values())
    for cell in record["cells"]:
        assert 0 <= len(cell["missed"]) < cell["true"]
        assert 0 <= len(cell["alarms"]) < cell["harmless"]
    assert 100 - leaks.share(record, "ours", "missed", "true") >= leaks.BAR_RECALL
    assert leaks.share(record, "ours", "alarms", "harmless") <= leaks.BAR_ALARMS
    assert record["bars"] == [], "a quick look judges no promise: its diff is too small"
