"""host.toml and sluice.toml, read strictly, and the one place that puts an environment's adapters together.

Every error names the file and the key's path; an unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import difflib
import math
import re
import signal
import tomllib
import typing
import urllib.parse
from dataclasses import dataclass
from enum import EnumType
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sluice.hosts.envfile import EnvFile
from sluice.hosts.examples import EXAMPLE_HOST, EXAMPLE_SERVICE
from sluice.hosts.git import GitMirror
from sluice.hosts.releases import FileReleases
from sluice.hosts.state import StatePaths
from sluice.hosts.system import SystemClock
from sluice.ingress.traefik import TraefikIngress
from sluice.model.errors import ConfigError, UsageError
from sluice.model.secret import Redactor
from sluice.model.spec import EnvironmentName, HostConfig, HostEnvironment, HostService, ServiceSpec
from sluice.runner import LocalRunner
from sluice.runtimes.placeholders import unknown_in
from sluice.runtimes.process import ProcessRuntime

__all__ = ["EXAMPLE_HOST", "EXAMPLE_SERVICE", "Environment", "load_host", "load_service", "open_environment"]

DEFAULT_HOST_CONFIG = Path("/etc/sluice/host.toml")
FIRST_PORT = 1024  # below it a port needs root, and a slot never has it
LAST_PORT = 65535
MIN_PORTS = 2  # the old slot and the new one are alive together
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")  # names become folders, units and refs
PATH = re.compile(r"/[^\s]*")
S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True)
class Environment:
    """Everything one run needs of one environment. Nothing in it has touched the disk except the state folders."""

    service: str
    name: EnvironmentName
    host: HostEnvironment
    host_service: HostService
    paths: StatePaths
    repo: GitMirror
    runtime: ProcessRuntime
    ingress: TraefikIngress
    releases: FileReleases
    env_file: EnvFile
    runner: LocalRunner
    redactor: Redactor
    clock: SystemClock


def open_environment(host: HostConfig, root: Path, service: str, environment: str) -> Environment:
    """Make the state folders and put the adapters together. Raises UsageError for an unknown service or environment.

    The env file's values are taught to the redactor at once, even where its permissions will be refused later.
    """
    host_service, name, chosen = _choose(host, service, environment)
    paths = StatePaths(root, service, name.value)
    paths.prepare(shared=bool(chosen.run_as))
    env_file = EnvFile(Path(chosen.env_file))
    # What host.toml itself shows to everybody is no secret, although a server is told it in its env file too.
    shown = {chosen.public_url.rstrip("/"), chosen.expect_sso_host}
    shown |= {f"{scheme}://{chosen.expect_sso_host}" for scheme in ("http", "https")}
    redactor = Redactor(secret for secret in env_file.secrets() if secret.reveal().rstrip("/") not in shown)
    runner, clock = LocalRunner(redactor), SystemClock()
    repo = GitMirror(paths, host_service.repo, runner)
    runtime = ProcessRuntime(paths, chosen, repo, runner)
    ingress = TraefikIngress(paths, chosen.public_url)
    releases = FileReleases(paths)
    return Environment(
        service=service,
        name=name,
        host=chosen,
        host_service=host_service,
        paths=paths,
        repo=repo,
        runtime=runtime,
        ingress=ingress,
        releases=releases,
        env_file=env_file,
        runner=runner,
        redactor=redactor,
        clock=clock,
    )


def _choose(host: HostConfig, service: str, environment: str) -> tuple[HostService, EnvironmentName, HostEnvironment]:
    host_service = host.service.get(service)
    if host_service is None:
        raise UsageError(
            f"there is no service {service!r} on this host.", next=f"use one of: {', '.join(sorted(host.service))}"
        )
    known = [name.value for name in host_service.env]
    if environment not in known:
        raise UsageError(
            f"service {service} has no environment {environment!r} on this host.",
            next=f"use one of: {', '.join(known)}; or add [service.{service}.env.{environment}] to host.toml",
        )
    name = EnvironmentName(environment)
    return host_service, name, host_service.env[name]


def load_host(path: Path | None) -> HostConfig:
    """Read and judge host.toml; None: /etc/sluice/host.toml. Raises ConfigError."""
    file = path or DEFAULT_HOST_CONFIG
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the host configuration {file} cannot be read: {error.strerror}.",
            next="write one (`sluice config example` prints it) and name it with --host-config",
            file=str(file),
            path="$",
        ) from error
    host = _decode(raw, str(file), HostConfig)
    _Judge(str(file)).host(host)
    return host


def load_service(raw: bytes, where: str) -> ServiceSpec:
    """Read and judge sluice.toml. `where` names it in errors, e.g. `sluice.toml at 1a2b3c4`. Raises ConfigError."""
    spec = _decode(raw, where, ServiceSpec)
    _Judge(where).service(spec)
    return spec


def _decode(raw: bytes, where: str, kind: type[S]) -> S:
    try:
        tree = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise _error(where, "$", f"is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise _error(where, "$", f"is not valid TOML: {error}") from error
    return typing.cast("S", _convert(tree, kind, "$", where))


def _error(where: str, path: str, found: str) -> ConfigError:
    return ConfigError(
        f"{where}: {path} {found}.",
        next=f"correct {path} in {where}, then `sluice config check`",
        file=where,
        path=path,
    )


def _convert(value: Any, kind: Any, path: str, where: str) -> Any:
    # Structs and tables are walked here, because msgspec names neither the key of a table nor the nearest known key.
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _convert_struct(value, kind, path, where)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise _error(where, path, "must be a table")
        key_kind, value_kind = typing.get_args(kind)
        return {
            _convert_key(k, key_kind, path, where): _convert(v, value_kind, f"{path}.{k}", where)
            for k, v in value.items()
        }
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$")
        raise _error(where, path + at.rstrip("`"), f"is wrong: {message}") from error


def _convert_key(key: str, kind: Any, path: str, where: str) -> Any:
    if isinstance(kind, EnumType):
        known: list[str] = [member.value for member in typing.cast("Any", kind)]
        if key not in known:
            names = [str(value) for value in known]
            raise _error(where, f"{path}.{key}", f"is not known here; use one of: {', '.join(names)}")
        return kind(key)
    return key


def _convert_struct(value: Any, kind: type[S], path: str, where: str) -> S:
    if not isinstance(value, dict):
        raise _error(where, path, "must be a table")
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(key, list(fields), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(fields)}"
            raise _error(where, f"{path}.{key}", f"is an unknown key; {hint}")
    for name, field in fields.items():
        if field.required and name not in value:
            raise _error(where, f"{path}.{name}", "is missing")
    return kind(**{fields[k].name: _convert(v, fields[k].type, f"{path}.{k}", where) for k, v in value.items()})


class _Judge:
    """What the types cannot say. The first thing that is wrong is raised, with its path."""

    def __init__(self, where: str) -> None:
        self._where = where

    def _must(self, holds: bool, path: str, found: str) -> None:
        if not holds:
            raise _error(self._where, path, found)

    def host(self, host: HostConfig) -> None:
        self._must(bool(host.service), "$.service", "names no service")
        for name, service in host.service.items():
            path = f"$.service.{name}"
            self._must(bool(NAME.fullmatch(name)), path, "is not a name of the form [a-z0-9-]")
            # A leading dash would be an option of git.
            self._must(bool(service.repo) and not service.repo.startswith("-"), f"{path}.repo", "is not a repository")
            self._must(bool(service.env), f"{path}.env", "names no environment")
            for env, one in service.env.items():
                self._environment(one, f"{path}.env.{env.value}")
            self._separation(service, path)
        self._distinct(host)

    def _environment(self, one: HostEnvironment, path: str) -> None:
        self._must(one.runtime == "process", f"{path}.runtime", f"is {one.runtime!r}; this version runs `process` only")
        self._must(
            _is_http(one.public_url), f"{path}.public_url", "must be an absolute http or https URL without a path"
        )
        self._must(Path(one.env_file).is_absolute(), f"{path}.env_file", "must be an absolute path")
        first, last = one.ports
        wanted = f"must be [first, last] between {FIRST_PORT} and {LAST_PORT}, at least {MIN_PORTS} ports"
        sane = first >= FIRST_PORT and last <= LAST_PORT and last - first + 1 >= MIN_PORTS
        self._must(sane, f"{path}.ports", wanted)
        public = urllib.parse.urlsplit(one.public_url).port
        self._must(public is None or not first <= public <= last, f"{path}.ports", "contains the port of public_url")

    def _separation(self, service: HostService, path: str) -> None:
        unseparated = [env.value for env, one in service.env.items() if not one.run_as]
        if len(service.env) > 1 and unseparated and not service.demo:
            raise _error(
                self._where,
                f"{path}.env.{unseparated[0]}.run_as",
                "is missing: test and prod share this host, so each runs as its own user (demo = true: not)",
            )
        users = [one.run_as for one in service.env.values() if one.run_as]
        self._must(len(users) == len(set(users)), f"{path}.env", "gives two environments one run_as user")

    def _distinct(self, host: HostConfig) -> None:
        seen: list[tuple[str, HostEnvironment]] = []
        for name, service in host.service.items():
            for env, one in service.env.items():
                path = f"$.service.{name}.env.{env.value}"
                for other_path, other in seen:
                    apart = one.ports[1] < other.ports[0] or other.ports[1] < one.ports[0]
                    self._must(apart, f"{path}.ports", f"overlaps {other_path}.ports")
                    self._must(one.public_url != other.public_url, f"{path}.public_url", f"is that of {other_path}")
                seen.append((path, one))

    def service(self, spec: ServiceSpec) -> None:
        self._must(bool(NAME.fullmatch(spec.name)), "$.name", "is not a name of the form [a-z0-9-]")
        self._must(bool(spec.run.command), "$.run.command", "is empty")
        self._build(spec)
        self._placeholders(spec)
        self._positive(spec)
        for key in ("health_path", "version_path"):
            self._must(
                bool(PATH.fullmatch(getattr(spec.run, key))), f"$.run.{key}", "must be a path that begins with /"
            )
        drain = spec.run.drain_notify
        known = not drain or drain in signal.Signals.__members__
        self._must(known, "$.run.drain_notify", f"{drain!r} is not a signal, e.g. SIGUSR1")
        try:
            re.compile(spec.gates.branch)
        except re.error as error:
            raise _error(self._where, "$.gates.branch", f"is not a regular expression: {error}") from error
        watch = spec.watch
        self._must(
            1 <= watch.health_failures <= watch.health_window,
            "$.watch.health_failures",
            "must be at least 1 and at most health_window",
        )
        self._must(min(watch.lost_messages, watch.duplicated_messages) >= 0, "$.watch", "has a negative message count")

    def _build(self, spec: ServiceSpec) -> None:
        python = {f"$.build.python.{k}": (v.requirements, *v.install) for k, v in spec.build.python.items()}
        node = {f"$.build.node.{k}": (v.directory, v.output) for k, v in spec.build.node.items()}
        for path, names in (python | node).items():
            self._must(bool(NAME.fullmatch(path.rpartition(".")[2])), path, "is not a name of the form [a-z0-9-]")
            for name in names:
                inside = bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts
                self._must(inside and not name.startswith("-"), path, f"{name!r} must be a path inside the repository")
        for key, build in spec.build.node.items():
            self._must(bool(build.command), f"$.build.node.{key}.command", "is empty")

    def _placeholders(self, spec: ServiceSpec) -> None:
        texts = {
            "$.run.command": spec.run.command,
            "$.migrate.run": spec.migrate.run,
            "$.migrate.head": spec.migrate.head,
        }
        texts |= {f"$.smoke.{key}": getattr(spec.smoke, key) for key in ("command", "canary", "credentials")}
        texts |= {f"$.run.environment.{name}": (value,) for name, value in spec.run.environment.items()}
        for path, parts in texts.items():
            for part in parts:
                wrong = unknown_in(part, spec.build)
                self._must(wrong is None, path, f"has an {wrong}")

    def _positive(self, spec: ServiceSpec) -> None:
        tables = {"run": spec.run, "migrate": spec.migrate, "smoke": spec.smoke, "watch": spec.watch}
        for table, values in tables.items():
            for field in msgspec.structs.fields(type(values)):
                if field.name.endswith("_s"):
                    value = getattr(values, field.name)
                    # A grace may be nothing at all; a deadline may not.
                    enough = value >= 0 if "grace" in field.name else value > 0
                    self._must(math.isfinite(value) and enough, f"$.{table}.{field.name}", "must be a positive number")


def _is_http(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        sane_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and sane_port
