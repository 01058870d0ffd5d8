"""Talks to the host's supervisor, and starts it when it is not there. Plain blocking calls, each with a deadline."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sluice.model.errors import Refused
from sluice.runner import minimal_environment
from sluice.runtimes.units import UnitSpec

SOCKET = "socket"
LOG = "supervisor.log"
TABLE = "units.json"
START_S = 15  # an interpreter start, on a machine whose cores are all busy
ANSWER_S = 15  # beyond the grace the supervisor was asked to give
RETRY_S = 0.02  # between looks for the socket of a supervisor that another command is starting right now
MAX_ANSWER = 4 * 1024 * 1024  # hundreds of units


class UnitStatus(msgspec.Struct, frozen=True):
    """What the supervisor knows of a unit."""

    running: bool
    wanted: bool
    pid: int
    restarts: int
    exit_code: int | None


@contextlib.contextmanager
def short_path(folder: Path, name: str) -> Iterator[str]:
    """A path of a socket that is never too long: the kernel takes 108 bytes, and state folders can be deeper."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


class SupervisorClient:
    """One supervisor per folder. Raises Refused when it cannot be started or says no."""

    def __init__(self, folder: Path) -> None:
        """Touches nothing."""
        self._folder = folder

    def start(self, unit: str, spec: UnitSpec) -> None:
        """Run the unit, or leave it running when it runs with this very spec."""
        self._ask({"do": "start", "unit": unit, "spec": msgspec.to_builtins(spec)})

    def stop(self, unit: str, grace_s: float) -> None:
        """End the unit and everything of its session. Stopping what does not run is fine."""
        if self._knows_anything():
            self._ask({"do": "stop", "unit": unit, "grace_s": grace_s}, ANSWER_S + grace_s)

    def signal(self, unit: str, number: signal.Signals) -> bool:
        """Signal the unit's leader. False when it does not run."""
        return bool(self._knows_anything() and self._ask({"do": "signal", "unit": unit, "signal": number.name})["sent"])

    def status(self) -> dict[str, UnitStatus]:
        """Every unit. A dead supervisor is started for this, and with it whatever should run."""
        return (
            msgspec.convert(self._ask({"do": "status"})["units"], dict[str, UnitStatus])
            if self._knows_anything()
            else {}
        )

    def forget(self, unit: str) -> None:
        """Drop a unit that does not run from the table."""
        if self._knows_anything():
            self._ask({"do": "forget", "unit": unit})

    def shutdown(self, grace_s: float = 10) -> None:
        """End every unit, then the supervisor; units that a killed supervisor left behind too. Nothing there: fine."""
        if not self._knows_anything():
            return
        with contextlib.closing(self._connect(respawn=False)) as connection:
            # The kernel's word for who listens: (pid, uid, gid). Its pidfd turns readable when it has ended.
            pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            peer = os.pidfd_open(pid)
            try:
                self._exchange(connection, {"do": "shutdown", "grace_s": grace_s}, ANSWER_S + grace_s)
                select.select([peer], [], [], ANSWER_S)
            finally:
                os.close(peer)

    def _knows_anything(self) -> bool:
        return (self._folder / TABLE).exists()

    def _ask(self, request: dict[str, Any], timeout_s: float = ANSWER_S) -> dict[str, Any]:
        with contextlib.closing(self._connect(respawn=True)) as connection:
            return self._exchange(connection, request, timeout_s)

    def _exchange(self, connection: socket.socket, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        connection.settimeout(timeout_s)
        answer = bytearray()
        try:
            connection.sendall(msgspec.json.encode(request) + b"\n")
            while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                answer += chunk
            told: dict[str, Any] = msgspec.json.decode(bytes(answer))
        except (OSError, msgspec.DecodeError) as error:
            raise self._silent(f"did not answer `{request['do']}` ({error})") from error
        if not told.pop("ok"):
            raise Refused(str(told["error"]), next=f"look at {self._folder / LOG}")
        return told

    def _connect(self, *, respawn: bool) -> socket.socket:
        end = time.monotonic() + START_S
        started = False
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                with short_path(self._folder, SOCKET) as path:
                    connection.settimeout(ANSWER_S)
                    connection.connect(path)
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
            except OSError as error:
                connection.close()
                raise self._silent(f"cannot be reached: {error}") from error
            if time.monotonic() > end:
                raise self._silent(f"did not listen within {START_S} s")
            if not started:
                self._spawn(respawn=respawn)
                started = True
            else:
                time.sleep(RETRY_S)

    def _spawn(self, *, respawn: bool) -> None:
        # It daemonizes itself and this first process ends as soon as it listens, or because another one does already.
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-I", "-m", "sluice.runtimes.supervisor", str(self._folder)]
        try:
            done = subprocess.run(
                [*command, *([] if respawn else ["--idle"])],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=START_S,
                env=minimal_environment(),
                cwd="/",
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._silent(f"could not be started: {error}") from error
        if done.returncode:
            raise self._silent(f"could not be started: {done.stderr.decode(errors='replace').strip()[-500:]}")

    def _silent(self, found: str) -> Refused:
        return Refused(
            f"the supervisor in {self._folder} {found}.",
            world="The services that ran go on running.",
            next=f"look at {self._folder / LOG}",
        )
