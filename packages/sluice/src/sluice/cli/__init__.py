"""The command line: the commands of docs/reference/sluice.md, and how a run looks while it goes on."""

from sluice.cli.main import command, main

__all__ = ["command", "main"]
