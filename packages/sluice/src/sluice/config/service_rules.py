"""The rules of sluice.toml."""

from __future__ import annotations

import math
import re
import signal

import msgspec

from sluice.config.policy_rules import PolicyRules
from sluice.config.rules import LAST_PORT, NAME, Rules, is_inside, wrong
from sluice.model.spec import ChecksSpec, ComposeSpec, ServiceSpec, WatchSpec
from sluice.runtimes.placeholders import BRACES, unknown_in

PATH = re.compile(r"/[^\s]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_LOG_LINES = 10_000  # what a check reads of each service; more is an archive, not a look


def commands_of(spec: ServiceSpec) -> dict[str, tuple[str, ...]]:
    """What the service has run beside its containers, by the keys' paths."""
    smoke = ("command", "canary", "calls", "refusals", "credentials")
    return {
        "$.run.command": spec.run.command,
        "$.migrate.run": spec.migrate.run,
        "$.migrate.head": spec.migrate.head,
        **{f"$.smoke.{key}": getattr(spec.smoke, key) for key in smoke},
    }


class ServiceRules(Rules):
    """What sluice.toml must say."""

    def judge(self, spec: ServiceSpec) -> None:
        """Raises ConfigError."""
        self._must(bool(NAME.fullmatch(spec.name)), "$.name", "is not a name of the form [a-z0-9-]")
        runs = bool(spec.run.command) or bool(spec.compose.files)
        self._must(runs, "$.run.command", "is empty, and [compose] names no files: nothing says how the service runs")
        self._build(spec)
        self._compose(spec.compose)
        self._placeholders(spec)
        self._positive(spec)
        optional = (
            ("$.run.version_path", spec.run.version_path),
            ("$.watch.metrics_path", spec.watch.metrics_path),
            ("$.checks.websocket_path", spec.checks.websocket_path),
        )
        for path, value in (("$.run.health_path", spec.run.health_path), *(pair for pair in optional if pair[1])):
            self._must(bool(PATH.fullmatch(value)), path, "must be a path that begins with /")
        drain = spec.run.drain_notify
        known = not drain or drain in signal.Signals.__members__
        self._must(known, "$.run.drain_notify", f"{drain!r} is not a signal, e.g. SIGUSR1")
        self._pattern(spec.gates.branch, "$.gates.branch")
        PolicyRules(self._where).judge(spec.gates, spec.promotion, spec.signers)
        self._checks(spec.checks)
        self._watch(spec.watch)

    def _pattern(self, text: str, path: str) -> None:
        try:
            re.compile(text)
        except re.error as error:
            raise wrong(self._where, path, f"is not a regular expression: {error}") from error

    def _checks(self, checks: ChecksSpec) -> None:
        for text in checks.critical:
            self._pattern(text, "$.checks.critical")
        for harmless in checks.harmless:
            self._pattern(harmless.pattern, "$.checks.harmless")
            self._must(bool(harmless.reason.strip()), "$.checks.harmless", f"gives no reason for {harmless.pattern!r}")
        self._must(0 < checks.log_lines <= MAX_LOG_LINES, "$.checks.log_lines", f"must be 1 to {MAX_LOG_LINES}")
        self._must(100 <= checks.websocket_expect <= 599, "$.checks.websocket_expect", "is not an HTTP status")
        self._must(checks.certificate_days >= 0, "$.checks.certificate_days", "must not be negative")

    def _watch(self, watch: WatchSpec) -> None:
        from sluice.criteria import problems  # with all that watches: most commands read no sluice.toml

        for few, window in (
            ("health_failures", "health_window"),
            ("call_failures", "call_window"),
            ("refusal_failures", "refusal_window"),
        ):
            sane = 1 <= getattr(watch, few) <= getattr(watch, window)
            self._must(sane, f"$.watch.{few}", f"must be at least 1 and at most {window}")
        self._must(min(watch.lost_messages, watch.duplicated_messages) >= 0, "$.watch", "has a negative message count")
        self._must(0 < watch.cut_share <= 1, "$.watch.cut_share", "must be above 0 and at most 1")
        self._must(watch.call_slower >= 1, "$.watch.call_slower", "must be at least 1")
        self._must(watch.call_setup_ms > 0, "$.watch.call_setup_ms", "must be positive")
        self._must(
            not watch.auth or bool(watch.metrics_path), "$.watch.metrics_path", "is empty, and [watch] auth needs it"
        )
        self._must(
            not watch.metrics_token or bool(VARIABLE.fullmatch(watch.metrics_token)),
            "$.watch.metrics_token",
            "is the NAME of a variable of the env file, never the token itself",
        )
        for limit in watch.auth:
            self._must(limit.max_per_s >= 0, "$.watch.auth", f"{limit.metric} has a negative limit")
        for key, found in problems(watch):
            self._must(False, f"$.watch.{key}", found)

    def _compose(self, compose: ComposeSpec) -> None:
        if not compose.files:
            self._must(compose == ComposeSpec(), "$.compose.files", "is empty, and other keys of [compose] are set")
            return
        for name in compose.files:
            inside = is_inside(name) and not name.startswith("-")
            self._must(inside, "$.compose.files", f"{name!r} must be inside the repository")
            other = next((match[0] for match in BRACES.finditer(name) if match[1] != "env"), None)
            self._must(other is None, "$.compose.files", f"has {other}; only {{env}} is known here")
        self._must(bool(compose.route), "$.compose.route", "is empty: name the service that users reach")
        self._must(
            0 < compose.port <= LAST_PORT, "$.compose.port", "must be the port `route` listens on in its container"
        )
        for name, service in compose.services.items():
            kinds = [bool(service.ready_command), bool(service.ready_port), bool(service.ready_after_s)]
            path = f"$.compose.services.{name}"
            self._must(sum(kinds) <= 1, path, "has more than one kind of ready_*")
            self._must(0 <= service.ready_port <= LAST_PORT, f"{path}.ready_port", "is not a port")
            self._must(service.ready_after_s >= 0, f"{path}.ready_after_s", "must not be negative")

    def _build(self, spec: ServiceSpec) -> None:
        python = {f"$.build.python.{k}": (v.requirements, *v.install) for k, v in spec.build.python.items()}
        node = {f"$.build.node.{k}": (v.directory, v.output) for k, v in spec.build.node.items()}
        for path, names in (python | node).items():
            self._must(bool(NAME.fullmatch(path.rpartition(".")[2])), path, "is not a name of the form [a-z0-9-]")
            for name in names:
                inside = is_inside(name) and not name.startswith("-")
                self._must(inside, path, f"{name!r} must be a path inside the repository")
        for key, build in spec.build.node.items():
            self._must(bool(build.command), f"$.build.node.{key}.command", "is empty")

    def _placeholders(self, spec: ServiceSpec) -> None:
        texts = {
            **commands_of(spec),
            **{f"$.compose.{key}": getattr(spec.compose, key) for key in ("migrate", "head", "credentials")},
        }
        texts |= {f"$.run.environment.{name}": (value,) for name, value in spec.run.environment.items()}
        texts |= {f"$.compose.environment.{name}": (value,) for name, value in spec.compose.environment.items()}
        for path, parts in texts.items():
            for part in parts:
                unknown = unknown_in(part, spec.build)
                self._must(unknown is None, path, f"has an {unknown}")

    def _positive(self, spec: ServiceSpec) -> None:
        tables = {"run": spec.run, "migrate": spec.migrate, "smoke": spec.smoke, "watch": spec.watch}
        for table, values in tables.items():
            for field in msgspec.structs.fields(type(values)):
                if field.name.endswith("_s"):
                    value = getattr(values, field.name)
                    # A grace may be nothing at all; a deadline may not.
                    enough = value >= 0 if "grace" in field.name else value > 0
                    self._must(math.isfinite(value) and enough, f"$.{table}.{field.name}", "must be a positive number")
