"""The images of an artifact: built or pulled once, then known by digest or id alone."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sluice.hosts.state import write_file
from sluice.model.errors import StepFailed
from sluice.model.promotion import Denial, Denied
from sluice.model.spec import ComposeSpec
from sluice.ports import Progress
from sluice.runtimes.compose_cli import ComposeCli, Rendered, dotenv
from sluice.runtimes.compose_layers import Layers
from sluice.runtimes.compose_values import Document, ServicePlan
from sluice.runtimes.engine import DockerEngine, Image, split_reference
from sluice.runtimes.placeholders import BRACES, render

BUILT_BY = "dev.sluice.built-for"  # label of images Sluice built; only these are ever removed
BUILT_IN = "dev.sluice.built-in"  # and only by whose state folder knows who needs them: a host may have several
PLACEHOLDER = "0"  # stands for what is known only at start ({sha}, ...) while files are read for deciding


class Pinned(msgspec.Struct, frozen=True):
    """What was built or pulled, once for this artifact and environment."""

    images: dict[str, str]  # service -> repository@digest, or the image's id
    healthchecks: tuple[str, ...] = ()  # services whose image has one
    replicas: int = 1  # of the routed service: as many ports of the host a slot needs
    stores: dict[str, tuple[str, ...]] = {}  # service -> folders its image keeps in a volume of each container's own


class Job(msgspec.Struct, frozen=True):
    """One artifact's images."""

    folder: Path  # where the note about them is kept
    key: str
    directory: str  # the project directory
    tree: str  # the commit's tree hash
    spec: ComposeSpec
    carried: dict[str, str] = {}  # service -> REPOSITORY@sha256:… that another host proved: nothing else will do


class Images:
    """Makes the images of one service's artifacts."""

    def __init__(self, service: str, state: str, engine: DockerEngine, cli: ComposeCli, layers: Layers) -> None:
        """`state` is the state folder. Touches nothing."""
        self._layers = layers
        self._service = service
        # Not the path itself: images are pushed to where others look.
        self._folder = hashlib.sha256(state.encode()).hexdigest()[:12]
        self.marks = {BUILT_BY: service, BUILT_IN: self._folder}
        self._engine = engine
        self._cli = cli

    async def pinned(self, job: Job, base: Document, plans: Mapping[str, ServicePlan], progress: Progress) -> Pinned:
        """Build or pull what is not noted or not there any more. The caller holds the key's lock.

        Raises StepFailed; Denied where another host proved the images, and one cannot be had or would be built here.
        """
        _must_be_proven(job, plans)
        note = job.folder / f"{job.key}.json"
        known = msgspec.json.decode(note.read_bytes(), type=Pinned) if note.exists() else Pinned({})
        there = await asyncio.gather(*(self._engine.image(reference) for reference in known.images.values()))
        found = {name: ref for (name, ref), image in zip(known.images.items(), there, strict=True) if image}
        images = {name: ref for name, ref in found.items() if job.carried.get(name, ref) == ref}
        healthchecks = set(known.healthchecks) & images.keys()
        stores = {name: folders for name, folders in known.stores.items() if name in images}
        built = [name for name, plan in plans.items() if plan.build and name not in {*images, *job.carried}]
        twins = twins_of(plans)
        fresh = await self._built(job, base, built, progress) if built else {}
        for name in [name for name in plans if name not in {*images, *twins, *fresh}]:
            carried = job.carried.get(name, "")
            reference = carried or plans[name].image
            fetch = self._carried if carried else self._engine.pull
            image = await self._engine.image(reference) or await fetch(reference, progress)
            fresh[name] = (carried or _pin(image, reference), image)
        images |= {name: reference for name, (reference, _) in fresh.items()}
        healthchecks |= {name for name, (_, image) in fresh.items() if image.healthcheck}
        stores |= {name: image.volumes for name, (_, image) in fresh.items() if image.volumes}
        for name, builder in twins.items():
            images[name] = images[builder]
            healthchecks = healthchecks - {name} | ({name} if builder in healthchecks else set())
            stores = {key: value for key, value in stores.items() if key != name}
            stores |= {name: stores[builder]} if builder in stores else {}
        replicas = max(plan.replicas for plan in plans.values() if plan.routed)
        pinned = Pinned({name: images[name] for name in plans}, tuple(sorted(healthchecks)), replicas, stores)
        write_file(note, msgspec.json.encode(pinned))
        progress("images reused" if not built else f"built {', '.join(built)}")
        return pinned

    async def _carried(self, reference: str, progress: Progress) -> Image:
        """An image that another host proved. Raises Denied where its registry does not give it."""
        try:
            return await self._engine.pull(reference, progress)
        except StepFailed as error:
            if error.data.get("unreachable"):
                raise  # the engine could not be asked at all
            raise Denied(Denial.ARTIFACT_GONE, error.what, next=error.next) from error

    async def _built(
        self, job: Job, base: Document, services: list[str], progress: Progress
    ) -> dict[str, tuple[str, Image]]:
        """The images of these services, just built, each with what it is pinned by."""
        names = {name: self._name(name, job.key) for name in services}
        path = self._cli.write(job.folder / f"{job.key}.build", _building(base, names, self.marks))
        around = known_at_build(job.spec, job.tree)
        defaults = dotenv(job.folder.parent / "tree", job.directory)
        rendered = Rendered(path, "sluice-build", job.directory, around, defaults)
        async with self._layers.written(job.key) as told:
            await self._cli.build(rendered, services, progress, told)
        path.unlink()
        there = {name: await self._there(tag) for name, tag in names.items()}
        return {name: (await self._published(one, names[name], job.spec, progress), one) for name, one in there.items()}

    def _name(self, service: str, key: str) -> str:
        return f"sluice/{self._service}-{re.sub(r'[^a-z0-9._-]', '-', service.lower())}:{key[:16]}-{self._folder[:4]}"

    async def _there(self, reference: str) -> Image:
        image = await self._engine.image(reference)
        if image is None:
            raise StepFailed(f"The build said nothing, and there is no image {reference}.")
        return image

    async def _published(self, image: Image, tag: str, spec: ComposeSpec, progress: Progress) -> str:
        if not spec.registry:
            return image.id
        remote = f"{spec.registry.rstrip('/')}/{tag.removeprefix('sluice/')}"
        await self._engine.tag(image.id, remote)
        progress(f"pushing {remote}")
        return await self._engine.push(remote, progress)


def _must_be_proven(job: Job, plans: Mapping[str, ServicePlan]) -> None:
    """What is pulled by its name is what it is everywhere; what this host builds nobody has seen in test."""
    unproven = [name for name, plan in plans.items() if plan.build and name not in job.carried]
    if job.carried and unproven:
        raise Denied(
            Denial.ARTIFACT_DIFFERS,
            f"{', '.join(unproven)} would be built here, and no image of that name passed test.",
            next="let test run it too, or take its image by name from a registry",
        )


def twins_of(plans: Mapping[str, ServicePlan]) -> dict[str, str]:
    """Services that only name the image which another one builds, with that one: no registry has it."""
    builders = {split_reference(plan.image): name for name, plan in plans.items() if plan.build and plan.image}
    return {
        name: builders[split_reference(plan.image)]
        for name, plan in plans.items()
        if not plan.build and split_reference(plan.image) in builders
    }


def _pin(image: Image, reference: str) -> str:
    """By the digest of the registry it is named after: under another name the same image may be gone tomorrow."""
    repository = split_reference(reference)[0]
    return next((one for one in image.digests if split_reference(one)[0] == repository), image.id)


def known_at_build(spec: ComposeSpec, tree: str) -> dict[str, str]:
    """[compose.environment] as a build sees it: an image serves any commit of its tree, so {tree} alone has a value."""
    names = {match[1] for text in spec.environment.values() for match in BRACES.finditer(text)}
    known = dict.fromkeys(names, PLACEHOLDER) | ({"tree": tree} if tree else {})
    return {name: render(text, known) for name, text in spec.environment.items()}


def _building(base: Document, names: Mapping[str, str], labels: Mapping[str, str]) -> Document:
    services = {}
    for name, tag in names.items():
        build = base["services"][name]["build"]
        build = {"context": build} if isinstance(build, str) else dict(build)
        own = build.get("labels") or {}
        told = dict(item.partition("=")[::2] for item in own) if isinstance(own, list) else dict(own)
        services[name] = {"image": tag, "build": {**build, "labels": {**told, **labels}}}
    return {"services": services} | {key: base[key] for key in ("secrets",) if key in base}
