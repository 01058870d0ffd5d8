"""Every environment of a service that has state on this host: they share its artifacts."""

from __future__ import annotations

import msgspec

from sluice.config import Environment
from sluice.drive.world import Sibling
from sluice.hosts.releases import FileReleases
from sluice.hosts.state import StatePaths
from sluice.model.spec import HostEnvironment

# For an environment that has state and is no longer in host.toml: what runs there was not stopped by that.
KEPT_BY_DEFAULT: int = next(f.default for f in msgspec.structs.fields(HostEnvironment) if f.name == "keep_releases")


def siblings_of(env: Environment) -> list[Sibling]:
    """Read from the disk each time: another command may have made one meanwhile."""
    configured = {name.value: one.keep_releases for name, one in env.host_service.env.items()}
    found = []
    for folder in sorted((env.paths.service_dir / "envs").iterdir()):
        paths = StatePaths(env.paths.root, env.service, folder.name)
        found.append(Sibling(paths, FileReleases(paths), configured.get(folder.name, KEPT_BY_DEFAULT)))
    return found
