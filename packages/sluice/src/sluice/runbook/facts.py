"""What a runbook is made of: the policy, the host, and the commands there are. Values only; nothing is read here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sluice.model.policy import Role
from sluice.model.spec import EnvironmentName, HostEnvironment, HostSettings, MetricLimit, RuntimeName, ServiceSpec

# The tables of sluice.toml whose settings a runbook may quote.
TABLES = ("run", "gates", "checks", "watch", "promotion")
SERVER, SCRIPTS = "SERVER", "~/srv/edge"  # the words of those who have not installed anything yet


@dataclass(frozen=True)
class Surface:
    """What can be typed: commands of Sluice and the scripts of `sluice shims`, each with its options."""

    commands: Mapping[str, frozenset[str]]  # "log verify" -> its options
    scripts: Mapping[str, Mapping[str, frozenset[str]]]  # script -> verb ("" when it takes none) -> options
    # the one environment a script is for
    fixed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """One service's. Without a host (`environments` is empty) its addresses are placeholders."""

    policy: ServiceSpec
    surface: Surface
    policy_ref: str = "main"
    environment: EnvironmentName = EnvironmentName.TEST
    environments: Mapping[EnvironmentName, HostEnvironment] = field(default_factory=dict)
    settings: HostSettings = field(default_factory=HostSettings)

    def url(self, environment: EnvironmentName) -> str:
        """Where users are, without a slash at the end."""
        known = self.environments.get(environment)
        return known.public_url.rstrip("/") if known else f"https://<{environment.value}-host>"

    @property
    def sso_host(self) -> str:
        """Of the environment that is rolled out to."""
        known = self.environments.get(self.environment)
        return (known.expect_sso_host if known else "") or "<sso-host>"

    @property
    def containers(self) -> bool:
        """Whether the environment's releases are containers; not known without a host, and then assumed."""
        known = self.environments.get(self.environment)
        return known is None or known.runtime is RuntimeName.COMPOSE

    @property
    def redirected(self) -> bool:
        """Whether the operator named where plain HTTP is sent on from."""
        known = self.environments.get(self.environment)
        return bool(known and known.redirect_http)

    def who_may(self, role: Role) -> list[str]:
        """Principals of [signers]."""
        return [name for name, one in self.policy.signers.items() if role in one.may]


def settings_of(policy: ServiceSpec) -> dict[str, Any]:
    """`table.key` -> value, as TOML would hold it; nested tables are left out."""
    whole = msgspec.to_builtins(policy)
    return {f"{table}.{key}": value for table in TABLES for key, value in whole[table].items()}


def digest_of(policy: ServiceSpec) -> str:
    """Twelve letters that are others when anything is that a runbook is made of."""
    whole = msgspec.to_builtins(policy)
    parts = {name: whole[name] for name in (*TABLES, "smoke", "signers", "name")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def setting(key: str, policy: ServiceSpec) -> str:
    """`[watch] health_window = 5`, in backticks: quoted so, `sluice runbook lint` can compare it."""
    table, _, name = key.partition(".")
    value = settings_of(policy)[key]
    return f"`[{table}] {name} = {_toml(value)}`"


def _toml(value: Any) -> str:
    # A whole number of seconds is written as such: people do.
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def values_of(facts: Facts) -> dict[str, str]:
    """What the placeholders of the texts stand for."""
    policy, env = facts.policy, facts.environment.value
    quoted = {key.replace(".", "_"): setting(key, policy) for key in settings_of(policy)}
    branch, of = branch_example(policy.gates.branch), f"--env {env} --service {policy.name}"
    # In a command a placeholder is capitals: <short-name> would be a redirection to the shell it is pasted into.
    typed = branch.replace("<short-name>", "SHORT-NAME")
    required = sorted({*policy.run.required_env, *policy.gates.required_env})
    return quoted | {
        "service": policy.name,
        "ref": facts.policy_ref,
        "env": env,
        "branch": branch,
        "check": f"sluice check --env test --service {policy.name} --branch {typed}",
        "typed_branch": typed,
        "smoke": f"sluice smoke {of}",
        "quick": f"sluice quick-check {of}",
        "log": f"sluice log {of} --run RUN",
        "min_free_mb": str(facts.settings.min_free_mb),
        "url": facts.url(facts.environment),
        "sso": facts.sso_host,
        "health": policy.run.health_path,
        "version": policy.run.version_path or policy.run.health_path,
        "websocket": policy.checks.websocket_path,
        "ws_status": str(policy.checks.websocket_expect),
        "lines": str(policy.checks.log_lines),
        "required_env": ", ".join(f"`{name}`" for name in required) or "—",
        "share": f"{policy.watch.cut_share:.0%}".replace("%", " %"),
        "approvers": ", ".join(facts.who_may(Role.APPROVE)) or "—",
        "counters": "; ".join(counter(one) for one in policy.watch.auth) or "—",
        "approvals": str(policy.promotion.approvals),
        "checks": "; ".join(f"`{' '.join(argv)}`" for argv in policy.gates.checks)
        or ", ".join(policy.gates.checks_status),
        "sources": ", ".join(f"`{one.value}`" for one in policy.gates.summary),
        "docs_rules": "; ".join(f"`{', '.join(one.code)}` → `{', '.join(one.docs)}`" for one in policy.gates.docs),
        "windows": ", ".join(one.name for one in policy.gates.freeze),
    }


def counter(limit: MetricLimit) -> str:
    """One counter and its limit, as `sluice runbook lint` reads it again."""
    return f"`{limit.metric}` ≤ {limit.max_per_s:g}/s"


def branch_example(pattern: str) -> str:
    """A name for the commands: the literal beginning of the pattern, then what is free."""
    head = pattern.split("[", 1)[0].split("(", 1)[0].split(".", 1)[0].split("\\", 1)[0]
    return f"{head}<short-name>"
