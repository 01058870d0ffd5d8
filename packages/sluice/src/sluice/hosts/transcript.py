"""What a run said, kept beside its journal, so that it can be read again and followed from anywhere.

JSON lines, one per report, numbered without a gap; the first tells which process runs, the last is `ended`. The file is
for people: nothing is ever decided from it. What a run must know of itself is in its journal.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sluice.disk import write_all
from sluice.hosts.system import process_start

SUFFIX = ".jsonl"
KEPT = 50  # runs: weeks of them, and at most KEPT * MAX_BYTES on the disk
MAX_BYTES = 4 << 20  # a long rollout says some 100 KiB; a build that talks without end is cut
# What is written after the cut too: how the run ended is the last thing to be lost.
ALWAYS = frozenset({"step", "result", "error", "ended"})
CUT = f"cut here: this run said more than {MAX_BYTES >> 20} MiB; only its steps and its end follow"


class Process(msgspec.Struct, frozen=True):
    """One process for good: the number alone is given away again, and begins anew with the machine."""

    pid: int
    start: str
    boot: str

    @property
    def alive(self) -> bool:
        """Whether it lives now."""
        return self.boot == _boot() and process_start(self.pid) == self.start


def this_process() -> Process:
    """The process that asks."""
    return Process(os.getpid(), process_start(os.getpid()) or "", _boot())


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Transcript:
    """Writes one run's file, 0600. Removes the oldest files beside it when it begins.

    Raises OSError when the disk does not take it; whoever runs goes on without.
    """

    def __init__(self, folder: Path, run: str) -> None:
        """Begin the file of a run that has none yet."""
        folder.mkdir(mode=0o700, exist_ok=True)
        for old in runs_in(folder)[: -(KEPT - 1)]:
            path_of(folder, old).unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(path_of(folder, run), flags, 0o600)
        self._size = 0
        self._cut = False

    def write(self, event: str, line: bytes, said_cut: bytes) -> None:
        """Append one line; what goes over the bound is left out, and `said_cut` is written once in its place."""
        if self._size + len(line) > MAX_BYTES and event not in ALWAYS:
            if self._cut:
                return
            self._cut, line = True, said_cut
        self._size += len(line) + 1
        write_all(self._file, line + b"\n")

    def close(self) -> None:
        """No more comes."""
        os.close(self._file)


def path_of(folder: Path, run: str) -> Path:
    """Where the file of a run lies."""
    return folder / f"{run}{SUFFIX}"


def runs_in(folder: Path) -> list[str]:
    """The runs whose files are here, oldest first: their names are ordered by time."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))


class Reader:
    """The whole lines of a transcript, as they come."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError."""
        self._file = path.open("rb")
        self._rest = b""

    def lines(self) -> Iterator[bytes]:
        """Those that are there and were not given yet."""
        while chunk := self._file.read(1 << 16):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            yield from whole

    def close(self) -> None:
        """Nothing more is read."""
        self._file.close()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """A reader that is closed after."""
    reader = Reader(path)
    try:
        yield reader
    finally:
        reader.close()
