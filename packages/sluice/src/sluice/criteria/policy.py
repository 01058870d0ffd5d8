"""What only the criteria know to be wrong with a [watch]: names that are none, counters nobody could read."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.criteria.counters import NotMetrics, selector
from sluice.criteria.panel import CRITERIA
from sluice.model.spec import WatchSpec


def problems(policy: WatchSpec) -> Iterator[tuple[str, str]]:
    """The key of [watch] that is wrong, and what is wrong with it."""
    for key in ("required_criteria", "dry_run"):
        for name in getattr(policy, key):
            if name not in CRITERIA:
                yield key, f"names {name!r}, which is no criterion; use: {', '.join(CRITERIA)}"
    for name in sorted(set(policy.required_criteria) & set(policy.dry_run)):
        yield "dry_run", f"names {name!r}, which is in required_criteria: what vetoes nothing cannot be required"
    if policy.metrics_path and not policy.auth:
        yield "metrics_path", "is read for nothing: [[watch.auth]] names no counter"
    for number, limit in enumerate(policy.auth):
        try:
            selector(limit.metric)
        except NotMetrics as error:
            yield f"auth[{number}].metric", f"is {error}"
