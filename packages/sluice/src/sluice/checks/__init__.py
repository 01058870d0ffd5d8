"""Checks: one smoke assertion each. Built-in ones need nothing of the service; the rest come from its plug-in."""

from __future__ import annotations

from sluice.checks.http import read_back, wait_ready
from sluice.checks.smoke import SmokeContext, run_smoke

__all__ = ["SmokeContext", "read_back", "run_smoke", "wait_ready"]
