"""A container engine that already runs, images made from this machine, and the removal of whatever a test made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The modules beside this file are no package.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from images import Images, make_images
from workbench import Engine, export_checkout


@pytest.fixture(scope="session")
def engine_answers() -> None:
    """The engine is there; it is never started from here."""
    done = Engine().try_docker("version", "--format", "{{.Server.Version}}")
    assert done.returncode == 0, f"no container engine answers, and tests do not start one: {done.stderr.strip()}"


@pytest.fixture
def engine(engine_answers: None) -> Iterator[Engine]:
    """The engine; what the test made with its mark is removed at the end."""
    made = Engine()
    yield made
    made.clean()


@pytest.fixture(scope="session")
def images(engine_answers: None) -> Images:
    """Stand-ins for the official images, made once and kept by the engine."""
    return make_images()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean export of this checkout."""
    return export_checkout(tmp_path_factory.mktemp("checkout"))
