"""Fixtures of the ledger's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .origin import Place, git


@pytest.fixture
def place(tmp_path) -> Place:
    """A ledger and its origin."""
    return Place(tmp_path)


@pytest.fixture
def clone(place) -> Path:
    """An auditor's clone of the repository."""
    folder = place.folder / "clone"
    git(place.folder, "clone", "-q", str(place.origin), str(folder))
    return folder
