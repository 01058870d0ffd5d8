"""Counters out of Prometheus text, and the rate at which they grow."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.criteria.counters import Meter, NotMetrics, read, selector
from sluice.criteria.policy import problems
from sluice.model.spec import MetricLimit, WatchSpec

TEXT = """\
# HELP denied_total Refused.
# TYPE denied_total counter
denied_total{reason="expired",by="a"} 3.0
denied_total{reason="replay",by="a"} 4.0
# TYPE locked_total counter
denied_total_by_other{reason="x"} 9
broken line {{{
sockets 12
"""


def test_all_series_of_a_name_are_read():
    """A name alone means every series; a label narrows it; other metrics, malformed ones too, do not matter."""
    found = read(TEXT, ["denied_total", 'denied_total{reason="replay"}'])
    assert sorted(found["denied_total"].values()) == [3, 4]
    assert list(found['denied_total{reason="replay"}'].values()) == [4]


def test_a_counter_without_series_is_zero_and_an_unknown_one_is_missing():
    """A label that was never counted is no fault; a name the service does not know is no measurement."""
    assert read(TEXT, ["locked_total", "denyed_total"]) == {"locked_total": {}}


@pytest.mark.parametrize(
    "text", ["denied_total nonsense\n", "denied_total NaN\n", "denied_total -1\n", "denied_total{ 4\n"]
)
def test_what_is_not_a_count_is_not_read(text):
    """Nonsense where the counter should be is told, and never taken for a number."""
    with pytest.raises(NotMetrics):
        read(text, ["denied_total"])


@pytest.mark.parametrize("name", ["", "two words", "a{b=c}", "a 1\nb", "{x}", 'a{b="c"} 2'])
def test_a_limit_must_name_one_metric(name):
    """What Prometheus could not read is refused in the configuration."""
    with pytest.raises(NotMetrics):
        selector(name)


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text):
    """Whatever a service answers is either counters or NotMetrics."""
    with contextlib.suppress(NotMetrics):
        assert read(f"denied_total{text}", ["denied_total"]).keys() <= {"denied_total"}


def test_a_rate_needs_its_time_and_forgets_the_distant_past():
    """Too short a span has no rate; a long one is that of the newest ten seconds."""
    meter = Meter(shortest_s=5)
    for second in range(5):
        meter.add(second, {"a": 100.0 * second})
        assert meter.rate is None
    for second in range(5, 30):
        meter.add(second, {"a": 400.0})
    assert meter.rate == 0


def test_a_reset_and_a_new_series_count_from_zero():
    """A series that falls began anew; one that appears was not there before."""
    meter = Meter(shortest_s=1)
    meter.add(0, {"a": 50.0})
    meter.add(2, {"a": 4.0, "b": 6.0})
    assert meter.rate == 5


@pytest.mark.parametrize(
    ("policy", "key"),
    [
        (WatchSpec(required_criteria=("auht",)), "required_criteria"),
        (WatchSpec(dry_run=("latency",)), "dry_run"),
        (WatchSpec(dry_run=("auth",), required_criteria=("auth",)), "dry_run"),
        (WatchSpec(metrics_path="/metrics"), "metrics_path"),
        (WatchSpec(metrics_path="/metrics", auth=(MetricLimit("a b", 1),)), "auth[0].metric"),
    ],
)
def test_a_policy_that_judges_nothing_is_refused(policy, key):
    """A criterion nobody knows, a counter nobody can read, a required dry run: the key is named."""
    assert [found for found, _ in problems(policy)] == [key]


def test_a_sane_policy_has_no_problems():
    """Real names and limits are let through."""
    sane = WatchSpec(
        required_criteria=("auth",), dry_run=("messages",), metrics_path="/m", auth=(MetricLimit('a_total{b="c"}', 1),)
    )
    assert not list(problems(sane))
