"""Gates, checks and criteria of this host, as the `Judge` a run asks."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.checks import SmokeContext, Target, no_credentials, run_smoke, served_release, wait_ready
from sluice.checks.host import disk
from sluice.checks.together import ask_all, probe_of
from sluice.config import Environment
from sluice.drive.world import OnFinding, OnReading
from sluice.hosts.forge import Forge
from sluice.journal import SUFFIX as JOURNAL
from sluice.ledger import Ledger
from sluice.lock import is_held
from sluice.model.errors import SluiceError
from sluice.model.release import Commit, Release, Slot
from sluice.model.secret import Secret
from sluice.model.spec import ChecksSpec, RuntimeName, ServiceSpec
from sluice.model.verdict import Finding
from sluice.runtimes.placeholders import render, values

if TYPE_CHECKING:
    from sluice.criteria import WatchContext
    from sluice.gates.context import Asked

READ_BACK_S = 10.0  # of one question; an engine under load needs seconds to list its containers


@dataclass(frozen=True, slots=True)
class HostJudge:
    """`Judge` over the real gates, checks and criteria."""

    environment: Environment

    async def gates(
        self, commit: Commit, candidate: ServiceSpec, policy: ServiceSpec, on_finding: OnFinding, asked: Asked
    ) -> list[Finding]:
        """The gates of the policy, never the candidate's own."""
        # Here and in `watch`: every command makes a judge, and few ask it for these.
        from sluice.gates.context import GateContext
        from sluice.gates.run import run_gates

        env = self.environment
        context = GateContext(
            repo=env.repo,
            commit=commit,
            policy=policy.gates,
            policy_ref=env.host_service.policy_ref,
            candidate=candidate,
            env_file=env.env_file,
            environment=env.name,
            clock=env.clock,
            runner=env.runner,
            overlaps=lambda: env.runtime.overlaps(commit, candidate),
            signers=policy.signers,
            forge=Forge(env.host_service.forge, env.redactor) if env.host_service.forge else None,
            asked=asked,
            records=lambda: Ledger(env.paths.ledger).records(),
            startable=env.runtime.startable,
            disk=self._disk,
        )
        return await run_gates(context, on_finding)

    async def _disk(self) -> Finding:
        env = self.environment
        engine = env.settings.docker if env.host.runtime is RuntimeName.COMPOSE else ""
        return await disk(env.paths.root, engine, env.settings.min_free_mb)

    async def ready(self, release: Release, slot: Slot) -> Finding:
        """See Judge."""
        runtime = self.environment.runtime

        async def alive() -> bool:
            return await runtime.alive(slot)

        return await wait_ready(slot.url, release.spec.run, self.environment.clock, alive)

    async def read_back(self, url: str, release: Release, slot: Slot | None = None) -> Finding:
        """One question; whoever waits asks again."""
        public = url == self.environment.host.public_url
        nowhere = Slot(release.id, "", 0, url)
        target = self.target(release, slot or nowhere, release.spec.checks, public=public)
        asked = probe_of("served-release", lambda: served_release(target, 0), READ_BACK_S)
        return (await ask_all([asked], lambda _finding: None, self.environment.redactor))[0]

    def target(self, release: Release, slot: Slot, checks: ChecksSpec, *, public: bool) -> Target:
        """What the built-in checks are told of one address."""
        env = self.environment
        return Target(
            url=env.host.public_url if public else slot.url,
            public=public,
            release=release,
            slot=slot,
            runtime=env.runtime,
            checks=checks,
            host=env.host,
            clock=env.clock,
            redact=env.redactor,
            # While a run holds the environment, what has just begun was begun by it.
            touched=math.inf if is_held(env.paths.lock) else _last_entry(env.paths.journal_dir),
        )

    async def smoke(
        self,
        release: Release,
        slot: Slot,
        policy: ServiceSpec,
        on_finding: OnFinding,
        *,
        public: bool,
    ) -> list[Finding]:
        """Built-in checks and the plug-in, with credentials made for this smoke."""
        env = self.environment
        target = self.target(release, slot, policy.checks, public=public)
        context = SmokeContext(
            # A container's own healthcheck may need longer to be sure than three good answers did.
            target=replace(target, patience_s=release.spec.run.ready_timeout_s),
            argv=self._rendered(release.spec.smoke.command, release, slot),
            credentials=lambda: self._credentials(release, slot),
            environment=env.name.value,
            runner=env.runner,
            timeout_s=release.spec.smoke.timeout_s,
        )
        return await run_smoke(context, frozenset(policy.watch.required_checks), on_finding)

    async def watch(
        self,
        new: tuple[Release, Slot],
        old: tuple[Release, Slot] | None,
        policy: ServiceSpec,
        on_finding: OnFinding,
        on_reading: OnReading,
    ) -> list[Finding]:
        """The window of the policy, with the new release's plug-ins on both slots."""
        from sluice.criteria import watch

        async with AsyncExitStack() as stack:
            try:
                credentials = await stack.enter_async_context(self._credentials(*new))
            except SluiceError as failure:
                finding = no_credentials(failure)
                on_finding(finding)
                return [finding]
            return await watch(self._watched(new, old, policy, credentials), on_finding, on_reading)

    def _watched(
        self,
        new: tuple[Release, Slot],
        old: tuple[Release, Slot] | None,
        policy: ServiceSpec,
        credentials: Path | None,
    ) -> WatchContext:
        from sluice.criteria import WatchContext

        env, (release, slot), smoke = self.environment, new, new[0].spec.smoke
        return WatchContext(
            policy=policy.watch,
            run=release.spec.run,
            public_url=env.host.public_url,
            new=slot,
            old=old[1] if old else None,
            canary_argv=self._rendered(smoke.canary, release, slot),
            calls_argv=self._rendered(smoke.calls, release, slot),
            refusals_argv=self._rendered(smoke.refusals, release, slot),
            release=release.id,
            environment=env.name.value,
            credentials=credentials,
            expect_sso_host=env.host.expect_sso_host,
            runner=env.runner,
            clock=env.clock,
            metrics_token=self._metrics_token(policy.watch.metrics_token),
            ca_file=env.host.ca_file,
            restarts=lambda: env.runtime.restarts(slot),
        )

    @asynccontextmanager
    async def _credentials(self, release: Release, slot: Slot) -> AsyncIterator[Path | None]:
        """Made for this use in the slot, and gone after it. Raises SluiceError."""
        credentials = await self.environment.runtime.credentials(release, slot)
        try:
            yield credentials
        finally:
            if credentials is not None:
                credentials.unlink(missing_ok=True)

    def _metrics_token(self, name: str) -> Secret | None:
        """None: there is none, which the criterion tells; an env file that cannot be read was refused by a gate."""
        try:
            return self.environment.env_file.values().get(name) if name else None
        except SluiceError:
            return None

    def _rendered(self, argv: tuple[str, ...], release: Release, slot: Slot) -> tuple[str, ...]:
        known = values(release, slot, self.environment.paths.data_dir)
        return tuple(render(part, known) for part in argv)


def _last_entry(journals: Path) -> float:
    """When the newest run wrote its newest entry; 0 when there was none."""
    newest = max(journals.glob(f"*{JOURNAL}"), default=None, key=lambda path: path.name)
    return newest.stat().st_mtime if newest is not None else 0.0
