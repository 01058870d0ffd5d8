"""Traefik in front of one environment, as a process of the host's supervisor.

Measured: three switches under load lose no request, and open sockets stay on the slot they are on. The old slot stays
alive after a switch, so a request that races with it is answered too.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from sluice.hosts.state import StatePaths, write_file
from sluice.hosts.system import port_is_free, who_listens
from sluice.ingress.binary import traefik_binary
from sluice.ingress.files import PUBLIC, Address, IngressFiles, address_of, public_address
from sluice.model.errors import Refused
from sluice.model.release import Slot
from sluice.model.spec import HostEnvironment
from sluice.runtimes.client import SupervisorClient
from sluice.runtimes.units import UnitSpec

REPLACED = (
    "the ingress {} runs by other settings or another version: it is replaced, and open sockets connect anew once"
)
LISTEN_S = 10  # Traefik listens within half a second; a busy machine takes longer
LOOK_S = 0.05  # it cannot tell us that it listens, so we look
STOP_GRACE_S = 5
FIRST_OPEN_PORT = 1024  # below it only root listens, on a kernel with its usual settings


class ProcessIngress:
    """ports.Ingress. Runs as the unit `ingress-<service>-<environment>` of the host's supervisor."""

    def __init__(self, paths: StatePaths, host: HostEnvironment) -> None:
        """Touches nothing."""
        self._files = IngressFiles(paths.ingress_dir, host)
        self._log = paths.logs_dir / "ingress.log"
        self._unit = f"ingress-{paths.service}-{paths.environment}"
        self._supervisor = SupervisorClient(paths.supervisor_dir)
        self._public = public_address(host)
        self._addresses = [self._public, *([self._files.redirect] if self._files.redirect else [])]

    @property
    def route_file(self) -> Path:
        """See ports.Ingress."""
        return self._files.dynamic

    async def ensure(self) -> None:
        """See ports.Ingress. Where it runs with the same settings already, nothing happens."""
        files = self._files
        await asyncio.to_thread(files.prepare)
        static = files.settings(self._public, files.redirect, str(files.watched))
        binary = str(traefik_binary())
        spec = UnitSpec((binary, f"--configFile={files.static}"), str(self._log), directory=str(files.folder))
        status = (await asyncio.to_thread(self._supervisor.status)).get(self._unit)
        before = b""
        if status is not None and status.running:
            if self._same(static) and not self._free():
                return
            before = files.static.read_bytes() if files.static.exists() else b""
            await asyncio.to_thread(self._supervisor.stop, self._unit, STOP_GRACE_S)
        try:
            for address in self._addresses:
                if not port_is_free(address.host, address.port):
                    await self.stop()
                    raise taken(address, who_listens(address.port))
            await self._run(spec, static, self._public)
        except Refused as error:
            if before and before != static:
                old = msgspec.json.decode(before)["entryPoints"][PUBLIC]["address"]
                await self._run(spec, before, address_of(old))
                error.world = "The ingress runs by its old settings again; open sockets were cut once."
            raise

    async def _run(self, spec: UnitSpec, static: bytes, public: Address) -> None:
        write_file(self._files.static, static)
        await asyncio.to_thread(self._supervisor.start, self._unit, spec)
        await self._listens(public)

    async def replacement(self) -> str:
        """See ports.Ingress."""
        status = (await asyncio.to_thread(self._supervisor.status)).get(self._unit)
        static = self._files.settings(self._public, self._files.redirect, str(self._files.watched))
        replaced = status is not None and status.running and not self._same(static)
        return REPLACED.format(self._unit) if replaced else ""

    async def edited(self) -> str:
        """See ports.Ingress."""
        return await asyncio.to_thread(self._files.edited)

    async def mend(self) -> None:
        """See ports.Ingress: there is nothing that a killed run could leave half-way here."""

    async def point(self, slot: Slot | None) -> None:
        """See ports.Ingress. Traefik follows within about 100 ms; the caller reads back what serves."""
        await asyncio.to_thread(self._files.point, slot)

    async def current(self) -> str | None:
        """See ports.Ingress: what our file says. Raises StateCorrupted when it is damaged."""
        return self._files.read().url or None

    async def stop(self) -> None:
        """End Traefik: nothing listens on the public address then. Stopping what does not run is fine."""
        await asyncio.to_thread(self._supervisor.stop, self._unit, STOP_GRACE_S)
        await asyncio.to_thread(self._supervisor.forget, self._unit)

    def _same(self, static: bytes) -> bool:
        return self._files.static.exists() and self._files.static.read_bytes() == static

    def _free(self) -> bool:
        return port_is_free(self._public.host, self._public.port)

    async def _listens(self, public: Address) -> None:
        end = asyncio.get_running_loop().time() + LISTEN_S
        while asyncio.get_running_loop().time() < end:
            if not await answers(public):
                await asyncio.sleep(LOOK_S)
                continue
            status = (await asyncio.to_thread(self._supervisor.status)).get(self._unit)
            if status is None or not status.running:
                await self.stop()
                raise taken(public, who_listens(public.port))  # somebody else was faster
            return
        await self.stop()
        raise Refused(
            f"Traefik did not listen on {public} within {LISTEN_S} s.",
            world="Nothing was switched.",
            next=f"look at {self._log}",
        )


async def answers(address: Address) -> bool:
    """Whether somebody accepts connections there."""
    try:
        async with asyncio.timeout(LISTEN_S):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:  # a deadline that passed is one too
        return False
    writer.close()
    return True


def taken(address: Address, who: str) -> Refused:
    """The refusal that names who listens on the public address."""
    advice = f"stop what listens on port {address.port}, or change `listen` or `public_url` in host.toml"
    if address.port < FIRST_OPEN_PORT and os.geteuid() != 0:
        advice += "; ports below 1024 need root, or an edge in front of a higher one"
    return Refused(
        f"the public address {address} is taken by {who}, or is not an address of this machine.",
        world="Nothing was switched.",
        next=advice,
    )
