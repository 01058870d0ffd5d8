"""`disk-space` where containers run: the engine's own disk is measured beside the state's, and a full one refuses."""

from __future__ import annotations

import types

import pytest

from sluice.checks import host
from sluice.checks.host import Disk, disk
from sluice.gates.disk import disk_space
from sluice.model.verdict import Verdict

ROOM = 20_000  # MB


@pytest.fixture
def left(monkeypatch):
    """How much room each folder has, by path; `room` says it."""
    told = {}
    monkeypatch.setattr(host, "room", lambda path: Disk(path, *told[path]))
    return told


@pytest.mark.parametrize(
    ("full", "says"),
    [
        ((512, 10**6), "/var/lib/docker has 512 MB left, fewer than the 1024 demanded"),
        ((ROOM, 100), "/var/lib/docker has room for 100 more files"),
    ],
)
async def test_a_full_engine_disk_refuses_where_the_state_has_room(fake, left, tmp_path, full, says):
    """Images are unpacked there: the gate fails before anything is built, and names that disk and not the other."""
    fake.says("GET /info", 200, {"DockerRootDir": "/var/lib/docker"})
    left |= {str(tmp_path): (ROOM, 10**6), "/var/lib/docker": full}
    context = types.SimpleNamespace(disk=lambda: disk(tmp_path, str(fake.path), 1024))
    finding = await disk_space(context)
    assert (finding.name, finding.verdict) == ("disk-space", Verdict.FAIL)
    assert says in finding.detail
    assert str(tmp_path) not in finding.detail
    assert "make room" in finding.fix
    left["/var/lib/docker"] = (ROOM, 10**6)
    assert (await disk_space(context)).verdict is Verdict.PASS
