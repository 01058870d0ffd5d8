"""Commands beside a run: lock, unlock and freeze an environment, and try the notifications."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import msgspec

from sluice.cli.commands import Record, cli, in_environment, write_record
from sluice.cli.outlet import console
from sluice.cli.session import Session, request_of
from sluice.cli.tables import record_table
from sluice.config import Environment
from sluice.drive import Drive
from sluice.hosts.notify import Notifier
from sluice.ledger import Ledger, frozen_by
from sluice.model.errors import ConfigError, ExitCode, UsageError
from sluice.model.secret import Redactor
from sluice.model.text import plain
from sluice.runner import LocalRunner


def _record(session: Session, env: Environment, write: Callable[[Drive], Awaitable[Record]]) -> int:
    return write_record(session, env, write, lambda record: console().print(record_table(record)))


@cli.command(short_help="Take no rollout until somebody unlocks.")
@click.option("--reason", required=True, help="Why; all that the next person will know. Recorded.")
@click.option("--owner", help="Who locks (else the SSH key's principal, or $USER@host).")
@in_environment
def lock(session: Session, env: Environment, reason: str, owner: str | None) -> int:
    """Take no rollout in an environment until somebody unlocks it. Rollback, resume and checks go on working."""
    return _record(session, env, lambda drive: drive.lock(request_of(owner), reason))


@cli.command()
@click.option("--reason", required=True, help="What was found, and why a rollout may follow now. Recorded.")
@click.option("--owner", help="Who unlocks (else the SSH key's principal, or $USER@host).")
@in_environment
def unlock(session: Session, env: Environment, reason: str, owner: str | None) -> int:
    """Take rollouts again."""
    return _record(session, env, lambda drive: drive.unlock(request_of(owner), reason))


@cli.command(short_help="Let no rollout or promotion in until a time.")
@click.option("--until", default="", help="When it ends: a day or a time, ISO 8601; UTC where it names no zone.")
@click.option("--lift", is_flag=True, help="End every freeze now.")
@click.option("--reason", default="", help="Why; it is what the gate says to whoever is refused. Recorded.")
@click.option("--owner", help="Who freezes (else the SSH key's principal, or $USER@host).")
@in_environment
def freeze(session: Session, env: Environment, until: str, lift: bool, reason: str, owner: str | None) -> int:
    """Let the gate `freeze` refuse rollouts and promotions until a time; alone, say what is frozen."""
    if until and lift:
        raise UsageError("freeze until a time, or lift it?", next="--until TIME --reason WHY; or --lift --reason WHY")
    if lift:
        return _record(session, env, lambda drive: drive.unfreeze(request_of(owner), reason))
    if until:
        from sluice.ledger.export import moment

        end = moment(until, "--until")
        return _record(session, env, lambda drive: drive.freeze(request_of(owner), end, reason))
    if reason or owner:
        raise UsageError("freeze until when?", next="--until TIME --reason WHY; or --lift --reason WHY")
    return _show_frozen(session, env)


def _show_frozen(session: Session, env: Environment) -> int:
    frozen = frozen_by(Ledger(env.paths.ledger).records(), dt.datetime.fromisoformat(env.clock.now()))
    if session.json:
        click.echo(msgspec.json.encode({"event": "frozen", "frozen": frozen}))
        return 0
    for one in frozen:
        told = f"{env.name.value} is frozen until {one.until}: {one.reason} ({one.owner}, since {one.since})"
        click.echo(plain(told))
    if not frozen:
        name = env.name.value
        click.echo(f"{name} is not frozen by anybody; the policy's windows are judged by: sluice check --env {name}")
    return 0


@cli.group(short_help="Who is told when a run goes wrong.")
def notify() -> None:
    """Who is told when a run goes wrong: `notify_file` of [host] in host.toml."""


@notify.command("test")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def test_notify(session: Session, as_json: bool) -> int:
    """Send one message to every address, as after a run that went wrong."""
    session.json = as_json
    file = session.host().host.notify_file
    if not file:
        raise ConfigError(
            "host.toml names no notify_file in [host], so nobody is told.",
            next="write one Apprise address a line into a file of mode 0600 and name it there",
        )
    notifier = Notifier(Path(file), LocalRunner(Redactor()))
    failed = asyncio.run(notifier("sluice: a test message", "Whoever reads this is told when a run goes wrong."))
    if as_json:
        click.echo(msgspec.json.encode({"event": "notify", "failed": failed}))
    else:
        for sentence in failed:
            click.echo(sentence)
        click.echo(f"{file}: " + ("not everybody was told" if failed else "everybody was told"))
    return int(ExitCode.REFUSED) if failed else 0
