"""What the supervisor keeps alive, and the table that lets a new supervisor take over from a dead one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sluice.hosts.state import write_file
from sluice.hosts.system import process_start, session_members
from sluice.model.errors import Refused, StateCorrupted
from sluice.runner import minimal_environment
from sluice.runtimes.launch import launch_argv

FIRST_BACKOFF_S = 1.0  # long enough that whoever waits for readiness sees the death
MAX_BACKOFF_S = 30.0  # a service that cannot start costs two starts a minute, not a core
STEADY_S = 60.0  # alive this long: the next crash is a new story and starts from the first backoff
KILL_WAIT_S = 5.0  # SIGKILL takes milliseconds unless the kernel itself is stuck
MAX_LOG = 8 * 1024 * 1024  # with the one old copy and an earlier life's: 24 MiB a unit
BEFORE = ".before"  # behind the name of a log: that of an earlier life


# Without what is default: a supervisor that was started by an older Sluice knows nothing of newer fields.
class UnitSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to run a unit. Holds no secret: those are read from `env_file` by the launcher alone."""

    argv: tuple[str, ...]
    log: str
    settings: dict[str, str] = {}
    env_file: str = ""
    sources: str = ""  # where the other secrets are (sluice.hosts.sources.Sources, as JSON); no value
    run_as: str = ""
    directory: str = "/"


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """One unit in the table. (pid, started) names one process for good, also after the pid is used again."""

    spec: UnitSpec
    wanted: bool = True
    pid: int = 0
    started: str = ""
    restarts: int = 0
    exit_code: int | None = None


class Table:
    """The rows on disk. Written before a process is let go, so that every living service is known."""

    def __init__(self, path: Path) -> None:
        """Read it. Raises StateCorrupted when it is damaged; nothing is overwritten then."""
        self._path = path
        try:
            self.rows = msgspec.json.decode(path.read_bytes(), type=dict[str, Row])
        except FileNotFoundError:
            self.rows = {}
        except msgspec.DecodeError as error:
            raise StateCorrupted(
                f"the supervisor's table {path} is damaged: {error}.",
                world="The services that run go on running, and are not watched.",
                next="end the services by hand, remove the file and roll out again",
                file=str(path),
            ) from error

    def save(self) -> None:
        """Raises Refused when the disk does not take it."""
        write_file(self._path, msgspec.json.encode(self.rows))


class Unit:
    """One service: started, watched by its pidfd, restarted with backoff, stopped with its whole session."""

    def __init__(self, name: str, row: Row, save: Callable[[], None], say: Callable[[str], None]) -> None:
        """Nothing runs yet: call `adopt` or `start`."""
        self.name = name
        self.row = row
        self._save = save
        self._say = say
        self._child: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._begun = 0.0
        self._backoff = FIRST_BACKOFF_S
        self._retry: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._gone.set()

    @property
    def running(self) -> bool:
        """Whether its process lives now."""
        return not self._gone.is_set() and process_start(self.row.pid) == self.row.started

    def adopt(self, *, respawn: bool) -> None:
        """Take over what a dead supervisor left: watch the living process, start again what should run and does not."""
        if self.row.pid and process_start(self.row.pid) == self.row.started:
            self._say(f"{self.name}: adopted pid {self.row.pid}")
            self._watch()
        elif self.row.wanted and respawn:
            self._died(None)

    def start(self) -> None:
        """Start it now, with a log that begins here. Raises Refused when it cannot be written down; nothing runs then.

        What an earlier life under the same name wrote is set aside: a release that is gone back to is not judged by
        it. A restart after a crash goes on in the same log.
        """
        self._cancel_retry()
        self.row.wanted, self.row.restarts, self.row.exit_code = True, 0, None
        self._backoff = FIRST_BACKOFF_S
        try:
            self._set_log_aside()
            self._spawn()
        except Refused:
            self.row.wanted = False
            raise

    async def stop(self, grace_s: float) -> None:
        """SIGTERM to its group, SIGKILL to its whole session after the grace. Returns when nothing of it lives."""
        self._cancel_retry()
        self.row.wanted = False
        self._save()
        if not self._gone.is_set():
            self._kill_group(signal.SIGTERM)
            if not await self._ended(grace_s):
                self._say(f"{self.name}: did not end within {grace_s:g} s; killed")
                self._kill_session()
                await self._ended(KILL_WAIT_S)

    def send(self, number: signal.Signals) -> bool:
        """To the leader alone. False when it does not run."""
        if self._pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def rotate(self) -> None:
        """Keep the log bounded. The service holds the file open, so it is copied and cut, not renamed."""
        log = Path(self.row.spec.log)
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size > MAX_LOG:
                write_file(log.with_name(f"{log.name}.1"), log.read_bytes()[-MAX_LOG:])
                os.truncate(log, 0)

    async def _ended(self, timeout_s: float) -> bool:
        try:
            await asyncio.wait_for(self._gone.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def _set_log_aside(self) -> None:
        log = Path(self.row.spec.log)
        try:
            if log.exists() and log.stat().st_size:
                log.replace(log.with_name(f"{log.name}{BEFORE}"))
                log.with_name(f"{log.name}.1").unlink(missing_ok=True)  # it would say that the new one was cut
        except OSError as error:
            raise Refused(f"the log {log} of unit {self.name} cannot be set aside: {error.strerror}.") from error

    def _spawn(self) -> None:
        spec = self.row.spec
        wait_end, go_end = os.pipe()
        try:
            log = os.open(spec.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                argv = launch_argv(
                    spec.argv,
                    env_file=spec.env_file,
                    sources=spec.sources,
                    run_as=spec.run_as,
                    directory=spec.directory,
                    go_fd=wait_end,
                    settings=spec.settings,
                )
                self._child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(wait_end,),
                    env=minimal_environment(),
                )
            finally:
                os.close(log)
            self.row.pid, self.row.started = self._child.pid, process_start(self._child.pid) or ""
            self._watch()
            self._save()
            os.write(go_end, b"g")
        except OSError as error:
            raise Refused(f"unit {self.name} cannot be started: {error.strerror}.") from error
        finally:
            # Closed without a byte written, it ends the waiting launcher.
            os.close(wait_end)
            os.close(go_end)

    def _watch(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self.row.pid)
        except ProcessLookupError:  # it ended between the look and the call
            self._died(None)
            return
        self._begun = time.monotonic()
        self._gone.clear()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_death)

    def _on_death(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        # Before it is reaped: until then its pid, and so the session's number, cannot be given to anybody else.
        self._kill_session()
        code = self._child.wait(timeout=KILL_WAIT_S) if self._child is not None else None
        self._child = None
        self._died(code)

    def _died(self, code: int | None) -> None:
        self.row.exit_code, self.row.pid, self.row.started = code, 0, ""
        self._gone.set()
        if self.row.wanted:
            if time.monotonic() - self._begun > STEADY_S:
                self._backoff = FIRST_BACKOFF_S
            self.row.restarts += 1
            self._say(f"{self.name}: ended with {code}; start {self.row.restarts} follows in {self._backoff:g} s")
            self._retry = asyncio.get_running_loop().call_later(self._backoff, self._again)
            self._backoff = min(self._backoff * 2, MAX_BACKOFF_S)
        self._save_or_say()

    def _again(self) -> None:
        self._retry = None
        try:
            self._spawn()
        except Refused as error:
            self._say(f"{self.name}: {error}")
            if self._gone.is_set():
                self._retry = asyncio.get_running_loop().call_later(self._backoff, self._again)

    def _save_or_say(self) -> None:
        # A full disk must not take the watching down; the row is written with the next change.
        try:
            self._save()
        except Refused as error:
            self._say(str(error))

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _kill_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.row.pid, number)

    def _kill_session(self) -> None:
        if self.row.pid:
            for pid in session_members(self.row.pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
