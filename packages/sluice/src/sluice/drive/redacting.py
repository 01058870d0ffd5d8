"""No record holds a secret: every text of it is redacted where it is made, before it is hashed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from sluice.drive.world import World
from sluice.journal import redact_tree

P = ParamSpec("P")
Make = Callable[Concatenate[World, P], dict[str, Any]]

# What is compared later: hashes and ids, names out of host.toml and the policy, times, words of our own.
AS_THEY_ARE = {
    *("type", "run", "service", "environment", "decision", "outcome", "refusal", "died_in", "owner_source", "waived"),
    *("commit", "tree", "committed_at", "release", "release_digest", "from_release", "artifact_key"),
    *("artifact_digests", "env_fingerprint", "plan", "proof_run", "commits", "overridden"),
    *("principal", "signed_with", "digest", "until", "started", "switched", "ended"),
}


def redacted(make: Make[P]) -> Make[P]:
    """The record that `make` gives, redacted but for these: the rest somebody typed, pushed, signed or printed."""

    @functools.wraps(make)
    def made(world: World, /, *about: P.args, **more: P.kwargs) -> dict[str, Any]:
        # The policy's own branch is a name out of host.toml, and the gate `no-secrets` looks for it.
        return {
            name: one if name in AS_THEY_ARE or one == world.policy_ref else redact_tree(one, world.redactor)
            for name, one in make(world, *about, **more).items()
        }

    return made
