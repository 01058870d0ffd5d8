"""What host.toml and sluice.toml say, as values. Parsing is in sluice.config; unknown keys are errors with their path.

Placeholders in argv lists and environment values: {host} {port} {url} {artifact} {state} {sha} {tree} {version}
{python.NAME} (the bin directory of a Python environment of [build]) and {node.NAME} (the output of a Node build).
Anything else in braces is an error.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class EnvironmentName(StrEnum):
    """The two environments of the model. Only `main` may go to prod, by promotion."""

    TEST = "test"
    PROD = "prod"


# ---------------------------------------------------------------- host.toml: the operator's, outside git


class HostEnvironment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[service.NAME.env.ENV]."""

    public_url: str
    env_file: str
    ports: tuple[int, int]
    expect_sso_host: str = ""
    runtime: str = "process"
    run_as: str = ""


class HostService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[service.NAME]."""

    repo: str
    env: dict[EnvironmentName, HostEnvironment]
    policy_ref: str = "main"
    demo: bool = False  # a demonstration on one machine: several environments under one user are accepted, and said so


class HostConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """host.toml."""

    service: dict[str, HostService]


# ---------------------------------------------------------------- sluice.toml: in the service's repository


class PythonBuild(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[build.python.NAME]: an environment keyed by hash(interpreter, requirements); own code installed on top."""

    requirements: str  # a locked file with hashes, relative to the repository root
    install: tuple[str, ...] = ()  # own packages, relative directories, installed without dependencies or isolation


class NodeBuild(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[build.node.NAME]: a bundle keyed by hash(node, directory, lock)."""

    directory: str
    command: tuple[str, ...] = ("npm", "run", "build")
    output: str = "dist"


class BuildSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[build]."""

    python: dict[str, PythonBuild] = {}
    node: dict[str, NodeBuild] = {}


class RunSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[run]: how one slot runs. The launcher reads the env file and execs `command`: no secret is in an argument."""

    command: tuple[str, ...]
    environment: dict[str, str] = {}  # not secret; goes over the env file's values
    required_env: tuple[str, ...] = ()  # must be in the env file; shown by name only
    health_path: str = "/health"
    version_path: str = "/version"
    ready_timeout_s: float = 30
    drain_notify: str = ""  # a signal name, e.g. SIGUSR1; empty: no notice before stopping
    drain_grace_s: float = 5
    stop_grace_s: float = 10


class MigrateSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[migrate]: `run` once per release before its slot starts; `head` prints the schema's head, which is recorded."""

    run: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    timeout_s: float = 300


class SmokeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[smoke]: plug-ins (docs/reference/plug-ins.md)."""

    command: tuple[str, ...] = ()
    canary: tuple[str, ...] = ()  # runs during the watch; one JSON line per round
    credentials: tuple[str, ...] = ()  # run in the slot; its output goes to a 0600 file named in SLUICE_CREDENTIALS
    timeout_s: float = 60


class GatesSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[gates]: effective only from policy_ref."""

    branch: str = "feature/[a-z0-9][a-z0-9._-]{0,62}"  # a whole-match regular expression
    required_env: tuple[str, ...] = ()


class WatchSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[watch]: effective only from policy_ref."""

    duration_s: float = 10
    interval_s: float = 1
    health_failures: int = 3  # of the last health_window probes
    health_window: int = 5
    lost_messages: int = 0  # more than this on the new slot breaks the criterion
    duplicated_messages: int = 0
    required_checks: tuple[str, ...] = ()  # smoke checks that may not be missing or skipped


class ServiceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sluice.toml."""

    name: str
    run: RunSpec
    build: BuildSpec = BuildSpec()
    migrate: MigrateSpec = MigrateSpec()
    smoke: SmokeSpec = SmokeSpec()
    gates: GatesSpec = GatesSpec()
    watch: WatchSpec = WatchSpec()
