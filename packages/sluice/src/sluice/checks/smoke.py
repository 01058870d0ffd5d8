"""The smoke of one address: the built-in checks beside the service's own plug-in, line by line as it speaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sluice.checks.builtin import Target, server_probes
from sluice.checks.plugin import PluginCall, broken, deadline_after, parse_line
from sluice.checks.together import OnFinding, ask_all
from sluice.model.errors import SluiceError
from sluice.model.release import Completed
from sluice.model.verdict import Finding, Verdict
from sluice.ports import Runner

# How long a plug-in may take to end by itself once its own deadline has passed.
KILL_GRACE_S = 1.0
MAX_FINDINGS = 200  # more lines than this is a plug-in gone wild


@dataclass(frozen=True)
class SmokeContext:
    """One smoke of one address; `argv`, the plug-in, is rendered already.

    `credentials` makes them and removes them afterwards; entering it may raise SluiceError.
    """

    target: Target
    argv: tuple[str, ...]
    credentials: Callable[[], AbstractAsyncContextManager[Path | None]]
    environment: str
    runner: Runner
    timeout_s: float


async def run_smoke(context: SmokeContext, required: frozenset[str], on_finding: OnFinding) -> list[Finding]:
    """Every check of the smoke; each goes to `on_finding` as soon as it is known.

    All are asked at the same time, the plug-in as soon as it has its credentials; the built-in ones are given first.
    A check that breaks, credentials that cannot be made, and a crash, nonsense or silence of the plug-in, is the
    verdict `error`, never a fail; a required check that did not come is `inconclusive`. Cancellation kills the plug-in.
    """
    own: list[Finding] = []

    def say(finding: Finding) -> None:
        own.append(finding)
        on_finding(finding)

    builtin = asyncio.create_task(
        ask_all(server_probes(context.target), on_finding, context.target.redact), name="built-in checks"
    )
    try:
        if context.argv:
            await _with_credentials(context, say)
        findings = await builtin
    finally:
        builtin.cancel()
        await asyncio.gather(builtin, return_exceptions=True)
    findings += own
    for finding in missing(findings, required):
        findings.append(finding)
        on_finding(finding)
    return findings


def missing(findings: list[Finding], required: frozenset[str]) -> list[Finding]:
    """One `inconclusive` for every required check that was not judged."""
    judged = {finding.name for finding in findings if finding.verdict is not Verdict.SKIPPED}
    skipped = {finding.name for finding in findings if finding.verdict is Verdict.SKIPPED}
    return [
        Finding(
            name,
            Verdict.INCONCLUSIVE,
            detail=f"Required by the policy, but {'skipped' if name in skipped else 'no plug-in reported it'}.",
            fix=f"make [smoke] command report {name!r}, or take it out of [watch] required_checks in the policy",
        )
        for name in sorted(required - judged)
    ]


async def _with_credentials(context: SmokeContext, say: OnFinding) -> None:
    async with AsyncExitStack() as stack:
        try:
            credentials = await stack.enter_async_context(context.credentials())
        except SluiceError as failure:
            say(no_credentials(failure))
        else:
            await _run_plugin(context, credentials, say)


def no_credentials(failure: SluiceError) -> Finding:
    """Without credentials nothing can be judged; that is no proof against the release."""
    return Finding("credentials", Verdict.ERROR, detail=failure.what, fix=failure.next)


async def _run_plugin(context: SmokeContext, credentials: Path | None, say: OnFinding) -> None:
    started = time.monotonic()
    reader = LineReader(say)
    target = context.target
    call = PluginCall(
        url=target.url,
        public_url=target.host.public_url,
        release=target.release.id,
        environment=context.environment,
        expect_sso_host=target.host.expect_sso_host,
        credentials=credentials,
        ca_file=target.host.ca_file,
    )
    done = await context.runner.run(
        context.argv,
        timeout_s=context.timeout_s + KILL_GRACE_S,
        environment=call.variables(deadline_after(target.clock.now(), context.timeout_s)),
        on_line=reader.live,
    )
    reader.finish(done.stdout)
    if problem := verdict_on(done, reader):
        say(
            Finding("plug-in", problem.verdict, round((time.monotonic() - started) * 1000), problem.detail, problem.fix)
        )


@dataclass
class LineReader:
    """Findings out of a plug-in's output: live while it speaks, and complete once it ended."""

    say: OnFinding
    limit: int = MAX_FINDINGS
    found: list[Finding] = field(default_factory=list)
    nonsense: int = 0  # number of the first line that was not a check; 0: none
    said: set[str] = field(default_factory=set)

    def live(self, line: str) -> None:
        """A line of its output or of its errors, as it comes; what is not a check is judged at the end only."""
        if line not in self.said and len(self.found) < self.limit and (finding := parse_line(line)):
            self._take(line, finding)

    def finish(self, stdout: str) -> None:
        """The whole output: whatever was not seen live, and whether every line kept the promise."""
        for number, line in enumerate(stdout.split("\n"), 1):
            if not line.strip() or line in self.said:
                continue
            finding = parse_line(line)
            if finding is None or len(self.found) >= self.limit:
                self.nonsense = self.nonsense or number
            else:
                self._take(line, finding)

    def _take(self, line: str, finding: Finding) -> None:
        self.said.add(line)
        self.found.append(finding)
        self.say(finding)


def verdict_on(done: Completed, reader: LineReader) -> Finding | None:
    """What is wrong with how the plug-in itself ended, or None."""
    bad = [finding for finding in reader.found if finding.verdict is not Verdict.PASS]
    if done.timed_out:
        return broken(f"it was killed at its deadline after {done.ms} ms")
    if reader.nonsense:
        return broken(f"line {reader.nonsense} of its output is not a check")
    if done.exit_code not in {0, 1}:
        return broken(f"it ended with exit code {done.exit_code}; its last words: {_last_words(done.stderr)}")
    if not reader.found:
        return broken(f"it reported nothing (exit code {done.exit_code}); its last words: {_last_words(done.stderr)}")
    if done.exit_code == 1 and not bad:
        return broken("it ended with exit code 1, but every check it reported passed")
    return None


def _last_words(stderr: str) -> str:
    lines = [line.strip() for line in stderr.split("\n") if line.strip()]
    return lines[-1][:200] if lines else "none"
