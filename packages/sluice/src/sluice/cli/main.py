"""From arguments to an exit code: every error ends as one clear message, never as a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import click
import msgspec

import sluice.cli.checking
import sluice.cli.following
import sluice.cli.locking
import sluice.cli.log
import sluice.cli.promotion
import sluice.cli.quick
import sluice.cli.runbook
import sluice.cli.shims
import sluice.cli.supervisor  # noqa: F401 - each module adds its commands
from sluice.cli.commands import cli
from sluice.cli.session import ENVIRONMENT, Session
from sluice.journal import resume_of
from sluice.model.errors import ExitCode, SluiceError, UsageError
from sluice.model.text import plain


def command() -> NoReturn:
    """The program `sluice`: one command, then the end of this process with its exit code.

    The interpreter's own end would take apart, one by one, everything that was loaded: a tenth of a second in which
    somebody waits for nothing. What has to be ended or removed is when `main` returns; only the streams are left.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it is gone, or it was never there
            stream.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None, after_entry: Callable[[str], None] | None = None) -> int:
    """Run one command and return its exit code (sluice.md, "Verdicts and exit codes").

    `after_entry` is called with the name of each journal entry once it is on disk: drills end the process there.
    """
    session = Session(after_entry=after_entry)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _must_be_text(given)
        code = cli.main(
            args=given,
            prog_name="sluice",
            standalone_mode=False,
            obj=session,
        )
        return int(code or 0)
    except click.ClickException as error:
        return _usage(session, error)
    except (click.Abort, KeyboardInterrupt):
        return _say(session, "Interrupted", "Interrupted.", "Nothing was changed.", "", ExitCode.REFUSED)
    except SluiceError as error:
        return _say(session, error.code, error.what, error.world, error.next, error.exit_code)
    except BrokenPipeError:
        return int(ExitCode.REFUSED)
    except Exception as error:
        if session.debug:
            raise
        return _internal(session, error)


def _usage(session: Session, error: click.ClickException) -> int:
    """Next is the command's own help; where only the environment is missing, the command with one of this host's."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # a group alone: its help is the whole answer
        click.echo(error.format_message(), err=True)
        return int(ExitCode.USAGE)
    context: click.Context | None = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sluice"
    missing = error.param if isinstance(error, click.MissingParameter) else None
    known = session.environments() if missing is not None and missing.name == ENVIRONMENT else []
    next_ = f"{command} --env {known[0]} (here: {', '.join(known)})" if known else f"{command} --help"
    return _say(session, "Usage", error.format_message(), "Nothing was changed.", next_, ExitCode.USAGE)


def _must_be_text(arguments: Sequence[str]) -> None:
    """What a record or a journal says can be written as UTF-8, or nothing is begun with it. Raises UsageError."""
    for number, argument in enumerate(arguments, 1):
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise UsageError(f"argument {number} ({argument!a}) is no UTF-8 text.", next="type it in UTF-8")


def _internal(session: Session, error: Exception) -> int:
    what = f"Internal error: {type(error).__name__}: {session.redact(str(error))}"
    if session.journals is None:
        world = "Nothing was changed."
        return _say(session, "Internal", what, world, "the same command with --debug", ExitCode.REFUSED)
    world = f"The run may have stopped half-way; its journal is in {session.journals}."
    return _say(session, "Internal", what, world, resume_of(session.journals), ExitCode.ROLLBACK_FAILED)


def _say(session: Session, code: str, what: str, world: str, next_: str, exit_code: ExitCode) -> int:
    what, world, next_ = (plain(session.redact(text)) for text in (what, world, next_))
    if session.json:
        told = {"event": "error", "code": code, "what": what, "world": world, "next": next_, "exit_code": exit_code}
        click.echo(msgspec.json.encode(told))
    else:
        click.echo(f"{code}: {what}", err=True)
        click.echo(f"  {world}", err=True)
        if next_:
            click.echo(f"  Next: {next_}", err=True)
    return int(exit_code)
