"""The server put together from its parts, and its life: start, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import msgspec
import uvicorn

from boltorezka import __version__
from boltorezka.adapters.addresses import Database
from boltorezka.adapters.broker_sso import BrokerSso
from boltorezka.adapters.database import open_bus, open_store
from boltorezka.adapters.http.application import HttpParts, HttpSettings, http_application
from boltorezka.adapters.http.limits import LimitSettings
from boltorezka.adapters.http.operations import BuildInfo
from boltorezka.adapters.http.server import BoundedHttp
from boltorezka.adapters.http.signing_in import CALLBACK, LOGGED_OUT
from boltorezka.adapters.metrics import Metrics
from boltorezka.adapters.oidc_sso import FlowSeal, OidcClient, OidcSso
from boltorezka.adapters.realtime import Realtime, RealtimeSettings
from boltorezka.adapters.system import SystemClock, SystemIds
from boltorezka.adapters.tokens import Tokens
from boltorezka.adapters.websocket import websocket_protocol
from boltorezka.config import PREFIX, Settings
from boltorezka.errors import ConfigError, RoomNotFound
from boltorezka.ports import Clock, Ids, Store
from boltorezka.rooms.connection import CHAT, DEFAULT_RATES
from boltorezka.rooms.limits import Rate
from boltorezka.voice.turn import IceServers

SERVICE = "boltorezka"

# From the signal to the end: below the ten seconds after which supervisors kill.
STOP_DEADLINE_S = 8.0

# Of which the sockets get this much: three seconds of spread at most, one for the last acks, the goodbye. HTTP answers
# that were begun get the rest.
DRAIN_DEADLINE_S = 6.0
CLOSE_GRACE_S = 1.5

# Longer than an ingress keeps idle connections (90 s is common), so that it never sends on one we are closing.
KEEP_ALIVE_S = 120

# Connections that wait to be accepted: everybody of a drained process at once.
BACKLOG = 2048

log = logging.getLogger("boltorezka")


@dataclass(frozen=True)
class Server:
    """A server whose parts run; `run` answers requests until it is told to stop."""

    store: Store
    realtime: Realtime
    uvicorn: uvicorn.Server

    async def run(self, listener: socket.socket) -> None:
        """Serve on the bound socket until `stop`; then every answer begun is finished, within the deadline."""
        await self.uvicorn.serve(sockets=[listener])

    def drain(self) -> None:
        """Ask every socket to come back a little later, and go on serving: another process takes over."""
        log.info("draining", extra={"sockets": self.realtime.sockets})
        self.realtime.drain()

    async def stop(self) -> None:
        """Stop accepting, drain the sockets, finish their writes, then let `run` return."""
        if self.uvicorn.started:
            for listening in self.uvicorn.servers:
                listening.close()
        try:
            async with asyncio.timeout(DRAIN_DEADLINE_S):
                await self.realtime.stop()
        except TimeoutError:
            log.warning("drain cut short", extra={"sockets": self.realtime.sockets})
        finally:
            self.uvicorn.should_exit = True


class _QuietServer(uvicorn.Server):
    """Signals are ours (serve_forever): a drain has to come before the end."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@asynccontextmanager
async def running_server(
    settings: Settings, clock: Clock | None = None, ids: Ids | None = None
) -> AsyncGenerator[Server, None]:
    """Open the store and start the sockets' side; on leaving, the lease is given back and the store closed.

    Raises SchemaError when the database is older than this code, ConfigError when a named file is unusable.
    """
    clock, ids = clock or SystemClock(), ids or SystemIds()
    build = build_info(settings)
    metrics = Metrics(build.version, build.sha or "unknown")
    store = open_store(settings.database_url, clock)
    await store.open()
    try:
        instance = ids.new_id()
        bus = open_bus(settings.nats_url, store, instance)
        realtime = Realtime(store, bus, clock, ids, metrics, _realtime_settings(settings), instance)
        sso = _sso(settings, clock, ids)
        parts = HttpParts(store, clock, ids, Tokens(settings.jwt_secret.reveal()), sso, metrics, realtime)
        application = http_application(_http_settings(settings, build), parts, settings.metrics_token.reveal())
        config = uvicorn.Config(
            application,
            http=BoundedHttp,
            ws=websocket_protocol(realtime),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(STOP_DEADLINE_S - DRAIN_DEADLINE_S - 1),
        )
        await realtime.start()
        try:
            yield Server(store, realtime, _QuietServer(config))
        finally:
            await realtime.stop()
            await sso.close()
    finally:
        await store.close()


async def serve_forever(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; SIGUSR1 drains the sockets while the process goes on accepting."""
    async with running_server(settings) as server:
        loop = asyncio.get_running_loop()
        stopping: list[asyncio.Task[None]] = []

        def stop() -> None:
            if not stopping:
                log.info("stopping")
                stopping.append(loop.create_task(server.stop()))

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGUSR1: server.drain}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            # Whoever reads the next line may connect at once; uvicorn accepts a moment later.
            listener.listen(BACKLOG)
            host, port = listener.getsockname()[:2]
            log.info("listening", extra={"host": host, "port": port, "sha": settings.release_sha})
            await server.run(listener)
            if stopping:
                await stopping[0]
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
    log.info("stopped")


async def new_epochs(database: Database, slugs: Sequence[str]) -> int:
    """Give these rooms (none named: all) a new epoch; answer how many. Raises RoomNotFound, and then changes none."""
    store = open_store(database, SystemClock())
    await store.open()
    try:
        for slug in slugs:
            if await store.entrance(slug, "") is None:
                raise RoomNotFound(f"There is no room {slug!r}; nothing was changed.")
        return await store.new_epochs(slugs or None)
    finally:
        await store.close()


class _Build(msgspec.Struct, rename="camel"):
    tree: str | None = None
    built_at: str | None = None


def build_info(settings: Settings) -> BuildInfo:
    """What serves: the commit given at start, the tree baked in. Raises ConfigError for an unreadable file."""
    build = _Build()
    if settings.build_info is not None:
        try:
            build = msgspec.json.decode(settings.build_info.read_bytes(), type=_Build)
        except (OSError, msgspec.DecodeError):
            problem = f"{PREFIX}BUILD_INFO: cannot be read as a JSON file with tree and builtAt"
            raise ConfigError(f"{problem}.", problems=[problem]) from None
    version = settings.release_version or __version__
    return BuildInfo(SERVICE, version, settings.release_sha, build.tree, build.built_at)


def _realtime_settings(settings: Settings) -> RealtimeSettings:
    chat, frames = settings.chat_per_second, settings.frames_per_second
    return RealtimeSettings(
        allowed_origins=settings.allowed_origins,
        heartbeat_s=settings.heartbeat_s,
        drain_spread_s=settings.drain_spread_s,
        close_grace_s=CLOSE_GRACE_S,
        # What was written in a tunnel comes at once: ten seconds' worth of it.
        rates={**DEFAULT_RATES, CHAT: Rate(chat, 10 * chat)},
        frames=Rate(frames, 4 * frames),
        ice=_ice_servers(settings),
    )


def _ice_servers(settings: Settings) -> IceServers:
    secret = None if settings.turn_secret is None else settings.turn_secret.reveal()
    return IceServers(settings.turn_urls, secret, int(settings.turn_ttl_s))


def _sso(settings: Settings, clock: Clock, ids: Ids) -> BrokerSso | OidcSso:
    if settings.sso_driver == "broker":
        return BrokerSso(settings.sso_address, settings.auth_sso_cookie_names, settings.auth_sso_providers)
    secret, origin = settings.oidc_client_secret, settings.public_origin
    client = OidcClient(
        id=settings.oidc_client_id or "",
        secret=secret.reveal() if secret else None,
        scopes=settings.oidc_scopes,
        redirect_uri=origin + CALLBACK,
        after_logout_uri=origin + LOGGED_OUT,
    )
    seal = FlowSeal(settings.jwt_secret.reveal())
    return OidcSso(settings.sso_address, client, settings.auth_sso_providers, seal, clock, ids)


def _http_settings(settings: Settings, build: BuildInfo) -> HttpSettings:
    return HttpSettings(
        public_origin=settings.public_origin,
        return_hosts=settings.return_hosts,
        sso_base_url=settings.sso_address,
        providers=settings.auth_sso_providers,
        limits=LimitSettings(settings.logins_per_minute, settings.tickets_per_minute, settings.trusted_proxies),
        build=build,
        super_admin_email=settings.super_admin_email,
        web_root=settings.web_root,
    )
