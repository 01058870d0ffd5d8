"""Signing here what is approved there: the key never leaves this machine, and the text is read before it is signed."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click

from sluice.hosts.signing import sign
from sluice.hosts.ssh import Server
from sluice.model.policy import Role
from sluice.model.secret import Redactor
from sluice.runner import LocalRunner

ROLES = {"approve": Role.APPROVE, "sign-off": Role.CHECKLIST}  # the commands that take a signature in


def sign_there(server: Server, command: Sequence[str], key: Path, role: Role) -> subprocess.CompletedProcess[bytes]:
    """Ask the server for the text, sign it here, hand it in there. What ended, of the two, that was not good, or last.

    Raises Refused when the key does not sign.
    """
    words = without_key(command)
    shown = subprocess.run(server.argv((*words, "--print")), stdout=subprocess.PIPE, check=False)
    if shown.returncode:
        return shown
    text = shown.stdout.decode()
    click.echo(text, nl=False)
    signature = asyncio.run(sign(LocalRunner(Redactor()), text.encode(), key.expanduser(), role))
    return subprocess.run(server.argv((*words, "--signed", "-")), input=(text + signature).encode(), check=False)


def without_key(command: Sequence[str]) -> list[str]:
    """The command's words without --key and its value."""
    words = list(command)
    while (at := next((n for n, word in enumerate(words) if word == "--key" or word.startswith("--key=")), -1)) >= 0:
        del words[at : at + (1 if "=" in words[at] else 2)]
    return words
