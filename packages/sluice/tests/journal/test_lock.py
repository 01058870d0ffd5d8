"""One run per environment, held by the kernel, explained by a file."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.lock import Holder, hold, is_held, read_holder
from sluice.model.errors import Locked, Refused

ANN = Holder("ann@host", "rollout feature/x", "2030-01-01T00:00:00Z", 1, "run-1")


def test_a_second_run_is_refused_with_who_what_and_since_when(tmp_path):
    """Whoever comes second learns whom to wait for, and exit code 6."""
    lock, info = tmp_path / "lock", tmp_path / "lock.json"
    with hold(lock, info, ANN), pytest.raises(Locked) as error, hold(lock, info, ANN):
        pass
    assert error.value.exit_code == 6
    for word in ("ann@host", "rollout feature/x", "2030-01-01T00:00:00Z", "run-1"):
        assert word in error.value.what


def test_a_disk_that_takes_no_file_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    """The info file cannot be written: refused in words, no lock stays held, no half file lies about."""
    lock, info = tmp_path / "lock", tmp_path / "lock.json"

    def full(_path, _content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(Refused, match="No space left"), hold(lock, info, ANN):
            pass
    with pytest.raises(Refused, match="No such file"), hold(tmp_path / "gone" / "lock", info, ANN):
        pass
    assert not is_held(lock)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_an_unreadable_info_file_blocks_nothing_but_is_said(tmp_path):
    """The file is for people: without it the lock still holds, and without the lock it means nothing."""
    lock, info = tmp_path / "lock", tmp_path / "lock.json"
    info.write_text("not json")
    with hold(lock, info, ANN):
        info.write_text("{")
        with pytest.raises(Locked, match="does not say who"), hold(lock, info, ANN):
            pass
    assert not is_held(lock)
    assert read_holder(info) is None


def test_a_disk_that_only_reads_at_the_end_keeps_the_note_and_takes_nothing_from_the_run(tmp_path, monkeypatch):
    """The file system was made read-only meanwhile, and what the run came to is told all the same."""
    lock, info = tmp_path / "lock", tmp_path / "lock.json"

    def read_only(_path, **_options):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", read_only)
        with hold(lock, info, ANN):
            pass
    assert read_holder(info) == ANN
    assert not is_held(lock)


def test_the_kernel_frees_the_lock_of_a_killed_holder(tmp_path):
    """A holder that dies without a word leaves its info file behind, but no lock."""
    lock, info = tmp_path / "lock", tmp_path / "lock.json"
    program = (
        "import os, signal, sys; from pathlib import Path; from sluice.lock import Holder, hold\n"
        "with hold(Path(sys.argv[1]), Path(sys.argv[2]), Holder('bob', 'rollout', 'then', os.getpid())):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(lock), str(info)], check=False, timeout=30)
    assert read_holder(info).who == "bob"
    assert not is_held(lock)
    with hold(lock, info, ANN):
        assert is_held(lock)
        assert read_holder(info) == ANN
    assert not info.exists()


def test_a_lock_that_never_was_is_not_held(tmp_path):
    """Asking about a fresh environment creates nothing."""
    assert not is_held(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []
