"""The machine itself: its clock, its ports, its processes (/proc)."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import socket
import time
from pathlib import Path

LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


class SystemClock:
    """ports.Clock over the real clock."""

    def now(self) -> str:
        """Wall time, ISO 8601 UTC with milliseconds."""
        return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def process_start(pid: int) -> str | None:
    """When the process began, in kernel ticks: with the pid, it names one process for good. None: it does not live.

    A zombie does not live: it runs nothing any more and only waits to be reaped.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def session_members(session: int) -> list[int]:
    """The living processes of a session (`setsid`), its leader included."""
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names alone, hundreds of them; Path objects cost more than the scan
        if entry.isdigit():
            fields = _stat(int(entry))
            if fields is not None and fields[0] not in "ZX" and fields[3] == str(session):
                found.append(int(entry))
    return found


def _stat(pid: int) -> list[str] | None:
    # The second field, the name, may hold spaces and brackets; everything after the last bracket is plain.
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now (bind test; connections in TIME_WAIT do not count)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def who_listens(port: int) -> str:
    """`pid 123 (nginx)` for the listener on a TCP port, or `another program` where /proc does not tell us."""
    inodes = _listening_inodes(port)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and inodes and _holds(entry, inodes):
            try:
                name = (entry / "comm").read_text().strip()
            except OSError:
                name = "?"
            return f"pid {entry.name} ({name})"
    return "another program"


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes


def _holds(process: Path, inodes: set[str]) -> bool:
    # Another user's process does not show its files: then we cannot name it, and say so.
    try:
        return any(_target(link) in inodes for link in (process / "fd").iterdir())
    except OSError:
        return False


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""  # closed since the folder was read; when we look at ourselves, the folder's own descriptor is one
