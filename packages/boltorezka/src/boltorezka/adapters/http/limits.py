"""How often an address may try to sign in, and a session ask for tickets and tokens. Bounded tables, in this process.

What is counted is cheap to ask for and costly to answer; messages have limits of their own, on the socket.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import HTTPConnection

from boltorezka.errors import RateLimited
from boltorezka.ports import Clock
from boltorezka.rooms.limits import Rate, TokenBucket

# Some hundred bytes each. Somebody with more addresses than this can push others out, who then start afresh: the limit
# becomes weaker, never stronger.
MAX_KEYS = 10_000

# A provider gives a household, or a rented machine, a whole /64: its addresses are one person's.
IPV6_PREFIX = 64

# A tab refreshes every nine minutes; sixty tabs that wake up together are still one person.
REFRESHES = Rate(1.0, 60.0)

# More hops than a request passes through: beyond them somebody is filling the header.
MAX_HOPS = 16

Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class LimitSettings:
    """How much is allowed, and whose word about the client's address is taken."""

    logins_per_minute: int = 300
    tickets_per_minute: int = 60
    trusted_proxies: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

    @property
    def logins(self) -> Rate:
        """A third of a minute's at once: an office coming in is not an attack."""
        return Rate(self.logins_per_minute / 60, max(1.0, self.logins_per_minute / 3))

    @property
    def tickets(self) -> Rate:
        """Half of a minute's at once: every tab of a browser that has come back to life."""
        return Rate(self.tickets_per_minute / 60, max(1.0, self.tickets_per_minute / 2))


class Limits:
    """The limits of one process. Every method raises RateLimited, with when to come back, or does nothing."""

    def __init__(self, settings: LimitSettings, clock: Clock) -> None:
        self._trusted = settings.trusted_proxies
        self._logins = _Table(settings.logins, clock)
        self._tickets = _Table(settings.tickets, clock)
        self._refreshes = _Table(REFRESHES, clock)

    def sign_in(self, connection: HTTPConnection) -> None:
        """Count one step of a sign-in from the client's address."""
        self._logins.take(client_of(connection, self._trusted))

    def ticket(self, session_id: str) -> None:
        """Count one ticket of this session."""
        self._tickets.take(session_id)

    def refresh(self, session_id: str) -> None:
        """Count one refresh of this session."""
        self._refreshes.take(session_id)


class _Table:
    """A bucket for each key, the least recently used forgotten first."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, key: str) -> None:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate.per_s, self._rate.burst)
            if len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        wait_s = bucket.take(self._clock.monotonic())
        if wait_s > 0:
            raise RateLimited(
                f"Too many requests. Come back in {math.ceil(wait_s)} s.", retry_after_ms=math.ceil(wait_s * 1000)
            )


def client_of(connection: HTTPConnection, trusted: Sequence[Network]) -> str:
    """Whom a request is counted for: an address, or the /64 of an IPv6 one.

    The peer of the socket; when that is a trusted proxy, the right-most hop of X-Forwarded-For that is not one. What
    stands further left was written by the client and is never believed.
    """
    peer = _address(connection.client.host) if connection.client else None
    if peer is None:
        return "unknown"
    hops = ",".join(connection.headers.getlist("x-forwarded-for")).split(",")[-MAX_HOPS:]
    while hops and _within(peer, trusted):
        hop = _address(hops.pop())
        if hop is None:
            break
        peer = hop
    if isinstance(peer, IPv6Address):
        return str(ip_network((peer, IPV6_PREFIX), strict=False))
    return str(peer)


def _within(address: _Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> _Address | None:
    """An address as proxies write it: bare, with a port, or in brackets. None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
