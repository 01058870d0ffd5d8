"""The two files Traefik reads: its settings, and the one that says where requests go, whose rename is the switch."""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sluice.hosts.state import write_file
from sluice.model.errors import Refused, StateCorrupted
from sluice.model.release import Slot
from sluice.model.spec import HostEnvironment

# Shorter than any server keeps an idle connection (uvicorn: 5 s). A request on one that the service is just closing
# fails, and a POST is not tried again: measured, one in 20,000 under load.
IDLE_BACKEND = "2s"
RELEASE_HEADER = "Sluice-Release"  # on every answer: which release was asked, also where the service does not say
THROTTLE = "100ms"  # a change is read at once and the next one a tenth later; the default of two seconds slows rollouts
# How long Traefik, told to end, waits for open requests. A socket or a stream is one that never ends: with its default,
# ten seconds, nobody would listen that long while one ingress takes the place of another.
LAST_REQUESTS = "1s"
SERVICE, REDIRECT, PUBLIC, PLAIN = "service", "redirect", "public", "plain"
CHECKSUM = b"# Written by Sluice; sha256 of the lines above: "  # a comment to Traefik, who reads YAML
# Where an edge may ask from: this machine, the engine's bridges, a private network. X-Forwarded-* of others is dropped.
PRIVATE = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


@dataclass(frozen=True)
class Address:
    """Where something listens. An empty host is every address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str) -> Address:
    """ADDRESS:PORT; an IPv6 address stands in brackets."""
    host, _, port = text.rpartition(":")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def public_address(host: HostEnvironment) -> Address:
    """Where the ingress listens: `listen`, else host and port of `public_url`."""
    if host.listen:
        return address_of(host.listen)
    parts = urllib.parse.urlsplit(host.public_url)
    return Address(parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80))


class Route(msgspec.Struct, frozen=True):
    """All that the dynamic file says."""

    url: str = ""  # empty: no backend
    release: str = ""
    certificate: str = ""
    certificate_key: str = ""
    redirect_to: str = ""  # what plain HTTP is sent to; empty: no redirect


class IngressFiles:
    """The files of one environment's ingress, in one folder. The private key is named in them, never copied."""

    def __init__(self, folder: Path, host: HostEnvironment) -> None:
        """Touches nothing."""
        self.folder = folder
        self.static = folder / "traefik.json"
        self.watched = folder / "dynamic"
        self.dynamic = self.watched / "service.yaml"  # JSON is YAML, and Traefik passes over *.json in a folder
        self._host = host

    def prepare(self) -> None:
        """Folders, and a dynamic file that fits the host's settings and its certificate as it is now.

        Raises Refused when the certificate or its key cannot be read, StateCorrupted when the dynamic file is damaged.
        """
        self._folders()
        for name in (self._host.certificate, self._host.certificate_key):
            if name and not os.access(name, os.R_OK):
                raise Refused(
                    f"{name} is not there, or may not be read by this user.",
                    next="correct `certificate` and `certificate_key` in host.toml, or the permissions of the files",
                )
        route = self.read()
        current = self._route(route.url, route.release)
        if not self.dynamic.exists() or current != route or self._certificate_is_newer():
            self._replace(current)

    def point(self, slot: Slot | None) -> None:
        """Switch: Traefik follows within about 100 ms."""
        self._folders()
        self._replace(self._route("", "") if slot is None else self._route(slot.target or slot.url, slot.release_id))

    def read(self) -> Route:
        """What the dynamic file says; nothing where there is none. Raises StateCorrupted when it is damaged."""
        parts = self._parts()
        if parts is None:
            return Route()
        raw, told = parts
        try:
            if told and len(told) != len(_checksum(raw)):
                raise ValueError("its last line is not whole")
            route = _decode(msgspec.json.decode(raw))
            if _encode(route) != raw:
                raise ValueError("it is not what Sluice wrote")
        except (msgspec.DecodeError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise StateCorrupted(
                f"the ingress file {self.dynamic} is damaged: {error!r}.",
                world="Traefik goes on with the last good content it read.",
                next="look at the file and put it right, or move it away: the next rollout or rollback writes it anew",
                file=str(self.dynamic),
            ) from error
        return route

    def edited(self) -> str:
        """That the file is whole and yet not as it was written, in a sentence; "" otherwise. Raises as `read`.

        Such a file is believed: it is the way by hand out of a rollback that failed.
        """
        raw, told = self._parts() or (b"", b"")
        if not told or told == _checksum(raw):
            return ""
        url = self.read().url or "nowhere"
        return f"the ingress file {self.dynamic} was edited by hand: requests go to {url} until the next switch"

    def _parts(self) -> tuple[bytes, bytes] | None:
        """The content, and the line about it that Sluice wrote: empty where an older version did not."""
        try:
            raw = self.dynamic.read_bytes()
        except FileNotFoundError:
            return None
        body, mark, told = raw.partition(CHECKSUM)
        return body, mark + told

    def settings(self, public: Address, redirect: Address | None, watched: str, **more: Any) -> bytes:
        """Traefik's own settings, for these entry points and this folder as Traefik sees them."""
        # No read or write timeout: a socket of a room is one request that lasts for days. Idle keep-alives do end.
        timeouts = {"readTimeout": "0s", "writeTimeout": "0s", "idleTimeout": "180s"}
        transport = {"respondingTimeouts": timeouts, "lifeCycle": {"graceTimeOut": LAST_REQUESTS}}
        entry: dict[str, Any] = {"address": str(public), "transport": transport}
        if self._host.certificate:
            entry["http"] = {"tls": {}}
        elif self._host.public_url.startswith("https:"):
            # Somebody in front ended TLS. Without its X-Forwarded-Proto the service would take every origin for http.
            entry["forwardedHeaders"] = {"trustedIPs": list(PRIVATE)}
        entries: dict[str, Any] = {PUBLIC: entry}
        if redirect is not None:
            entries[PLAIN] = {"address": str(redirect)}
        tree: dict[str, Any] = {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": entries | more.pop("entryPoints", {}),
            "providers": {"providersThrottleDuration": THROTTLE, "file": {"directory": watched, "watch": True}},
            "serversTransport": {"forwardingTimeouts": {"idleConnTimeout": IDLE_BACKEND}},
            "log": {"level": "ERROR", "noColor": True},
        }
        return msgspec.json.format(msgspec.json.encode(tree | more), indent=1)

    @property
    def redirect(self) -> Address | None:
        return address_of(self._host.redirect_http) if self._host.redirect_http else None

    def _route(self, url: str, release: str) -> Route:
        host = self._host
        to = host.public_url.rstrip("/") if host.redirect_http else ""
        return Route(url, release, host.certificate, host.certificate_key, to)

    def _certificate_is_newer(self) -> bool:
        # Traefik reads a certificate when it reads this file: a renewed one needs it written again.
        written = self.dynamic.stat().st_mtime
        names = (self._host.certificate, self._host.certificate_key)
        return any(Path(name).stat().st_ctime > written for name in names if name)

    def _folders(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.watched.mkdir(exist_ok=True, mode=0o700)

    def _replace(self, route: Route) -> None:
        body = _encode(route)
        whole = body + _checksum(body)
        # A way back that is the way it is already must not need room on a disk that has none.
        if self.dynamic.exists() and self.dynamic.read_bytes() == whole and not self._certificate_is_newer():
            return
        # Written outside the watched folder, so Traefik never sees a part, and renamed in on the same file system.
        write_file(self.dynamic, whole, through=self.folder)


def _checksum(body: bytes) -> bytes:
    return CHECKSUM + hashlib.sha256(body).hexdigest().encode() + b"\n"


def _encode(route: Route) -> bytes:
    routers: dict[str, Any] = {}
    middlewares: dict[str, Any] = {}
    http: dict[str, Any] = {}
    rule = "PathPrefix(`/`)"
    if route.url:
        routers[SERVICE] = {"entryPoints": [PUBLIC], "rule": rule, "service": SERVICE, "middlewares": [SERVICE]}
        middlewares[SERVICE] = {"headers": {"customResponseHeaders": {RELEASE_HEADER: route.release}}}
        http["services"] = {SERVICE: {"loadBalancer": {"passHostHeader": True, "servers": [{"url": route.url}]}}}
    if route.redirect_to:
        # To our own name whatever Host was asked for: a redirect that follows the Host header is anybody's.
        routers[REDIRECT] = {
            "entryPoints": [PLAIN],
            "rule": rule,
            "service": "noop@internal",
            "middlewares": [REDIRECT],
        }
        replacement = {"regex": "^https?://[^/]+(.*)$", "replacement": f"{route.redirect_to}${{1}}", "permanent": True}
        middlewares[REDIRECT] = {"redirectRegex": replacement}
    tree: dict[str, Any] = {"http": {"routers": routers, "middlewares": middlewares} | http} if routers else {}
    if route.certificate:
        options = {"minVersion": "VersionTLS12", "alpnProtocols": ["h2", "http/1.1"]}
        pair = {"certFile": route.certificate, "keyFile": route.certificate_key}
        tree["tls"] = {"options": {"default": options}, "stores": {"default": {"defaultCertificate": pair}}}
    return msgspec.json.format(msgspec.json.encode(tree), indent=1) + b"\n"


def _decode(tree: Any) -> Route:
    http, tls = tree.get("http", {}), tree.get("tls")
    middlewares = http.get("middlewares", {})
    pair = tls["stores"]["default"]["defaultCertificate"] if tls else {"certFile": "", "keyFile": ""}
    url = release = to = ""
    if "services" in http:
        url = str(http["services"][SERVICE]["loadBalancer"]["servers"][0]["url"])
        release = str(middlewares[SERVICE]["headers"]["customResponseHeaders"][RELEASE_HEADER])
    if REDIRECT in middlewares:
        to = str(middlewares[REDIRECT]["redirectRegex"]["replacement"]).removesuffix("${1}")
    return Route(url, release, str(pair["certFile"]), str(pair["keyFile"]), to)
