"""Credentials of TURN relays, as coturn's `use-auth-secret` checks them (draft-uberti-behave-turn-rest-00).

The relay and we share a secret; a credential is an expiry and a signature of it, so nothing has to be stored and a
credential that leaks is worth little for long.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from boltorezka.protocol import IceServer

# A call that lasts longer asks again (`call.join` on the same socket); what leaks is useless after an hour.
MAX_TTL_S = 3600

_SECOND = 1_000_000


def credentials(secret: str, user_id: str, now: int, ttl_s: int) -> tuple[str, str]:
    """The user name `expiry:userId` and its password, base64(HMAC-SHA1(secret, user name)), good for `ttl_s` seconds.

    `now` is wall time in microseconds. Raises ValueError for a lifetime below a second or above MAX_TTL_S.
    """
    if not 1 <= ttl_s <= MAX_TTL_S:
        raise ValueError(f"a credential lives from 1 to {MAX_TTL_S} seconds")
    username = f"{now // _SECOND + ttl_s}:{user_id}"
    # SHA-1 is what the relays speak; as a keyed hash it is not weakened by collisions.
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(digest).decode()


class IceServers:
    """The STUN and TURN servers a seat is told; for each seat with credentials of its own."""

    def __init__(self, urls: Sequence[str] = (), secret: str | None = None, ttl_s: int = MAX_TTL_S) -> None:
        """`urls` are stun:, stuns:, turn: or turns: addresses. Raises ValueError for a relay without a secret."""
        self._open = tuple(url for url in urls if url.startswith("stun"))
        self._relays = tuple(url for url in urls if not url.startswith("stun"))
        if self._relays and secret is None:
            raise ValueError("TURN relays need a secret to mint credentials with")
        self._secret = secret or ""
        self._ttl_s = ttl_s

    def mint(self, user_id: str, now: int) -> tuple[IceServer, ...]:
        """What `iceServers` says to this user, who must have a seat: whoever has it may use the relays."""
        servers = (IceServer(self._open),) if self._open else ()
        if not self._relays:
            return servers
        return (*servers, IceServer(self._relays, *credentials(self._secret, user_id, now, self._ttl_s)))
