"""`sluice follow` and `sluice interrupt`: a run that goes on in another process, seen and stopped from here."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from sluice.cli.commands import cli, in_environment
from sluice.cli.outlet import console
from sluice.cli.render import screen
from sluice.cli.session import Session, own_version
from sluice.cli.tables import print_result
from sluice.config import Environment
from sluice.drive import Report, Result
from sluice.hosts.transcript import Process, Reader, path_of, reading, runs_in
from sluice.journal import read_all
from sluice.lock import Holder, is_held, read_holder
from sluice.model.errors import Refused, RunDied, UsageError

LOOK_S = 0.1  # fast enough to look live, and a thousandth of a core
APPEAR_S = 10.0  # from a run's announcement to its first word: the lock, and reading the journals


@cli.command(short_help="Show a run from its beginning until it ends.")
@click.option("--run", default="", help="That run; else the one that goes on, else the newest.")
@click.option("--after", default=0, type=click.IntRange(min=0), hidden=True, help="Begin after this report.")
@in_environment
def follow(session: Session, env: Environment, run: str, after: int) -> int:
    """Show a run from its beginning and go on until it ends; the exit code is the run's."""
    chosen = _chosen(env, run)
    if session.on_call:
        hello = Report("hello", env.clock.now(), chosen, text=own_version())
        click.echo(msgspec.json.encode(hello))
    results, code = [], 0
    with reading(path_of(env.paths.runs_dir, chosen)) as reader, screen(console(), as_json=session.json) as shown:
        for report in _reports(reader, env, chosen):
            if report.event == "result":
                results.append(msgspec.convert(report.data, Result))
            if report.event == "ended":
                code = int(report.data["exit_code"])
            if report.n == 0 or report.n > after:
                shown(report)
    if not session.json:
        for result in results:
            print_result(console(), result)
    return code


def _chosen(env: Environment, run: str) -> str:
    """The run to follow, once it has said its first word. Raises UsageError or Refused when there is none."""
    folder = env.paths.runs_dir
    if not run and is_held(env.paths.lock):
        holder = read_holder(env.paths.lock_info)
        run = holder.run if holder is not None else ""
    if not run:
        known = runs_in(folder)
        if not known:
            raise Refused("Nothing has run in this environment yet.", next=f"sluice status --env {env.name.value}")
        return known[-1]
    end = time.monotonic() + APPEAR_S
    while "/" in run or not _begun(path_of(folder, run)):
        if "/" in run or time.monotonic() > end:
            raise UsageError(
                f"no run {run!r} has said a word in this environment: it never began, or it is older than those kept.",
                next=f"sluice log --env {env.name.value}",
            )
        time.sleep(LOOK_S)
    return run


def _begun(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return b"\n" in path.read_bytes()
    return False


def _reports(reader: Reader, env: Environment, run: str) -> Iterator[Report]:
    """Every report, live. Raises RunDied when the process that makes them is gone and the last one did not come."""
    process, dead = None, False
    while True:
        for line in reader.lines():
            report = msgspec.json.decode(line, type=Report)
            if process is None:
                process = msgspec.convert(report.data, Process)
            yield report
            if report.event == "ended":
                return
        if dead:
            break
        # Its last words are read once more after it was seen dead.
        dead = process is None or not process.alive
        if not dead:
            time.sleep(LOOK_S)
    yield from _recovered(env, run)


def _recovered(env: Environment, run: str) -> Iterator[Report]:
    """How a run ended whose tool died: by another command's hand, or not yet."""
    record = next((one for one in read_all(env.paths.journal_dir, repair=False) if one.run == run), None)
    if record is None or not record.ended:
        raise RunDied(
            f"run {run} ended without a word: its tool died.",
            world="What it had begun is neither finished nor undone yet.",
            next=f"sluice resume --env {env.name.value}",
        )
    facts = record.entries[-1].facts
    text = f"the tool of this run died; another command brought it to its end: {facts['outcome']}"
    yield Report("note", env.clock.now(), run, text=text)
    yield Report("ended", env.clock.now(), run, data={"exit_code": facts["exit"]})


@cli.command(short_help="Ask the run that is under way to undo and end.")
@click.option("--run", default="", help="Only if it is that run.")
@in_environment
def interrupt(session: Session, env: Environment, run: str) -> int:
    """Ask the run that holds the environment to undo what it began and end, as Ctrl-C in its terminal does."""
    holder = _signal_holder(env, run)
    text = f"run {holder.run or holder.what} of {holder.who} was asked to end; what it began is undone first"
    if session.json:
        click.echo(msgspec.json.encode(Report("note", env.clock.now(), holder.run, text=session.redact(text))))
    else:
        click.echo(session.redact(text))
        click.echo(f"  Next: sluice follow --env {env.name.value}")
    return 0


def _signal_holder(env: Environment, run: str) -> Holder:
    """SIGINT to the process that holds the lock now, and to no other, whatever the file beside the lock says."""
    lock = env.paths.lock
    holder = read_holder(env.paths.lock_info) if is_held(lock) else None
    if holder is None or (run and holder.run != run):
        what = f"run {run} does not hold this environment." if run else "No run holds this environment."
        raise Refused(what, next=f"sluice status --env {env.name.value}")
    try:
        # A handle on the process: between the look and the signal its number cannot become another's.
        handle = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        raise _not_the_holder(env, holder) from None
    try:
        if not _has_open(holder.pid, lock) or not is_held(lock) or read_holder(env.paths.lock_info) != holder:
            raise _not_the_holder(env, holder)
        try:
            signal.pidfd_send_signal(handle, signal.SIGINT)
        except ProcessLookupError:
            raise _not_the_holder(env, holder) from None
        except PermissionError as error:
            raise Refused(
                f"run {holder.run} is another user's process ({holder.pid}).", next="interrupt it as that user"
            ) from error
    finally:
        os.close(handle)
    return holder


def _not_the_holder(env: Environment, holder: Holder) -> Refused:
    return Refused(
        f"process {holder.pid}, which {env.paths.lock_info.name} names, does not hold the lock (any more).",
        next=f"sluice status --env {env.name.value}",
    )


def _has_open(pid: int, lock: Path) -> bool:
    wanted = lock.stat()
    try:
        for name in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed while we looked, or no file at all
                found = name.stat()
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
    except (FileNotFoundError, PermissionError):
        return False
    return False
