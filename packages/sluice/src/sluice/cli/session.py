"""What a command knows of its surroundings, and how it puts a run's world together."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import getpass
import itertools
import os
import secrets
import select
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from sluice.cli.telling import Telling
from sluice.config import Environment, load_host, load_service, open_environment
from sluice.drive import Drive, Report, Request, Result, Tell, World
from sluice.drive.judge import HostJudge
from sluice.drive.proof import unpinned, vouched_records
from sluice.drive.settings import settings_of
from sluice.drive.siblings import siblings_of
from sluice.drive.world import Elsewhere, PromotionMeans, Sibling
from sluice.hosts.anchor import GitAnchor
from sluice.hosts.approvals import FileApprovals
from sluice.hosts.notify import Notifier
from sluice.hosts.owner import owner_of
from sluice.hosts.releases import FileReleases
from sluice.hosts.signing import verify
from sluice.hosts.ssh import Server
from sluice.hosts.state import StatePaths, default_root
from sluice.journal import recorded_runs, redact_tree
from sluice.ledger import Ledger, PublicKey
from sluice.model.errors import ExitCode, Refused, SluiceError, UsageError
from sluice.model.spec import EnvironmentName, HostConfig

T = TypeVar("T")
ENVIRONMENT = "environment"  # the parameter behind --env, of every command that has it
# For the word "go" of a caller far away. He says it at once; a line that died meanwhile says nothing for ever.
GO_S = 60.0
# After these the world is known and one good release serves, or none did: whoever only asked to resume is content.
SETTLED = frozenset({ExitCode.DONE, ExitCode.REFUSED, ExitCode.ROLLED_BACK, ExitCode.USAGE})


DEMO = "demo = true in host.toml: test and prod may share this host under one user, which no real host should"


@dataclass
class Session:
    """One command's surroundings; filled by the global options."""

    after_entry: Callable[[str], None] | None = None
    host_config: Path | None = None
    debug: bool = False
    json: bool = False
    journals: Path | None = None  # set while a command mutates an environment
    opened: Environment | None = None
    server: Server | None = None  # the command is for Sluice there
    on_call: bool = False  # a `sluice --host` elsewhere reads our JSON lines
    notes: list[str] = field(default_factory=list)  # said at the beginning of the run

    def host(self) -> HostConfig:
        """Raises ConfigError."""
        chosen = self.host_config or os.environ.get("SLUICE_HOST_CONFIG")
        return load_host(Path(chosen) if chosen else None)

    def environments(self) -> list[str]:
        """The names of the environments of this host, `test` first; none where host.toml cannot be read."""
        with contextlib.suppress(SluiceError):
            named = {env.value for service in self.host().service.values() for env in service.env}
            return sorted(named, reverse=True) if self.server is None else []
        return []

    def environment(self, service: str | None, environment: str) -> Environment:
        """The environment a command names. `service` may be None where the host has only one."""
        host = self.host()
        if service is None:
            if len(host.service) != 1:
                raise UsageError(
                    f"this host has {len(host.service)} services.", next=f"--service {' | '.join(sorted(host.service))}"
                )
            (service,) = host.service
        self.opened = open_environment(host, default_root(os.environ), service, environment)
        return self.opened

    def redact(self, text: str) -> str:
        """The text without the environment's secrets, as far as one was opened."""
        return self.opened.redactor(text) if self.opened else text

    def redact_tree(self, value: Any) -> Any:
        """The same shape with every string redacted."""
        return redact_tree(value, self.opened.redactor) if self.opened else value


def world_of(env: Environment) -> World:
    """The world a drive acts upon."""

    def fingerprint() -> str:
        env.env_file.check()
        return env.env_file.fingerprint(env.paths.read_host_key())

    return World(
        service=env.service,
        environment=env.name,
        public_url=env.host.public_url,
        policy_ref=env.host_service.policy_ref,
        paths=env.paths,
        repo=env.repo,
        runtime=env.runtime,
        ingress=env.ingress,
        releases=env.releases,
        judge=HostJudge(env),
        fingerprint=fingerprint,
        redactor=env.redactor,
        clock=env.clock,
        new_run_id=new_run_id,
        load_service=load_service,
        siblings=lambda: siblings_of(env),
        promotion=_promotion(env),
        settings=settings_of(env),
        anchor=anchor_of(env).push if env.host_service.anchor else None,
        remembered=anchor_of(env).remembered if env.host_service.anchor else None,
        notify=Notifier(Path(env.settings.notify_file), env.runner) if env.settings.notify_file else None,
    )


def anchor_of(env: Environment, environment: EnvironmentName | None = None) -> GitAnchor:
    """The anchor of this environment's ledger, or of another environment's of the service."""
    name = (environment or env.name).value
    paths = StatePaths(env.paths.root, env.service, name)
    return GitAnchor(env.paths.repo, env.host_service.repo, env.runner, paths.ledger, f"{env.service}/{name}")


def _promotion(env: Environment) -> PromotionMeans | None:
    """Where nothing but promotions may go; what proves them is the service's test environment, here or elsewhere."""
    if env.name is not EnvironmentName.PROD:
        return None
    paths = StatePaths(env.paths.root, env.service, EnvironmentName.TEST.value)
    here = EnvironmentName.TEST in env.host_service.env
    return PromotionMeans(
        test=Sibling(paths, FileReleases(paths), env.host.keep_releases) if here else Elsewhere(lambda: _vouched(env)),
        approvals=FileApprovals(env.paths.env_dir / "approvals"),
        verify=functools.partial(verify, env.runner),
        runner=env.runner,
        doubt=lambda: _doubt(env),
    )


async def _vouched(env: Environment) -> Sequence[dict[str, Any]]:
    """The records of test on another host. Raises Denied."""
    pinned = env.host_service.test_ledger_key
    if not pinned:
        raise unpinned(env.service)
    copy = await anchor_of(env, EnvironmentName.TEST).origin(PublicKey.parse(pinned))
    return vouched_records(copy, env.service)


async def _doubt(env: Environment) -> str:
    """Why the ledgers of this host that a promotion stands on are not believed, in a sentence; "" when they hold.

    Chain, signatures and journals always, and the copy on the origin where there is one.
    """
    for name in sorted(env.host_service.env, reverse=True):
        paths = StatePaths(env.paths.root, env.service, name.value)
        problems = list(
            Ledger(paths.ledger).verify(recorded_runs(paths.journal_dir), (env.service, name.value)).problems
        )
        if env.host_service.anchor:
            problems += (await anchor_of(env, name).compare()).problems
        if problems:
            return f"The ledger of {name.value} does not hold: {problems[0].sentence}."
    return ""


def own_version() -> str:
    """Of this Sluice."""
    from importlib.metadata import version  # it reads mail headers: a tenth of the start of every command

    return version("sluice")


def new_run_id() -> str:
    """Time-ordered to the microsecond, unique by its random end."""
    now = dt.datetime.now(dt.UTC)
    return f"{now:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(2)}"


def request_of(
    owner: str | None, branch: str = "", override: str = "", waivers: Mapping[str, str] | None = None
) -> Request:
    """Who asks: the principal of the SSH key first, then --owner, then the user and host of this process."""
    try:
        user = os.environ.get("USER") or getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = str(os.getuid())
    user = os.fsencode(user).decode(errors="replace")  # a name of the environment may be any bytes; a record is text
    context = click.get_current_context(silent=True)
    session = context.find_object(Session) if context is not None else None
    owners = session.host().host.owners if session is not None else ""
    found = owner_of(os.environ, owners, owner or "", f"{user}@{socket.gethostname()}")
    if found.note and session is not None:
        session.notes.append(found.note)
    return Request(found.name, found.source, branch, override, waivers or {})


def missing(option: str, otherwise: str = "") -> click.MissingParameter:
    """The error for an option that a command needs only sometimes. `otherwise`: what may be given in its stead."""
    context = click.get_current_context()
    parameter = next(one for one in context.command.params if one.name == option)
    return click.MissingParameter(otherwise or None, ctx=context, param=parameter)


def exit_code_of(result: Any) -> int:
    """What the shell is told about the result of a drive; of several recovered runs, the first that wants a person."""
    if isinstance(result, list):
        return next((one.exit_code for one in result if one.exit_code not in SETTLED), 0)
    return result.exit_code if isinstance(result, Result) else 0


def drive_to_end(
    session: Session, env: Environment, tell: Tell, use: Callable[[Drive], Awaitable[T]], on_signal: Callable[[], None]
) -> T:
    """Run a mutating command. SIGINT and SIGTERM ask the drive for an orderly end; a lost terminal stops nothing.

    What it says also goes into the run's transcript, whose name is that of the run itself.
    """
    run, context = new_run_id(), click.get_current_context(silent=True)
    what = context.command_path if context is not None else ""
    telling = Telling(tell, env.paths.runs_dir, run, env.clock.now, what)
    if session.on_call:
        tell(Report("hello", env.clock.now(), run, text=own_version()))
        _await_go()
    world = replace(world_of(env), new_run_id=itertools.chain([run], iter(new_run_id, "")).__next__)

    async def drive() -> T:
        made = Drive(world, telling, session.after_entry)
        _on_signals(made, on_signal)
        asked = use(made)
        for text in session.notes:
            telling.note(text)
        return await asked

    if env.host_service.demo:
        session.notes.append(DEMO)
    session.journals = env.paths.journal_dir
    code: int = ExitCode.ROLLBACK_FAILED
    try:
        result = asyncio.run(drive())
        code = exit_code_of(result)
    except SluiceError as error:
        telling.note(session.redact(str(error)), shown=False)  # the command itself ends with this very message
        code = error.exit_code
        raise
    finally:
        telling.end(code, shown=session.on_call)
    session.journals = None
    return result


def _on_signals(drive: Drive, on_signal: Callable[[], None]) -> None:
    def stop() -> None:
        on_signal()
        drive.interrupt()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)


def _await_go() -> None:
    """Nothing is touched before the caller knows which run to ask for when the line breaks. Raises Refused."""
    ready, _, _ = select.select([sys.stdin], [], [], GO_S)
    if not ready or sys.stdin.readline().strip() != "go":
        raise Refused("whoever called went away before the run began.")
