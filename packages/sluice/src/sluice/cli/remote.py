"""`sluice --host ssh://…`: every command is done by the Sluice on that server and shown here.

There is one code path, one state and one lock, those of the server. A run goes on there whatever becomes of the
connection: this side comes back to it and goes on showing where it was.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any

import click
import msgspec

from sluice.cli.junit import Suite, write_junit
from sluice.cli.outlet import console
from sluice.cli.remote_run import Asked, RemoteRun, error_text, no_sluice, unreachable
from sluice.cli.remote_sign import ROLES, Wanted, sign_there
from sluice.cli.session import Session
from sluice.cli.tables import findings_table, log_table, print_record, status_text
from sluice.hosts.ssh import CONNECTION_FAILED, NOT_FOUND, Server
from sluice.model.errors import UsageError
from sluice.model.verdict import Finding

JUNIT = "--junit"
Objects = list[dict[str, Any]]


class How(Enum):
    """What is done with a command's output."""

    RUN = auto()  # a run: followed to its end, through lost connections
    SHOW = auto()  # JSON from there, tables from here
    TEXT = auto()  # passed through as it comes


# Whatever is not named here is passed through as text: no command is ever done on this machine instead.
HOW = {
    "rollout": How.RUN,
    "rollback": How.RUN,
    "resume": How.RUN,
    "promote": How.RUN,
    "follow": How.RUN,
    "status": How.SHOW,
    "check": How.SHOW,
    "smoke": How.SHOW,
    "quick-check": How.SHOW,
    "log": How.SHOW,
}


class Elsewhere(click.Group):
    """A group whose commands are done on another server when the session names one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if ctx.params.get("server") and name is not None and command is not None:
            return name, _There(name, command), rest
        return name, command, rest


class _There(click.Command):
    """Stands in for a command: takes its words as they are, judges them by it, and sends them over."""

    def __init__(self, name: str, stands_for: click.Command) -> None:
        super().__init__(name, add_help_option=False)
        self._stands_for = stands_for

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Mistakes in the words, and --help, are answered here and now."""
        path, command, words = [self.name or ""], self._stands_for, list(args)
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words[0]]
            path.append(words.pop(0))
        judged = command.make_context(" ".join(path), list(words), parent=parent)
        made = super().make_context(info_name, [], parent=parent, **extra)
        names = ("environment", "service", "as_json", "run", "recording", "key", "item", "yes", "junit")
        chosen = {name: judged.params.get(name) for name in names}
        made.params |= {"path": tuple(path), "words": _without(JUNIT, words), **chosen}
        return made

    def invoke(self, ctx: click.Context) -> int:
        session: Session = ctx.obj
        if session.server is None:
            raise LookupError("no server")
        given = ctx.params
        if given["recording"]:
            raise UsageError("--record runs where the clone is, not on a server.", next="the same without --host")
        session.json = bool(given["as_json"])
        asked = Asked(
            given["path"],
            given["words"],
            given["environment"] or "",
            given["service"] or "",
            session.json,
            ("--host-config", str(session.host_config)) if session.host_config else (),
        )
        role = ROLES.get(" ".join(asked.path))
        if role is not None and given["key"]:
            wanted = Wanted(role, asked.service, asked.environment, given["item"] or "")
            how = {"yes": bool(given["yes"]), "quiet": session.json}
            done = sign_there(session.server, asked.command(), given["key"], wanted, **how)
            return _exit_code(session.server, done, "Whether it was handed in there is not known.")
        return _do(session.server, asked, given["run"] or "", given["junit"])


def _without(option: str, words: Sequence[str]) -> tuple[str, ...]:
    """The words without an option and its value: the file is one of this machine, not of the server."""
    kept, skip = [], False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = not skip and word == option
    return tuple(kept)


def _do(server: Server, asked: Asked, run: str, junit: Path | None) -> int:
    how = HOW.get(" ".join(asked.path), How.TEXT)
    if how is How.RUN:
        return RemoteRun(server, asked).to_end()
    if how is How.TEXT or (asked.as_json and junit is None):
        unknown = "Whether the command was done there is not known."
        return _exit_code(server, subprocess.run(server.argv(asked.command()), check=False), unknown)
    words = asked.command() if asked.as_json else (*asked.command(), "--json")
    done = subprocess.run(server.argv(words), stdout=subprocess.PIPE, check=False)
    code = _exit_code(server, done, "Nothing was changed.")
    lines, objects = _objects(done.stdout)
    if asked.as_json:
        click.echo(done.stdout, nl=False)
    else:
        _show_all(asked, lines, objects, server, code, in_full=bool(run))
    if not any(one.get("event") == "error" for one in objects):
        command, groups = asked.path[0], _groups(objects).items()
        doubtful = command == "quick-check"
        write_junit(junit, [Suite(f"{command} {about}".strip(), told, doubtful) for about, told in groups])
    return code


def _show_all(asked: Asked, lines: list[str], objects: Objects, server: Server, code: int, *, in_full: bool) -> None:
    for line in lines:
        click.echo(line)
    errors = [one for one in objects if one.get("event") == "error"]
    for error in errors:
        click.echo(error_text(error), err=True)
    for note in (one for one in objects if one.get("event") == "note"):
        click.echo(note["text"])
    if not errors:
        _show(asked.path[0], objects, server, code, in_full=in_full)


def _exit_code(server: Server, done: subprocess.CompletedProcess[bytes], world: str) -> int:
    """The remote command's. Raises UsageError where there was none."""
    if done.returncode == CONNECTION_FAILED or done.returncode < 0:
        raise unreachable(server, world)
    if done.returncode in NOT_FOUND:
        raise no_sluice(server)
    return done.returncode


def _objects(output: bytes) -> tuple[list[str], Objects]:
    """The lines that are no JSON objects, and those that are."""
    lines: list[str] = []
    objects: Objects = []
    for line in output.splitlines():
        try:
            objects.append(msgspec.json.decode(line, type=dict[str, Any]))
        except msgspec.DecodeError:
            lines.append(line.decode(errors="replace"))
    return lines, objects


def _groups(objects: Objects) -> dict[str, list[Finding]]:
    """The findings, by what they are about."""
    groups: dict[str, list[Finding]] = {}
    for one in objects:
        if one.get("event") == "finding":
            about = " ".join(one[key] for key in ("service", "environment") if one.get(key))
            groups.setdefault(about, []).append(msgspec.convert(one["finding"], Finding))
    return groups


def _show(command: str, objects: Objects, server: Server, code: int, *, in_full: bool) -> None:
    """The tables the command itself would have printed there."""
    groups = _groups(objects)
    for about, findings in groups.items():
        console().print(findings_table(f"{command} {about}".rstrip() + f" at {server}", findings))
    if groups or command not in {"log", "status"}:
        click.echo(f"{command} at {server}: {'good' if code == 0 else f'not good (exit {code})'}")
    elif command == "log" and in_full:
        for one in objects:
            print_record(console(), one)
    elif command == "log":
        out = console()
        out.print(log_table(objects, out.width))
    else:
        for one in objects:
            click.echo(status_text(one))
