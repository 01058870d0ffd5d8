"""Traefik in front of one environment, as a process of the host's supervisor.

Measured: three switches under load lose no request, and open sockets stay on the slot they are on. The old slot stays
alive after a switch, so a request that races with it is answered too.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from sluice.hosts.state import StatePaths, write_file
from sluice.hosts.system import port_is_free, who_listens
from sluice.ingress.binary import traefik_binary
from sluice.ingress.files import Address, IngressFiles, public_address
from sluice.model.errors import Refused
from sluice.model.release import Slot
from sluice.model.spec import HostEnvironment
from sluice.runtimes.client import SupervisorClient
from sluice.runtimes.units import UnitSpec

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
        if status is not None and status.running:
            if files.static.exists() and files.static.read_bytes() == static and not self._free():
                return
            await asyncio.to_thread(self._supervisor.stop, self._unit, STOP_GRACE_S)
        for address in self._addresses:
            if not port_is_free(address.host, address.port):
                await self.stop()
                raise taken(address, who_listens(address.port))
        write_file(files.static, static)
        await asyncio.to_thread(self._supervisor.start, self._unit, spec)
        await self._listens()

    async def point(self, slot: Slot | None) -> None:
        """See ports.Ingress. Traefik follows within about 100 ms; the caller reads back what serves."""
        await asyncio.to_thread(self._files.point, slot)

    async def current(self) -> str | None:
        """See ports.Ingress: what our file says. Raises StateCorrupted when it is damaged."""
        return self._files.read().url or None

    async def network_cidr(self) -> str:
        """The network the ingress dials from."""
        return "127.0.0.1/32"

    async def stop(self) -> None:
        """End Traefik: nothing listens on the public address then. Stopping what does not run is fine."""
        await asyncio.to_thread(self._supervisor.stop, self._unit, STOP_GRACE_S)
        await asyncio.to_thread(self._supervisor.forget, self._unit)

    def _free(self) -> bool:
        return port_is_free(self._public.host, self._public.port)

    async def _listens(self) -> None:
        end = asyncio.get_running_loop().time() + LISTEN_S
        while asyncio.get_running_loop().time() < end:
            if not await answers(self._public):
                await asyncio.sleep(LOOK_S)
                continue
            status = (await asyncio.to_thread(self._supervisor.status)).get(self._unit)
            if status is None or not status.running:
                await self.stop()
                raise taken(self._public, who_listens(self._public.port))  # somebody else was faster
            return
        await self.stop()
        raise Refused(
            f"Traefik did not listen on {self._public} within {LISTEN_S} s.",
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
