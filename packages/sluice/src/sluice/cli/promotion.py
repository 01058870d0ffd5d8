"""The way to prod: look at the plan, sign it, promote what was proven. Who signs, signs a text that can be read."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from sluice.cli.commands import Record, cli, in_environment, mutate, write_record
from sluice.cli.remote_sign import must_agree
from sluice.cli.session import Session, request_of, world_of
from sluice.cli.waiving import waive_option
from sluice.config import Environment
from sluice.drive import Result
from sluice.drive.confirmation import plan_data, plan_text
from sluice.drive.desk import desk_for, must_be_asked, must_count
from sluice.drive.facts import Plan
from sluice.drive.planning import plan_rollout
from sluice.drive.promotion import exceptions_of, plan_promotion
from sluice.drive.world import World
from sluice.hosts.signing import known_fingerprint, sign
from sluice.model.errors import UsageError
from sluice.model.policy import Role
from sluice.model.promotion import Approval, document, expiry
from sluice.model.spec import EnvironmentName

BEGIN = "-----BEGIN SSH SIGNATURE-----"
MAX_SIGNED = 128 * 1024  # lines of a policy change have up to 2,000 letters; a signature, a few thousand


def _quiet(_text: str) -> None:
    """What a plan says on the way is for runs."""


@cli.command(short_help="Say what a rollout or a promotion would do now.")
@click.option("--branch", default="", help="The branch; of prod always the policy's own.")
@click.option("--override", default="", help="As it would be given to promote: a part of the plan.")
@waive_option
@in_environment
def plan(session: Session, env: Environment, branch: str, override: str, waivers: dict[str, str]) -> int:
    """Say what a rollout or a promotion would do now; changes nothing."""
    world = world_of(env)
    if env.name is not EnvironmentName.PROD and not branch:
        raise UsageError("which branch?", next="--branch BRANCH")
    following: list[str] = []
    if env.name is EnvironmentName.PROD:
        made, given, following = asyncio.run(_confirmed(world, branch, exceptions_of(world, waivers, override)))
    else:
        made, given = asyncio.run(plan_rollout(world, branch, _quiet)), []
    shown = made, world.environment.value, given
    if session.json:
        told = {"plan": msgspec.to_builtins(made), "confirmation": plan_data(*shown)}
        click.echo(msgspec.json.encode({"event": "plan", **session.redact_tree(told)}))
    else:
        same = _again(override, waivers)
        typed = [f"{' ' * 8 if at else '  Next: '}{command}{same}" for at, command in enumerate(following)]
        click.echo(session.redact("\n".join([plan_text(*shown), *typed])))
    return 0


async def _confirmed(world: World, branch: str, exceptions: dict[str, str]) -> tuple[Plan, list[Approval], list[str]]:
    """The plan, who approved it, and what is to be typed until it is promoted."""
    made = await plan_promotion(world, branch, _quiet, exceptions)
    desk = await desk_for(world, made)
    return made, await desk.given(), [*await desk.open(), "sluice promote --env prod"]


def _again(override: str, waivers: dict[str, str]) -> str:
    """The options that are a part of the plan, as they are typed."""
    words = [f"--waive {gate}={shlex.quote(reason)}" for gate, reason in waivers.items()]
    return "".join(f" {word}" for word in [*words, *([f"--override {shlex.quote(override)}"] if override else [])])


@cli.command(short_help="Bring to prod the very artifact that passed test.")
@click.option("--branch", default="", help="The policy's own branch, and no other.")
@click.option("--owner", help="Who answers for this run (else the SSH key's principal, or $USER@host).")
@click.option("--override", default="", help="Why an artifact that failed before may be tried again; recorded.")
@waive_option
@in_environment
def promote(
    session: Session, env: Environment, branch: str, owner: str | None, override: str, waivers: dict[str, str]
) -> int:
    """Bring to prod the very artifact that passed test, once it is merged and approved, or change nothing."""
    request = request_of(owner, branch, override, waivers)
    result: Result = mutate(session, env, lambda drive: drive.promote(request))
    return result.exit_code


def _signing(command: Callable[..., int]) -> Callable[..., int]:
    """The ways to hand in a signature: by a key that is here, or by a text signed elsewhere."""
    for option in (
        click.option("--override", default="", help="As it will be given to promote: a part of what is signed."),
        waive_option,
        click.option("--owner", help="Who hands it in (else the SSH key's principal, or $USER@host)."),
        click.option(
            "--signed", type=click.File(), help="A text signed elsewhere, and its signature under it; -: stdin."
        ),
        click.option("--print", "show", is_flag=True, help="Print the text to be signed, and change nothing."),
        click.option("--yes", is_flag=True, help="Sign without being asked; with --host needed where no terminal is."),
        click.option("--key", type=click.Path(path_type=Path), help="Sign here and now with this SSH key."),
    ):
        command = option(command)
    return command


@cli.command(short_help="Approve what `sluice plan --env prod` shows, by SSH key.")
@_signing
@in_environment
def approve(session: Session, env: Environment, **given: Any) -> int:
    """Approve what `sluice plan --env prod` shows, with an SSH key that the policy's [signers] name."""
    return _hand_in(session, env, Role.APPROVE, "", Given(**given))


@cli.command("sign-off", short_help="Sign off one item of the pre-prod checklist.")
@click.option("--item", required=True, help="The id of the checklist's item.")
@_signing
@in_environment
def sign_off(session: Session, env: Environment, item: str, **given: Any) -> int:
    """Sign off one item of the pre-prod checklist, with an SSH key that the policy's [signers] name."""
    return _hand_in(session, env, Role.CHECKLIST, item, Given(**given))


@dataclass(frozen=True)
class Given:
    """The options of a command that takes a signature in."""

    key: Path | None
    yes: bool
    show: bool
    signed: IO[str] | None
    owner: str | None
    override: str
    waivers: dict[str, str]


def _hand_in(session: Session, env: Environment, role: Role, item: str, given: Given) -> int:
    world = world_of(env)
    if given.show:
        made = asyncio.run(plan_promotion(world, "", _quiet, exceptions_of(world, given.waivers, given.override)))
        if role is Role.CHECKLIST:
            must_be_asked(made, item)
        click.echo(_text(world, made, item), nl=False)
        return 0
    key = given.key
    if (key is None) == (given.signed is None):
        raise UsageError("sign with which key?", next="--key PATH; or sign what --print shows, and --signed FILE")

    async def signed(made: Plan) -> tuple[str, str]:
        if key is None:
            return _parted(given.signed)
        if role is Role.CHECKLIST:
            must_be_asked(made, item)
        what = _text(world, made, item)
        # Before anybody reads a page and touches a token: what is refused anyway is refused, and recorded, at once.
        if found := known_fingerprint(key):
            must_count(made, role, found, what)
        if not session.json:
            click.echo(what, nl=False)
            must_agree(yes=given.yes, unasked=True)
        return what, await sign(env.runner, what.encode(), key, role)

    request = request_of(given.owner, override=given.override, waivers=given.waivers)
    return write_record(session, env, lambda drive: drive.sign(request, role, signed), _show_signed)


def _text(world: World, made: Plan, item: str) -> str:
    if made.promotion is None:
        raise LookupError("not a promotion")
    expires = expiry(world.clock.now(), made.promotion.rules.approval_ttl_s)
    return document((world.service, world.environment.value), made.hash, made.promotion, expires, item)


def _parted(file: IO[str] | None) -> tuple[str, str]:
    """The text, and the signature under it. Raises UsageError."""
    try:
        whole = file.read(MAX_SIGNED) if file else ""
    except UnicodeDecodeError as error:
        raise UsageError("what was handed in is not text.", next="sign what --print shows") from error
    text, begin, signature = whole.partition(BEGIN)
    if not begin:
        raise UsageError(
            "there is no signature under the text.",
            next="cat TEXT TEXT.sig, where ssh-keygen -Y sign wrote TEXT.sig",
        )
    return text, begin + signature


def _show_signed(record: Record) -> None:
    item = f", item {record['item']}" if record["item"] else ""
    click.echo(
        f"\nSigned by {record['principal']} ({record['signed_with']}){item}, until {record['expires']}. "
        f"Ledger record {record['n']}."
    )
