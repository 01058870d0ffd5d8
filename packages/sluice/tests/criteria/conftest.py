"""A clock whose time jumps to whoever waits next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from .watched import Clock


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    """A clock that runs until the test ends."""
    made = Clock()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
