"""The policy in force, for commands that judge what serves now without planning a run."""

from __future__ import annotations

from sluice.drive.planning import SPEC_PATHS
from sluice.drive.world import World
from sluice.model.spec import ServiceSpec


async def policy_of(world: World, otherwise: ServiceSpec) -> ServiceSpec:
    """What the mirror holds at policy_ref; `otherwise` where it holds nothing. Asks no origin. Raises ConfigError."""
    for path in SPEC_PATHS:
        raw = await world.repo.read(world.policy_ref, path)
        if raw is not None:
            return world.load_service(raw, f"{world.policy_ref}:{path}")
    return otherwise
