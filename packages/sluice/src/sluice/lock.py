"""One run per environment: a kernel lock, with a file beside it that says who, what and since when.

The kernel frees the lock when its holder dies, however it dies. The info file is for people: it is never trusted.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from sluice.model.errors import Locked, Refused


class Holder(msgspec.Struct, frozen=True):
    """Who holds the environment."""

    who: str
    what: str
    since: str
    pid: int
    run: str = ""


def read_holder(info: Path) -> Holder | None:
    """What the info file says, or None when it is not there or cannot be read."""
    try:
        return msgspec.json.decode(info.read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def is_held(lock: Path) -> bool:
    """Whether somebody holds the environment now."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


@contextmanager
def hold(lock: Path, info: Path, holder: Holder) -> Iterator[None]:
    """Hold the environment for the length of the block.

    Raises Locked when another run holds it, saying who, what and since when as far as the info file can be read, and
    Refused when the disk takes neither file.
    """
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritten(lock, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked(info) from None
        _write(info, holder)
        try:
            yield
        finally:
            # On a disk that only reads by now it stays; nobody believes it without the lock, and the run has ended.
            with suppress(OSError):
                info.unlink()
    finally:
        os.close(handle)


def _write(info: Path, holder: Holder) -> None:
    beside = info.with_name(f"{info.name}.{holder.pid}")
    try:
        beside.write_bytes(msgspec.json.encode(holder))
        beside.chmod(0o600)
        beside.replace(info)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _unwritten(info, error) from error


def _unwritten(path: Path, error: OSError) -> Refused:
    return Refused(
        f"{path} cannot be written: {error.strerror}.",
        world="Nothing was begun; what serves goes on serving.",
        next="make room on the disk of the state folder, or make it writable, then type the command again",
        file=str(path),
    )


def _locked(info: Path) -> Locked:
    other = read_holder(info)
    if other is None:
        return Locked(
            f"Another run holds this environment; {info.name} beside the lock does not say who.",
            next="wait for it to end, then type the command again (sluice status shows the run)",
        )
    return Locked(
        f"{other.who} holds this environment since {other.since}: {other.what} (process {other.pid}, run {other.run}).",
        next="wait for it to end, then type the command again (sluice status shows the run)",
        who=other.who,
        doing=other.what,
        since=other.since,
        pid=other.pid,
    )
