"""Files on a disk that is slow, full or cut off."""

from __future__ import annotations

import os

import pytest

from sluice import disk


def full(*_: object) -> int:
    """What the kernel says on a full disk."""
    raise OSError(28, "No space left on device")


def test_a_kernel_that_takes_a_byte_at_a_time_gets_them_all(tmp_path, monkeypatch):
    """A short write is gone on with, whichever way the file is written."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:1]))
    disk.create(tmp_path / "created", b"created")
    disk.replace(tmp_path / "replaced", b"replaced")
    disk.append(tmp_path / "appended", b"appended")
    monkeypatch.undo()
    assert {path.name.encode() == path.read_bytes() for path in tmp_path.iterdir()} == {True}
    assert len(list(tmp_path.iterdir())) == 3


def test_what_could_not_be_synced_is_taken_back(tmp_path, monkeypatch):
    """Neither the old content nor the folder shows anything of what the disk did not take."""
    file = tmp_path / "f"
    disk.append(file, b"old")
    monkeypatch.setattr(os, "fsync", full)
    for change in (disk.append, disk.replace):
        with pytest.raises(OSError, match="No space left"):
            change(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_new_file_and_its_name_are_synced(tmp_path, monkeypatch):
    """A power cut after any of these leaves the file and the folder that names it."""
    synced: list[str] = []
    sync = os.fsync

    def seen(handle: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")).split(".")[0])  # noqa: PTH119, PTH115
        sync(handle)

    monkeypatch.setattr(os, "fsync", seen)
    disk.append(tmp_path / "appended", b"x")
    assert synced == ["appended", tmp_path.name]
    synced.clear()
    disk.append(tmp_path / "appended", b"x")
    assert synced == ["appended"]
    synced.clear()
    disk.replace(tmp_path / "replaced", b"x")
    assert synced == ["", tmp_path.name]


def test_a_file_goes_through_another_folder_into_a_watched_one(tmp_path, monkeypatch):
    """Who watches sees the whole file alone; a write that fails leaves nothing in either folder."""
    watched = tmp_path / "watched"
    watched.mkdir()
    seen: list[list[str]] = []
    sync = os.fsync

    def look(handle: int) -> None:
        seen.append([path.name for path in watched.iterdir()])
        sync(handle)

    monkeypatch.setattr(os, "fsync", look)
    disk.replace(watched / "f", b"x", through=tmp_path)
    assert seen == [[], ["f"]]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        disk.replace(watched / "f", b"y", through=tmp_path)
    assert (watched / "f").read_bytes() == b"x"
    assert list(tmp_path.iterdir()) == [watched]
