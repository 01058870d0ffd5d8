"""`sluice shims`: scripts with the runbook's names, for those whose fingers know them. Each only calls Sluice.

The table here is the one source: the scripts are written from it, and so is docs/reference/scripts.md.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from sluice.cli.commands import cli
from sluice.cli.session import Session
from sluice.hosts.state import write_file
from sluice.model.errors import ExitCode, Refused

DOCUMENTED = "docs/reference/scripts.md"
MARK = "# sluice-shim: "  # in a script's second line; a file without it is somebody's own and is left alone
COMMON = ("--env", "--service", "--json")


@dataclass(frozen=True)
class Script:
    """One script. With several `verbs` its first word chooses among them; with one it takes parameters only."""

    name: str
    does: str
    verbs: tuple[str, ...]  # commands of Sluice
    fixed: str = ""  # the only environment it is for
    everywhere: bool = False  # all environments when none is named


SCRIPTS = (
    Script("gitops-deploy.sh", "Judge a branch by the gates and roll it out, as one run.", ("rollout",)),
    Script(
        "release-command.sh",
        "Every command about a release.",
        (
            "rollout",
            "rollback",
            "plan",
            "sign-off",
            "approve",
            "promote",
            "status",
            "resume",
            "follow",
            "interrupt",
            "check",
            "lock",
            "unlock",
            "freeze",
            "log",
        ),
    ),
    Script("test-smoke.sh", "Smoke what serves in test, through its public URL.", ("smoke",), fixed="test"),
    Script(
        "server-quick-check.sh",
        "Look at the server: containers, logs, health, disk and clock.",
        ("quick-check",),
        everywhere=True,
    ),
)


@dataclass(frozen=True)
class Parameter:
    """One option of a verb."""

    name: str
    flag: bool
    required: bool
    help: str


def verbs_of(script: Script) -> dict[str, click.Command]:
    """The commands behind the verbs."""
    return {verb: cli.commands[verb] for verb in script.verbs}


def parameters_of(script: Script, command: click.Command) -> list[Parameter]:
    """What a verb takes in this script, common parameters first. One that takes any words is given the common ones."""
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    found = [
        Parameter(
            name=one.opts[0],
            flag=one.is_flag,
            required=one.required and not script.fixed,
            help=_told(script, one),
        )
        for one in options
    ]
    order = [name for name in COMMON if any(one.name == name for one in found)]
    if not found:
        return [
            Parameter("--env", False, True, "The environment."),
            Parameter("--service", False, False, "The service."),
        ]
    return sorted(found, key=lambda one: order.index(one.name) if one.name in order else len(order))


def _told(script: Script, option: click.Option) -> str:
    if option.opts[0] == "--env" and script.fixed:
        return f"{script.fixed}, and nothing else."
    return option.help or ""


def usage_of(script: Script) -> str:
    """What the script prints for --help."""
    lines = [f"{script.name}: {script.does}", ""]
    many = len(script.verbs) > 1
    for verb, command in verbs_of(script).items():
        words = [_usage_word(one) for one in parameters_of(script, command)]
        lines.append(" ".join([f"  {script.name}", *([verb] if many else []), *words]))
    return "\n".join([*lines, "", f"Each parameter is told in {DOCUMENTED}; exit codes are those of sluice."])


def _usage_word(parameter: Parameter) -> str:
    text = parameter.name if parameter.flag else f"{parameter.name} {parameter.name[2:].upper()}"
    return text if parameter.required else f"[{text}]"


def render(script: Script, program: Path, settings: Mapping[str, str]) -> str:
    """The script, for POSIX sh."""
    quoted = shlex.quote(str(program))
    many = len(script.verbs) > 1
    lines = ["#!/bin/sh", f"{MARK}{script.name}", f"# {script.does}"]
    lines += ["# Written by `sluice shims install`: do not edit, install it again. It only calls Sluice."]
    lines += [f"# Its parameters are told in {DOCUMENTED} and by --help.", "set -eu", ""]
    for name, value in settings.items():
        lines += [f'[ -n "${{{name}:-}}" ] || {name}={shlex.quote(value)}', f"export {name}"]
    lines += ["", "usage() {", "  cat <<'END'", usage_of(script), "END", "}", ""]
    lines += ["wrong() {", f"  printf '%s\\n\\n' \"{script.name}: $1\" >&2", "  usage >&2"]
    lines += [f"  exit {int(ExitCode.USAGE)}", "}", ""]
    if many:
        lines += ['case "${1:-}" in']
        lines += ["  -h | --help) usage; exit 0 ;;", '  "") wrong "a command is missing" ;;']
        lines += [f"  {' | '.join(verbs_of(script))}) ;;", '  *) wrong "unknown command: $1" ;;', "esac"]
        lines += ["verb=$1", "shift"]
    else:
        lines += [f"verb={script.verbs[0]}"]
    lines += ["", *_judged(script), f'exec {quoted} "$verb" "$@"']
    return "\n".join(lines) + "\n"


def _judged(script: Script) -> list[str]:
    """Each word is judged here, so that a slip of the hand shows the script's own usage."""
    lines = ["environment=", 'for word in "$@"; do', '  case "$word" in -h | --help) usage; exit 0 ;; esac', "done"]
    lines += ["count=$#", 'while [ "$count" -gt 0 ]; do', '  case "$verb $1" in']
    flags, values = [], []
    for verb, command in verbs_of(script).items():
        names = parameters_of(script, command)
        flags += [f'"{verb} {one.name}"' for one in names if one.flag]
        values += [f'"{verb} {one.name}"' for one in names if not one.flag]
        subcommands = command.commands if isinstance(command, click.Group) else {}
        flags += [f'"{verb} {name}"' for name in subcommands]
    lines += [f"    {' | '.join(values)})", '      [ "$count" -ge 2 ] || wrong "$1 needs a value"']
    lines += ['      [ "$1" != --env ] || environment=$2', '      set -- "$@" "$1" "$2"', "      shift 2"]
    lines += ["      count=$((count - 2)) ;;"]
    lines += [f"    {' | '.join(flags)})", '      set -- "$@" "$1"', "      shift", "      count=$((count - 1)) ;;"]
    lines += ['    *) wrong "unknown parameter: $1" ;;', "  esac", "done"]
    if script.fixed:
        lines += ['case "$environment" in', f'  "") set -- --env {script.fixed} "$@" ;;', f"  {script.fixed}) ;;"]
        lines += [f'  *) wrong "this script is for {script.fixed} only" ;;', "esac"]
    elif not script.everywhere:
        lines += ['[ -n "$environment" ] || wrong "--env is missing"']
    return [*lines, ""]


# ---------------------------------------------------------------- the commands


@cli.group(short_help="Scripts with the runbook's names.")
def shims() -> None:
    """Scripts with the runbook's names: gitops-deploy.sh, release-command.sh, test-smoke.sh, server-quick-check.sh."""


@shims.command(short_help="Write the scripts into DIR.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--force", is_flag=True, help="Replace files of these names that somebody else wrote.")
@click.pass_obj
def install(session: Session, folder: Path, force: bool) -> int:
    """Write the scripts into DIR. They call this very sluice, with its state and host.toml; repeating it is fine."""
    wanted = _wanted(session)
    foreign = [name for name in wanted if _exists(folder / name) and not _is_ours(folder / name)]
    if foreign and not force:
        raise Refused(
            f"{folder} has {', '.join(foreign)}, which Sluice did not write.",
            next=f"move them away, or: sluice shims install {shlex.quote(str(folder))} --force",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder} cannot be made: {error.strerror}.", next="name a folder you may write to") from error
    for name, text in wanted.items():
        current = _is_current(folder / name, text)
        if not current:
            write_file(folder / name, text.encode(), 0o755)
        click.echo(f"{folder / name}: {'is current' if current else 'written'}")
    return 0


@shims.command(short_help="Say whether the scripts in DIR are current.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per script.")
@click.pass_obj
def check(session: Session, folder: Path, as_json: bool) -> int:
    """Say whether the scripts in DIR are those this sluice would write; exit code 1 when one is not."""
    session.json = as_json
    states = {name: _state(folder / name, text) for name, text in _wanted(session).items()}
    for name, state in states.items():
        told = msgspec.json.encode({"event": "shim", "path": str(folder / name), "state": state}).decode()
        click.echo(told if as_json else f"{folder / name}: {state}")
    return 0 if set(states.values()) == {"current"} else int(ExitCode.REFUSED)


def _state(path: Path, text: str) -> str:
    if not _exists(path):
        return "missing"
    if not _is_ours(path):
        return "not written by Sluice"
    return "current" if _is_current(path, text) else "stale"


def _wanted(session: Session) -> dict[str, str]:
    settings = {}
    state = os.environ.get("SLUICE_STATE")
    host = session.host_config or os.environ.get("SLUICE_HOST_CONFIG")
    for name, value in (("SLUICE_STATE", state), ("SLUICE_HOST_CONFIG", host)):
        if value:
            settings[name] = str(Path(value).absolute())
    program = _program()
    return {script.name: render(script, program, settings) for script in SCRIPTS}


def _program() -> Path:
    """The program beside the interpreter that runs us. Raises Refused."""
    found = Path(sys.executable).with_name("sluice")
    if not os.access(found, os.X_OK):
        raise Refused(f"there is no program {found} that the scripts could call.", next="install Sluice as a package")
    return found


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(200).split(b"\n")
    except OSError:
        return False
    return not path.is_symlink() and len(head) > 1 and head[1] == f"{MARK}{path.name}".encode()


def _is_current(path: Path, text: str) -> bool:
    try:
        return not path.is_symlink() and path.read_text() == text and os.access(path, os.X_OK)
    except (OSError, UnicodeDecodeError):
        return False
