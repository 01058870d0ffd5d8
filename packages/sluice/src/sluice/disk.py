"""How bytes get onto a disk and stay there: whole or not at all, through a kill and through a power cut.

Everything here raises the OSError as the system gave it. What it means, and what to do about it, the caller says.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def write_all(handle: int, data: bytes) -> None:
    """Every byte: the kernel may take fewer at a time, most of all on a disk that is nearly full."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def sync_directory(path: Path) -> None:
    """Make a file's creation or renaming in this directory survive a power cut."""
    with _opened(path, os.O_RDONLY | os.O_DIRECTORY) as handle:
        os.fsync(handle)


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file and sync it: all of `data` is there or none. A file that is missing is made, 0600."""
    created = not path.exists()
    with _opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as handle:
        size = os.fstat(handle).st_size
        try:
            write_all(handle, data)
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
    if created:
        sync_directory(path.parent)


def cut(path: Path, size: int) -> None:
    """Take away what stands after the first `size` bytes of a file, and sync it."""
    with _opened(path, os.O_WRONLY) as handle:
        os.ftruncate(handle, size)
        os.fsync(handle)


def create(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that is not there yet, and sync it. Its name stays once `sync_directory` was asked for."""
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode) as handle:
        os.fchmod(handle, mode)  # whatever the umask
        write_all(handle, content)
        os.fsync(handle)


def replace(path: Path, content: bytes, mode: int = 0o600, *, through: Path | None = None) -> None:
    """Replace a file: at any moment it holds the old content or the new one, never a part; only `mode` may read it.

    It is written in its own folder and renamed, or in `through`, a folder of the same file system, for a file whose own
    is watched. Nothing is left there when the disk does not take it.
    """
    # A name of its own for each: two may write the same file, and what a killed one left stands in nobody's way.
    beside = (through or path.parent) / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.new"
    try:
        create(beside, content, mode)
        beside.rename(path)
        sync_directory(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


@contextlib.contextmanager
def _opened(path: Path, flags: int, mode: int = 0o600) -> Iterator[int]:
    handle = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield handle
    finally:
        os.close(handle)
