"""Commands: the only place that starts a child of ours and waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice.model.release import Completed
from sluice.model.secret import RedactedLines, Redactor
from sluice.ports import Progress

MAX_OUTPUT = 1024 * 1024  # per stream; the end is kept, because that is where a failure explains itself
MAX_LINE = 64 * 1024  # a longer line is shown in pieces: no program may make us hold an endless one
CHUNK = 64 * 1024
REAP_S = 5  # after SIGKILL the kernel takes milliseconds; only a process stuck in the kernel takes longer


def minimal_environment() -> dict[str, str]:
    """What a command gets when nothing else is said: nothing of the user's session leaks into it."""
    path = os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class RawOutput:
    """Output nobody has redacted yet. For credentials alone: teach the redactor, then let go of it."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    ms: int
    cut: bool = False  # more came than the limit; the beginning is missing


class _Tail:
    """The end of a stream; its lines go on as they come."""

    def __init__(self, lines: RedactedLines | None, limit: int) -> None:
        self._kept = bytearray()
        self._limit = limit
        self.cut = False
        self._lines = lines

    def feed(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > 2 * self._limit:  # trimmed rarely: moving all that is kept per chunk would be quadratic
            del self._kept[: -self._limit]
            self.cut = True
        if self._lines is not None:
            self._lines.feed(chunk)

    def close(self) -> bytes:
        if self._lines is not None:
            self._lines.close()
        self.cut = self.cut or len(self._kept) > self._limit
        return bytes(self._kept[-self._limit :])


class LocalRunner:
    """ports.Runner on this machine."""

    def __init__(self, redactor: Redactor) -> None:
        """The redactor is shared: what it learns later is hidden from then on."""
        self.redactor = redactor

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        on_line: Progress | None = None,
    ) -> Completed:
        """See ports.Runner. A program that cannot be started at all gives exit code 127 and the reason on stderr."""
        raw = await self.run_raw(
            argv,
            timeout_s=timeout_s,
            cwd=cwd,
            environment=environment,
            stdin=stdin,
            on_line=on_line,
            limit=MAX_OUTPUT + self.redactor.reach,
        )
        stdout, stderr = (self.redactor.end(part, MAX_OUTPUT) for part in (raw.stdout, raw.stderr))
        shown = tuple(self.redactor(part) for part in argv)
        return Completed(shown, raw.exit_code, stdout, stderr, raw.ms, raw.timed_out)

    async def run_raw(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        on_line: Progress | None = None,
        limit: int = MAX_OUTPUT,
    ) -> RawOutput:
        """As `run`, and what comes back is not redacted: the caller answers for it. `limit` is in bytes per stream.

        Lines are redacted all the same.
        Cancellation kills the process group and waits for it.
        """
        begun = time.monotonic()
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=cwd,
                env=dict(environment) if environment is not None else minimal_environment(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                umask=0o022,  # what a build leaves must be readable by a run_as user; the folders around it are 0700
            )
        except OSError as error:
            return RawOutput(127, b"", f"{argv[0]}: {error.strerror}\n".encode(), timed_out=False, ms=0)
        out, err = (_Tail(self._lines(on_line), limit) for _ in range(2))
        timed_out = False
        try:
            async with asyncio.timeout(timeout_s):
                await _pump(process, stdin, out, err)
        except TimeoutError:
            timed_out = True
        finally:
            await _end_group(process)
        ms = int((time.monotonic() - begun) * 1000)
        code = process.returncode if process.returncode is not None else -signal.SIGKILL
        stdout, stderr = out.close(), err.close()
        return RawOutput(code, stdout, stderr, timed_out, ms, cut=out.cut)

    def _lines(self, on_line: Progress | None) -> RedactedLines | None:
        return RedactedLines(self.redactor, on_line, MAX_LINE) if on_line is not None else None


async def _pump(process: asyncio.subprocess.Process, stdin: bytes, out: _Tail, err: _Tail) -> None:
    async def drain(stream: asyncio.StreamReader | None, into: _Tail) -> None:
        while stream is not None and (chunk := await stream.read(CHUNK)):
            into.feed(chunk)

    async def feed() -> None:
        if process.stdin is None:
            return
        # A program that does not read its input is not at fault for that.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(stdin)
            await process.stdin.drain()
            process.stdin.close()

    readers = asyncio.gather(drain(process.stdout, out), drain(process.stderr, err), feed())
    try:
        await _exit_of(process.pid)
        # A background child that kept the pipe open must not hold us: the command itself has ended.
        _kill_group(process.pid)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(readers), REAP_S)
    finally:
        readers.cancel()
        await asyncio.gather(readers, return_exceptions=True)


async def _exit_of(pid: int) -> None:
    # Not process.wait(): that also waits for the pipes, which a background child may hold open for ever.
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:  # ended and reaped already
        return
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


async def _end_group(process: asyncio.subprocess.Process) -> None:
    # The group outlives its leader when the command left children behind; they go too.
    _kill_group(process.pid)
    with contextlib.suppress(TimeoutError):
        await asyncio.shield(asyncio.wait_for(process.wait(), REAP_S))
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()
