"""`sluice check`: the gates alone on a server, or with --record the policy's own commands where somebody works."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import click
import msgspec

from sluice.cli.commands import cli, show_findings
from sluice.cli.junit import junit_option
from sluice.cli.session import ENVIRONMENT, Session, missing, own_version, request_of, world_of
from sluice.cli.waiving import waive_option
from sluice.config import Environment, load_service
from sluice.drive.desk import confirm
from sluice.drive.planning import SPEC_PATHS, plan_rollout
from sluice.drive.promotion import plan_promotion
from sluice.drive.status import ingress_of
from sluice.drive.steps import asked_for
from sluice.drive.world import World
from sluice.gates.attestation import Attestation
from sluice.gates.recording import Recording, policy_spec, record
from sluice.gates.run import GATES
from sluice.gates.waivers import must_be_waivable
from sluice.hosts.git import without_password
from sluice.hosts.git_clone import NOTES, Clone
from sluice.hosts.system import SystemClock
from sluice.model.errors import Refused, UsageError
from sluice.model.secret import Redactor
from sluice.model.spec import EnvironmentName
from sluice.model.verdict import Finding, Verdict
from sluice.ports import Progress
from sluice.runner import LocalRunner


@cli.command()
@click.option("--env", "environment", default=None, help="The environment: test or prod.")
@click.option("--service", default=None, help="The service; not needed where the host has one.")
@click.option("--branch", default=None, help="The branch to judge.")
@click.option("--owner", help="Who asks (else $USER@host).")
@waive_option
@click.option("--record", "recording", is_flag=True, help="In a clone: run the policy's checks and sign the result.")
@click.option("--repo", default=".", type=click.Path(path_type=Path), help="With --record: the clone.")
@click.option("--ref", default="HEAD", help="With --record: the commit.")
@click.option("--policy", default="", help="With --record: where the policy is (else origin/main, else main).")
@click.option("--key", type=click.Path(path_type=Path), help="With --record: the SSH key (else one of ssh-agent).")
@click.option("--push", is_flag=True, help="With --record: push the record to --remote.")
@click.option("--remote", default="origin", help="With --record and --push: where to.")
@junit_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event on stdout.")
@click.pass_obj
def check(session: Session, /, recording: bool, **given: object) -> int:
    """Run the gates alone; changes nothing. With --record: run the checks here, and sign that they passed."""
    session.json = bool(given["as_json"])
    if recording:
        return _record(session, given)
    if not given[ENVIRONMENT]:
        raise missing(ENVIRONMENT, "Or --record, in a clone.")
    if not given["branch"] and given[ENVIRONMENT] != EnvironmentName.PROD.value:
        raise missing("branch")
    return _gates(session, given)


def _gates(session: Session, given: dict[str, object]) -> int:
    branch, service = str(given["branch"] or ""), given["service"]
    env = session.environment(str(service) if service else None, str(given["environment"]))
    world = judged_world(env)
    owner = given["owner"]
    request = request_of(str(owner) if owner else None, branch)
    waivers = msgspec.convert(given["waivers"], dict[str, str])

    async def judge() -> list[Finding]:
        if world.promotion is not None:
            plan = await plan_promotion(world, branch, lambda _text: None, waivers)
        else:
            plan = await plan_rollout(world, branch, lambda _text: None)
        must_be_waivable(waivers, GATES, plan.policy.gates, world.environment)
        asked = asked_for(world, plan, (request.owner, request.owner_source), "", waivers)
        gates = await world.judge.gates(plan.commit, plan.candidate, plan.policy, lambda _finding: None, asked)
        if plan.promotion is not None:
            gates = [*gates, *(await confirm(world, plan, lambda _finding: None)).findings]
        ingress = await ingress_of(world)  # a file that was edited by hand is no gate: quick-check tells of it
        return [*gates, ingress] if ingress.verdict is Verdict.PASS else gates

    title, junit = f"Gates for {branch or world.policy_ref}", given["junit"]
    return show_findings(session, title, asyncio.run(judge()), frozenset(), junit if isinstance(junit, Path) else None)


def judged_world(env: Environment) -> World:
    """As `world_of`, for gates alone: an env file that cannot be read is theirs to tell, and no reason to ask none."""
    world = world_of(env)

    def fingerprint() -> str:
        try:
            return world.fingerprint()
        except Refused:
            return ""

    return dataclasses.replace(world, fingerprint=fingerprint)


def _record(session: Session, given: dict[str, object]) -> int:
    if session.server is not None or given["environment"] or given["branch"] or given["waivers"] or given["junit"]:
        raise UsageError(
            "--record runs the checks in a clone on this machine: it takes no --host, --env, --branch, --waive and no "
            "--junit.",
            next="sluice check --record --push",
        )
    who = asyncio.run(_recorded(_say(session), given))
    if session.json:
        click.echo(msgspec.json.encode({"event": "recorded", **msgspec.to_builtins(who)}))
    return 0


def _say(session: Session) -> Progress:
    def say(text: str) -> None:
        click.echo(text, err=session.json)

    return say


async def _recorded(say: Progress, given: dict[str, object]) -> Attestation:
    runner, key = LocalRunner(Redactor()), given["key"]
    clone = await Clone.open(Path(str(given["repo"])), runner)
    policy = str(given["policy"]) or ("origin/main" if await clone.has("origin/main") else "main")
    spec = load_service(*await policy_spec(clone, policy, SPEC_PATHS))
    made = Recording(
        clone=clone,
        runner=runner,
        clock=SystemClock(),
        policy=spec,
        key=Path(str(key)).absolute() if key else None,
        progress=say,
        version=own_version(),
    )
    if await clone.dirty(Path(str(given["repo"]))):
        say(f"uncommitted changes are no part of it: {given['ref']} is checked as it was committed")
    done = await record(made, str(given["ref"]))
    remote = str(given["remote"])
    if given["push"]:
        await clone.push_notes(remote, done.principal)
        say(f"pushed to {without_password(remote)}")
    else:
        say(f"not pushed yet; the server sees it after: git push {without_password(remote)} {NOTES}")
    return done
