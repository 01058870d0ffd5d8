"""Signed session tokens: JWT, HS256, ten minutes at most."""

from __future__ import annotations

from typing import Any

import jwt
import msgspec

from boltorezka.auth.sessions import SECOND, Claims
from boltorezka.errors import Unauthorized

ALGORITHM = "HS256"
ISSUER = "boltorezka"


class Tokens:
    """Makes and reads tokens with one secret. The secret shows in no representation of this object."""

    __slots__ = ("__secret",)

    def __init__(self, secret: str) -> None:
        self.__secret = secret

    def encode(self, claims: Claims) -> str:
        """Sign the claims."""
        return jwt.encode({**msgspec.to_builtins(claims), "iss": ISSUER}, self.__secret, algorithm=ALGORITHM)

    def decode(self, token: str, now: int, *, accept_expired: bool = False) -> Claims:
        """Read a token at `now` (microseconds). Raises Unauthorized; the sentence never holds the token."""
        try:
            # The expiry is judged here, with the clock that was passed in.
            payload: dict[str, Any] = jwt.decode(
                token,
                self.__secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"verify_exp": False, "require": ["exp", "sub"]},
            )
            claims = msgspec.convert(payload, Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError):
            raise Unauthorized("The session token is not valid. Sign in again.", reason="invalid_token") from None
        if not accept_expired and now >= claims.exp * SECOND:
            raise Unauthorized("The session token has expired. Refresh it.", reason="expired_token")
        return claims
