"""`ports.Bus` on NATS: one subject for each database, at most once, and a `Look` whenever something may have been lost.

NATS keeps nothing: what is published while a process is away, or we are, never arrives. So after every connect we look
into the database ourselves and ask the others to do the same; between connects everything arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError

from boltorezka.adapters.addresses import NatsAddress
from boltorezka.rooms import hints
from boltorezka.rooms.hints import AnyHint, Committed, Look, Relay

if TYPE_CHECKING:
    from nats.aio.msg import Msg

# A server in reach answers in milliseconds.
_CONNECT_S = 5.0
# After a loss at once, then slower: 2 seconds more than the restart is the longest that others' messages are late.
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 2.0
# A server that vanished without a word is noticed after two unanswered pings.
_PING_S = 5
_UNANSWERED = 2
# What waits to be sent while the connection is slow: seconds of a busy process. Beyond it, others look into the store.
_MAX_WAITING = 10_000
_MAX_WAITING_BYTES = 16 * 1024 * 1024
# What waits to be heard; the callback only hands hints over, so this fills when the event loop stands still.
_MAX_HEARD = 65_536
_MAX_HEARD_BYTES = 64 * 1024 * 1024
# What stop() gives the last hints.
_STOP_S = 2.0

_LOOK = hints.encode(Look())
log = logging.getLogger("boltorezka.bus")


class NatsBus:
    """Hints of one process. `namespace` is the same for all processes of one database and for nobody else."""

    def __init__(self, address: NatsAddress, namespace: str) -> None:
        self._address = address
        self._subject = f"boltorezka.{namespace}.hints"
        self._on_hint: Callable[[AnyHint], None] = _deaf
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._peers_live = True
        self._stopping = False
        self._told = False  # whether the present outage is in the log
        self._gap = False  # others have missed a hint that mattered
        self.dropped = 0
        self.malformed = 0

    @property
    def healthy(self) -> bool:
        """Whether we are connected and subscribed."""
        return self._client is not None

    def set_peers_live(self, live: bool) -> None:
        """With nobody to hear, nothing is sent; whoever is heard turns it on again without waiting for a lease."""
        self._peers_live = live

    async def start(self, on_hint: Callable[[AnyHint], None]) -> None:
        """Connect in the background, for as long as it takes."""
        self._on_hint = on_hint
        self._task = asyncio.create_task(self._run(), name="nats-bus")

    async def stop(self) -> None:
        """Send what waits, within a deadline; hear nothing from now on."""
        self._on_hint, self._stopping = _deaf, True
        task = self._task
        if task is None:
            return
        if self._client is not None:
            self._wake.set()
            await asyncio.wait({task}, timeout=_STOP_S)
        task.cancel()
        await asyncio.wait({task})
        self._task = None

    def publish(self, hint: AnyHint) -> None:
        """Queue it for the connection. Without one it is dropped: a new connection begins with `Look`."""
        if not self._peers_live:
            return
        if self._client is None or self._stopping:
            self.dropped += 1
            return
        for body in _bodies(hint, self._client.max_payload):
            if body is None or not self._queue(body):
                self.dropped += 1
                self._gap = self._gap or not isinstance(hint, Relay)
        self._wake.set()

    def _queue(self, body: bytes) -> bool:
        if body == _LOOK and self._waiting and self._waiting[-1] == _LOOK:
            return True
        if len(self._waiting) >= _MAX_WAITING or self._waiting_bytes + len(body) > _MAX_WAITING_BYTES:
            return False
        self._waiting.append(body)
        self._waiting_bytes += len(body)
        return True

    # the connection's life

    async def _run(self) -> None:
        delay = _FIRST_RETRY_S
        while not self._stopping:
            try:
                connected = await self._connected()
            except Exception as error:  # noqa: BLE001 - whatever the driver or the server says, the bus tries again
                connected = False
                self._tell(error)
            if connected:
                delay = _FIRST_RETRY_S
            if not self._stopping:
                # Not all at once after the server's restart.
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret depends on it
                delay = min(2 * delay, _LAST_RETRY_S)

    async def _connected(self) -> bool:
        """One connection from its beginning to its loss, or to stop(). Raises what the driver raises."""
        client, lost = Client(), asyncio.Event()

        async def closed() -> None:
            lost.set()
            self._wake.set()

        try:
            async with asyncio.timeout(_CONNECT_S):
                await client.connect(closed_cb=closed, error_cb=self._failed, **_arguments(self._address))
                await client.subscribe(
                    self._subject,
                    cb=self._heard,
                    pending_msgs_limit=_MAX_HEARD,
                    pending_bytes_limit=_MAX_HEARD_BYTES,
                )
                # When this is answered the server knows the subscription: whatever is committed later is heard.
                await client.flush()
            self._begin(client)
            await self._send(client, lost)
            return True
        finally:
            self._client = None
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            with contextlib.suppress(Exception):  # it is given up either way
                await asyncio.wait_for(client.close(), _STOP_S)

    def _begin(self, client: Client) -> None:
        log.info("bus connected", extra={"bus": self._address.place})
        self._client, self._told, self._gap = client, False, False
        self._queue(_LOOK)
        self._wake.set()
        self._on_hint(Look())

    async def _send(self, client: Client, lost: asyncio.Event) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and not lost.is_set():
                body = self._waiting.popleft()
                self._waiting_bytes -= len(body)
                await client.publish(self._subject, body)
            if lost.is_set():
                self._tell(ConnectionResetError())
                return
            if self._gap:
                self._gap = False
                await client.publish(self._subject, _LOOK)
            if self._stopping:
                await client.flush(timeout=int(_STOP_S))
                return

    def _tell(self, error: Exception) -> None:
        if not self._told and not self._stopping:
            self._told = True
            # The kind of error only: nothing of ours is in it, but a server's words are not ours to log.
            log.warning("bus lost", extra={"bus": self._address.place, "error": type(error).__name__})

    # what arrives

    async def _heard(self, message: Msg) -> None:
        self._peers_live = True
        try:
            hint = hints.decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.malformed += 1
            if self.malformed == 1:
                log.warning("bus message not understood", extra={"bytes": len(message.data)})
            return
        self._on_hint(hint)

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            # The driver has thrown hints away because the loop did not take them.
            self._on_hint(Look())
        elif isinstance(error, OSError | NatsError | EOFError):
            self._tell(error)
        else:
            log.error("bus hint failed", exc_info=error)


def _bodies(hint: AnyHint, limit: int) -> Iterator[bytes | None]:
    """The hint as it travels, in parts when it is larger than the server takes; None for what cannot travel."""
    body = hints.encode(hint)
    if len(body) <= limit:
        yield body
    elif isinstance(hint, Committed) and len(hint.events) > 1:
        half = len(hint.events) // 2
        for events in (hint.events[:half], hint.events[half:]):
            yield from _bodies(msgspec.structs.replace(hint, events=events), limit)
    else:
        yield None


def _arguments(address: NatsAddress) -> dict[str, Any]:
    """What the driver is given: never a URL with credentials, so that no word of it can repeat them."""
    return {
        "servers": [f"{'tls' if address.tls else 'nats'}://{address.place}"],
        "user": address.user,
        "password": address.password,
        "token": address.token,
        "tls": ssl.create_default_context() if address.tls else None,
        "name": "boltorezka",
        "no_echo": True,
        # Reconnecting is ours: the driver would give up for good on some refusals, and would replay stale hints.
        "allow_reconnect": False,
        "connect_timeout": int(_CONNECT_S),
        "ping_interval": _PING_S,
        "max_outstanding_pings": _UNANSWERED,
        "skip_subject_validation": True,
    }


def _deaf(_: AnyHint) -> None:
    """Nobody listens: before start() and after stop()."""
