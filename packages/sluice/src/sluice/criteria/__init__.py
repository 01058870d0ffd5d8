"""Criteria: judged over time in the watch window, the new slot beside the old one as its control group."""

from __future__ import annotations

from sluice.criteria.watch import WatchContext, watch

__all__ = ["WatchContext", "watch"]
