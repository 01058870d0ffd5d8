"""The four numbers of DORA from the ledger alone, and how much of it they could be read from. Pure."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sluice.ledger.export import Record, time_of

CHANGES = frozenset({"rollout", "promotion"})
WEEK_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Durations: how many there were, how many could be read, and their middle in seconds (None: of none)."""

    of: int
    read: int
    median_s: float | None
    p90_s: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Of one environment, from `since` to `until` (ISO 8601; "" where the ledger has nothing)."""

    since: str
    until: str
    deployments: int  # changes that were let through
    per_week: float | None  # None: the time looked at is shorter than a day
    lead_time: Measured  # of the deployed head commit, from its commit time to the end of the run that verified it
    changes: int  # changes that users saw
    failed: int  # of those: undone by their own run, or gone back from by a later rollback
    failure_rate: float | None
    restore: Measured  # from the moment users may have been on the failed change until a good release served
    missing: tuple[str, ...]  # what the numbers lack, in sentences


def _seconds(first: dt.datetime | None, last: dt.datetime | None) -> float | None:
    return (last - first).total_seconds() if first is not None and last is not None and last >= first else None


def _measured(durations: Sequence[float | None]) -> Measured:
    known = sorted(one for one in durations if one is not None)
    if not known:
        return Measured(len(durations), 0, None, None)
    p90 = known[math.ceil(len(known) * 9 / 10) - 1]  # the least that nine of ten do not exceed
    return Measured(len(durations), len(known), statistics.median(known), p90)


def _seen(record: Record) -> bool:
    return record.get("type") in CHANGES and record.get("decision") in {"go", "rollback"}


def _hurt(record: Record) -> bool:
    # Whatever the reason: users were on it and were brought back, or could not be.
    return record.get("decision") == "rollback"


ENDED = {"done", "degraded"}  # of a rollback that users were brought back by


def _left(records: Sequence[Record]) -> dict[int, Record]:
    """Of each change whose release a rollback left while it served, the first such rollback.

    One that failed, was undone or reached no user left nothing. After C went back to B, going on from B to A leaves B
    as well.
    """
    brought: dict[str, int] = {}
    left: dict[int, Record] = {}
    for place, record in enumerate(records):
        if _seen(record) and not _hurt(record):
            brought[str(record.get("release"))] = place
        elif record.get("type") == record.get("decision") == "rollback" and record.get("outcome") in ENDED:
            was = brought.get(str(record.get("from_release")))
            if was is not None and record.get("from_release") != record.get("release"):
                left.setdefault(was, record)
    return left


def _restored_by(records: Sequence[Record], place: int) -> Record | None:
    """The run after which a good release served again."""
    if records[place].get("outcome") == "rolled_back":
        return records[place]
    return next((one for one in records[place:] if one.get("outcome") == "done" and one.get("decision")), None)


def metrics_of(records: Sequence[Record], since: dt.datetime | None, now: dt.datetime) -> Metrics:
    """Over the changes that ended from `since` on (None: from the first record); a failure counts for its change."""
    times = [at for record in records if (at := time_of(record)) is not None]
    begin = since or (min(times) if times else None)
    inside = [
        place
        for place, record in enumerate(records)
        if _seen(record) and (at := time_of(record)) is not None and begin is not None and at >= begin
    ]
    deployed = [records[place] for place in inside if not _hurt(records[place])]
    lead = _measured([_seconds(time_of(one, "committed_at"), time_of(one)) for one in deployed])
    left = _left(records)
    failures = [place for place in inside if _hurt(records[place]) or place in left]
    failed = [(place, left.get(place) or _restored_by(records, place)) for place in failures]
    restore = _measured([_restore_s(records[place], by) for place, by in failed])
    span = (now - begin).total_seconds() if begin is not None else 0.0
    return Metrics(
        begin.isoformat() if begin else "",
        now.isoformat() if begin else "",
        len(deployed),
        len(deployed) * WEEK_S / span if span >= WEEK_S / 7 else None,
        lead,
        len(inside),
        len(failed),
        len(failed) / len(inside) if inside else None,
        restore,
        _missing(records, lead, restore, begin, inside),
    )


def _restore_s(change: Record, by: Record | None) -> float | None:
    # Without the moment of the switch nothing is guessed from the run's beginning: a build may take most of it.
    return _seconds(time_of(change, "switched"), time_of(by)) if by is not None else None


def _missing(
    records: Sequence[Record], lead: Measured, restore: Measured, begin: dt.datetime | None, inside: Sequence[int]
) -> tuple[str, ...]:
    told: list[str] = []
    if begin is None:
        return ("The ledger has no record yet.",)
    if not inside:
        told.append("No change reached users in this time: nothing can be said of failures.")
    first = min((at for record in records if (at := time_of(record))), default=begin)
    if first > begin:
        told.append(f"The ledger begins at {first.isoformat()}, later than asked for.")
    if lead.read < lead.of:
        told.append(f"Lead time: {lead.of - lead.read} of {lead.of} deployments have no usable commit time.")
    if restore.read < restore.of:
        told.append(f"Time to restore: {restore.of - restore.read} of {restore.of} failures lack it or go on.")
    undated = sum(time_of(record) is None for record in records if record.get("type") in CHANGES)
    if undated:
        told.append(f"{undated} changes have no time and are not counted.")
    return tuple(told)


def as_json(metrics: Metrics) -> dict[str, Any]:
    """For programs; durations in seconds."""
    return asdict(metrics)
