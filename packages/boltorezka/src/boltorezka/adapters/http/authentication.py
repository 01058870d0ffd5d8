"""Routes of /v1/auth: sessions, tickets, and who is calling. Signing in itself is in `signing_in`."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.accounts import Accounts, Caller
from boltorezka.adapters.http.answers import json_answer, read_body
from boltorezka.adapters.http.cookies import SessionCookie
from boltorezka.adapters.http.limits import Limits
from boltorezka.adapters.http.rows import UserRow, user_row
from boltorezka.adapters.http.signing_in import SignInParts, sso_routes
from boltorezka.adapters.http.table import Access, ApiRoute
from boltorezka.adapters.logs import note
from boltorezka.adapters.oidc_sso import OidcSso
from boltorezka.auth.sessions import TICKET_LIFETIME_S
from boltorezka.errors import Forbidden, RateLimited, SsoOnly, Unauthorized
from boltorezka.ports import SsoDriver

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class AuthSettings:
    """What the routes must know of the outside. `return_hosts` are hosts without ports, ours among them.

    `sso_base_url` is where people sign in: the central SSO, or the issuer of an OpenID Connect provider.
    """

    public_origin: str
    return_hosts: frozenset[str]
    sso_base_url: str
    providers: tuple[str, ...] = ()


class ModeBody(msgspec.Struct, frozen=True, rename="camel"):
    """How people sign in, and the names to offer them."""

    mode: str
    sso_base_url: str
    providers: tuple[str, ...] = ()


class MeBody(msgspec.Struct, frozen=True):
    """Who is calling; null for a caller without a session."""

    user: UserRow | None


class TokenBody(msgspec.Struct, frozen=True, rename="camel"):
    """The next token of a session."""

    user: UserRow
    token: str
    expires_in_sec: int


class TicketBody(msgspec.Struct, frozen=True, rename="camel"):
    """A ticket for one WebSocket."""

    ticket: str
    expires_in_sec: int


class OkBody(msgspec.Struct, frozen=True):
    """Done."""

    ok: bool


class Authentication:
    """The routes, and `caller` for the routes of others."""

    def __init__(self, accounts: Accounts, sso: SsoDriver | OidcSso, settings: AuthSettings, limits: Limits) -> None:
        self._accounts = accounts
        self._settings = settings
        self._limits = limits
        self._cookie = SessionCookie(settings.public_origin)
        parts = SignInParts(accounts, self._cookie, limits, settings.public_origin, settings.return_hosts)
        self._sso_routes = sso_routes(sso, parts)

    def table(self) -> tuple[ApiRoute, ...]:
        """Everything under /v1/auth."""
        session, public, limited = Access.SESSION, Access.PUBLIC, (RateLimited,)
        mode, me = "How people sign in", "Who is calling; `null` without a session"
        refresh, logout = "The next token of the session, for one that may have expired", "End the session"
        no_accounts = (SsoOnly, RateLimited)
        return (
            ApiRoute("GET", "/v1/auth/mode", self._mode, mode, public, {200: ModeBody}),
            *(
                ApiRoute("POST", f"/v1/auth/{name}", self._sso_only, "Never: SSO only", public, {}, errors=no_accounts)
                for name in ("register", "login")
            ),
            *self._sso_routes.table(),
            ApiRoute("POST", "/v1/auth/refresh", self._refresh, refresh, session, {200: TokenBody}, errors=limited),
            ApiRoute("POST", "/v1/auth/logout", self._logout, logout, session, {200: OkBody}),
            ApiRoute("GET", "/v1/auth/me", self._me, me, session, {200: MeBody}),
            ApiRoute(
                "GET",
                "/v1/auth/ws-ticket",
                self._ticket,
                "A ticket for one WebSocket, good once and soon",
                session,
                {200: TicketBody},
                errors=limited,
            ),
        )

    async def caller(self, request: Request) -> Caller:
        """Who is calling. Raises Unauthorized, or Forbidden (banned; a foreign site using the cookie)."""
        token, via_bearer = self._token(request)
        caller = await self._accounts.authenticate(token, via_bearer=via_bearer)
        note("user_id", caller.user.id)
        return caller

    async def _mode(self, _request: Request) -> Response:
        return json_answer(ModeBody("sso", self._settings.sso_base_url, self._settings.providers))

    async def _sso_only(self, request: Request) -> Response:
        self._limits.sign_in(request)
        raise SsoOnly("There are no local accounts. Sign in at /v1/auth/sso/start.")

    async def _refresh(self, request: Request) -> Response:
        token, via_bearer = self._token(request)
        await read_body(request)
        self._limits.refresh(self._accounts.session_id(token))
        signed = await self._accounts.refresh(token)
        answer = json_answer(TokenBody(user_row(signed.user), signed.token, signed.expires_in_s))
        return answer if via_bearer else self._cookie.keep(answer, signed, self._accounts.clock.now())

    async def _logout(self, request: Request) -> Response:
        token, via_bearer = self._token(request)
        await read_body(request)
        await self._accounts.logout(token)
        answer = json_answer(OkBody(ok=True))
        if not via_bearer:
            self._cookie.drop(answer)
        return answer

    async def _me(self, request: Request) -> Response:
        # Nobody is an answer; a token that is no longer good is a mistake that a refresh may repair.
        if "authorization" not in request.headers and self._cookie.of(request) is None:
            return json_answer(MeBody(None))
        return json_answer(MeBody(user_row((await self.caller(request)).user)))

    async def _ticket(self, request: Request) -> Response:
        caller = await self.caller(request)
        self._limits.ticket(caller.session.id)
        ticket = await self._accounts.ticket(caller)
        return json_answer(TicketBody(ticket, TICKET_LIFETIME_S))

    def _token(self, request: Request) -> tuple[str, bool]:
        """The session token and whether it came as a Bearer token. A header, even a bad one, outweighs the cookie."""
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise Unauthorized("The Authorization header must hold a Bearer token.")
            return token.strip(), True
        cookie = self._cookie.of(request)
        if cookie is None:
            raise Unauthorized("Sign in first: there is no session token.")
        if request.method not in _SAFE_METHODS and not self._from_own_site(request):
            raise Forbidden("A request with the session cookie must come from this site.", reason="csrf")
        return cookie, False

    def _from_own_site(self, request: Request) -> bool:
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site in {"same-origin", "none"}
        return request.headers.get("origin") == self._settings.public_origin
