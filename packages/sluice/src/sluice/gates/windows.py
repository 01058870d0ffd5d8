"""When a freeze window is, in real time: local days and times, midnight, and the nights the clock is turned. Pure.

A window is meant in the wall time of its zone. Where the clock is turned, a time may come twice or not at all: one that
does not come is the moment the clock jumps; of one that comes twice, a window that forbids takes what makes it longer,
and one that allows what makes it shorter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from sluice.model.policy import FreezeKind, FreezeWindow

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
AHEAD = 15  # days looked at for the end of a window, or the next one: two weeks and the day they begin in
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Ruling:
    """What the windows say of one moment. `changes`: when that ends, or the next one begins; None: not foreseeable."""

    allowed: bool
    windows: tuple[FreezeWindow, ...]  # those that decide
    changes: dt.datetime | None = None


def rule(windows: Sequence[FreezeWindow], now: dt.datetime, environment: str, owner: str) -> Ruling:
    """Deny wins over allow. Where there are windows that allow, it must be within one of them. `now` has a zone."""
    bound = [one for one in windows if environment in one.environments and owner not in one.exempt]
    deny = [one for one in bound if one.kind is FreezeKind.DENY]
    allow = [one for one in bound if one.kind is FreezeKind.ALLOW]
    closed = [one for one in deny if holds(one, now)]
    if closed:
        ends = [ends_at(one, now) for one in closed]
        known = [end for end in ends if end is not None]
        return Ruling(False, tuple(closed), max(known) if len(known) == len(ends) else None)
    within = [one for one in allow if holds(one, now)]
    if not allow or within:
        return Ruling(True, tuple(within))
    begins = [start for one in allow for start, _ in spans(one, now) if start > now]
    return Ruling(False, tuple(allow), min(begins, default=None))


def holds(window: FreezeWindow, now: dt.datetime) -> bool:
    """Whether this moment lies in the window: its beginning does, its end does not."""
    return any(start <= now < end for start, end in spans(window, now))


def ends_at(window: FreezeWindow, now: dt.datetime) -> dt.datetime | None:
    """When it ends after all the days that follow each other without a break. None: not within AHEAD days."""
    end = now
    for start, stop in spans(window, now):
        if start <= end < stop:
            end = stop
    horizon = now + (AHEAD - 2) * DAY
    return end if end < horizon else None


def spans(window: FreezeWindow, now: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """The window's times in UTC, from the day before now on, in order, for AHEAD days."""
    zone, longer = ZoneInfo(window.zone), window.kind is FreezeKind.DENY
    first = now.astimezone(zone).date() - 2 * DAY
    since = moment(dt.datetime.fromisoformat(window.since), zone, late=not longer) if window.since else None
    until = moment(dt.datetime.fromisoformat(window.until), zone, late=longer) if window.until else None
    for offset in range(AHEAD + 2):
        day = first + offset * DAY
        if window.days and DAYS[day.weekday()] not in window.days:
            continue
        opens, closes = _time(window.start), _time(window.end)
        begin = dt.datetime.combine(day, dt.time()) + opens
        finish = dt.datetime.combine(day, dt.time()) + (closes if closes > opens else closes + DAY)
        start = moment(begin, zone, late=not longer)
        end = moment(finish, zone, late=longer)
        start = max(start, since) if since else start
        end = min(end, until) if until else end
        if start < end:
            yield start, end


def moment(local: dt.datetime, zone: ZoneInfo, *, late: bool) -> dt.datetime:
    """A local time in UTC. `late`: the second, where it comes twice. The jump itself, where it does not come at all."""
    one, two = (local.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for fold in (0, 1))
    comes = one.astimezone(zone).replace(tzinfo=None) == local
    if one == two or comes:
        return max(one, two) if late else min(one, two)
    # It does not come: the jump lies between the two readings.
    before, after = min(one, two), max(one, two)
    offset = before.astimezone(zone).utcoffset()
    while after - before > dt.timedelta(seconds=1):
        middle = (before + (after - before) / 2).replace(microsecond=0)
        if middle <= before:
            break
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


def _time(text: str) -> dt.timedelta:
    hours, _, minutes = text.partition(":")
    return dt.timedelta(hours=int(hours), minutes=int(minutes))
