"""Checks: one smoke assertion each. Built-in ones need nothing of the service; the rest come from its plug-in."""

from __future__ import annotations

from sluice.checks.builtin import Target, served_release, server_probes
from sluice.checks.http import wait_ready
from sluice.checks.served import read_back
from sluice.checks.smoke import SmokeContext, no_credentials, run_smoke

__all__ = [
    "SmokeContext",
    "Target",
    "no_credentials",
    "read_back",
    "run_smoke",
    "served_release",
    "server_probes",
    "wait_ready",
]
