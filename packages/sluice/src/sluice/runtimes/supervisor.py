"""Keeps services and the ingress alive after the command that started them has ended: one process per host.

    python -m sluice.runtimes.supervisor FOLDER [--idle]

It listens on a private unix socket in FOLDER (0700), one JSON line in, one out. `flock` makes it the only one. It can
be killed at any moment: services are sessions of their own and run on, and the next supervisor takes them over by (pid,
start time) from the table, watches them by pidfd, and starts again what should run and does not. `--idle`: take over
only.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from sluice.model.errors import Refused, SluiceError
from sluice.runtimes.client import LOG, SOCKET, TABLE, SupervisorClient, UnitStatus, short_path
from sluice.runtimes.units import Row, Table, Unit, UnitSpec

__all__ = ["SupervisorClient"]

MAX_REQUEST = 1024 * 1024  # an argv list and settings; more is not one of ours
READ_S = 5  # our own client sends its line at once
BACKLOG = 64  # commands of one host asking at the same moment
LOG_CHECK_S = 5  # at 100 MB/s a log is bounded to its limit and half a gigabyte; real services write a thousandth
MAX_GRACE_S = 600


class Supervisor:
    """The units and the requests about them."""

    def __init__(self, folder: Path, log: Any) -> None:
        """Read the table. Raises StateCorrupted."""
        self._table = Table(folder / TABLE)
        self._log = log
        self._units: dict[str, Unit] = {}
        self._over = asyncio.Event()
        self._handlers = {
            "start": self._start,
            "stop": self._stop,
            "signal": self._signal,
            "status": self._status,
            "forget": self._forget,
            "shutdown": self._shutdown,
        }

    async def run(self, listener: socket.socket, *, respawn: bool) -> None:
        """Until `shutdown`."""
        self._table.save()
        for name, row in self._table.rows.items():
            self._units[name] = Unit(name, row, self._table.save, self._say)
            self._units[name].adopt(respawn=respawn)
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST, backlog=BACKLOG)
        rotation = asyncio.create_task(self._rotate())
        try:
            await self._over.wait()
        finally:
            rotation.cancel()
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any]
        try:
            line = await asyncio.wait_for(reader.readline(), READ_S)
            request: dict[str, Any] = msgspec.json.decode(line)
            answer = {"ok": True} | await self._handlers[request["do"]](request)
        except SluiceError as error:
            answer = {"ok": False, "error": error.what}
        except (TimeoutError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            # ValueError covers JSON and types; what a stranger to the protocol sends must not end the watching.
            self._say(f"bad request: {error!r}")
            answer = {"ok": False, "error": f"the supervisor did not understand the request: {error!r}"}
        with contextlib.suppress(ConnectionError):
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
        writer.close()

    async def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        spec = msgspec.convert(request["spec"], UnitSpec)
        name = str(request["unit"])
        unit = self._units.get(name)
        if unit is not None and unit.row.wanted and unit.row.spec == spec:
            if not unit.running:
                unit.start()  # it crashed and waits for its next try; who asks now does not wait for that
            return {"adopted": True}
        if unit is not None and unit.running:
            raise Refused(f"unit {name} runs already and is defined otherwise; it must be stopped first.")
        row = Row(spec)
        self._table.rows[name] = row
        self._units[name] = Unit(name, row, self._table.save, self._say)
        self._say(f"{name}: start")
        self._units[name].start()
        return {"adopted": False}

    async def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        unit = self._units.get(str(request["unit"]))
        if unit is not None:
            await unit.stop(min(float(request["grace_s"]), MAX_GRACE_S))
            self._say(f"{unit.name}: stopped")
        return {}

    async def _signal(self, request: dict[str, Any]) -> dict[str, Any]:
        unit = self._units.get(str(request["unit"]))
        return {"sent": unit is not None and unit.send(signal.Signals[request["signal"]])}

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - one shape for all handlers
        rows = {
            name: UnitStatus(unit.running, unit.row.wanted, unit.row.pid, unit.row.restarts, unit.row.exit_code)
            for name, unit in self._units.items()
        }
        return {"units": rows}

    async def _forget(self, request: dict[str, Any]) -> dict[str, Any]:
        name = str(request["unit"])
        unit = self._units.get(name)
        if unit is not None and (unit.running or unit.row.wanted):
            raise Refused(f"unit {name} is wanted; stop it first.")
        if unit is not None:
            del self._units[name], self._table.rows[name]
            self._table.save()
        return {}

    async def _shutdown(self, request: dict[str, Any]) -> dict[str, Any]:
        grace_s = min(float(request["grace_s"]), MAX_GRACE_S)
        await asyncio.gather(*(unit.stop(grace_s) for unit in self._units.values()))
        self._table.rows.clear()
        self._table.save()
        self._say("shut down")
        self._over.set()
        return {}

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            for unit in list(self._units.values()):
                try:
                    unit.rotate()
                except (OSError, Refused) as error:
                    self._say(f"{unit.name}: its log could not be rotated: {error}")

    def _say(self, line: str) -> None:
        # A full disk must not end the watching; the line is lost then, the service is not.
        with contextlib.suppress(OSError):
            self._log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")
            self._log.flush()


def _only_one(folder: Path) -> int | None:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _listen(folder: Path) -> socket.socket:
    (folder / SOCKET).unlink(missing_ok=True)  # we hold the lock, so it is a dead supervisor's
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        with short_path(folder, SOCKET) as path:
            listener.bind(path)
    finally:
        os.umask(previous)
    listener.listen(BACKLOG)
    return listener


def _daemonize(ready: int) -> bool:
    """Fork away from the command. True in the daemon; the first process waits for its word."""
    if os.fork():
        return False
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(ready, False)
    return True


def _serve(folder: Path, ready: int, *, respawn: bool) -> None:
    lock = _only_one(folder)
    if lock is None:
        os.write(ready, b"ok")
        return
    log_path = folder / LOG
    if log_path.exists() and log_path.stat().st_size > MAX_REQUEST:
        log_path.replace(folder / f"{LOG}.1")
    descriptor = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as log:

        async def run() -> None:
            supervisor = Supervisor(folder, log)
            listener = _listen(folder)
            os.write(ready, b"ok")
            await supervisor.run(listener, respawn=respawn)

        asyncio.run(run())
    (folder / SOCKET).unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Start the daemon; 0 when one listens. The reason goes to stderr otherwise."""
    folder, respawn = Path(arguments[0]), "--idle" not in arguments[1:]
    wait_end, ready = os.pipe()
    if not _daemonize(ready):
        os.close(ready)
        told = os.read(wait_end, 4096)
        if told == b"ok":
            return 0
        sys.stderr.write(told.decode(errors="replace") or "it ended without a reason")
        return 1
    os.close(wait_end)
    try:
        _serve(folder, ready, respawn=respawn)
    except (OSError, SluiceError) as error:
        with contextlib.suppress(OSError):
            os.write(ready, str(error).encode()[:4096])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
