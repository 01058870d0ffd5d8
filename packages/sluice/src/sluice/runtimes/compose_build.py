"""Compose artifacts: the files understood, the images built or pulled once per key and pinned, nothing secret kept.

    artifacts/<own key>/tree/                          the commit (and the Python environments the smoke needs)
    artifacts/<own key>/compose/<env>-<digest>.json          the merged files as they were written, `${NAME}` and all
    artifacts/<own key>/compose/<env>-<digest>.images.json   service -> pinned image, which have a healthcheck

The digest is the document's: where another env file makes something else of the same commit (a profile, say), the
release from before goes on being what it was.
The key of the artifact covers the tree and everything outside it that enters an image (build arguments).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sluice.hosts.git import GitMirror
from sluice.hosts.state import StatePaths, write_file
from sluice.journal import canonical
from sluice.model.errors import ConfigError, StateCorrupted, StepFailed
from sluice.model.release import COMPOSE, INPUT, Artifact, Commit
from sluice.model.spec import BuildSpec, ComposeSpec, ServiceSpec
from sluice.ports import Progress
from sluice.runner import LocalRunner
from sluice.runtimes.build import Builder, key_lock, try_lock
from sluice.runtimes.compose_cli import ComposeCli, as_bytes
from sluice.runtimes.compose_file import base_document
from sluice.runtimes.compose_images import Images, Job, Pinned, known_at_build
from sluice.runtimes.compose_layers import Layers
from sluice.runtimes.compose_modes import services_of
from sluice.runtimes.compose_remarks import remarks
from sluice.runtimes.compose_values import Document, ServicePlan, World
from sluice.runtimes.engine import DockerEngine
from sluice.runtimes.placeholders import BRACES
from sluice.runtimes.prune import KEY

RECIPE = "1"  # counts up when what a build leaves changes
NOTE = ".images.json"
READINGS = 8  # kept in memory: those of the old and the new release, by place and by tree, and of the siblings


class Read(msgspec.Struct, frozen=True):
    """Compose files as Compose reads them."""

    kept: Document  # as written, never interpolated
    decided: Document  # interpolated: may hold secrets, lives in memory only
    world: World
    pinned: Pinned = Pinned({})
    unset: tuple[str, ...] = ()  # variables without a value and without a default


class Understood(msgspec.Struct, frozen=True):
    """One environment's view of an artifact."""

    base: Document  # as written, never interpolated
    decided: Document  # interpolated: may hold secrets, lives in memory only
    plans: dict[str, ServicePlan]
    pinned: Pinned
    directory: str  # the project directory


class ComposeBuilder:
    """Builds for one service in one environment."""

    def __init__(
        self,
        paths: StatePaths,
        repo: GitMirror,
        runner: LocalRunner,
        engine: DockerEngine,
        cli: ComposeCli,
    ) -> None:
        """Touches nothing."""
        self._paths = paths
        self._repo = repo
        self._engine = engine
        self._cli = cli
        self._builder = Builder(paths, repo, runner)
        self._layers = Layers(paths.artifacts / "layers", engine)
        self._images = Images(paths.service, str(paths.root), engine, cli, self._layers)
        self._readings: dict[tuple[str, ...], Read] = {}

    async def build(self, commit: Commit, spec: ServiceSpec, progress: Progress, images: Mapping[str, str]) -> Artifact:
        """See ports.Runtime. Cancellation leaves images without a name, which the next build makes anew."""
        own = await self._builder.build(commit, for_the_smoke(spec), progress)
        tree = Path(own.path) / "tree"
        files = files_of(spec.compose, self._paths.environment, tree)
        known = await self.read(tree, files, spec.compose, self._paths.environment, self._cli, commit.tree)
        decided, world = known.decided, known.world
        key = _key(own.key, decided, spec.compose, tree)
        folder = Path(own.path) / "compose"
        await asyncio.to_thread(folder.mkdir, exist_ok=True, mode=0o700)
        async with key_lock(folder / key, progress):
            plans = services_of(decided, spec.compose, world)
            base = base_document(known.kept, plans)
            for sentence in remarks(base, decided, plans, known.unset):
                progress(sentence)
            job = Job(folder, key, world.directory, commit.tree, spec.compose, dict(images))
            pinned = await self._images.pinned(job, base, plans, progress)
        told = {"healthchecks": frozenset(pinned.healthchecks), "stores": pinned.stores}
        services_of(decided, spec.compose, msgspec.structs.replace(world, **told))
        raw = as_bytes(base)
        digest = hashlib.sha256(raw).hexdigest()
        write_file(self._document(folder, digest), raw)
        write_file(self._note(folder, digest), msgspec.json.encode(pinned))
        said = {**_inputs(decided, plans, tree), f"{COMPOSE}{self._paths.environment}": digest}
        digests = {**own.digests, **pinned.images, **said}
        return msgspec.structs.replace(own, key=key, digests=digests)

    async def read(
        self, tree: Path, files: Sequence[str], spec: ComposeSpec, environment: str, cli: ComposeCli, known: str = ""
    ) -> Read:
        """The Compose files of a tree, with the values `cli` has. Raises ConfigError.

        An artifact never changes: asked again with the same values, Compose is not run again. `known` is the hash of
        the commit's tree, where that is what lies there: then it need not even lie in the same place.
        """
        settings = known_at_build(spec, "")
        with_values = (environment, cli.fingerprint(), hashlib.sha256(canonical(settings)).hexdigest())
        asked, same = (str(tree), *files, *with_values), (f"tree {known}", *files, *with_values)
        if asked in self._readings:
            return self._readings[asked]
        if known and same in self._readings:
            return self._keep(asked, _moved(self._readings[same], str(tree)))
        unset: set[str] = set()
        kept, decided = await asyncio.gather(
            cli.config(tree, files, interpolate=False, settings=settings),
            cli.config(tree, files, interpolate=True, settings=settings, unset=unset),
        )
        world = World(
            environment=environment,
            tree=str(tree),
            directory=str((tree / files[0]).parent),
            file=files[0],
            profiles=frozenset(filter(None, re.split(r"[,\s]+", cli.value("COMPOSE_PROFILES")))),
        )
        found = Read(kept, decided, world, unset=tuple(sorted(unset)))
        if known:
            self._keep(same, found)
        return self._keep(asked, found)

    def _keep(self, asked: tuple[str, ...], found: Read) -> Read:
        if len(self._readings) >= READINGS:
            del self._readings[next(iter(self._readings))]
        self._readings[asked] = found
        return found

    async def understood(self, artifact: Artifact, spec: ComposeSpec) -> Understood:
        """What `build` left, read again. Raises StepFailed when it is gone, StateCorrupted when it was changed."""
        tree = Path(artifact.path) / "tree"
        folder = Path(artifact.path) / "compose"
        environment, digest = self._paths.environment, self._digest(artifact)
        pinned = self._pinned(artifact)
        try:
            raw = self._document(folder, digest).read_bytes()
        except FileNotFoundError as error:
            raise StepFailed(f"The artifact {artifact.key[:12]} is gone: {error.filename}.") from error
        if hashlib.sha256(raw).hexdigest() != digest:
            raise _changed(self._document(folder, digest), "it is not what was built")
        base: Document = msgspec.json.decode(raw)
        files = files_of(spec, environment, tree)
        read = await self.read(tree, files, spec, environment, self._cli)
        # Which services there are was decided when it was built, whatever profiles the env file asks for now.
        services = {name: one for name, one in read.decided["services"].items() if name in base["services"]}
        decided = {**read.decided, "services": services}
        told = {"healthchecks": frozenset(pinned.healthchecks), "profiles": frozenset("*")}
        world = msgspec.structs.replace(read.world, **told)
        return Understood(base, decided, services_of(decided, spec, world), pinned, world.directory)

    async def changed(self, artifact: Artifact) -> str:
        """See ports.Runtime."""
        return await self._builder.changed(artifact)

    def noted_images(self) -> set[str]:
        """Every image that an artifact which is still there was built with."""
        noted: set[str] = set()
        for note in self._paths.artifacts.glob("*/compose/*.json"):
            if KEY.fullmatch(note.stem) or note.name.endswith(NOTE):
                noted |= set(msgspec.json.decode(note.read_bytes(), type=Pinned).images.values())
        return noted

    async def prune_layers(self, progress: Progress) -> None:
        """Remove what builds left without a name and no artifact that is still there was built with."""
        notes = self._paths.artifacts.glob("*/compose/*.json")
        await self._layers.prune({path.stem for path in notes if KEY.fullmatch(path.stem)}, progress)

    def replicas(self, artifact: Artifact) -> int:
        """How many ports of the host a slot of this artifact needs. Raises as `understood` does."""
        return self._pinned(artifact).replicas

    @property
    def marks(self) -> dict[str, str]:
        """The labels of every image this builder made, and of no other's."""
        return self._images.marks

    def at_work(self) -> bool:
        """Whether somebody builds images of this service now, for whatever environment."""
        for path in self._paths.artifacts.glob("*/compose/*.lock"):
            lock = try_lock(path.with_suffix(""))
            if lock is None:
                return True
            os.close(lock)
        return False

    def _digest(self, artifact: Artifact) -> str:
        return artifact.digests.get(f"compose.{self._paths.environment}", "")

    def _document(self, folder: Path, digest: str) -> Path:
        return folder / f"{self._paths.environment}-{digest[:16]}.json"

    def _note(self, folder: Path, digest: str) -> Path:
        return folder / f"{self._paths.environment}-{digest[:16]}{NOTE}"

    def _pinned(self, artifact: Artifact) -> Pinned:
        path = self._note(Path(artifact.path) / "compose", self._digest(artifact))
        try:
            return msgspec.json.decode(path.read_bytes(), type=Pinned)
        except FileNotFoundError as error:
            raise StepFailed(f"The artifact {artifact.key[:12]} is gone: {error.filename}.") from error
        except msgspec.DecodeError as error:
            raise _changed(path, str(error)) from error

    async def exported(self, commit: Commit) -> tempfile.TemporaryDirectory[str]:
        """The commit's tree, for a look before anything is built; the caller cleans it up."""
        folder = tempfile.TemporaryDirectory(prefix="look-", dir=self._paths.artifacts)
        try:
            await self._repo.export(commit.sha, Path(folder.name) / "tree")
        except BaseException:
            folder.cleanup()
            raise
        return folder

    async def missing_images(self, artifact: Artifact) -> list[str]:
        """Services whose pinned image is not on this machine and cannot be had: what a registry keeps is fetched."""
        pins = artifact.images
        found = await asyncio.gather(*(self._engine.image(reference) for reference in pins.values()))
        gone = [name for name, image in zip(pins, found, strict=True) if image is None]
        for name in [name for name in gone if "@" in pins[name]]:
            await self._engine.pull(pins[name], lambda _text: None)
            gone.remove(name)
        return gone


def files_of(spec: ComposeSpec, environment: str, tree: Path) -> list[str]:
    """The Compose files of an environment. Raises ConfigError when one is not in the commit."""
    files = [name.replace("{env}", environment) for name in spec.files]
    for name in files:
        if not (tree / name).is_file():
            raise ConfigError(
                f"sluice.toml: [compose] files: {name} is not in this commit.",
                next=f"commit {name}, or take it out of [compose] files",
                file="sluice.toml",
                path="$.compose.files",
            )
    return files


def for_the_smoke(spec: ServiceSpec) -> ServiceSpec:
    """The same with only those builds that the plug-ins name: the service itself is in its images."""
    argvs = (spec.smoke.command, spec.smoke.canary, spec.smoke.calls, spec.smoke.refusals)
    named = {match[1] for argv in argvs for part in argv for match in BRACES.finditer(part)}
    python = {name: build for name, build in spec.build.python.items() if f"python.{name}" in named}
    node = {name: build for name, build in spec.build.node.items() if f"node.{name}" in named}
    return msgspec.structs.replace(spec, build=BuildSpec(python, node))


def _moved(found: Read, tree: str) -> Read:
    """The same reading of the same files in another place, whose own name stands for nothing else: it is random."""
    old = found.world.tree

    def there(value: Any) -> Any:
        match value:
            case str():
                return value.replace(old, tree)
            case dict():
                return {name: there(one) for name, one in value.items()}
            case list():
                return [there(one) for one in value]
        return value

    world = msgspec.structs.replace(found.world, tree=tree, directory=there(found.world.directory))
    return msgspec.structs.replace(found, kept=there(found.kept), decided=there(found.decided), world=world)


def _inputs(decided: Document, plans: Mapping[str, ServicePlan], tree: Path) -> dict[str, str]:
    """What the files say of each service's image: hosts may have other keys for it, as their interpreters differ."""
    services = decided["services"]
    said = {name: canonical({key: services[name].get(key) for key in ("build", "image")}) for name in plans}
    return {f"{INPUT}{name}": _digest(RECIPE.encode(), _bare(one, tree)) for name, one in said.items()}


def _bare(said: bytes, tree: Path) -> bytes:
    """Paths inside the artifact say nothing that the tree does not say; elsewhere they do."""
    return said.replace(str(tree).encode(), b"")


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _key(own: str, decided: Document, spec: ComposeSpec, tree: Path) -> str:
    builds = {name: service["build"] for name, service in decided.get("services", {}).items() if service.get("build")}
    said = _bare(canonical(builds), tree)
    return _digest(RECIPE.encode(), own.encode(), said, canonical(msgspec.to_builtins(spec)))


def _changed(path: Path, how: str) -> StateCorrupted:
    return StateCorrupted(
        f"{path} is damaged: {how}.",
        world="Nothing was started from it.",
        next="restore it from a backup, or roll the branch out again",
        file=str(path),
    )
