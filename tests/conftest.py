"""How tests are dealt out to workers: a file stays together, and so do the drills, which share one served world.

What waits most begins first, so that what computes fills the waits (with --no-loadscope-reorder).
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

DRILLS = "tests/drills/"


class _ByWorld(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return DRILLS if nodeid.startswith(DRILLS) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByWorld:
    """Deal out by file, but the drills as one."""
    return _ByWorld(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drills first; among drills and among the others the order stays."""
    items.sort(key=lambda item: item.get_closest_marker("drill") is None)
