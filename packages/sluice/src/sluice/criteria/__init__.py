"""Criteria: judged over time in the watch window, the new slot beside the old one as its control group.

Pure parts, one per criterion, eat observations (`observations`) and are put together by `panel`; `sources` makes the
observations and `watch` runs the sources for the window. docs/reference/criteria.md says what each criterion means.
"""

from __future__ import annotations

from sluice.criteria.panel import CRITERIA, Reading
from sluice.criteria.policy import problems
from sluice.criteria.sources import WatchContext
from sluice.criteria.watch import watch

__all__ = ["CRITERIA", "Reading", "WatchContext", "problems", "watch"]
