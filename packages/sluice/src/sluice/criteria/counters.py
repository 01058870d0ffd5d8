"""Counters out of a service's Prometheus text, and how fast they grow."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

# Long enough that one burst of a few refusals is not a rate, short enough that a fault late in a long watch shows.
SPAN_S = 10.0


class NotMetrics(ValueError):
    """The text, or the name of a metric, is not what Prometheus reads. The sentence never holds the text itself."""


def selector(text: str) -> tuple[str, dict[str, str]]:
    """A name, or a name{label="value"}, as name and labels. Raises NotMetrics."""
    samples = [sample for family in _families(f"{text} 0") for sample in family.samples]
    if len(samples) != 1 or samples[0].timestamp is not None or not text.isprintable():
        raise NotMetrics('not one metric\'s name, with or without {label="value"}')
    return samples[0].name, dict(samples[0].labels)


def read(text: str, metrics: Iterable[str]) -> dict[str, dict[str, float]]:
    """Each of these metrics -> its series -> the value now.

    A counter that is announced (# TYPE) and has no series yet is one at 0; one that the text does not know at all is
    missing from the answer. Lines of other metrics are not even parsed. Raises NotMetrics.
    """
    wanted = {metric: selector(metric) for metric in metrics}
    names = tuple({name.removesuffix("_total") for name, _ in wanted.values()})
    lines = [line for line in text.split("\n") if line.removeprefix("# TYPE ").startswith(names)] if names else []
    families = _families("\n".join(lines) + "\n")
    known = {name for family in families for name in (family.name, f"{family.name}_total")}
    found: dict[str, dict[str, float]] = {}
    for metric, (name, labels) in wanted.items():
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        if samples or name in known:
            found[metric] = {
                repr(sorted(sample.labels.items())): _count(sample.value)
                for sample in samples
                if labels.items() <= sample.labels.items()
            }
    return found


def _families(text: str) -> list[Metric]:
    # it brings an HTTP server along, which no command that judges no metrics should wait for
    from prometheus_client.parser import text_string_to_metric_families

    try:
        return list(text_string_to_metric_families(text))
    except (ValueError, KeyError, IndexError, TypeError) as error:  # the parser's own ways to say "malformed"
        raise NotMetrics("not Prometheus text") from error


def _count(value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise NotMetrics("a counter that is not a count")
    return float(value)


@dataclass
class Meter:
    """How fast a counter of one slot grows. A series that falls was reset, and starts anew from 0."""

    shortest_s: float  # less time than this is not judged
    _series: dict[str, float] = field(default_factory=dict)
    _grown: float = 0.0
    _history: deque[tuple[float, float]] = field(default_factory=deque)  # when, and how much it had grown by then

    def add(self, at: float, series: dict[str, float]) -> None:
        """One scrape. The first one says only where counting begins."""
        if self._history:
            for name, value in series.items():
                before = self._series.get(name, 0.0)
                self._grown += value - before if value >= before else value
        self._series |= series
        self._history.append((at, self._grown))
        while len(self._history) > 2 and self._history[1][0] <= at - SPAN_S:
            self._history.popleft()

    @property
    def rate(self) -> float | None:
        """Per second over the newest SPAN_S; None: too little was seen."""
        if len(self._history) < 2:
            return None
        (began, before), (ended, after) = self._history[0], self._history[-1]
        return (after - before) / (ended - began) if ended > began and ended - began >= self.shortest_s else None
