"""Gates, checks and criteria of this host, as the `Judge` a run asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sluice.checks import SmokeContext, read_back, run_smoke, wait_ready
from sluice.config import Environment
from sluice.criteria import WatchContext, watch
from sluice.drive.world import OnFinding
from sluice.gates import GateContext, run_gates
from sluice.model.errors import SluiceError
from sluice.model.release import Commit, Release, Slot
from sluice.model.spec import ServiceSpec
from sluice.model.verdict import Finding, Verdict
from sluice.runtimes.placeholders import render, values


@dataclass(frozen=True, slots=True)
class HostJudge:
    """`Judge` over the real gates, checks and criteria."""

    environment: Environment

    async def gates(
        self, commit: Commit, candidate: ServiceSpec, policy: ServiceSpec, on_finding: OnFinding
    ) -> list[Finding]:
        """The gates of the policy, never the candidate's own."""
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
        )
        return await run_gates(context, on_finding)

    async def ready(self, release: Release, slot: Slot) -> Finding:
        """See Judge."""
        runtime = self.environment.runtime

        async def alive() -> bool:
            return await runtime.alive(slot)

        return await wait_ready(slot.url, release.spec.run, self.environment.clock, alive)

    async def read_back(self, url: str, release: Release) -> Finding:
        """One question; whoever waits asks again."""
        return await read_back(url, release.spec.run, release.commit, 0)

    async def smoke(
        self, release: Release, slot: Slot, required: frozenset[str], on_finding: OnFinding, *, public: bool
    ) -> list[Finding]:
        """Built-in checks and the plug-in, with credentials made for this smoke."""
        env = self.environment
        try:
            credentials = await env.runtime.credentials(release, slot)
        except SluiceError as failure:
            return [_no_credentials(failure, on_finding)]
        context = SmokeContext(
            url=env.host.public_url if public else slot.url,
            release=release,
            spec=release.spec,
            argv=self._rendered(release.spec.smoke.command, release, slot),
            credentials=credentials,
            expect_sso_host=env.host.expect_sso_host,
            environment=env.name.value,
            runner=env.runner,
            clock=env.clock,
            timeout_s=release.spec.smoke.timeout_s,
            public=public,
            public_url=env.host.public_url,
        )
        try:
            return await run_smoke(context, required, on_finding)
        finally:
            _forget(credentials)

    async def watch(
        self, new: tuple[Release, Slot], old: tuple[Release, Slot] | None, policy: ServiceSpec, on_finding: OnFinding
    ) -> list[Finding]:
        """The window of the policy, with the new release's canary on both slots."""
        env, (release, slot) = self.environment, new
        try:
            credentials = await env.runtime.credentials(release, slot)
        except SluiceError as failure:
            return [_no_credentials(failure, on_finding)]
        context = WatchContext(
            policy=policy.watch,
            run=release.spec.run,
            public_url=env.host.public_url,
            new=slot,
            old=old[1] if old else None,
            canary_argv=self._rendered(release.spec.smoke.canary, release, slot),
            release=release.id,
            environment=env.name.value,
            credentials=credentials,
            expect_sso_host=env.host.expect_sso_host,
            runner=env.runner,
            clock=env.clock,
        )
        try:
            return await watch(context, on_finding)
        finally:
            _forget(credentials)

    def _rendered(self, argv: tuple[str, ...], release: Release, slot: Slot) -> tuple[str, ...]:
        known = values(release, slot, self.environment.paths.data_dir)
        return tuple(render(part, known) for part in argv)


def _no_credentials(failure: SluiceError, on_finding: OnFinding) -> Finding:
    """Without credentials nothing can be judged; that is no proof against the release."""
    finding = Finding("credentials", Verdict.ERROR, detail=failure.what, fix=failure.next)
    on_finding(finding)
    return finding


def _forget(credentials: Path | None) -> None:
    if credentials is not None:
        credentials.unlink(missing_ok=True)
