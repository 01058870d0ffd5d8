"""Signed session tokens: JWT, HS256, ten minutes at most."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jwt
import msgspec

from boltorezka.auth.sessions import SECOND, Claims
from boltorezka.errors import Unauthorized

ALGORITHM = "HS256"
ISSUER = "boltorezka"
# Checking a signature costs as much as the rest of a small request. A client comes with the same token for ten minutes.
_KEPT = 4096


class Tokens:
    """Makes and reads tokens with one secret. The secret shows in no representation of this object."""

    __slots__ = ("__secret", "_verified")

    def __init__(self, secret: str) -> None:
        self.__secret = secret
        self._verified = lru_cache(maxsize=_KEPT)(self._verify)

    def encode(self, claims: Claims) -> str:
        """Sign the claims."""
        return jwt.encode({**msgspec.to_builtins(claims), "iss": ISSUER}, self.__secret, algorithm=ALGORITHM)

    def decode(self, token: str, now: int, *, accept_expired: bool = False) -> Claims:
        """Read a token at `now` (microseconds). Raises Unauthorized; the sentence never holds the token."""
        claims = self._verified(token)
        # The expiry is judged here, with the clock that was passed in.
        if not accept_expired and now >= claims.exp * SECOND:
            raise Unauthorized("The session token has expired. Refresh it.", reason="expired_token")
        return claims

    def _verify(self, token: str) -> Claims:
        """What a token with a good signature says; it says the same for ever."""
        try:
            payload: dict[str, Any] = jwt.decode(
                token,
                self.__secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"verify_exp": False, "require": ["exp", "sub"]},
            )
            return msgspec.convert(payload, Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError):
            raise Unauthorized("The session token is not valid. Sign in again.", reason="invalid_token") from None
