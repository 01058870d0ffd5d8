"""A world where `main` serves, for the tests of what comes after."""

from __future__ import annotations

from sluice.testing import MemoryWorld, Request

MAIN = Request("ann@host", "test", "main")
BAD = Request("ann@host", "test", "feature/bad")
SENTINEL = "sentinel-secret-value"  # what the world's redactor knows


async def established(folder):
    """A world where `main` serves."""
    memory = MemoryWorld(folder)
    assert (await memory.drive().rollout(MAIN)).exit_code == 0
    return memory
