"""What the Compose files in deploy/ promise about a machine that goes down hard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("compose*.yaml")), ids=lambda path: path.name)
def test_every_restart_policy_survives_an_engine_that_is_killed(path):
    """Engines take `unless-stopped` containers that were running when they were killed for stopped by somebody."""
    policies = re.findall(r"^\s+restart:\s*(.+?)\s*$", path.read_text(), re.MULTILINE)
    assert set(policies) <= {"always", '"no"'}
