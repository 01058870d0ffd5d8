"""Traefik in front of one environment: one file says where requests go, and a rename over that file is the switch.

Measured: three switches under load lose no request, and open sockets stay on the slot they are on. The old slot stays
alive after a switch, so a request that races with it is answered too.
"""

from __future__ import annotations

import asyncio
import shutil
import sysconfig
import urllib.parse
from pathlib import Path

import msgspec

from sluice.hosts.state import StatePaths, sync_directory, write_file
from sluice.hosts.system import port_is_free, who_listens
from sluice.model.errors import Refused, StateCorrupted
from sluice.model.release import Slot
from sluice.runtimes.client import SupervisorClient
from sluice.runtimes.units import UnitSpec

THROTTLE = "100ms"  # a change is read at once and the next one a tenth later; the default of two seconds slows rollouts
LISTEN_S = 10  # Traefik listens within half a second; a busy machine takes longer
LOOK_S = 0.05  # it cannot tell us that it listens, so we look
STOP_GRACE_S = 5
NAME = "service"


class TraefikIngress:
    """ports.Ingress. Runs as the unit `ingress-<service>-<environment>` of the host's supervisor."""

    def __init__(self, paths: StatePaths, public_url: str) -> None:
        """Touches nothing."""
        self._folder = paths.ingress_dir
        self._static = self._folder / "traefik.json"
        self._watched = self._folder / "dynamic"
        self._dynamic = self._watched / "service.yaml"  # JSON is YAML, and Traefik passes over *.json in a folder
        self._log = paths.logs_dir / "ingress.log"
        self._unit = f"ingress-{paths.service}-{paths.environment}"
        self._supervisor = SupervisorClient(paths.supervisor_dir)
        parts = urllib.parse.urlsplit(public_url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if parts.scheme == "https" else 80)

    async def ensure(self) -> None:
        """See ports.Ingress. Where it runs with the same settings already, nothing happens."""
        await asyncio.to_thread(self._folders)
        if not self._dynamic.exists():
            self._write(None)
        static = msgspec.json.format(msgspec.json.encode(self._settings()), indent=1)
        spec = UnitSpec((_binary(), f"--configFile={self._static}"), str(self._log), directory=str(self._folder))
        status = (await asyncio.to_thread(self._supervisor.status)).get(self._unit)
        if status is not None and status.running:
            if self._static.exists() and self._static.read_bytes() == static and not self._free():
                return
            await asyncio.to_thread(self._supervisor.stop, self._unit, STOP_GRACE_S)
        if not self._free():
            await self._stop_waiting()
            raise self._taken()
        write_file(self._static, static)
        await asyncio.to_thread(self._supervisor.start, self._unit, spec)
        await self._listens()

    async def point(self, slot: Slot | None) -> None:
        """See ports.Ingress. Traefik follows within about 100 ms; the caller reads back what serves."""
        await asyncio.to_thread(self._folders)
        await asyncio.to_thread(self._write, slot.url if slot is not None else None)

    async def current(self) -> str | None:
        """See ports.Ingress: what our file says. Raises StateCorrupted when it is damaged."""
        try:
            raw = self._dynamic.read_bytes()
        except FileNotFoundError:
            return None
        try:
            content = msgspec.json.decode(raw)
            if content == {}:
                return None
            url = str(content["http"]["services"][NAME]["loadBalancer"]["servers"][0]["url"])
            if raw != _dynamic(url):
                raise ValueError("it is not what Sluice wrote")
        except (msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise StateCorrupted(
                f"the ingress file {self._dynamic} is damaged: {error!r}.",
                world="Traefik goes on with the last good content it read.",
                next="look at the file, then `sluice rollback` or `sluice rollout` writes it anew",
                file=str(self._dynamic),
            ) from error
        return url

    async def stop(self) -> None:
        """End Traefik: nothing listens on the public address then. Stopping what does not run is fine."""
        await self._stop_waiting()

    async def _stop_waiting(self) -> None:
        await asyncio.to_thread(self._supervisor.stop, self._unit, STOP_GRACE_S)
        await asyncio.to_thread(self._supervisor.forget, self._unit)

    def _folders(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._watched.mkdir(exist_ok=True, mode=0o700)

    def _write(self, url: str | None) -> None:
        # Written outside the watched folder, so Traefik never sees a part, and renamed in on the same file system.
        beside = self._folder / "next.json"
        write_file(beside, _dynamic(url))
        beside.rename(self._dynamic)
        sync_directory(self._watched)

    def _free(self) -> bool:
        return port_is_free(self._host, self._port)

    def _taken(self) -> Refused:
        return Refused(
            f"the public address {self._host}:{self._port} is taken by {who_listens(self._port)}, "
            "or is not an address of this machine.",
            world="Nothing was switched.",
            next=f"stop what listens on port {self._port}, or change public_url in host.toml",
        )

    async def _listens(self) -> None:
        end = asyncio.get_running_loop().time() + LISTEN_S
        while asyncio.get_running_loop().time() < end:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(self._host, self._port), LISTEN_S)
            except OSError:
                await asyncio.sleep(LOOK_S)
                continue
            writer.close()
            status = (await asyncio.to_thread(self._supervisor.status)).get(self._unit)
            if status is None or not status.running:
                await self._stop_waiting()
                raise self._taken()  # somebody else was faster
            return
        await self._stop_waiting()
        raise Refused(
            f"Traefik did not listen on {self._host}:{self._port} within {LISTEN_S} s.",
            world="Nothing was switched.",
            next=f"look at {self._log}",
        )

    def _settings(self) -> dict[str, object]:
        host = f"[{self._host}]" if ":" in self._host else self._host
        # No read or write timeout: a socket of a room is one request that lasts for days. Idle keep-alives do end.
        timeouts = {"readTimeout": "0s", "writeTimeout": "0s", "idleTimeout": "180s"}
        entry = {"address": f"{host}:{self._port}", "transport": {"respondingTimeouts": timeouts}}
        return {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": {"public": entry},
            "providers": {
                "providersThrottleDuration": THROTTLE,
                "file": {"directory": str(self._watched), "watch": True},
            },
            "log": {"level": "ERROR", "noColor": True},
        }


def _dynamic(url: str | None) -> bytes:
    http: dict[str, object] = {}
    if url is not None:
        router = {"entryPoints": ["public"], "rule": "PathPrefix(`/`)", "service": NAME}
        # X-Forwarded-* are set by Traefik itself, and those of a client are not trusted.
        servers = {"passHostHeader": True, "servers": [{"url": url}]}
        http = {"routers": {NAME: router}, "services": {NAME: {"loadBalancer": servers}}}
    return msgspec.json.format(msgspec.json.encode({"http": http} if http else {}), indent=1) + b"\n"


def _binary() -> str:
    here = Path(sysconfig.get_path("scripts")) / "traefik"
    found = str(here) if here.exists() else shutil.which("traefik")
    if found is None:
        raise Refused("Traefik is not installed beside Sluice.", next="install Sluice with its locked requirements")
    return found
