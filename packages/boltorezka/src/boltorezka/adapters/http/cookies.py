"""Our own cookies: names that a browser protects, and values no script can read."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.accounts import Signed
from boltorezka.auth.sessions import SECOND


class Cookie:
    """One cookie of ours: HttpOnly, SameSite=Lax, for the whole host, and Secure where we are reached by https."""

    def __init__(self, name: str, public_origin: str) -> None:
        self._secure = public_origin.startswith("https://")
        # The prefix makes browsers refuse the cookie from another host, path, or without TLS.
        self.name = f"__Host-{name}" if self._secure else name

    def of(self, request: Request) -> str | None:
        """What the browser sent; None for nothing, an empty value too."""
        return request.cookies.get(self.name) or None

    def put(self, answer: Response, value: str, lifetime_s: int) -> None:
        """Have the browser keep it."""
        answer.set_cookie(
            self.name, value, max_age=lifetime_s, path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def drop(self, answer: Response) -> None:
        """Have the browser forget it."""
        answer.delete_cookie(self.name, "/", secure=self._secure, httponly=True, samesite="lax")


class SessionCookie(Cookie):
    """The session token, for the web client: as long as its session may live."""

    def __init__(self, public_origin: str) -> None:
        super().__init__("boltorezka_session", public_origin)

    def keep(self, answer: Response, signed: Signed, now: int) -> Response:
        """The answer, with the token for the browser to keep."""
        self.put(answer, signed.token, (signed.session.expires_at - now) // SECOND)
        return answer
