"""The one place that puts an environment's adapters together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sluice.hosts.git import GitMirror
from sluice.hosts.releases import FileReleases
from sluice.hosts.sources import ServerValues, sources_of
from sluice.hosts.state import StatePaths
from sluice.hosts.system import SystemClock
from sluice.model.errors import UsageError
from sluice.model.secret import Redactor
from sluice.model.spec import EnvironmentName, HostConfig, HostEnvironment, HostService, HostSettings, RuntimeName
from sluice.ports import Ingress, Runtime
from sluice.runner import LocalRunner
from sluice.runtimes.past import Past, shown


@dataclass(frozen=True)
class Environment:
    """Everything one run needs of one environment. Nothing in it has touched the disk except the state folders."""

    service: str
    name: EnvironmentName
    host: HostEnvironment
    host_service: HostService
    settings: HostSettings
    paths: StatePaths
    repo: GitMirror
    runtime: Runtime
    ingress: Ingress
    releases: FileReleases
    env_file: ServerValues
    runner: LocalRunner
    redactor: Redactor
    clock: SystemClock


def open_environment(host: HostConfig, root: Path, service: str, environment: str) -> Environment:
    """Make the state folders and put the adapters together. Raises UsageError for an unknown service or environment.

    The values of every source are taught to the redactor at once, even where its permissions are refused later.
    """
    host_service, name, chosen = _choose(host, service, environment)
    paths = StatePaths(root, service, name.value)
    paths.prepare(shared=bool(chosen.run_as))
    env_file = ServerValues(sources_of(chosen))
    redactor = Redactor(env_file.secrets(), shown(chosen))
    runner, clock = LocalRunner(redactor), SystemClock()
    repo = GitMirror(paths, host_service.repo, runner)
    past = Past(env_file, paths, redactor)
    neighbours = [
        (other, env.value, one)
        for other, known in host.service.items()
        for env, one in known.env.items()
        if (other, env) != (service, name)
    ]
    by = _compose if chosen.runtime is RuntimeName.COMPOSE else _process
    runtime, ingress = by(Surroundings(paths, chosen, host.host, repo, runner, env_file, clock, past, neighbours))
    releases = FileReleases(paths)
    return Environment(
        service=service,
        name=name,
        host=chosen,
        host_service=host_service,
        settings=host.host,
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


@dataclass(frozen=True)
class Surroundings:
    """What both runtimes are made of."""

    paths: StatePaths
    host: HostEnvironment
    settings: HostSettings
    repo: GitMirror
    runner: LocalRunner
    env_file: ServerValues
    clock: SystemClock
    past: Past
    neighbours: list[tuple[str, str, HostEnvironment]]  # service, environment: every other one of this host


def _process(here: Surroundings) -> tuple[Runtime, Ingress]:
    # Each command is about one runtime; the other one's modules are a fifth of its start.
    from sluice.ingress.process import ProcessIngress
    from sluice.runtimes.process import ProcessRuntime

    others = {f"{service}/{environment}": host for service, environment, host in here.neighbours}
    runtime = ProcessRuntime(here.paths, here.host, here.repo, here.runner, here.past, others)
    return runtime, ProcessIngress(here.paths, here.host)


def _compose(here: Surroundings) -> tuple[Runtime, Ingress]:
    from sluice.ingress.container import ContainerIngress
    from sluice.runtimes.compose import ComposeRuntime, Means
    from sluice.runtimes.compose_build import ComposeBuilder
    from sluice.runtimes.compose_cli import ComposeCli
    from sluice.runtimes.compose_look import Look, Neighbour, network_name
    from sluice.runtimes.engine import DockerEngine

    paths, host = here.paths, here.host
    engine = DockerEngine(here.settings.docker, here.runner.redactor)
    cli = ComposeCli(here.runner, here.settings.docker, here.env_file.values)
    builder = ComposeBuilder(paths, here.repo, here.runner, engine, cli)
    look = Look(paths, host, engine, cli, builder, [Neighbour(*one) for one in here.neighbours])
    runtime = ComposeRuntime(paths, host, Means(engine, cli, builder, look, here.clock, here.past))
    return runtime, ContainerIngress(paths, host, engine, network_name(paths.service, paths.environment))


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
