"""What a gate may look at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sluice.model.policy import GatesSpec
from sluice.model.release import Commit
from sluice.model.secret import Secret
from sluice.model.spec import EnvironmentName, ServiceSpec
from sluice.model.verdict import Finding
from sluice.ports import Clock, Repo, Runner

OnFinding = Callable[[Finding], None]


class EnvFileLike(Protocol):
    """The server's env file (sluice.hosts.envfile.EnvFile)."""

    def check(self) -> None:
        """Raises Refused when the file is missing, readable by others, or inside a git work tree."""
        ...

    def values(self) -> Mapping[str, Secret]:
        """Every variable the file sets. Raises Refused when it cannot be read."""
        ...


@dataclass(frozen=True)
class GateContext:
    """One run of the gates. `policy` is read from `policy_ref`; `candidate` is the branch's own sluice.toml."""

    repo: Repo
    commit: Commit
    policy: GatesSpec
    policy_ref: str
    candidate: ServiceSpec
    env_file: EnvFileLike
    environment: EnvironmentName
    clock: Clock
    runner: Runner
    overlaps: Callable[[], Awaitable[list[str]]]  # of the release with everything else on the host
