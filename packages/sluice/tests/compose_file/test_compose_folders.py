"""Folders that containers write to and git does not have: who makes them, and whose they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from sluice.runtimes.compose_binds import make_folders

FILE = """
services:
  api: {image: shop/api, volumes: ["./shown:/shown:ro"]}
  mailer: {image: shop/mailer, volumes: ["./uploads:/uploads"]}
  worker: {image: shop/worker, volumes: ["./uploads:/in"]}
"""


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_folder_that_is_made_belongs_to_sluice_and_its_writers_are_told_once(read, tmp_path: Path, umask):
    """Whatever the umask: everybody may read, its owner alone may write; a container of another user needs a chown."""
    known = read(FILE)
    place = msgspec.structs.replace(known.place, data=str(tmp_path / "data"))
    before = os.umask(umask)
    try:
        told = make_folders(known.plans, place)
    finally:
        os.umask(before)
    made = tmp_path / "data" / "binds" / "uploads"
    assert (made.stat().st_uid, stat.S_IMODE(made.stat().st_mode)) == (os.geteuid(), 0o755)
    assert (tmp_path / "data" / "binds" / "shown").is_dir()
    (sentence,) = told
    assert sentence.startswith(f"made {made} for mailer, worker; it belongs to {os.geteuid()}:{os.getegid()}")
    assert "chown" in sentence
    made.chmod(0o700)
    assert make_folders(known.plans, place) == []
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
