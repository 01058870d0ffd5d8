"""State that an earlier Sluice left: an update must be able to run it, to go back to it and to recover it.

The folder `stored` was written once and is not to be written again. Where a test here fails, a name or a meaning on
disk changed: read the old one too, and add what is written now beside it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sluice.drive.facts import facts_of
from sluice.engine import State
from sluice.hosts.releases import FileReleases
from sluice.hosts.state import StatePaths
from sluice.journal import read_all
from sluice.model.release import Release, Slot
from sluice.model.secret import Redactor, Secret
from sluice.model.spec import ChangePolicy, ServiceMode
from sluice.runner import LocalRunner
from sluice.runtimes.compose_build import ComposeBuilder
from sluice.runtimes.compose_cli import ComposeCli

STORED = Path(__file__).parent / "stored"
RUN = "20260101T000000.000000-0001"
VALUES = {"COLOUR": "red", "PASSWORD": "hunter2", "VERSION": "7"}


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    """A copy of the stored state; the artifact's path is where the copy lies."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    made = StatePaths(tmp_path, "shop", "test")
    for file in made.releases_dir.iterdir():
        file.write_text(file.read_text().replace("@STATE@", str(tmp_path)))
    return made


@pytest.fixture
def release(paths: StatePaths) -> Release:
    """The release that serves by what is stored."""
    serving = FileReleases(paths).serving()
    assert serving is not None
    release, slot = serving
    assert slot == Slot(RUN, "shop-test-0001", 18100, "http://127.0.0.1:18100", "http://shop-test-0001:8000")
    return release


def test_a_stored_release_has_everything_that_runs_it_again(release):
    """Commit, artifact, migration's head, and the settings of sluice.toml it was built with."""
    assert (release.id, release.service, release.environment, release.verified) == (RUN, "shop", "test", True)
    assert (release.commit.sha, release.commit.describe, release.migration_head) == ("a" * 40, "v1.2.3", "0007")
    artifact, spec = release.artifact, release.spec
    assert (artifact.key, artifact.tree) == ("fedcba9876543210" * 2, "b" * 40)
    assert (artifact.python, artifact.node) == ({"tools": "/venv/bin"}, {"web": "/bundle"})
    assert artifact.digests["web"] == "sha256:" + "1" * 64
    assert (spec.run.health_path, spec.run.version_path, spec.run.drain_notify) == ("/health", "", "SIGUSR1")
    assert (spec.migrate.timeout_s, spec.smoke.command) == (60, ("python3", "smoke.py"))
    compose = spec.compose
    assert (compose.files, compose.route, compose.port) == (("compose.yaml",), "web", 8000)
    assert (compose.migrate, compose.environment) == (("python3", "migrate.py"), {"RELEASE": "{sha}"})
    assert compose.services["worker"].ready_after_s == 1
    assert compose.services["store"].on_change is ChangePolicy.RECREATE
    assert spec.checks.harmless[0].pattern == "phones go to sleep"
    assert spec.watch.duration_s == 60


async def test_a_stored_compose_artifact_is_understood_as_it_was_built(paths, release):
    """Its document, its pinned images, who has a healthcheck and who keeps what; its images are not pruned."""
    cli = ComposeCli(
        LocalRunner(Redactor()), "/nowhere.sock", lambda: {name: Secret(value) for name, value in VALUES.items()}
    )
    builder = ComposeBuilder(paths, None, LocalRunner(Redactor()), None, cli)
    known = await builder.understood(release.artifact, release.spec.compose)
    assert {name: plan.mode for name, plan in known.plans.items()} == {
        "web": ServiceMode.SLOTTED,
        "worker": ServiceMode.RECREATE,
        "store": ServiceMode.SHARED,
    }
    pins = {
        "web": "sha256:" + "1" * 64,
        "worker": "registry.example.org/shop/worker@sha256:" + "2" * 64,
        "store": "sha256:" + "3" * 64,
    }
    assert known.pinned.images == pins
    assert (known.pinned.healthchecks, known.pinned.replicas) == (("store", "web"), 1)
    assert known.pinned.stores == {"store": ("/var/lib/postgresql/data",)}
    assert known.base["services"]["web"]["environment"] == {"PASSWORD": "${PASSWORD}"}
    assert builder.replicas(release.artifact) == 1
    assert builder.noted_images() == set(pins.values())


def test_a_stored_run_that_did_not_end_is_known_where_it_stood(paths):
    """Its journal tells what it was about to do, with which release and slot, and what served before."""
    (record,) = read_all(paths.journal_dir, repair=False)
    facts = facts_of(record)
    assert (record.run, record.ended, record.state) == ("run-0004", False, State.WATCHING)
    assert (facts.release.id, facts.slot.unit) == ("run-0004", "shop-test-18101")
    assert facts.plan.old_release.id == "run-0001"
    assert facts.branch == "feature/good"
