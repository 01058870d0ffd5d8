"""Routes of /v1/auth, the session cookie, and who is calling."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boltorezka.adapters.http.accounts import Accounts, Caller, Signed
from boltorezka.adapters.http.answers import json_answer, json_bytes, read_body
from boltorezka.adapters.http.rows import user_row
from boltorezka.auth.return_url import absolute_return_url
from boltorezka.auth.sessions import SECOND, TICKET_LIFETIME_S
from boltorezka.errors import Forbidden, SsoOnly, Unauthorized
from boltorezka.ports import SsoDriver

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_NOT_SIGNED_IN = b'{"authenticated":false,"user":null,"token":null}'


@dataclass(frozen=True)
class AuthSettings:
    """What the routes must know of the outside. `return_hosts` are hosts without ports, ours among them."""

    public_origin: str
    return_hosts: frozenset[str]
    sso_base_url: str


class Authentication:
    """The routes, and `caller` for the routes of others."""

    def __init__(self, accounts: Accounts, sso: SsoDriver, settings: AuthSettings) -> None:
        self._accounts = accounts
        self._sso = sso
        self._settings = settings
        self._secure = settings.public_origin.startswith("https://")
        # The prefix makes browsers refuse the cookie from another host, path, or without TLS.
        self.cookie_name = "__Host-boltorezka_session" if self._secure else "boltorezka_session"

    def routes(self) -> list[Route]:
        """Everything under /v1/auth."""
        return [
            Route("/v1/auth/mode", self._mode),
            Route("/v1/auth/register", self._sso_only, methods=["POST"]),
            Route("/v1/auth/login", self._sso_only, methods=["POST"]),
            Route("/v1/auth/sso/start", self._start),
            Route("/v1/auth/sso/session", self._session),
            Route("/v1/auth/sso/logout", self._sso_logout),
            Route("/v1/auth/refresh", self._refresh, methods=["POST"]),
            Route("/v1/auth/logout", self._logout, methods=["POST"]),
            Route("/v1/auth/me", self._me),
            Route("/v1/auth/ws-ticket", self._ticket),
        ]

    async def caller(self, request: Request) -> Caller:
        """Who is calling. Raises Unauthorized, or Forbidden (banned; a foreign site using the cookie)."""
        token, via_bearer = self._token(request)
        return await self._accounts.authenticate(token, via_bearer=via_bearer)

    async def _mode(self, _request: Request) -> Response:
        return json_answer({"mode": "sso", "ssoBaseUrl": self._settings.sso_base_url})

    async def _sso_only(self, _request: Request) -> Response:
        raise SsoOnly("There are no local accounts. Sign in at /v1/auth/sso/start.")

    async def _start(self, request: Request) -> Response:
        provider = request.query_params.get("provider", "")
        return _redirect(self._sso.start_url(provider, self._return_url(request)))

    async def _sso_logout(self, request: Request) -> Response:
        return _redirect(self._sso.logout_url(self._return_url(request)))

    async def _session(self, request: Request) -> Response:
        identity = await self._sso.identify(request.cookies)
        if identity is None:
            return json_bytes(_NOT_SIGNED_IN)
        signed = await self._accounts.sign_in(identity, present=request.cookies.get(self.cookie_name))
        sso = {
            "id": identity.subject,
            "email": identity.email,
            "username": identity.name,
            "role": identity.sso_role,
        }
        body = {"authenticated": True, **_signed_body(signed), "sso": sso}
        return self._with_cookie(json_answer(body), signed)

    async def _refresh(self, request: Request) -> Response:
        token, via_bearer = self._token(request)
        await read_body(request)
        signed = await self._accounts.refresh(token)
        answer = json_answer(_signed_body(signed))
        return answer if via_bearer else self._with_cookie(answer, signed)

    async def _logout(self, request: Request) -> Response:
        token, via_bearer = self._token(request)
        await read_body(request)
        await self._accounts.logout(token)
        answer = json_answer({"ok": True})
        if not via_bearer:
            answer.delete_cookie(self.cookie_name, "/", secure=self._secure, httponly=True, samesite="lax")
        return answer

    async def _me(self, request: Request) -> Response:
        caller = await self.caller(request)
        return json_answer({"user": user_row(caller.user)})

    async def _ticket(self, request: Request) -> Response:
        ticket = await self._accounts.ticket(await self.caller(request))
        return json_answer({"ticket": ticket, "expiresInSec": TICKET_LIFETIME_S})

    def _return_url(self, request: Request) -> str:
        wanted = request.query_params.get("returnUrl")
        return absolute_return_url(wanted, self._settings.return_hosts, self._settings.public_origin)

    def _token(self, request: Request) -> tuple[str, bool]:
        """The session token and whether it came as a Bearer token. A header, even a bad one, outweighs the cookie."""
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise Unauthorized("The Authorization header must hold a Bearer token.")
            return token.strip(), True
        cookie = request.cookies.get(self.cookie_name)
        if not cookie:
            raise Unauthorized("Sign in first: there is no session token.")
        if request.method not in _SAFE_METHODS and not self._from_own_site(request):
            raise Forbidden("A request with the session cookie must come from this site.", reason="csrf")
        return cookie, False

    def _from_own_site(self, request: Request) -> bool:
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site in {"same-origin", "none"}
        return request.headers.get("origin") == self._settings.public_origin

    def _with_cookie(self, answer: Response, signed: Signed) -> Response:
        lifetime_s = (signed.session.expires_at - self._accounts.clock.now()) // SECOND
        answer.set_cookie(
            self.cookie_name,
            signed.token,
            max_age=lifetime_s,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )
        return answer


def _signed_body(signed: Signed) -> dict[str, object]:
    return {"user": user_row(signed.user), "token": signed.token, "expiresInSec": signed.expires_in_s}


def _redirect(location: str) -> Response:
    # The address was built from checked parts; quoting again is only for what a header cannot carry.
    safe = urllib.parse.quote(location, safe=":/%#?=@[]!$&'()*+,;~")
    return Response(status_code=302, headers={"location": safe, "cache-control": "no-store"})
