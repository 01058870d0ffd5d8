"""Signing here what is approved there: the key never leaves this machine, and the text is read before it is signed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from sluice.hosts.signing import sign
from sluice.hosts.ssh import Server
from sluice.model.errors import Refused, UsageError
from sluice.model.policy import Role
from sluice.model.promotion import TITLES
from sluice.model.secret import Redactor
from sluice.runner import LocalRunner

ROLES = {"approve": Role.APPROVE, "sign-off": Role.CHECKLIST}  # the commands that take a signature in
MAX_TEXT = 128 * 1024  # a few dozen lines, of a policy's change up to 2,000 letters each


@dataclass(frozen=True)
class Wanted:
    """What somebody asked to sign. An empty service is the only one that the server has."""

    role: Role
    service: str
    environment: str
    item: str


def sign_there(
    server: Server, command: Sequence[str], key: Path, wanted: Wanted, *, yes: bool, quiet: bool
) -> subprocess.CompletedProcess[bytes]:
    """Ask the server for the text, sign it here, hand it in there. What ended, of the two, that was not good, or last.

    `quiet`: on stdout there will be nothing but what the server says last. Raises Refused when the text is not what was
    asked for, when nobody agrees to it, and when the key does not sign.
    """
    words = without_key(command)
    shown = subprocess.run(server.argv((*words, "--print")), stdout=subprocess.PIPE, check=False)
    if shown.returncode:
        return shown
    text = read_text(shown.stdout, wanted)
    click.echo(text, nl=False, err=quiet)
    must_agree(yes=yes, unasked=False)
    signature = asyncio.run(sign(LocalRunner(Redactor()), text.encode(), key.expanduser(), wanted.role))
    return subprocess.run(server.argv((*words, "--signed", "-")), input=(text + signature).encode(), check=False)


def read_text(printed: bytes, wanted: Wanted) -> str:
    """What a server printed, if it is a text of what was asked for, and shows all it says. Pure. Raises Refused.

    A signature holds for whatever was signed: a server that is asked about one service may print the text of another,
    and hide with the terminal's own controls which one that is.
    """
    text = printed[: MAX_TEXT + 1].decode(errors="replace")
    lines = text.split("\n")
    if len(printed) > MAX_TEXT or lines.pop() or not all(line.isprintable() and line for line in lines):
        raise _other("something that is no text of printable lines")
    head = {"service": wanted.service, "environment": wanted.environment}
    head |= {"item": wanted.item} if wanted.role is Role.CHECKLIST else {}
    if lines[:1] != [TITLES[wanted.role]]:
        raise _other(f"no {TITLES[wanted.role]!r}")
    for (name, value), line in zip(head.items(), [*lines[1:], *[""] * len(head)], strict=False):
        said, _, its = line.partition(": ")
        if said != name or (value and its != value):
            raise _other(f"{line!r} where '{name}: {value or '…'}' was asked for")
    return text


def must_agree(*, yes: bool, unasked: bool) -> None:
    """Ask on a terminal; elsewhere `yes` answers, or nobody needs to (`unasked`). Raises Refused, or UsageError."""
    if yes:
        return
    if sys.stdin.isatty():
        if not click.confirm("sign this?", err=True):
            raise Refused("not signed.", next="sluice plan --env prod")
    elif not unasked:
        raise UsageError(
            "a text from a server is signed once somebody read it, and there is no terminal to ask at.",
            next="--yes, where it was read before; or --print here, and --signed there",
        )


def without_key(command: Sequence[str]) -> list[str]:
    """The command's words without --key, its value, and --yes: both are for this side."""
    words = [word for word in command if word != "--yes"]
    while (at := next((n for n, word in enumerate(words) if word == "--key" or word.startswith("--key=")), -1)) >= 0:
        del words[at : at + (1 if "=" in words[at] else 2)]
    return words


def _other(found: str) -> Refused:
    return Refused(
        f"the server printed {found}.",
        world="Nothing was signed.",
        next="ask whoever runs that server; sluice plan --env prod shows what it would do",
    )
