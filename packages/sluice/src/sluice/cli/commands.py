"""The commands. Each does one thing with one environment and returns an exit code."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from sluice.cli.junit import Suite, junit_option, write_junit
from sluice.cli.outlet import console, outlet
from sluice.cli.remote import Elsewhere
from sluice.cli.render import Unbroken, lost_words, screen
from sluice.cli.session import Session, drive_to_end, exit_code_of, request_of, world_of
from sluice.cli.tables import findings_table, print_result, status_text
from sluice.cli.waiving import waive_option
from sluice.config import EXAMPLE_HOST, EXAMPLE_SERVICE, Environment, load_service
from sluice.config.doubts import doubts
from sluice.config.rules import wrong
from sluice.drive import Drive, Report, Request, Result
from sluice.drive.audit import standing_waivers
from sluice.drive.desk import may_smoke
from sluice.drive.planning import SPEC_PATHS
from sluice.drive.policy import policy_of
from sluice.drive.status import status_of
from sluice.drive.world import forward
from sluice.hosts.ssh import parse_server
from sluice.model.errors import ConfigError, ExitCode, Refused
from sluice.model.text import plain
from sluice.model.verdict import Finding, Verdict, worst

Command = Callable[..., int]
Record = dict[str, Any]  # of the ledger


def in_environment(command: Callable[..., int]) -> Command:
    """A command about one environment: --env, --service, --json."""

    def wrapped(session: Session, /, environment: str, service: str | None, as_json: bool, **options: Any) -> int:
        session.json = as_json
        return command(session, session.environment(service, environment), **options)

    decorated: Command = functools.update_wrapper(click.pass_obj(wrapped), command)
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object per event on stdout."),
        click.option("--service", default=None, help="The service; not needed where the host has one."),
        click.option("--env", "environment", required=True, help="The environment: test or prod."),
    ):
        decorated = option(decorated)
    return decorated


@click.group(cls=Elsewhere, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--host", "server", default="", envvar="SLUICE_HOST", help="Do it on that server: ssh://[user@]host[:port]."
)
@click.option("--on-call", is_flag=True, hidden=True, help="A `sluice --host` elsewhere reads the JSON lines.")
@click.option("--host-config", type=click.Path(path_type=Path), help="host.toml (else $SLUICE_HOST_CONFIG).")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="sluice")
@click.pass_obj
def cli(session: Session, server: str, on_call: bool, host_config: Path | None, debug: bool) -> None:
    """Execute a deploy runbook: gates, rollout, smoke, watch, rollback, audit trail."""
    session.host_config, session.debug, session.on_call = host_config, debug, on_call
    session.server = parse_server(server, os.environ.get("SLUICE_REMOTE_COMMAND", "")) if server else None


def mutate(session: Session, env: Environment, use: Callable[[Drive], Any]) -> Any:
    """Drive with a screen, and show how it ended. Whoever reads the screen cannot hold the run up."""
    with outlet(lost_words(session.json)) as stream:
        out = console(stream)
        with screen(out, as_json=session.json) as shown:
            unbroken = Unbroken(shown)
            result = drive_to_end(session, env, unbroken, use, unbroken.interrupted)
        for one in result if isinstance(result, list) else [result]:
            if not session.json:
                print_result(out, one)
    return result


def write_record(
    session: Session, env: Environment, write: Callable[[Drive], Awaitable[Record]], show: Callable[[Record], None]
) -> int:
    """Write one record, and show it; what is said beside it goes to stderr, for stdout has the record alone."""

    def tell(report: Report) -> None:
        if report.event == "note":
            click.echo(plain(report.text), err=True)

    async def run() -> Record:
        return await write(Drive(world_of(env), tell))

    record = asyncio.run(run())
    if session.json:
        click.echo(msgspec.json.encode({"event": record["type"], "record": record}))
    else:
        show(record)
    return 0


@cli.command(short_help="Bring a branch into an environment, gate by gate.")
@click.option("--branch", required=True, help="The branch to roll out.")
@click.option("--owner", help="Who answers for this run (else $USER@host).")
@click.option("--override", default="", help="Why an artifact that failed before may be tried again; recorded.")
@waive_option
@in_environment
def rollout(
    session: Session, env: Environment, branch: str, owner: str | None, override: str, waivers: dict[str, str]
) -> int:
    """Bring a branch into an environment, gate by gate, or leave everything as it was."""
    request = request_of(owner, branch, override, waivers)
    result: Result = mutate(session, env, lambda drive: drive.rollout(request))
    return result.exit_code


@cli.command()
@click.option("--owner", help="Who answers for this run (else $USER@host).")
@click.option("--override", default="", help="Why it may be started though its artifact was changed; recorded.")
@in_environment
def rollback(session: Session, env: Environment, owner: str | None, override: str) -> int:
    """Bring the last verified release back."""
    request = request_of(owner, override=override)
    result: Result = mutate(session, env, lambda drive: drive.rollback(request))
    return result.exit_code


@cli.command()
@click.option("--owner", help="Who answers for this run (else $USER@host).")
@in_environment
def resume(session: Session, env: Environment, owner: str | None) -> int:
    """Finish or undo what a killed run left."""
    request: Request = request_of(owner)
    results: list[Result] = mutate(session, env, lambda drive: drive.resume(request))
    if not results and not session.json:
        click.echo("There is nothing to resume.")
    return exit_code_of(results)


@cli.command(short_help="What serves, what runs, what is unfinished or locked.")
@in_environment
def status(session: Session, env: Environment) -> int:
    """What serves, what runs, who holds the environment, what is unfinished."""
    found = asyncio.run(status_of(world_of(env)))
    if session.json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(status_text(msgspec.to_builtins(found)))
    return 0


def show_findings(
    session: Session, title: str, findings: list[Finding], required: frozenset[str], junit: Path | None
) -> int:
    """A table, or one JSON object per finding; exit 0 only when everything required passed. See `write_junit`."""
    findings = [msgspec.convert(session.redact_tree(msgspec.to_builtins(f)), Finding) for f in findings]
    if session.json:
        for finding in findings:
            click.echo(msgspec.json.encode({"event": "finding", "finding": finding}))
    else:
        console().print(findings_table(title, findings))
    write_junit(junit, [Suite(session.redact(title), findings)])
    return 0 if worst(findings, required) is Verdict.PASS else int(ExitCode.REFUSED)


@cli.command(short_help="Smoke what serves now; changes nothing.")
@junit_option
@in_environment
def smoke(session: Session, env: Environment, junit: Path | None) -> int:
    """Smoke what serves now through its public URL; changes nothing."""
    world = world_of(env)
    serving = world.releases.serving()
    if serving is None:
        raise Refused("Nothing serves in this environment.", next=forward(world))
    release, slot = serving

    async def judge() -> tuple[list[Finding], frozenset[str]]:
        await may_smoke(world, release)
        policy = await policy_of(world, release.spec)
        findings = await world.judge.smoke(release, slot, policy, lambda _finding: None, public=True)
        return findings, frozenset(policy.watch.required_checks)

    findings, required = asyncio.run(judge())
    for waiver in standing_waivers(world):
        told = session.redact(plain(f"Waived for what serves: {waiver}"))
        click.echo(msgspec.json.encode({"event": "note", "text": told}).decode() if session.json else told)
    title = f"Smoke of {release.commit.describe} at {world.public_url}"
    return show_findings(session, title, findings, required, junit)


@cli.group()
def config() -> None:
    """Configuration: judge it, or print an annotated example."""


@config.command("check", short_help="Judge host.toml and sluice.toml.")
@click.argument("service_file", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def check_config(session: Session, service_file: Path | None) -> int:
    """Judge host.toml, and sluice.toml (SERVICE_FILE, else the one in this folder, if any)."""
    host = session.host()
    click.echo(f"host configuration: {', '.join(sorted(host.service))}: good")
    found = service_file or next((path for path in map(Path, SPEC_PATHS) if path.is_file()), None)
    if found is not None:
        try:
            raw = found.read_bytes()
        except OSError as error:
            raise ConfigError(f"{found} cannot be read: {error.strerror}.", next="name a readable file") from error
        spec = load_service(raw, str(found))
        if spec.name not in host.service:
            raise wrong(str(found), "$.name", f"is {spec.name!r}, and host.toml has only {_named(host.service)}")
        click.echo(f"{found}: {spec.name}: good")
        root = found.parent.parent if found.parent.name == Path(SPEC_PATHS[-1]).parent.name else found.parent
        for doubt in doubts(spec, root):
            click.echo(f"  warning: {doubt}", err=True)
    return 0


def _named(services: Iterable[str]) -> str:
    return ", ".join(f"[service.{name}]" for name in sorted(services))


@config.command(short_help="Print an annotated host.toml, sluice.toml or both.")
@click.argument("which", required=False, type=click.Choice(["host", "service"]))
def example(which: str | None) -> int:
    """Print an annotated host.toml, or sluice.toml of a service; both to read without WHICH."""
    if which != "service":
        click.echo(EXAMPLE_HOST)
    if which != "host":
        click.echo(EXAMPLE_SERVICE)
    return 0
