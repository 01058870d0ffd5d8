"""The whole history of this repository through the gate `no-secrets`, as before a first promotion."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.config import load_service
from sluice.gates.context import GateContext
from sluice.gates.secrets import no_secrets
from sluice.hosts.envfile import EnvFile
from sluice.hosts.git_clone import Clone
from sluice.hosts.system import SystemClock
from sluice.model.release import Commit
from sluice.model.secret import Redactor
from sluice.model.spec import EnvironmentName
from sluice.model.verdict import Verdict
from sluice.runner import LocalRunner

pytestmark = pytest.mark.drill
ROOT = Path(__file__).resolve().parents[2]


async def nothing() -> list[str]:
    """No overlaps."""
    return []


async def test_every_commit_since_the_root_is_clean_or_explained() -> None:
    """Nothing was ever committed that looks like a secret, but what the policy's allow-list has, and all of that."""
    spec = load_service((ROOT / "deploy/sluice.toml").read_bytes(), "deploy/sluice.toml")
    runner = LocalRunner(Redactor())
    clone = await Clone.open(ROOT, runner)
    sha, tree = await clone.commit_of("HEAD")
    finding = await no_secrets(
        GateContext(
            repo=clone,
            commit=Commit(sha, tree, "main", "", "", ""),
            policy=spec.gates,
            policy_ref="main",
            candidate=spec,
            env_file=EnvFile(ROOT / "none.env"),
            environment=EnvironmentName.PROD,
            clock=SystemClock(),
            runner=runner,
            overlaps=nothing,
        )
    )
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.PASS, 0), finding.detail
    assert "the whole history of 'main'" in finding.detail
    assert "not found here" not in finding.detail, "an exception excuses nothing: take it out of deploy/sluice.toml"
