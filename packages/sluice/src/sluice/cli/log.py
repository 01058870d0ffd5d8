"""`sluice log`: the audit trail of an environment read, proven, handed on and counted."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from sluice.cli.commands import cli, in_environment
from sluice.cli.outlet import console
from sluice.cli.session import ENVIRONMENT, Session, anchor_of, missing
from sluice.cli.tables import log_table, print_record
from sluice.config import Environment
from sluice.journal import recorded_runs
from sluice.ledger import Anchoring, Ledger, Problem, Tampering, Verification
from sluice.ledger.export import of_run
from sluice.model.errors import ExitCode, Refused, StateCorrupted, UsageError
from sluice.model.secret import Redactor
from sluice.model.text import plain
from sluice.model.verdict import counted

FORMATS = ("markdown", "csv", "in-toto")
HOURS, DAYS = 2 * 3600.0, 2 * 24 * 3600.0  # a duration longer than these is told in hours, in days


@cli.group(invoke_without_command=True)
@click.option("--env", "environment", help="The environment: test or prod.")
@click.option("--service", default=None, help="The service; not needed where the host has one.")
@click.option("--run", default="", help="One run in full.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per record.")
@click.pass_context
def log(context: click.Context, environment: str | None, service: str | None, run: str, as_json: bool) -> int:
    """The audit trail of an environment."""
    if context.invoked_subcommand is not None:
        return 0
    if environment is None:
        raise missing(ENVIRONMENT)
    session: Session = context.obj
    session.json = as_json
    env = session.environment(service, environment)
    records = of_run(Ledger(env.paths.ledger).records(), run, env.name.value)
    if as_json:
        for record in records:
            click.echo(msgspec.json.encode(record))
    elif run:
        for record in records:
            print_record(console(), record)
    else:
        out = console()
        out.print(log_table(records, out.width))
    return 0


# ---------------------------------------------------------------- verify


@log.command(short_help="Prove that no record was changed, removed or cut.")
@click.option("--env", "environment", default=None, help="The environment: test or prod.")
@click.option("--service", default=None, help="The service; not needed where the host has one.")
@click.option("--offline", is_flag=True, help="Do not ask the origin; what was seen there last still counts.")
@click.option(
    "--clone",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Verify the ledgers in this clone of the repository, with no state of this host.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per ledger.")
@click.pass_obj
def verify(
    session: Session, environment: str | None, service: str | None, offline: bool, clone: Path | None, as_json: bool
) -> int:
    """Prove that no record was removed, changed, inserted, reordered, cut or signed anew."""
    session.json = as_json
    if clone is not None:
        return _verify_clone(session, clone, environment, service, offline=offline)
    if environment is None:
        raise missing(ENVIRONMENT, "Or --clone, without a server.")
    env = session.environment(service, environment)
    ledger, damage = Ledger(env.paths.ledger), list[StateCorrupted]()
    runs = recorded_runs(env.paths.journal_dir, damage.append)
    verdict = ledger.verify(runs, (env.service, env.name.value))
    damaged = (Problem(Tampering.JOURNAL, 0, one.what.rstrip(".")) for one in damage)
    verdict = replace(verdict, problems=(*verdict.problems, *damaged))
    found = Anchoring(0, note="anchor = false in host.toml")
    if env.host_service.anchor:
        found = asyncio.run(anchor_of(env).compare(offline=offline))
    key = ledger.key()
    name, print_ = f"{env.service}/{env.name.value}", key.fingerprint if key else ""
    return _tell(session, name, print_, verdict, found, mirror=env.paths.repo)


def _verify_clone(session: Session, clone: Path, environment: str | None, service: str | None, *, offline: bool) -> int:
    from sluice.hosts.anchor_clone import audit_clone
    from sluice.runner import LocalRunner

    audits = asyncio.run(audit_clone(clone, LocalRunner(Redactor()), offline=offline))
    parts = [(audit, *audit.name.partition("/")[::2]) for audit in audits]
    chosen = [audit for audit, of, env in parts if service in {None, of} and environment in {None, env}]
    if not chosen:
        raise UsageError(
            f"{clone} has no ledger{' of that name' if audits else ''}.",
            next="git fetch origin 'refs/sluice/ledger/*:refs/sluice/ledger/*', or without --offline",
        )
    return max(
        _tell(session, one.name, one.key, one.verdict, one.anchoring, _of_clone(one.verdict, one.anchoring, one.seen))
        for one in chosen
    )


def _of_clone(verdict: Verification, anchoring: Anchoring | None, seen: int) -> list[str]:
    """What a look from a clone proves, and what it does not."""
    records = verdict.records
    if anchoring is None:  # the clone's copy is the anchor; what is left open is where the origin stands now
        return [f"{counted(records, 'record')} as this clone has them; the origin was not asked (--offline)"]
    if anchoring.problems or not verdict.ok:
        return []
    if seen:
        known = f"the {counted(seen, 'record')} that this clone saw before {'stands' if seen == 1 else 'stand'}"
        new = f"unchanged on the origin, {records - seen} {'is' if records - seen == 1 else 'are'} new"
        return [f"{known} {new}; every record is signed by the key that it saw first"]
    key = "that the key is the server's own (compare it with ledger.key.pub there)"
    before = "that nothing was written anew or cut from the end before this look"
    return [
        f"proven: the {counted(records, 'record')} on the origin follow each other, and this one key signed them all",
        f"not proven, as this clone saw none of them before: {key}, and {before}",
        "from now on this clone remembers them: whatever is changed later shows here",
    ]


def _tell(
    session: Session,
    name: str,
    key: str,
    verdict: Verification,
    anchoring: Anchoring | None,
    of_clone: list[str] | None = None,
    mirror: Path | None = None,
) -> int:
    """One ledger's verdict, and exit code 5 where anything was done to it."""
    problems = list(dict.fromkeys((*verdict.problems, *(anchoring.problems if anchoring else ()))))
    name = plain(name)
    found = [{"code": one.code, "number": one.number, "sentence": plain(one.sentence)} for one in problems]
    first = found[0] if found else {"code": "", "number": 0, "sentence": ""}
    tail = _tail(verdict.records, anchoring) if anchoring and of_clone is None else of_clone or []
    notes = [plain(session.redact(note)) for note in (*verdict.notes, *tail)]
    next_ = plain(session.redact(_advice(problems[0].code, name, mirror, anchoring))) if problems else ""
    if session.json:
        told = {
            "event": "verify",
            "ledger": name,
            "ok": not problems,
            "records": verdict.records,
            "anchored": anchoring.anchored if anchoring else 0,
            "key": key,
            "number": first["number"],
            "code": first["code"],
            "problem": first["sentence"],
            "problems": found,
            "notes": notes,
            "next": next_,
        }
        click.echo(msgspec.json.encode(told))
    else:
        signed = f"the chain holds, and every record is signed by {key}" if key else "the chain holds"
        click.echo(f"{name}: {counted(verdict.records, 'record')}" + ("" if problems else f": {signed}"))
        for one in found:
            click.echo(f"  {one['code']}: {one['sentence']}")
        for text in (*notes, f"Next: {next_}") if next_ else notes:
            click.echo(f"  {text}")
    return int(ExitCode.ROLLBACK_FAILED) if problems else 0


def _advice(code: str, name: str, mirror: Path | None, anchoring: Anchoring | None) -> str:
    """What to do about a ledger that does not hold. `mirror`: this host's; None in a clone, which decides nothing."""
    if mirror is None:
        service, _, environment = name.partition("/")
        there = f"sluice log verify --env {environment} --service {service}"
        return f"keep this clone as it is, and compare with what the server says: {there}"
    git, seen = f"git --git-dir {mirror}", f"refs/sluice/anchored/{name}"
    if code == "journal-damaged":
        return "keep a copy, and find out who wrote it; when it is clear what serves, move that journal away by hand"
    if code in {"anchor-rewritten", "anchor-cut"}:
        back = f"{git} push --force ORIGIN {seen}:refs/sluice/ledger/{name}"
        return f"find out who could force the origin; what this host saw there last is put back by: {back}"
    if anchoring and (anchoring.anchored or anchoring.problems):  # then the mirror remembers a copy
        return (
            f"keep a copy of ledger.jsonl, and find out who wrote it; the true records: {git} log -p --reverse {seen}"
        )
    return "keep a copy of ledger.jsonl, and find out who wrote it; nothing was anchored: the true one is in a backup"


def _tail(records: int, anchoring: Anchoring) -> list[str]:
    left = max(records - anchoring.anchored, 0)
    memory = [anchoring.memory] if anchoring.memory else []
    if anchoring.problems:  # how many follow the first that is another one says nothing
        return [*memory, *([anchoring.note] if anchoring.note else [])]
    if not left and (anchoring.anchored or not anchoring.note):
        whole = f"all {_are(records)}" if records > 1 else _are(records)
        asked = f", as it was seen last ({anchoring.note})" if anchoring.note else ""
        return [*memory, f"anchored: {whole} on the origin{asked}"]
    known = f"{left} of {_are(records, left)} not known to be on the origin"
    return [*memory, f"tail not anchored: {known}" + (f" ({anchoring.note})" if anchoring.note else "")]


def _are(records: int, of_which: int | None = None) -> str:
    """`1 record is`, `4 records are`; the verb is that of the part, where one is given."""
    return f"{counted(records, 'record')} {'is' if (records if of_which is None else of_which) == 1 else 'are'}"


# ---------------------------------------------------------------- export and metrics


@log.command(short_help="Hand the trail on: Markdown, CSV or in-toto.")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="How it is written.")
@click.option("--since", default="", help="From this day or time on (ISO 8601, else UTC).")
@click.option("--until", default="", help="Before this day or time.")
@click.option("--run", default="", help="Of one run.")
@in_environment
def export(_session: Session, env: Environment, form: str, since: str, until: str, run: str) -> int:
    """Hand the trail on: Markdown, CSV, or one in-toto Statement a line."""
    from sluice.ledger.export import as_csv, as_in_toto, as_markdown, chosen

    records = chosen(of_run(Ledger(env.paths.ledger).records(), run, env.name.value), since, until)
    try:
        click.echo({"markdown": as_markdown, "csv": as_csv, "in-toto": as_in_toto}[form](records), nl=False)
    except BrokenPipeError:
        raise
    except OSError as failure:  # half an export is none
        raise Refused(
            f"The export could not be written: {failure.strerror}.", next="make room where it goes, then repeat it"
        ) from failure
    return 0


@log.command(short_help="The four numbers of DORA, from the ledger alone.")
@click.option("--since", default="", help="From this day or time on (else from the first record).")
@in_environment
def metrics(session: Session, env: Environment, since: str) -> int:
    """Deployment frequency, lead time, change-failure rate and time to restore, from the ledger alone."""
    from sluice.ledger.export import moment
    from sluice.ledger.metrics import as_json, metrics_of

    first = moment(since, "--since") if since else None
    found = as_json(metrics_of(Ledger(env.paths.ledger).records(), first, dt.datetime.now(dt.UTC)))
    if session.json:
        click.echo(msgspec.json.encode({"event": "metrics", **found}))
        return 0
    for name, value in _lines(found):
        click.echo(f"{name:22} {value}")
    for sentence in found["missing"]:
        click.echo(f"  {sentence}")
    return 0


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    per_week, rate = found["per_week"], found["failure_rate"]
    often = f"{found['deployments']}" + (f", {per_week:.1f} a week" if per_week is not None else "")
    failed = f"{rate:.0%} ({found['failed']} of {found['changes']} changes that users saw)" if rate is not None else "-"
    return [
        ("period", f"{found['since'][:19] or '-'} to {found['until'][:19] or '-'}"),
        ("deployments", often),
        ("lead time", _durations(found["lead_time"])),
        ("change-failure rate", failed),
        ("time to restore", _durations(found["restore"])),
    ]


def _durations(found: dict[str, Any]) -> str:
    if found["median_s"] is None:
        return "-"
    return f"median {_duration(found['median_s'])}, p90 {_duration(found['p90_s'])} (of {found['read']})"


def _duration(seconds: float) -> str:
    if seconds >= DAYS:
        return f"{seconds / 86400:.1f} d"
    return f"{seconds / 3600:.1f} h" if seconds >= HOURS else f"{seconds:.0f} s"
