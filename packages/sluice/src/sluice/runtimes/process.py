"""The `process` runtime: each slot is one process, started by the launcher and kept alive by the host's supervisor."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from sluice.hosts.git import GitMirror
from sluice.hosts.sources import beside_of
from sluice.hosts.state import StatePaths
from sluice.hosts.system import port_is_free
from sluice.model.containers import Containers
from sluice.model.errors import Refused, StepFailed
from sluice.model.logs import Logs, quotable
from sluice.model.release import Artifact, Commit, Completed, Release, Slot
from sluice.model.spec import HostEnvironment, ServiceSpec
from sluice.ports import Progress
from sluice.runner import LocalRunner, minimal_environment
from sluice.runtimes.build import Builder
from sluice.runtimes.client import SupervisorClient, UnitStatus
from sluice.runtimes.credentials import CREDENTIALS_S, keep_credentials
from sluice.runtimes.launch import launch_argv, user
from sluice.runtimes.migration import migrated
from sluice.runtimes.overlap import shared_data
from sluice.runtimes.past import Past
from sluice.runtimes.placeholders import HOST, render, values
from sluice.runtimes.prune import prune_artifacts
from sluice.runtimes.units import BEFORE, UnitSpec

TAIL_BYTES = 256 * 1024  # hundreds of long lines; a log may be megabytes
KEPT_LOGS = 20  # of slots long gone, for the question that comes a week later


class ProcessRuntime:
    """ports.Runtime over plain processes.

    With `run_as` the service, its migrations and commands run as that user; Sluice must be root then. The build does
    not: build backends and npm scripts of a branch run as Sluice's own user.
    """

    def __init__(
        self,
        paths: StatePaths,
        host: HostEnvironment,
        repo: GitMirror,
        runner: LocalRunner,
        past: Past,
        neighbours: Mapping[str, HostEnvironment] | None = None,
    ) -> None:
        """Touches nothing. `neighbours`: every other environment of the host, by `service/env`."""
        self._past = past
        self._paths = paths
        self._host = host
        self._neighbours = neighbours or {}
        self._runner = runner
        self._builder = Builder(paths, repo, runner)
        self._supervisor = SupervisorClient(paths.supervisor_dir)

    async def overlaps(self, commit: Commit, spec: ServiceSpec) -> list[str]:  # noqa: ARG002 - the host's files say all
        """See ports.Runtime. Ports and addresses are apart by host.toml's own rules; data may still be shared."""
        return await asyncio.to_thread(shared_data, self._host, self._neighbours)

    async def build(
        self,
        commit: Commit,
        spec: ServiceSpec,
        progress: Progress,
        images: Mapping[str, str] | None = None,  # noqa: ARG002 - the port's shape
    ) -> Artifact:
        """See ports.Runtime."""
        self._check_user()
        return await self._builder.build(commit, spec, progress)

    async def changed(self, artifact: Artifact) -> str:
        """See ports.Runtime."""
        return await self._builder.changed(artifact)

    async def migrate(self, release: Release, progress: Progress) -> str:
        """See ports.Runtime. Raises StepFailed with the command's last lines."""
        migrate = release.spec.migrate
        run = functools.partial(self._run, release)
        return await migrated(run, migrate.run, migrate.timeout_s, migrate.head, progress)

    def choose_slot(self, release: Release, taken: Sequence[Slot]) -> Slot:
        """See ports.Runtime. The caller records the slot before it starts anything in it."""
        first, last = self._host.ports
        used = {slot.port for slot in taken}
        for port in range(first, last + 1):
            if port not in used and port_is_free(HOST, port):
                unit = f"{release.service}-{release.environment}-{release.id}-{port}"
                return Slot(release.id, unit, port, f"http://{HOST}:{port}")
        raise Refused(
            f"no port of {first}-{last} is free for a new slot.",
            world="Nothing was started; what serves goes on serving.",
            next="widen `ports` in host.toml, or stop what listens there",
        )

    async def start(self, release: Release, slot: Slot) -> None:
        """See ports.Runtime. Raises StepFailed when the supervisor cannot start it."""
        self._prepare_data()
        self._prune_logs()
        argv = self.render(release, slot, release.spec.run.command)
        spec = UnitSpec(
            argv=argv,
            log=str(self._log(slot.unit)),
            settings=self._settings(release, slot),
            env_file=self._host.env_file,
            sources=beside_of(self._host),
            run_as=self._host.run_as,
            directory=str(self._paths.data_dir),
        )
        try:
            await asyncio.to_thread(self._supervisor.start, slot.unit, spec)
        except Refused as error:
            raise StepFailed(error.what, world=error.world, next=error.next) from error

    async def startable(self, release: Release, same_values: bool) -> str:  # noqa: ARG002 - values are the gate's
        """See ports.Runtime."""
        return "" if Path(release.artifact.path).is_dir() else f"its artifact is gone: {release.artifact.path}"

    async def alive(self, slot: Slot) -> bool:
        """See ports.Runtime. Between a crash and the restart that follows it is not alive."""
        status = await self.status(slot)
        return status is not None and status.running

    async def status(self, slot: Slot) -> UnitStatus | None:
        """What the supervisor knows, restarts counted; None when it does not know the slot."""
        return (await asyncio.to_thread(self._supervisor.status)).get(slot.unit)

    async def restarts(self, slot: Slot) -> int:
        """See ports.Runtime."""
        status = await self.status(slot)
        return status.restarts if status is not None else 0

    async def hand_over(self, release: Release, slot: Slot, other: Slot | None) -> None:
        """See ports.Runtime. A slot is one process, and two of them may always run together."""

    async def notify_drain(self, release: Release, slot: Slot) -> None:
        """See ports.Runtime. A slot that has ended has nobody left to tell, which is fine."""
        name = release.spec.run.drain_notify
        if name:
            await asyncio.to_thread(self._supervisor.signal, slot.unit, signal.Signals[name])

    async def stop(self, release: Release, slot: Slot) -> None:
        """See ports.Runtime. Cancelled, the supervisor still ends the slot."""
        await asyncio.to_thread(self._supervisor.stop, slot.unit, release.spec.run.stop_grace_s)
        await asyncio.to_thread(self._supervisor.forget, slot.unit)

    async def credentials(self, release: Release, slot: Slot) -> Path | None:
        """Mint smoke credentials in the slot: the path of a 0600 file that the caller removes when done, or None.

        The redactor knows every long string in them before anybody else does. Raises StepFailed.
        """
        command = release.spec.smoke.credentials
        if not command:
            return None
        argv = self._launched(release, slot, command)
        raw = await self._runner.run_raw(argv, timeout_s=CREDENTIALS_S, environment=minimal_environment())
        return keep_credentials(raw, self._runner.redactor, self._paths.credentials_dir / f"{slot.unit}.json")

    async def containers(self, release: Release, slot: Slot) -> Containers | None:  # noqa: ARG002 - the port's shape
        """See ports.Runtime. A process is in none."""
        return None

    async def logs(self, release: Release, slot: Slot, lines: int) -> Logs:
        """See ports.Runtime. One service, which is the slot."""
        doubt = await self._doubt(release, slot)
        withheld = {release.service: f"{doubt} ({self._log(slot.unit)})"} if doubt else {}
        return Logs({release.service: self._newest(slot, lines)}, withheld)

    async def _doubt(self, release: Release, slot: Slot) -> str:
        """Why the log may hold a secret that the redactor does not know; teaches it those of the process that runs."""
        if missing := await asyncio.to_thread(self._past.doubt):
            return missing
        status = await self.status(slot)
        # Its log began with it: where nothing was started again, every line is of this very process.
        alone = status is not None and status.running and not status.restarts
        if status is not None and alone and self._past.learn_of(status.pid, release.spec.run.environment):
            return ""
        todays = await asyncio.to_thread(self._past.todays, release)
        return "" if todays else "it was started with other values than today's"

    async def prune(self, keep: Sequence[Release], progress: Progress) -> None:
        """See ports.Runtime. Never raises for what cannot be removed: that is said to `progress`."""
        await prune_artifacts(self._paths.artifacts, keep, progress)

    async def tail(self, release: Release, slot: Slot, lines: int) -> list[str]:
        """See ports.Runtime. [] when it never wrote a line."""
        logs = await self.logs(release, slot, lines)
        return quotable(logs, lines) if logs.withheld else logs.lines[release.service]

    def _newest(self, slot: Slot, lines: int) -> list[str]:
        redactor, log = self._runner.redactor, self._log(slot.unit)
        try:
            with log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL_BYTES - redactor.reach))
                raw = file.read()
        except FileNotFoundError:
            return []
        found = redactor.end(raw, TAIL_BYTES).splitlines()
        if log.with_name(f"{log.name}.1").exists():
            del found[:1]  # the supervisor cut the log, and may have done so in the middle of a line, or of a secret
        elif size > TAIL_BYTES:
            found = found[1:] or found
        return found[-lines:] if lines > 0 else []

    def render(self, release: Release, slot: Slot | None, argv: Sequence[str]) -> tuple[str, ...]:
        """An argv list of sluice.toml with its placeholders filled in."""
        known = values(release, slot, self._paths.data_dir)
        return tuple(render(part, known) for part in argv)

    async def _run(self, release: Release, argv: Sequence[str], timeout_s: float) -> Completed:
        self._prepare_data()
        launched = self._launched(release, None, argv)
        return await self._runner.run(launched, timeout_s=timeout_s, environment=minimal_environment())

    def _launched(self, release: Release, slot: Slot | None, argv: Sequence[str]) -> list[str]:
        return launch_argv(
            self.render(release, slot, argv),
            env_file=self._host.env_file,
            sources=beside_of(self._host),
            run_as=self._host.run_as,
            directory=str(self._paths.data_dir),
            settings=self._settings(release, slot),
        )

    def _settings(self, release: Release, slot: Slot | None) -> dict[str, str]:
        known: Mapping[str, str] = values(release, slot, self._paths.data_dir)
        return {name: render(value, known) for name, value in release.spec.run.environment.items()}

    def _check_user(self) -> None:
        """Refuse before anything is built when the release could not be run as its user."""
        if not self._host.run_as:
            return
        account = user(self._host.run_as)
        if os.geteuid() == account.pw_uid:
            return
        for folder in self._paths.artifacts.resolve().parents:
            if not folder.stat().st_mode & 0o001:
                raise Refused(
                    f"the user {self._host.run_as} cannot reach the artifacts: {folder} is closed to others.",
                    next="set SLUICE_STATE to a folder under an open one, e.g. /var/lib/sluice",
                )

    def _prepare_data(self) -> None:
        self._paths.data_dir.mkdir(exist_ok=True, mode=0o700)
        if self._host.run_as and os.geteuid() == 0:
            account = user(self._host.run_as)
            os.chown(self._paths.data_dir, account.pw_uid, account.pw_gid)

    def _log(self, unit: str) -> Path:
        # A unit's name can be long; a hash keeps the file name within the kernel's 255 bytes and still one per unit.
        name = unit if len(unit) < 200 else hashlib.sha256(unit.encode()).hexdigest()
        return self._paths.logs_dir / f"{name}.log"

    def _prune_logs(self) -> None:
        logs = sorted(self._paths.logs_dir.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[KEPT_LOGS:]:
            path.unlink(missing_ok=True)
            for more in (".1", BEFORE):
                path.with_name(f"{path.name}{more}").unlink(missing_ok=True)
