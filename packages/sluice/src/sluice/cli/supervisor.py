"""The host's supervisor: what it keeps running for the runtime `process`, and how to end all of it."""

from __future__ import annotations

import os

import click

from sluice.cli.commands import cli
from sluice.cli.session import Session
from sluice.hosts.state import default_root
from sluice.model.errors import ExitCode
from sluice.runtimes.client import SupervisorClient


@cli.group(short_help="What keeps plain processes and their ingress running.")
def supervisor() -> None:
    """What keeps plain processes and their ingress running on this host."""


@supervisor.command("stop", short_help="End every service, every ingress and itself.")
@click.option("--yes", is_flag=True, help="Really: users of every environment are cut off.")
@click.pass_obj
def stop_all(session: Session, yes: bool) -> int:  # noqa: ARG001 - the group's shape
    """End every service, every ingress and the supervisor itself; the next rollout starts it again."""
    client = SupervisorClient(default_root(os.environ) / "supervisor")
    if not yes:
        running = sorted(name for name, unit in client.status().items() if unit.running)
        click.echo(f"Would end: {', '.join(running) or 'nothing'}. Repeat it with --yes.")
        return int(ExitCode.REFUSED) if running else 0
    client.shutdown()
    click.echo("Nothing of the runtime `process` runs any more.")
    return 0
