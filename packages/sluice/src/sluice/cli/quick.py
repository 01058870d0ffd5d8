"""`sluice quick-check`: everything worth knowing about a server at once, within three seconds, changing nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import msgspec

from sluice.checks import server_probes
from sluice.checks.host import CLOCK, DISK, clock, disk
from sluice.checks.together import Probe, aside, ask_all, probe_of
from sluice.cli.commands import cli
from sluice.cli.junit import Suite, junit_option, write_junit
from sluice.cli.outlet import console
from sluice.cli.session import Session, world_of
from sluice.cli.tables import counted, findings_table
from sluice.config import Environment
from sluice.drive.audit import standing_waivers
from sluice.drive.judge import HostJudge
from sluice.drive.policy import policy_of
from sluice.drive.status import INGRESS, ingress_of
from sluice.drive.world import World, command, forward
from sluice.engine import State
from sluice.journal import read_all, recorded_runs
from sluice.ledger import Ledger
from sluice.lock import is_held, read_holder
from sluice.model.errors import ExitCode, SluiceError, StateCorrupted, UsageError
from sluice.model.release import Release, Slot
from sluice.model.spec import HostConfig, RuntimeName
from sluice.model.verdict import Finding, Verdict
from sluice.model.verdict import counted as times

SERVING, RUNS, LEDGER = "serving", "runs", "ledger"
# Of all questions together. With the start of the interpreter the answer is there within three seconds.
DEADLINE_S = 2.0
BAD = {Verdict.FAIL, Verdict.ERROR}


@dataclass(frozen=True)
class Group:
    """The findings of one environment, or of the machine (`service` is empty then)."""

    title: str
    service: str
    environment: str
    findings: list[Finding]


# ---------------------------------------------------------------- one environment


def judge_runs(unfinished: Sequence[str], holder: str | None, resume: str) -> Finding:
    """Pure: no run was left half-way. `holder`: who holds the environment now; None: nobody. `resume`: the command."""
    if holder is not None:
        return Finding(RUNS, Verdict.PASS, detail=f"A run is under way: {holder}.")
    if unfinished:
        return Finding(RUNS, Verdict.FAIL, detail=f"Unfinished: {'; '.join(unfinished)}.", fix=resume)
    return Finding(RUNS, Verdict.PASS, detail="No run was left half-way.")


def _runs(env: Environment, resume: str) -> Finding:
    holder = None
    if is_held(env.paths.lock):
        found = read_holder(env.paths.lock_info)
        holder = f"{found.who}: {found.what}, since {found.since}" if found else "somebody unknown"
    try:
        left = [one for one in read_all(env.paths.journal_dir, repair=False) if not one.ended]
    except StateCorrupted as error:
        return Finding(RUNS, Verdict.FAIL, detail=error.what, fix=error.next)
    return judge_runs([f"{one.run}: {one.kind} in {State(one.state).value}" for one in left], holder, resume)


def _ledger(env: Environment, verify: str) -> Finding:
    try:
        runs = recorded_runs(env.paths.journal_dir)
        verdict = Ledger(env.paths.ledger).verify(runs, (env.service, env.name.value))
    except StateCorrupted as error:
        return Finding(LEDGER, Verdict.FAIL, detail=error.what, fix=error.next)
    if not verdict.ok:
        return Finding(LEDGER, Verdict.FAIL, detail=f"{verdict.problem}.", fix=verify)
    return Finding(LEDGER, Verdict.PASS, detail=f"{times(verdict.records, 'record')}, the chain holds.")


def judge_serving(serving: tuple[Release, Slot] | None, *, alive: bool, fix: str) -> Finding:
    """Pure: what is remembered as serving runs. `fix`: what to do where it does not."""
    if serving is None:
        return Finding(SERVING, Verdict.SKIPPED, detail="Nothing was rolled out here, so nothing is asked of it.")
    release, slot = serving
    commit = release.commit
    named = f"{commit.describe} from {commit.branch}, commit {commit.sha}, tree {commit.tree}, in {slot.unit}"
    if alive:
        return Finding(SERVING, Verdict.PASS, detail=f"{named}.")
    return Finding(SERVING, Verdict.FAIL, detail=f"Does not run: {named}.", fix=fix)


async def environment_probes(env: Environment, world: World) -> list[Probe]:
    """Every question about one environment. Asks nothing of the service itself yet. Raises SluiceError."""
    state = [
        probe_of(RUNS, lambda: aside(lambda: _runs(env, command(world, "resume"))), DEADLINE_S),
        probe_of(LEDGER, lambda: aside(lambda: _ledger(env, command(world, "log verify"))), DEADLINE_S),
    ]
    serving = env.releases.serving()

    async def serves() -> Finding:
        fix = f"{command(world, 'rollback')}, or: {forward(world)}"
        found = judge_serving(serving, alive=serving is not None and await env.runtime.alive(serving[1]), fix=fix)
        told = "".join(f" Waived: {waiver}." for waiver in standing_waivers(world))
        return msgspec.structs.replace(found, detail=found.detail + told)

    state.insert(0, probe_of(SERVING, serves, DEADLINE_S))
    state.append(probe_of(INGRESS, lambda: ingress_of(world), DEADLINE_S))
    if serving is None:
        return state
    release, slot = serving
    policy = await policy_of(world, release.spec)
    return state[:1] + server_probes(HostJudge(env).target(release, slot, policy.checks, public=True)) + state[1:]


# ---------------------------------------------------------------- all at once


async def within(
    deadline_s: float, prepare: Callable[[], Awaitable[list[Probe]]], redact: Callable[[str], str]
) -> list[Finding]:
    """Prepare the questions and ask them, both before the deadline; what does not come is `error`."""
    end = time.monotonic() + deadline_s
    prepared: list[Probe] = []

    async def first() -> list[Finding]:
        prepared.extend(await prepare())
        return []

    failed = await ask_all([Probe(("environment",), first, deadline_s)], lambda _finding: None, redact)
    left = max(0.0, end - time.monotonic())
    probes = [replace(probe, deadline_s=min(probe.deadline_s, left)) for probe in prepared]
    return failed + await ask_all(probes, lambda _finding: None, redact)


async def quick_check(host: HostConfig, opened: Sequence[Environment], deadline_s: float = DEADLINE_S) -> list[Group]:
    """Every environment and the machine itself, at the same time. Never raises for what it finds."""

    async def one(env: Environment) -> Group:
        findings = await within(deadline_s, lambda: environment_probes(env, world_of(env)), env.redactor)
        return Group(f"{env.service} in {env.name.value}", env.service, env.name.value, findings)

    async def machine() -> Group:
        async def probes() -> list[Probe]:
            return machine_probes(host, opened)

        def redact(text: str) -> str:
            for env in opened:
                text = env.redactor(text)
            return text

        return Group("This server", "", "", await within(deadline_s, probes, redact))

    return list(await asyncio.gather(*(one(env) for env in opened), machine()))


def machine_probes(host: HostConfig, opened: Sequence[Environment]) -> list[Probe]:
    """The questions about what every environment stands on."""
    first = opened[0]
    engine = host.host.docker if any(env.host.runtime is RuntimeName.COMPOSE for env in opened) else ""
    url, ca_file = first.host.public_url, first.host.ca_file
    return [
        probe_of(DISK, lambda: disk(first.paths.root, engine, host.host.min_free_mb), DEADLINE_S),
        probe_of(CLOCK, lambda: clock(url, ca_file, first.clock, first.runner), DEADLINE_S),
    ]


def opened_by(
    session: Session, host: HostConfig, service: str | None, environment: str | None
) -> tuple[list[Environment], list[Group]]:
    """The environments asked for, and a group for each that cannot even be opened. Raises UsageError for none."""
    chosen = [
        (name, env.value)
        for name, one in sorted(host.service.items())
        for env in one.env
        if service in (None, name) and environment in (None, env.value)
    ]
    if not chosen:
        wanted = " ".join(part for part in (service, environment) if part)
        raise UsageError(f"this host has no {wanted}.", next="sluice config check shows what it has")
    opened, closed = [], []
    for name, env_name in chosen:
        try:
            opened.append(session.environment(name, env_name))
        except SluiceError as error:
            finding = Finding("environment", Verdict.ERROR, detail=error.what, fix=error.next)
            closed.append(Group(f"{name} in {env_name}", name, env_name, [finding]))
    return opened, closed


def exit_code_of(groups: Iterable[Group]) -> int:
    """0 when nothing failed and no probe broke; what was skipped or could not be told is shown and no failure."""
    bad = any(finding.verdict in BAD for group in groups for finding in group.findings)
    return int(ExitCode.REFUSED) if bad else int(ExitCode.DONE)


@cli.command("quick-check", short_help="Look at everything on this server at once.")
@click.option("--env", "environment", default=None, help="The environment: test or prod; all of them without it.")
@click.option("--service", default=None, help="The service; all of them without it.")
@junit_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per finding on stdout.")
@click.pass_obj
def quick_check_command(
    session: Session, environment: str | None, service: str | None, junit: Path | None, as_json: bool
) -> int:
    """Look at everything on this server at once: releases, containers, logs, domain, disk, clock, ledger."""
    began = time.monotonic()
    session.json = as_json
    host = session.host()
    opened, groups = opened_by(session, host, service, environment)
    if opened:
        groups += asyncio.run(quick_check(host, opened))
    ms = round((time.monotonic() - began) * 1000)
    code = exit_code_of(groups)
    for group in groups:
        if as_json:
            for finding in group.findings:
                told = {"service": group.service, "environment": group.environment, "finding": finding}
                click.echo(msgspec.json.encode({"event": "finding", **told}))
        else:
            console().print(findings_table(group.title, group.findings), "")
    if as_json:
        click.echo(msgspec.json.encode({"event": "quick-check", "ok": code == 0, "ms": ms}))
    else:
        verdict = "[bold green]nothing fails[/]" if code == 0 else "[bold red]something fails[/]"
        counts = counted(finding for group in groups for finding in group.findings)
        console().print(f"{verdict} ({counts}), {ms} ms", highlight=False)
    write_junit(junit, [Suite(group.title, group.findings, doubtful=True) for group in groups])
    return code
