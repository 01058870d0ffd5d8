"""A run on a server, followed from here: through lost connections, to its end or until one leaves it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from sluice.cli.outlet import console
from sluice.cli.render import Unbroken, screen
from sluice.cli.session import own_version
from sluice.cli.tables import print_result
from sluice.drive import Report, Result
from sluice.hosts.ssh import CONNECTION_FAILED, NOT_FOUND, Server
from sluice.model.errors import ConnectionLost, ExitCode, Refused, SluiceError, UsageError
from sluice.model.text import plain

RETURN_S = 60.0  # of tries to come back: a router restarts in less, and a person waits no longer
PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # between the first tries; the last one between all others
HELLO_S = 20.0  # for one try, from the first packet to Sluice's first word; no passphrase is typed then
ASK_S = 30.0  # for the second connection, which interrupts
ASK_TRIES = 5  # a run that was only just let go does not hold its environment yet
MAX_LINE = 16 << 20  # one report; the largest, a result with all its evidence, has some 100 KiB
STDERR_S = 1.0  # a ControlMaster that stays behind keeps the pipe open


@dataclass(frozen=True)
class Asked:
    """A command as it was typed."""

    path: tuple[str, ...]  # e.g. ("log", "verify")
    words: tuple[str, ...]  # what followed it
    environment: str = ""
    service: str = ""
    as_json: bool = False
    options: tuple[str, ...] = ()  # those that stand before the command

    def command(self, *, on_call: bool = False) -> tuple[str, ...]:
        """The words for the Sluice there."""
        call = ("--on-call",) if on_call else ()
        return (*self.options, *call, *self.path, *self.words)

    def about(self, verb: str, *words: str) -> tuple[str, ...]:
        """Another command about the same environment."""
        service = ("--service", self.service) if self.service else ()
        return (verb, "--env", self.environment, *service, *words)


class RemoteRun:
    """One mutating command, or `follow`."""

    def __init__(self, server: Server, asked: Asked) -> None:
        """Nothing is begun yet."""
        self._server, self._asked = server, asked
        self._follows = asked.path == ("follow",)
        self._run = ""  # known from the server's first word on
        self._went = False  # the server was told to go: from here on the run is its own
        self._seen = 0  # the number of the last report that was shown
        self._greeted = False  # on the present connection
        self._ended: int | None = None
        self._error: dict[str, Any] | None = None
        self._results: list[Result] = []
        self._asking: asyncio.Task[None] | None = None
        self._main: asyncio.Task[int] | None = None
        self._leaving = False

    def to_end(self) -> int:
        """Show it to its end and return its exit code.

        Raises UsageError when the server is not reached or has no Sluice (nothing was changed), ConnectionLost when
        it cannot be reached any more, or when one left.
        """
        out = console()
        with screen(out, as_json=self._asked.as_json) as shown:
            self._shown = Unbroken(shown)
            code = asyncio.run(self._to_end())
        if not self._asked.as_json:
            for result in self._results:
                print_result(out, result)
            if self._error is not None:
                click.echo(error_text(self._error), err=True)
            elif self._asked.path == ("resume",) and code == 0 and not self._results:
                click.echo("There is nothing to resume.")
        return code

    async def _to_end(self) -> int:
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._leave)
        try:
            code = self._judged(await self._connect((*self._asked.command(on_call=True), "--json"), None))
            while code is None:
                code = await self._come_back()
            return code
        except asyncio.CancelledError:
            if not self._leaving:
                raise
            raise self._left() from None
        finally:
            if self._asking is not None:
                self._asking.cancel()
                await asyncio.wait([self._asking])

    # ------------------------------------------------------------ connections

    async def _connect(self, words: Sequence[str], hello_within_s: float | None) -> int:
        """Run the command there and take in what it says. ssh's exit code, once it ended."""
        self._greeted, self._error = False, None
        process = await asyncio.create_subprocess_exec(
            *self._server.argv(words, interruptible=False),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
        )
        relay = asyncio.create_task(self._relay(process, shown=hello_within_s is None))
        try:
            async with asyncio.timeout(hello_within_s) as deadline:
                await self._read(process, deadline)
            return await process.wait()
        except TimeoutError:
            return CONNECTION_FAILED
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
            await asyncio.wait([relay], timeout=STDERR_S)
            relay.cancel()

    async def _read(self, process: asyncio.subprocess.Process, deadline: asyncio.Timeout) -> None:
        if process.stdout is None or process.stdin is None:
            raise LookupError("the process has no pipes")
        async for line in process.stdout:
            greeted = self._greeted
            self._take(line)
            if self._greeted and not greeted:
                deadline.reschedule(None)
                if not self._went and not self._follows:
                    self._went = True
                    process.stdin.write(b"go\n")

    async def _relay(self, process: asyncio.subprocess.Process, *, shown: bool) -> None:
        """Pass on ssh's own words, as they come. Those of a try to come back say nothing new."""
        if process.stderr is None:
            raise LookupError("the process has no pipes")
        async for line in process.stderr:
            if shown:
                click.echo(line.decode(errors="replace").rstrip("\r\n"), err=True)

    def _judged(self, ssh_code: int) -> int | None:
        """The exit code of it all; None when the connection broke and the run, as far as is known, goes on."""
        if self._ended is not None:
            return self._ended
        lost = ssh_code == CONNECTION_FAILED or ssh_code < 0
        if not self._run and lost:
            raise unreachable(self._server, "Nothing was changed.")
        if not self._run and ssh_code in NOT_FOUND:
            raise no_sluice(self._server)
        # Code 0 without the run's last word: it was lost on the way, and is asked for again.
        said_all = self._error is not None or ssh_code != 0 or not self._run
        return ssh_code if not lost and said_all else None

    async def _come_back(self) -> int | None:
        """Follow the run again, from where it was left. Raises ConnectionLost after a minute of tries."""
        self._note(f"the connection to {self._server} broke; the run goes on there. Coming back to it")
        loop = asyncio.get_running_loop()
        end = loop.time() + RETURN_S
        words = self._asked.about("follow", "--run", self._run, "--after", str(self._seen), "--json")
        for pause in itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1])):
            if loop.time() + pause > end:
                raise self._lost(f"{self._server} could not be reached again within {RETURN_S:g} s.")
            await asyncio.sleep(pause)
            code = await self._connect((*self._asked.options, "--on-call", *words), min(HELLO_S, end - loop.time()))
            if not self._greeted and (code == CONNECTION_FAILED or code < 0):
                continue
            if self._error is not None and self._error.get("code") == UsageError.code:
                raise ConnectionLost(
                    f"the connection to {self._server} broke, and run {self._run} never said a word there.",
                    world="It did not begin, or was refused at once.",
                    next=" ".join(("sluice", "--host", str(self._server), *self._asked.about("status"))),
                )
            return self._judged(code)
        raise LookupError("an endless iterator ended")

    # ------------------------------------------------------------ what is said

    def _take(self, line: bytes) -> None:
        try:
            said = msgspec.json.decode(line, type=dict[str, Any])
            if said.get("event") == "error":
                self._take_error(said)
                return
            report = msgspec.convert({"at": "", **said}, Report)
        except (msgspec.DecodeError, msgspec.ValidationError):
            # A login banner, or a newer Sluice's word: shown as it is.
            click.echo(line.decode(errors="replace").rstrip("\r\n"), err=self._asked.as_json)
            return
        if report.event == "hello":
            self._greet(report)
        elif not report.n or report.n > self._seen:
            self._seen = max(self._seen, report.n)
            self._take_new(report)

    def _greet(self, hello: Report) -> None:
        if self._run:
            self._note(f"back on {self._server}")
        elif hello.text != own_version():
            self._note(f"this Sluice is version {own_version()}, the server's is {hello.text}")
        self._greeted, self._run = True, hello.run

    def _take_new(self, report: Report) -> None:
        if report.event == "ended":
            self._ended = int(report.data.get("exit_code", ExitCode.ROLLBACK_FAILED))
            return
        if report.event == "result":
            self._results.append(msgspec.convert(report.data, Result))
        self._shown(report)

    def _take_error(self, error: dict[str, Any]) -> None:
        self._error = error
        if self._asked.as_json:
            click.echo(msgspec.json.encode(error))

    def _note(self, text: str) -> None:
        self._shown(Report("note", "", self._run, text=text))

    # ------------------------------------------------------------ leaving

    def _on_interrupt(self) -> None:
        """The first Ctrl-C stops the run, the second one leaves it; there is nothing to stop before it began."""
        if self._follows or not self._went or self._asking is not None:
            self._leave()
            return
        self._shown.interrupted()
        self._asking = asyncio.create_task(self._interrupt_there())

    def _leave(self) -> None:
        self._leaving = True
        if self._main is not None:
            self._main.cancel()

    async def _interrupt_there(self) -> None:
        """Ask over a second connection; the first one goes on showing."""
        words = (*self._asked.options, *self._asked.about("interrupt", "--run", self._run, "--json"))
        said = ""
        for _ in range(ASK_TRIES):
            process = await asyncio.create_subprocess_exec(
                *self._server.argv(words, interruptible=False),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                async with asyncio.timeout(ASK_S):
                    output, _ = await process.communicate()
            except TimeoutError:
                output = f"no answer within {ASK_S:g} s".encode()
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
            if process.returncode == 0:
                return
            said = deque(output.decode(errors="replace").splitlines() or [""], 1)[0]
            if process.returncode != ExitCode.REFUSED:
                break
            await asyncio.sleep(PAUSES_S[0])
        self._note(f"the run could not be asked to stop: {said}. Ctrl-C again leaves it to itself")

    def _left(self) -> SluiceError:
        if not self._went and not self._follows:
            return Refused("Interrupted before the run began.")
        return self._lost("You left.")

    def _lost(self, what: str) -> ConnectionLost:
        run = ("--run", self._run) if self._run else ()
        return ConnectionLost(
            what,
            world="The run goes on there." if self._asking is None else "The run was asked to stop and ends there.",
            next=" ".join(("sluice", "--host", str(self._server), *self._asked.about("follow", *run))),
        )


def unreachable(server: Server, world: str) -> UsageError:
    """For when ssh itself failed; it has said why."""
    return UsageError(
        f"{server} was not reached, or the connection broke: ssh says why above.",
        world=world,
        next="make a plain `ssh` to it work first; its host key, keys and jump hosts are your ssh configuration's",
    )


def no_sluice(server: Server) -> UsageError:
    """There is no such program on the server."""
    return UsageError(
        f"{server} was reached, but there is no `{server.program}` that can be run there.",
        next="install Sluice there, or say where it is: SLUICE_REMOTE_COMMAND=/path/to/sluice",
    )


def error_text(error: dict[str, Any]) -> str:
    """An error event as the server itself would have printed it."""
    lines = [f"{error.get('code')}: {error.get('what')}", f"  {error.get('world')}"]
    return "\n".join(map(plain, [*lines, f"  Next: {error['next']}"] if error.get("next") else lines))
