"""Fixtures of the drive's tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Death is simulated here and the machine stays up, so nothing has to survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _handle: None)
