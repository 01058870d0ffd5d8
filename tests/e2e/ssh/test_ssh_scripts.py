"""The runbook's own words, letter by letter, through a real ssh."""

from __future__ import annotations

import shlex

import pytest

pytestmark = pytest.mark.e2e
RUNBOOK = "cd ~/srv/edge && ./scripts/release-command.sh {verb} --env test --service shop"


def test_the_runbooks_commands_work_as_they_are_written(laptop, shop):
    """rollout, status, smoke, rollback, promote, in a folder of the server's user."""
    shop.branch("feature/x")
    install = shlex.join(["shims", "install", "scripts"])
    code, out = laptop.ssh(f"cd ~/srv/edge && {laptop.environment()['SLUICE_REMOTE_COMMAND']} {install}")
    assert code == 0, out
    code, out = laptop.ssh(RUNBOOK.format(verb="rollout") + " --branch feature/x")
    assert code == 0, out
    assert "rollout: done" in out
    assert shop.served() == shop.git("rev-parse", "feature/x")
    code, out = laptop.ssh("cd ~/srv/edge && ./scripts/gitops-deploy.sh --env test --branch feature/y")
    assert code == 0, out
    assert shop.served() == shop.git("rev-parse", "feature/y")
    code, out = laptop.ssh("~/srv/edge/scripts/test-smoke.sh --service shop")
    assert code == 0, out
    assert "login" in out
    code, out = laptop.ssh(RUNBOOK.format(verb="rollback"))
    assert code == 0, out
    assert shop.served() == shop.git("rev-parse", "feature/x")
    code, out = laptop.ssh(RUNBOOK.format(verb="status"))
    assert "feature/x" in out
    assert laptop.records()[0]["owner"] == "ann@example.org"
    code, out = laptop.ssh("cd ~/srv/edge && ./scripts/release-command.sh promote --env prod --service shop")
    assert code == 2, out
    assert "no environment 'prod'" in out
    code, out = laptop.ssh("~/srv/edge/scripts/server-quick-check.sh --env test --service shop")
    assert code in {0, 1}, out
    assert "disk" in out
    code, out = laptop.ssh(RUNBOOK.format(verb="explode"))
    assert code == 2, out
