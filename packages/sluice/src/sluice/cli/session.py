"""What a command knows of its surroundings, and how it puts a run's world together."""

from __future__ import annotations

import asyncio
import datetime as dt
import getpass
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sluice.config import Environment, load_host, load_service, open_environment
from sluice.drive import Drive, Report, Request, Tell, World
from sluice.drive.judge import HostJudge
from sluice.hosts.state import default_root
from sluice.journal import redact_tree
from sluice.model.errors import UsageError
from sluice.model.spec import HostConfig

T = TypeVar("T")


@dataclass
class Session:
    """One command's surroundings; filled by the global options."""

    after_entry: Callable[[str], None] | None = None
    host_config: Path | None = None
    debug: bool = False
    json: bool = False
    journals: Path | None = None  # set while a command mutates an environment
    opened: Environment | None = None

    def host(self) -> HostConfig:
        """Raises ConfigError."""
        chosen = self.host_config or os.environ.get("SLUICE_HOST_CONFIG")
        return load_host(Path(chosen) if chosen else None)

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
    )


def new_run_id() -> str:
    """Time-ordered to the microsecond, unique by its random end."""
    now = dt.datetime.now(dt.UTC)
    return f"{now:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(2)}"


def request_of(owner: str | None, branch: str = "", override: str = "") -> Request:
    """Who asks: --owner first, else the user and host of this process."""
    if owner:
        return Request(owner, "flag", branch, override)
    try:
        user = os.environ.get("USER") or getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = str(os.getuid())
    return Request(f"{user}@{socket.gethostname()}", "user", branch, override)


def drive_to_end(
    session: Session, env: Environment, tell: Tell, use: Callable[[Drive], Awaitable[T]], on_signal: Callable[[], None]
) -> T:
    """Run a mutating command. SIGINT and SIGTERM ask the drive for an orderly end; a lost terminal stops nothing."""

    async def run() -> T:
        drive = Drive(world_of(env), tell, session.after_entry)

        def stop() -> None:
            on_signal()
            drive.interrupt()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        return await use(drive)

    if env.host_service.demo:
        shared = "demo = true in host.toml: test and prod may share this host under one user, which no real host should"
        tell(Report("note", env.clock.now(), text=shared))
    session.journals = env.paths.journal_dir
    result = asyncio.run(run())
    session.journals = None
    return result
