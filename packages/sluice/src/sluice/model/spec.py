"""What host.toml and sluice.toml say, as values. Parsing is in sluice.config; unknown keys are errors with their path.

Placeholders in argv lists and environment values: {host} {port} {url} {artifact} {state} {sha} {tree} {version}
{ingress} (the network the ingress dials from, as CIDR), {python.NAME} (the bin directory of a Python environment of
[build]) and {node.NAME} (the output of a Node build). Anything else in braces is an error.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from sluice.model.policy import GatesSpec, PromotionSpec, Signer


class EnvironmentName(StrEnum):
    """The two environments of the model. Only `main` may go to prod, by promotion."""

    TEST = "test"
    PROD = "prod"


# ---------------------------------------------------------------- host.toml: the operator's, outside git


class RuntimeName(StrEnum):
    """How the releases of an environment run."""

    PROCESS = "process"
    COMPOSE = "compose"


class HostEnvironment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[service.NAME.env.ENV]."""

    public_url: str
    env_file: str
    ports: tuple[int, int]
    expect_sso_host: str = ""
    runtime: RuntimeName = RuntimeName.PROCESS
    run_as: str = ""
    listen: str = ""  # ADDRESS:PORT of the ingress; empty: host and port of public_url
    certificate: str = ""  # PEM chain; the ingress ends TLS itself. Empty: plain HTTP, or an edge in front does it
    certificate_key: str = ""
    redirect_http: str = ""  # ADDRESS:PORT that sends plain HTTP to public_url; only with a certificate
    ca_file: str = ""  # PEM; who signed public_url's certificate, where that is nobody the system trusts
    keep_releases: int = 5  # verified releases whose artifacts and images are kept to go back to
    # Secrets beside the env file; what stands later goes over what stands earlier, and all of it over the env file.
    sops_file: str = ""  # decrypted by the program `sops`
    age_file: str = ""  # NAME=value lines, decrypted by the program `age`
    age_identity: str = ""  # the key file of both, mode 0600
    secret_command: tuple[str, ...] = ()  # argv; prints NAME=value lines
    secret_files: str = ""  # a folder as of Docker secrets: each file is named as the variable it holds


class ForgeName(StrEnum):
    """Whose API tells of pull requests and commit statuses."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"  # Forgejo too


class ForgeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[service.NAME.forge]: where the service's pull requests are."""

    kind: ForgeName
    api: str  # the root of its API, e.g. https://git.example.org/api/v1
    repository: str  # OWNER/NAME; of GitLab the whole path
    token_file: str = ""  # mode 0600, the token alone; empty: asked without one


class HostService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[service.NAME]."""

    repo: str
    env: dict[EnvironmentName, HostEnvironment]
    policy_ref: str = "main"
    forge: ForgeSettings | None = None
    test_ledger_key: str = ""  # test is on another host: the public key its ledger is signed by, as in ledger.key.pub
    anchor: bool = True  # push each environment's ledger to refs/sluice/ledger/SERVICE/ENV of `repo`
    demo: bool = False  # a demonstration on one machine: several environments under one user are accepted, and said so


class HostSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[host]: what is true of the whole machine."""

    docker: str = "/var/run/docker.sock"  # the engine's socket, for the runtime `compose`
    owners: str = ""  # allowed_signers format: which SSH key is whom; who typed a run is read from it
    notify_file: str = ""  # Apprise addresses, one a line, mode 0600: told when a run rolls back or needs a human
    min_free_mb: int = 1024  # less than this on the disk of the state or of the engine is a failed quick-check


class HostConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """host.toml."""

    service: dict[str, HostService]
    host: HostSettings = HostSettings()


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
    """[run]: how one slot runs. The launcher reads the env file and execs `command`: no secret is in an argument.

    `command` is for the runtime `process` alone; everything else holds for every runtime.
    """

    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}  # not secret; goes over the env file's values
    required_env: tuple[str, ...] = ()  # must be in the env file; shown by name only
    health_path: str = "/health"
    version_path: str = "/version"  # empty: the service does not say; the ingress then says which release it asked
    ready_timeout_s: float = 30
    drain_notify: str = ""  # a signal name, e.g. SIGUSR1; empty: no notice before stopping
    drain_grace_s: float = 5
    stop_grace_s: float = 10


class ServiceMode(StrEnum):
    """What a rollout does with one service of a Compose file."""

    SLOTTED = "slotted"  # a copy in each slot
    SHARED = "shared"  # one for the environment, left running by rollouts
    RECREATE = "recreate"  # one at a time: the old one ends before the new one starts, in the switch


class ChangePolicy(StrEnum):
    """What happens when the definition of a shared service changed."""

    REFUSE = "refuse"  # the gate fails, nothing is touched
    KEEP = "keep"  # what runs goes on running as it is
    RECREATE = "recreate"  # it is recreated before the new slot starts; its users see the outage


class ComposeService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[compose.services.NAME]: what the Compose file cannot say. Exactly one kind of `ready_*`, or a healthcheck."""

    mode: ServiceMode | None = None  # None: shared if it mounts a volume for writing, recreate if nothing routes to it
    publish: bool = False  # keep its published ports (coturn); everything else is reached through the ingress alone
    on_change: ChangePolicy = ChangePolicy.REFUSE
    ready_command: tuple[str, ...] = ()  # run in the container; exit code 0 is ready
    ready_port: int = 0  # a TCP port of the container that accepts
    ready_after_s: float = 0  # running this long without a restart


class ComposeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[compose]: how one slot runs as a Compose project."""

    files: tuple[str, ...] = ()  # in the repository, later over earlier; {env} is the environment's name
    route: str = ""  # the service users reach
    port: int = 0  # where it listens, in its container
    registry: str = ""  # built images are pushed to REGISTRY/NAME and pinned by digest; empty: pinned by id
    environment: dict[str, str] = {}  # not secret; for slotted and recreated services, over what the files say
    services: dict[str, ComposeService] = {}
    migrate: tuple[str, ...] = ()  # run once in a container of `route` before the slot starts
    head: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()  # run in a container of `route`; as [smoke] credentials


class MigrateSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[migrate]: `run` once per release before its slot starts; `head` prints the schema's head, which is recorded."""

    run: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    timeout_s: float = 300


class SmokeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[smoke]: plug-ins (docs/reference/plug-ins.md)."""

    command: tuple[str, ...] = ()
    canary: tuple[str, ...] = ()  # runs during the watch; one JSON line per round
    calls: tuple[str, ...] = ()  # one call set up and ended; repeated during the watch, on both slots
    refusals: tuple[str, ...] = ()  # what must be refused; repeated during the watch, on both slots
    credentials: tuple[str, ...] = ()  # run in the slot; its output goes to a 0600 file named in SLUICE_CREDENTIALS
    timeout_s: float = 60


class Harmless(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a log that looks critical and is not, and why."""

    pattern: str
    reason: str


class ChecksSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[checks]: what the server checks look for; effective only from policy_ref."""

    log_lines: int = 120
    critical: tuple[str, ...] = ()  # regular expressions beside the built-in ones
    harmless: tuple[Harmless, ...] = ()
    websocket_path: str = ""  # empty: the service has no WebSocket
    websocket_expect: int = 101  # the answer to a handshake without credentials
    certificate_days: int = 14  # a certificate that ends sooner fails


class MetricLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One counter of the service's Prometheus text: at most so much more per second of the watch."""

    metric: str  # a name, or a name{label="value"}; every series it matches is added up
    max_per_s: float


class WatchSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[watch]: effective only from policy_ref."""

    duration_s: float = 10
    interval_s: float = 1
    health_failures: int = 3  # of the last health_window probes
    health_window: int = 5
    cut_share: float = 0.2  # of the canary's sockets, closed without notice in the window: mass disconnects
    call_failures: int = 2  # of the last call_window calls
    call_window: int = 3
    call_slower: float = 3  # times the old slot's median set-up time
    call_setup_ms: int = 5000  # slower than this is degraded whatever the old slot does
    refusal_failures: int = 1  # of the last refusal_window rounds; something forbidden was let in
    refusal_window: int = 2
    metrics_path: str = ""  # Prometheus text on the slot; empty: none
    metrics_token: str = ""  # the NAME of the env file's variable that holds its bearer token
    auth: tuple[MetricLimit, ...] = ()  # critical errors of authentication and authorisation
    lost_messages: int = 0  # more than this on the new slot breaks the criterion
    duplicated_messages: int = 0
    required_checks: tuple[str, ...] = ()  # smoke checks that may not be missing or skipped
    required_criteria: tuple[str, ...] = ()  # criteria that may not be missing or skipped
    dry_run: tuple[str, ...] = ()  # criteria that are judged and recorded, and veto nothing


class ServiceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sluice.toml."""

    name: str
    run: RunSpec = RunSpec()
    compose: ComposeSpec = ComposeSpec()
    build: BuildSpec = BuildSpec()
    migrate: MigrateSpec = MigrateSpec()
    smoke: SmokeSpec = SmokeSpec()
    gates: GatesSpec = GatesSpec()
    checks: ChecksSpec = ChecksSpec()
    watch: WatchSpec = WatchSpec()
    promotion: PromotionSpec = PromotionSpec()
    signers: dict[str, Signer] = {}
