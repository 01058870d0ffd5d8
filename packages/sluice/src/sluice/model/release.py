"""Releases, slots and what a command gave back: immutable values that go into the journal and the ledger."""

from __future__ import annotations

import msgspec

from sluice.model.spec import ServiceSpec


class Commit(msgspec.Struct, frozen=True):
    """A commit resolved once, fixed for the whole run."""

    sha: str
    tree: str
    branch: str
    describe: str  # `git describe --tags --always`: the service's version
    author: str
    committed_at: str


class FileChange(msgspec.Struct, frozen=True):
    """One file that differs between two commits; a rename is one that came and one that went."""

    kind: str  # A came, D went, M or T differs
    path: str


COMPOSE = "compose."  # digests under such a name are not images, but what the Compose files say
INPUT = f"{COMPOSE}input."  # of one service: what its image is made from or named
CONTENT = "content:"  # of one part of the artifact on disk (own, python.NAME, node.NAME): see runtimes/content.py


class Artifact(msgspec.Struct, frozen=True):
    """What was built once for (tree, build inputs). Two commits with one tree share it."""

    key: str
    path: str  # absolute
    tree: str
    python: dict[str, str] = {}  # environment name -> its bin directory
    node: dict[str, str] = {}  # build name -> its output directory
    digests: dict[str, str] = {}  # Compose service -> image by digest or id; INPUT, CONTENT, "compose.ENV": sha256

    @property
    def images(self) -> dict[str, str]:
        """Compose service -> its image, by digest or id."""
        return {name: one for name, one in self.digests.items() if not name.startswith((COMPOSE, CONTENT))}


class Release(msgspec.Struct, frozen=True):
    """Immutable: what ran, with everything needed to run it again. Secret values are never in it."""

    id: str  # time-ordered, unique in the environment
    service: str
    environment: str
    commit: Commit
    artifact: Artifact
    spec: ServiceSpec  # the candidate's own [run], [migrate], [smoke]
    env_fingerprint: str  # HMAC with a host key, never comparable between environments
    migration_head: str = ""
    created_at: str = ""
    verified: bool = False  # True once a run proved it through the public URL; the only kind a rollback goes to


class Slot(msgspec.Struct, frozen=True):
    """A place a release runs in. `unit` is its name in the supervisor (or the Compose project)."""

    release_id: str
    unit: str
    port: int
    url: str  # private address, e.g. http://127.0.0.1:18100
    target: str = ""  # where the ingress finds it, when that is another address than `url`


class Completed(msgspec.Struct, frozen=True):
    """What a command gave back, already redacted."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    ms: int
    timed_out: bool = False
