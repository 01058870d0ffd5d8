"""Traefik in front of one environment, as a container on the environment's own network.

It dials the slots by name inside that network: a published port accepts before the service behind it listens, and an
ingress that dials one would see connections which are opened and closed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from sluice.hosts.state import StatePaths, write_file
from sluice.hosts.system import port_is_free, who_listens
from sluice.ingress.binary import traefik_binary, traefik_version
from sluice.ingress.files import Address, IngressFiles, public_address
from sluice.ingress.process import FIRST_OPEN_PORT, REPLACED, answers, taken
from sluice.model.errors import Refused, StepFailed
from sluice.model.release import Slot
from sluice.model.spec import HostEnvironment
from sluice.runtimes.engine import DockerEngine

LABEL = "dev.sluice."
INSIDE = Path("/sluice")  # the ingress's folder, read-only
PUBLIC, REDIRECT, PING = Address("", 8080), Address("", 8081), Address("127.0.0.1", 8082)
LISTEN_S = 20  # the engine starts a container in half a second; a busy machine takes longer
LOOK_S = 0.1  # between looks: each is a small process in the container
ASK_S = 5
STOP_GRACE_S = 5
# While one takes the place of another nobody listens: Traefik itself lets a request end for LAST_REQUESTS (files.py).
REPLACE_GRACE_S = 2
NEXT = "-next"  # the container that is to take the ingress's place, until it listens
HEALTH_S = 15  # between the engine's own looks: a tenth of a second of processor time each
MAX_PIDS = 512  # threads: a few dozen are usual
LOGS = {"max-size": "5m", "max-file": "2"}  # errors alone are logged
TAKEN = ("port is already allocated", "address already in use", "cannot assign requested address")


class ContainerIngress:
    """ports.Ingress. Runs as the container `sluice-<service>-<environment>-ingress`."""

    def __init__(self, paths: StatePaths, host: HostEnvironment, engine: DockerEngine, network: str) -> None:
        """`network` is the environment's. Touches nothing."""
        self.container = f"sluice-{paths.service}-{paths.environment}-ingress"
        self._files = IngressFiles(paths.ingress_dir, host)
        self._host = host
        self._engine = engine
        self._network = network
        self._public = public_address(host)
        self._labels = {f"{LABEL}service": paths.service, f"{LABEL}environment": paths.environment}
        self._state = str(paths.root)

    @property
    def route_file(self) -> Path:
        """See ports.Ingress."""
        return self._files.dynamic

    async def ensure(self) -> None:
        """See ports.Ingress. Where it runs with the same definition already, nothing happens: no socket is cut.

        One of another definition is stopped only when the new one is made and waits; where that does not listen, the
        old one is started again before Refused or StepFailed is raised.
        """
        await asyncio.to_thread(self._files.prepare)
        await self._engine.ensure_network(self._network, self._labels)
        spec, static = await self._wanted()
        await self.mend()
        old = await self._found()
        if old is not None and _same(old, spec) and old["State"]["Status"] == "running":
            await self._engine.connect(self._network, self.container)
            return
        await self._make_image(spec["Image"])
        await self._must_be_free(spec, old)
        write_file(self._static_file(static), static)
        if old is not None and old["State"]["Status"] == "running":
            await self._replace(spec)
        else:
            await self._engine.remove_container(self.container)
            container = await self._engine.create_container(self.container, spec)
            try:
                await self._start(container, spec)
            except BaseException:
                await self._engine.remove_container(container)
                raise
        self._forget_statics(static)

    async def replacement(self) -> str:
        """See ports.Ingress."""
        old = await self._found()
        if old is None or old["State"]["Status"] != "running":
            return ""
        spec, _ = await self._wanted()
        return "" if _same(old, spec) else REPLACED.format(self.container)

    async def edited(self) -> str:
        """See ports.Ingress."""
        return await asyncio.to_thread(self._files.edited)

    async def mend(self) -> None:
        """See ports.Ingress. Whichever of the two listens stays; the other goes."""
        coming = await self._found(self.container + NEXT)
        if coming is None:
            return
        old = await self._found()
        if coming["State"]["Status"] == "running" and await answers(_published(coming["HostConfig"])):
            await self._take_over(coming["Id"])
            return
        await self._engine.remove_container(coming["Id"])
        if old is not None:
            await self._engine.start(old["Id"])
            await self._listens(old["Id"], old["Config"], old["HostConfig"])

    async def point(self, slot: Slot | None) -> None:
        """See ports.Ingress. Traefik follows within about 100 ms; the caller reads back what serves."""
        await asyncio.to_thread(self._files.point, slot)

    async def current(self) -> str | None:
        """See ports.Ingress: what our file says. Raises StateCorrupted when it is damaged."""
        return self._files.read().url or None

    async def stop(self) -> None:
        """Remove the container: nothing listens on the public address then. What does not run is fine."""
        for name in (self.container + NEXT, self.container):
            if await self._found(name) is not None:
                await self._engine.stop(name, STOP_GRACE_S)
                await self._engine.remove_container(name)

    async def _found(self, name: str = "") -> dict[str, Any] | None:
        name = name or self.container
        documents = await self._engine.inspect([name])
        if not documents:
            return None
        owner = (documents[0]["Config"].get("Labels") or {}).get(f"{LABEL}state")
        if owner != self._state:
            whose = f"belongs to the state folder {owner}" if owner else "is not Sluice's"
            raise Refused(
                f"the container {name} {whose}.",
                next=f"use that state folder (SLUICE_STATE), or remove the container: docker rm -f {name}",
            )
        return documents[0]

    # ------------------------------------------------------------ what it is

    async def _wanted(self) -> tuple[dict[str, Any], bytes]:
        """What runs by today's settings, and Traefik's file for it."""
        static = self._files.settings(
            PUBLIC,
            REDIRECT if self._files.redirect else None,
            str(INSIDE / self._files.watched.name),
            entryPoints={"traefik": {"address": str(PING)}},
            ping={},
        )
        return await asyncio.to_thread(self._spec, static), static

    def _static_file(self, static: bytes) -> Path:
        # A name of its own for each content: the old container can be started again with what it was made for.
        return self._files.folder / f"traefik-{hashlib.sha256(static).hexdigest()[:12]}.json"

    def _forget_statics(self, static: bytes) -> None:
        for path in (*self._files.folder.glob("traefik-*.json"), self._files.static):
            if path != self._static_file(static):
                path.unlink(missing_ok=True)

    def _spec(self, static: bytes) -> dict[str, Any]:
        health = ["/traefik", "healthcheck", _config_file(self._static_file(static))]
        published = [(PUBLIC, self._public)]
        if self._files.redirect is not None:
            published.append((REDIRECT, self._files.redirect))
        host_config = {
            "NetworkMode": self._network,
            "PortBindings": {
                f"{inside.port}/tcp": [{"HostIp": _literal(outside), "HostPort": str(outside.port)}]
                for inside, outside in published
            },
            "Mounts": [
                {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}
                for target, source in self._mounts().items()
            ],
            "RestartPolicy": {"Name": "always"},
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": MAX_PIDS,
            "LogConfig": {"Type": "json-file", "Config": LOGS},
        }
        second = 1_000_000_000  # the engine counts nanoseconds
        spec: dict[str, Any] = {
            "Image": f"sluice/traefik:{traefik_version()}",
            "Cmd": [_config_file(self._static_file(static))],
            "User": f"{os.geteuid()}:{os.getegid()}",
            "ExposedPorts": {f"{inside.port}/tcp": {} for inside, _ in published},
            "Healthcheck": {
                "Test": ["CMD", *health],
                "Interval": HEALTH_S * second,
                "Timeout": ASK_S * second,
                "Retries": 2,
            },
            "HostConfig": host_config,
        }
        definition = hashlib.sha256(msgspec.json.encode([spec, static.decode()], order="sorted")).hexdigest()
        more = {f"{LABEL}mode": "ingress", f"{LABEL}state": self._state, f"{LABEL}definition": definition}
        return spec | {"Labels": self._labels | more}

    def _mounts(self) -> dict[str, str]:
        mounts = {str(INSIDE): str(self._files.folder.resolve())}
        # Folders, not files: a renewed certificate is another file under the same name. Both ends of a symbolic link,
        # each at its own path, so that the link holds inside too.
        for name in (self._host.certificate, self._host.certificate_key):
            for path in (Path(name), Path(name).resolve()) if name else ():
                mounts[str(path.parent)] = str(path.parent)
        return mounts

    async def _make_image(self, name: str) -> None:
        found = await self._engine.image(name)
        if found is not None and f"{LABEL}image" in found.labels:
            return
        with tempfile.TemporaryFile(dir=self._files.folder) as file:
            await asyncio.to_thread(_pack, file)
            changes = ['ENTRYPOINT ["/traefik"]', f"LABEL {LABEL}image=ingress"]
            await self._engine.import_tar(file, name, changes)

    # ------------------------------------------------------------ starting it

    async def _must_be_free(self, spec: dict[str, Any], old: dict[str, Any] | None) -> None:
        # Asked before the old container goes. What it publishes itself is free once it is gone.
        bindings = (old["HostConfig"].get("PortBindings") or {}) if old and old["State"]["Running"] else {}
        own = {int(one["HostPort"]) for each in bindings.values() for one in each or []}
        for address in self._addresses(spec):
            # A port that only root may listen on cannot be tried by us; the engine, which may, says it at the start.
            untried = address.port < FIRST_OPEN_PORT and os.geteuid() != 0
            if address.port not in own and not untried and not port_is_free(address.host, address.port):
                raise taken(address, await self._who(address.port))

    def _addresses(self, spec: dict[str, Any]) -> list[Address]:
        bindings = spec["HostConfig"]["PortBindings"].values()
        return [Address(one["HostIp"], int(one["HostPort"])) for each in bindings for one in each]

    async def _who(self, port: int) -> str:
        holders = [one.name for one in await self._engine.containers() if port in one.ports]
        return f"the container {holders[0]}" if holders else who_listens(port)

    async def _replace(self, spec: dict[str, Any]) -> None:
        """The new one is there, whole, before the old one ends; both want the same port."""
        coming = await self._engine.create_container(self.container + NEXT, spec)
        try:
            await self._stop_whole()
            await self._start(coming, spec)
        except BaseException as error:  # a cancelled one, too, may not leave the users without an ingress
            await self._bring_back(coming, error)
            raise
        await self._take_over(coming)

    async def _stop_whole(self) -> None:
        stopping = asyncio.create_task(self._engine.stop(self.container, REPLACE_GRACE_S))
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping  # one that is still ending cannot be started again
            raise

    async def _bring_back(self, coming: str, error: BaseException) -> None:
        await self._engine.remove_container(coming)
        old = await self._found()
        if old is None:
            return
        try:
            await self._engine.start(old["Id"])
            await self._listens(old["Id"], old["Config"], old["HostConfig"])
        except (StepFailed, Refused) as worse:
            why = error.what if isinstance(error, StepFailed | Refused) else "It was interrupted."
            raise StepFailed(
                f"The ingress could not be replaced ({why}), and the old one does not listen any more: {worse.what}",
                world=f"Nobody listens on {self._public}.",
                next=f"docker logs {self.container}; what is said there decides",
            ) from error
        if isinstance(error, StepFailed | Refused):
            error.world = "The old ingress was started again and listens; open sockets were cut once."

    async def _take_over(self, coming: str) -> None:
        await self._engine.remove_container(self.container)
        await self._engine.rename_container(coming, self.container)

    async def _start(self, container: str, spec: dict[str, Any]) -> None:
        try:
            await self._engine.start(container)
            await self._listens(container, spec, spec["HostConfig"])
        except StepFailed as error:
            if not any(words in error.what for words in TAKEN):
                raise
            address = next((a for a in self._addresses(spec) if f":{a.port}" in error.what), self._public)
            raise taken(address, await self._who(address.port)) from error

    async def _listens(self, container: str, config: Mapping[str, Any], published: Mapping[str, Any]) -> None:
        # By what it was made with: the old one may listen elsewhere than today's settings say.
        health, public = config["Healthcheck"]["Test"][1:], _published(published)
        end = asyncio.get_running_loop().time() + LISTEN_S
        while asyncio.get_running_loop().time() < end:
            if not await self._runs(container):
                break
            if await self._healthy(container, health) and await answers(public):
                return
            await asyncio.sleep(LOOK_S)
        log = " | ".join(await self._engine.logs(container, 5))
        raise Refused(
            f"Traefik did not listen on {public} within {LISTEN_S} s. Its log ends with: {log or 'nothing'}.",
            world="Nothing was switched.",
            next="correct `listen`, `certificate` and `certificate_key` in host.toml",
        )

    async def _runs(self, container: str) -> bool:
        documents = await self._engine.inspect([container])
        return bool(documents) and documents[0]["State"]["Status"] == "running" and not documents[0]["RestartCount"]

    async def _healthy(self, container: str, health: Sequence[str]) -> bool:
        try:
            return (await self._engine.execute(container, health, ASK_S)).exit_code == 0
        except StepFailed:
            return False  # it ended just now: `_runs` says so in the next round


def _config_file(static: Path) -> str:
    return f"--configFile={INSIDE / static.name}"


def _same(document: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    name = f"{LABEL}definition"
    return bool((document["Config"].get("Labels") or {}).get(name) == spec["Labels"][name])


def _published(host_config: Mapping[str, Any]) -> Address:
    binding = host_config["PortBindings"][f"{PUBLIC.port}/tcp"][0]
    return Address(binding["HostIp"], int(binding["HostPort"]))


def _literal(address: Address) -> str:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refused(
            f"{address.host} has no address: {error}.", next="say `listen` = ADDRESS:PORT in host.toml"
        ) from error
    # IPv4 first: `localhost` is both, and the engine publishes on one. Of several the same one whenever it is asked: a
    # name server gives them in any order, and another address would be another container.
    return str(min(found, key=lambda one: (one[0] != socket.AF_INET, one[4][0]))[4][0])


def _pack(file: IO[bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tar.gettarinfo(str(traefik_binary()), "traefik")
        member.mode, member.uid, member.gid, member.uname, member.gname = 0o755, 0, 0, "", ""
        with traefik_binary().open("rb") as binary:
            tar.addfile(member, binary)
    file.seek(0)
