"""`sluice runbook`: the runbook written from the policy, filled in by a run, and compared with one in prose."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from sluice.cli.commands import cli
from sluice.cli.session import Session
from sluice.cli.shims import SCRIPTS, parameters_of, verbs_of
from sluice.config import Environment, load_service
from sluice.drive.planning import SPEC_PATHS
from sluice.hosts.state import StatePaths, default_root
from sluice.ledger import Ledger
from sluice.model.errors import ConfigError, ExitCode, Refused, UsageError
from sluice.model.spec import EnvironmentName, HostEnvironment, HostSettings, ServiceSpec

if TYPE_CHECKING:
    from sluice.runbook import Disagreement, Facts, Record, Surface

NEWEST = 3  # runs that are named where one was not found
MAX_PROSE = 256 * 1024  # a runbook is some pages; more is a wrong file


@cli.group(invoke_without_command=True)
@click.option("--lang", type=click.Choice(["ru", "en"]), default="ru", help="The language (ru).")
@click.option("--env", "environment", default="", help="The environment: test or prod (test, or that of --run).")
@click.option("--service", default=None, help="The service; not needed where the host has one.")
@click.option("--policy", type=click.Path(path_type=Path), help="sluice.toml of a clone: no host is needed then.")
@click.option("--run", default="", help="Fill it in with what the ledger says of this run; no --env is needed.")
@click.option("--checklist", is_flag=True, help="The pre-prod checklist alone.")
@click.option("--output", type=click.Path(path_type=Path), help="Write it there, not to stdout.")
@click.pass_context
def runbook(context: click.Context, /, **given: Any) -> int:
    """Write the whole runbook from the policy; changes nothing."""
    if context.invoked_subcommand is not None:
        return 0
    from sluice.runbook import Lang, render

    session: Session = context.obj
    environment: str = given["environment"]
    records: list[Record] = []
    if given["run"]:
        if given["policy"] is not None:
            raise UsageError("a run is in the ledger of a host, not in a clone.", next="--run without --policy")
        environment, records = _recorded(session, given["service"], environment, given["run"])
    facts = _facts(session, given["service"], environment, given["policy"])
    text = render(facts, Lang(given["lang"]), checklist=given["checklist"], records=records, run=given["run"])
    text = session.redact(text)
    if given["output"] is None:
        click.echo(text, nl=False)
        return 0
    try:
        given["output"].write_text(text)
    except OSError as error:
        raise Refused(f"{given['output']} cannot be written: {error.strerror}.", next="--output FILE") from error
    click.echo(f"{given['output']}: written")
    return 0


@runbook.command("lint")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--env", "environment", default="", help="The environment: test or prod (test).")
@click.option("--service", default=None, help="The service; not needed where the host has one.")
@click.option("--policy", type=click.Path(path_type=Path), help="sluice.toml of a clone: no host is needed then.")
@click.option("--lang", type=click.Choice(["ru", "en"]), default="en", help="The language of the findings (en).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per finding on stdout.")
@click.pass_obj
def lint_command(session: Session, /, file: Path, as_json: bool, **given: Any) -> int:
    """Say where a runbook in prose (Markdown, Russian or English) and the policy disagree."""
    from sluice.runbook import Around, Lang, Level, lint, summary

    session.json = as_json
    text, lang = _prose(file), Lang(given["lang"])
    facts = _facts(session, given["service"], given["environment"], given["policy"])
    beside = file.absolute().parent
    found = lint(text, facts, Around(lambda name: (beside / name).exists(), _npm(beside)), lang)
    bad = [one for one in found if one.level is Level.DISAGREES]
    for one in found:
        _tell(session, file, one)
    if as_json:
        told = {"event": "lint", "file": str(file), "ok": not bad, "findings": len(bad), "info": len(found) - len(bad)}
        click.echo(msgspec.json.encode(told))
    else:
        click.echo(f"{file}: {summary(found, lang)}")
    return int(ExitCode.REFUSED) if bad else 0


def _tell(session: Session, file: Path, one: Disagreement) -> None:
    if session.json:
        told = {**msgspec.to_builtins(one), "level": one.level, "file": str(file)}
        click.echo(msgspec.json.encode({"event": "finding", "finding": told}))
    else:
        fix = f"\n    -> {one.fix}" if one.fix else ""
        click.echo(f"{file}:{one.line}: {one.code.value}: {one.sentence}{fix}")


def _prose(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_PROSE + 1)
        if len(raw) > MAX_PROSE:
            raise UsageError(f"{file} is longer than {MAX_PROSE} bytes, which no runbook is.", next="name a runbook")
        return raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{file} cannot be read: {why}.", next="name a Markdown file") from error


def _npm(beside: Path) -> frozenset[str] | None:
    """The scripts of the nearest package.json; None where there is none that can be read."""
    for folder in (beside, *beside.parents):
        file = folder / "package.json"
        if file.is_file():
            try:
                scripts = json.loads(file.read_bytes()).get("scripts", {})
            except (OSError, ValueError, AttributeError):
                return None
            return frozenset(scripts) if isinstance(scripts, dict) else None
    return None


# ---------------------------------------------------------------- the run


def _recorded(session: Session, service: str | None, environment: str, run: str) -> tuple[str, list[Record]]:
    """The environment a run is of, and the ledger it is in: its id is unique, so no --env is needed.

    Raises UsageError: no such run of the service, or one of another environment than was asked for.
    """
    from sluice.runbook import runs_of

    host = session.host()
    seen: list[Record] = []
    service = service or (next(iter(host.service)) if len(host.service) == 1 else None)
    known = host.service.get(service) if service else None
    if known is None or (environment and environment not in list(known.env)):
        session.environment(service, environment or EnvironmentName.TEST)  # says what is wrong with the words
    for name in known.env if known else ():
        paths = StatePaths(default_root(os.environ), str(service), name.value)
        records: list[Record] = [*Ledger(paths.ledger).records()]
        runs = runs_of(records)
        if any(one["run"] == run for one in runs):
            if environment in ("", name.value):
                return name.value, records
            what = f"run {run} is of {name.value}, not of {environment}."
            raise UsageError(what, next=f"leave out --env {environment}")
        seen += runs
    newest = sorted(seen, key=lambda one: str(one.get("ended")), reverse=True)[:NEWEST]
    told = ", ".join(f"{one['run']} ({one['type']} in {one['environment']}, {one['outcome']})" for one in newest)
    following = f"--run with one of the newest: {told}" if told else "there is none yet: sluice rollout"
    raise UsageError(f"{service} has no rollout, rollback or promotion {run!r}.", next=following)


# ---------------------------------------------------------------- the facts


def _facts(session: Session, service: str | None, environment: str, policy: Path | None) -> Facts:
    """From host.toml and the mirror; or, with `policy`, from a file alone (and host.toml where one is named)."""
    from sluice.runbook import Facts

    if policy is None:
        env = session.environment(service, environment or "test")
        spec, ref = asyncio.run(_of_mirror(env)), env.host_service.policy_ref
        hosts = session.host().service[env.service].env
        return Facts(spec, surface(), ref, env.name, hosts, env.settings)
    try:
        spec = load_service(policy.read_bytes(), str(policy))
    except OSError as error:
        where = "name it: sluice.toml or deploy/sluice.toml of a clone"
        raise ConfigError(f"{policy} cannot be read: {error.strerror}.", next=where) from error
    name = environment or "test"
    if name not in list(EnvironmentName):
        raise UsageError(f"there is no environment {name!r}.", next="--env test, or --env prod")
    hosts, ref = _hosts(session, service or spec.name)
    settings = session.host().host if hosts else HostSettings()
    return Facts(spec, surface(), ref, EnvironmentName(name), hosts, settings)


def _hosts(session: Session, service: str) -> tuple[dict[EnvironmentName, HostEnvironment], str]:
    """A host.toml counts beside a policy file only where it was named on the command line."""
    if session.host_config is None:
        return {}, "main"
    known = session.host().service.get(service)
    if known is None:
        raise UsageError(f"{session.host_config} has no service {service!r}.", next="--service NAME")
    return known.env, known.policy_ref


async def _of_mirror(env: Environment) -> ServiceSpec:
    """The policy as the mirror had it at the last fetch; the origin is not asked. Raises Refused."""
    ref = env.host_service.policy_ref
    for path in SPEC_PATHS:
        raw = await env.repo.read(ref, path)
        if raw is not None:
            return load_service(raw, f"{ref}:{path}")
    raise Refused(
        f"The mirror has no policy of {env.service} at {ref} yet.",
        next=f"sluice check --env {env.name.value} --branch BRANCH fetches it; or --policy sluice.toml",
    )


def surface() -> Surface:
    """Everything that can be typed: the commands, and the scripts of `sluice shims`."""
    from sluice.runbook import Surface

    scripts = {}
    for script in SCRIPTS:
        many = len(script.verbs) > 1
        options = {
            verb: frozenset(one.name for one in parameters_of(script, command))
            for verb, command in verbs_of(script).items()
        }
        scripts[script.name] = options if many else {"": next(iter(options.values()))}
    fixed = {script.name: script.fixed for script in SCRIPTS if script.fixed}
    return Surface(dict(_commands(cli, "")), scripts, fixed)


def _commands(group: click.Group, prefix: str) -> list[tuple[str, frozenset[str]]]:
    found = []
    for name, command in group.commands.items():
        path = f"{prefix} {name}".strip()
        options = [one for one in command.params if isinstance(one, click.Option)]
        found.append((path, frozenset(word for one in options for word in (*one.opts, *one.secondary_opts))))
        if isinstance(command, click.Group):
            found += _commands(command, path)
    return found
