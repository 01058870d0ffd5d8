"""The built-in checks of one address, as questions that can be asked at the same time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from sluice.checks.containers import COMPLETE, SERVED, UP, ask_containers, moment
from sluice.checks.domain import DNS, REDIRECT, TLS, domain_dns, domain_redirect, domain_tls
from sluice.checks.http import PROBE_TIMEOUT_S, health
from sluice.checks.logs import NAME as LOGS
from sluice.checks.logs import SHARED_ALONE, judge_logs
from sluice.checks.served import read_back, read_header, served_in_slot
from sluice.checks.together import Probe, aside, probe_of
from sluice.checks.websocket import NAME as WEBSOCKET
from sluice.checks.websocket import websocket
from sluice.model.containers import Containers
from sluice.model.logs import Logs
from sluice.model.release import Release, Slot
from sluice.model.spec import ChecksSpec, HostEnvironment
from sluice.model.verdict import Finding, Verdict
from sluice.ports import Clock

# A public address was read back after the switch already; a moment more costs nothing and spares a race.
SERVED_TIMEOUT_S = 1.0
# The engine and its logs answer in milliseconds; on two busy cores a second has been seen.
ENGINE_S = 10.0
# Deadlines of the network checks: their own ones inside, and a little to say so themselves.
MARGIN_S = 2.0


class Asked(Protocol):
    """What the checks ask of a runtime (ports.Runtime has it)."""

    async def containers(self, release: Release, slot: Slot) -> Containers | None: ...

    async def logs(self, release: Release, slot: Slot, lines: int) -> Logs: ...

    async def alive(self, slot: Slot) -> bool: ...


@dataclass(frozen=True)
class Target:
    """One address of one release, and whom the checks may ask about it."""

    url: str  # a slot's private address, or the public one
    public: bool
    release: Release
    slot: Slot
    runtime: Asked
    checks: ChecksSpec  # of the policy
    host: HostEnvironment
    clock: Clock
    redact: Callable[[str], str] = str
    touched: float = 0.0  # Unix seconds: when Sluice itself last acted here
    patience_s: float = 0.0  # how long a healthcheck that is still `starting` is waited for

    @property
    def ca_file(self) -> str:
        """Whom to believe at this address."""
        return self.host.ca_file if self.public else ""


def server_probes(target: Target) -> list[Probe]:
    """Every built-in check of the address: the domain only of the public one."""
    probes = [
        probe_of("http-health", lambda: health(target.url, target.release.spec.run, target.ca_file), _http(2)),
        *_served(target),
        probe_of(LOGS, lambda: _logs(target), ENGINE_S),
        probe_of(WEBSOCKET, lambda: _websocket(target), 5 + MARGIN_S),
    ]
    return probes + domain_probes(target) if target.public else probes


def domain_probes(target: Target) -> list[Probe]:
    """The three questions about the public URL itself."""
    url, host = target.host.public_url, target.host
    now = moment(target.clock.now())
    path = target.release.spec.run.health_path
    return [
        probe_of(DNS, lambda: domain_dns(url), 3 + MARGIN_S),
        probe_of(TLS, lambda: domain_tls(url, host.ca_file, target.checks.certificate_days, now), 3 + MARGIN_S),
        probe_of(REDIRECT, lambda: domain_redirect(url, host.redirect_http, path), _http(1)),
    ]


def _http(questions: int) -> float:
    return questions * PROBE_TIMEOUT_S + MARGIN_S


def _served(target: Target) -> list[Probe]:
    """`served-release` and the containers: one question where the containers are the only witness."""
    by_slot = not target.public and not target.release.spec.run.version_path

    async def containers() -> list[Finding]:
        asked = lambda: target.runtime.containers(target.release, target.slot)  # noqa: E731
        findings, now = await ask_containers(asked, target.clock, target.touched, target.patience_s)
        if by_slot:
            alive = now is None and await target.runtime.alive(target.slot)
            findings.insert(0, served_in_slot(target.release, target.slot, now, alive=alive))
        return findings

    names = (SERVED, UP, COMPLETE) if by_slot else (UP, COMPLETE)
    probes = [Probe(names, containers, ENGINE_S + target.patience_s)]
    if not by_slot:
        probes.insert(
            0, probe_of(SERVED, lambda: served_release(target, SERVED_TIMEOUT_S), SERVED_TIMEOUT_S + _http(1))
        )
    return probes


async def served_release(target: Target, timeout_s: float) -> Finding:
    """The check `served-release` of this address. Waits `timeout_s` for a service that names its release."""
    run = target.release.spec.run
    if run.version_path:
        return await read_back(target.url, run, target.release.commit, timeout_s, target.ca_file)
    if target.public:
        return await read_header(target.url, run, target.release.id, target.ca_file)
    now = await target.runtime.containers(target.release, target.slot)
    alive = now is None and await target.runtime.alive(target.slot)
    return served_in_slot(target.release, target.slot, now, alive=alive)


async def _logs(target: Target) -> Finding:
    logs = await target.runtime.logs(target.release, target.slot, target.checks.log_lines)
    # Patterns of [checks] are the operator's own; a slow one must not hold up the other checks.
    finding = await aside(lambda: judge_logs(logs, target.checks, target.redact))
    if finding.verdict is not Verdict.FAIL:
        return finding
    now = await target.runtime.containers(target.release, target.slot)
    own = {one.service for one in now.found if one.project == target.slot.unit} if now is not None else None
    shared = own is not None and own.isdisjoint(finding.metrics["services"])
    return msgspec.structs.replace(finding, metrics={**finding.metrics, SHARED_ALONE: shared})


async def _websocket(target: Target) -> Finding:
    return await websocket(target.url, target.host.public_url, target.checks, target.ca_file)
