"""The routes of /v1/auth/sso, for each way of signing in: the central SSO's cookie, and OpenID Connect's code flow."""

from __future__ import annotations

import logging
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.accounts import Accounts, Signed
from boltorezka.adapters.http.answers import json_answer
from boltorezka.adapters.http.cookies import Cookie, SessionCookie
from boltorezka.adapters.http.inputs import query_of
from boltorezka.adapters.http.limits import Limits
from boltorezka.adapters.http.rows import UserRow, user_row
from boltorezka.adapters.http.table import Access, ApiRoute, Handler, Query
from boltorezka.adapters.oidc_sso import OidcSso
from boltorezka.auth.oidc import FLOW_LIFETIME_S, PROVIDER_REASONS, with_auth_error
from boltorezka.auth.return_url import absolute_return_url
from boltorezka.errors import Forbidden, RateLimited, SsoUnavailable, Unauthorized, Unavailable
from boltorezka.ports import SsoDriver

log = logging.getLogger("boltorezka.http")

CALLBACK = "/v1/auth/sso/callback"
LOGGED_OUT = "/v1/auth/sso/logged-out"

_RETURN_URL = Query("returnUrl", str, "Where to go afterwards: our own path or an allowed host; anything else is `/`")


class SsoUser(msgspec.Struct, frozen=True):
    """Somebody as the SSO knows them."""

    id: str
    email: str
    username: str
    role: str


class SsoSessionBody(msgspec.Struct, frozen=True, rename="camel"):
    """Who is signed in, with a session token. `sso` and `expiresInSec` are there only with a user."""

    authenticated: bool
    user: UserRow | None
    token: str | None
    expires_in_sec: int | msgspec.UnsetType = msgspec.UNSET
    sso: SsoUser | msgspec.UnsetType = msgspec.UNSET


NOT_SIGNED_IN = SsoSessionBody(authenticated=False, user=None, token=None)


@dataclass(frozen=True)
class SignInParts:
    """What the routes of every driver work with. `return_hosts` are hosts without ports, ours among them."""

    accounts: Accounts
    cookie: SessionCookie
    limits: Limits
    public_origin: str
    return_hosts: frozenset[str]

    def return_url(self, wanted: str | None) -> str:
        """The checked address, as an absolute one."""
        return absolute_return_url(wanted, self.return_hosts, self.public_origin)

    def signed_in(self, signed: Signed, sso: SsoUser) -> Response:
        """The body and the cookie of somebody who is signed in."""
        body = SsoSessionBody(
            authenticated=True,
            user=user_row(signed.user),
            token=signed.token,
            expires_in_sec=signed.expires_in_s,
            sso=sso,
        )
        return self.cookie.keep(json_answer(body), signed, self.accounts.clock.now())


class SsoRoutes(Protocol):
    """The routes of one driver."""

    def table(self) -> tuple[ApiRoute, ...]:
        """Everything under /v1/auth/sso."""
        ...


def sso_routes(sso: SsoDriver | OidcSso, parts: SignInParts) -> SsoRoutes:
    """The routes of this driver."""
    return _CodeFlowRoutes(sso, parts) if isinstance(sso, OidcSso) else _BrokerRoutes(sso, parts)


class _BrokerRoutes:
    """The central SSO keeps a cookie of its own; we ask it whose that is."""

    def __init__(self, sso: SsoDriver, parts: SignInParts) -> None:
        self._sso = sso
        self._parts = parts

    def table(self) -> tuple[ApiRoute, ...]:
        return _table(self._start, self._session, self._logout)

    async def _start(self, request: Request) -> Response:
        self._parts.limits.sign_in(request)
        provider, wanted = request.query_params.get("provider", ""), request.query_params.get("returnUrl")
        return redirect(self._sso.start_url(provider, self._parts.return_url(wanted)))

    async def _logout(self, request: Request) -> Response:
        return redirect(self._sso.logout_url(self._parts.return_url(request.query_params.get("returnUrl"))))

    async def _session(self, request: Request) -> Response:
        self._parts.limits.sign_in(request)
        identity = await self._sso.identify(request.cookies)
        if identity is None:
            return json_answer(NOT_SIGNED_IN)
        signed = await self._parts.accounts.sign_in(identity, present=self._parts.cookie.of(request))
        sso = SsoUser(identity.subject, identity.email, identity.name, identity.sso_role)
        return self._parts.signed_in(signed, sso)


class _CodeFlowRoutes:
    """The provider sends the browser back to us with a code; from then on our own session is the only one."""

    def __init__(self, sso: OidcSso, parts: SignInParts) -> None:
        self._sso = sso
        self._parts = parts
        self._flow_cookie = Cookie("boltorezka_sign_in", parts.public_origin)

    def table(self) -> tuple[ApiRoute, ...]:
        summary = "End the sign-in and go to the checked return address, with `authError` when it was not completed"
        errors = (SsoUnavailable, RateLimited, Unavailable)
        back = "Where the provider sends a browser that has left it: on to the checked return address"
        return (
            *_table(self._start, self._session, self._logout),
            ApiRoute("GET", CALLBACK, self._callback, summary, Access.PUBLIC, {302: None}, errors=errors),
            ApiRoute("GET", LOGGED_OUT, self._logged_out, back, Access.PUBLIC, {302: None}),
        )

    async def _start(self, request: Request) -> Response:
        self._parts.limits.sign_in(request)
        provider, wanted = request.query_params.get("provider", ""), request.query_params.get("returnUrl")
        location, flow = await self._sso.begin(provider, self._parts.return_url(wanted))
        answer = redirect(location)
        self._flow_cookie.put(answer, self._sso.seal.seal(flow), FLOW_LIFETIME_S)
        return answer

    async def _callback(self, request: Request) -> Response:
        self._parts.limits.sign_in(request)
        flow = self._sso.seal.open(self._flow_cookie.of(request))
        # What was checked before is checked again: the rules may have changed with a deploy in between.
        return_url = self._parts.return_url(flow.return_url if flow else None)
        try:
            identity = await self._sso.finish(flow, query_of(request))
            signed = await self._parts.accounts.sign_in(identity, present=self._parts.cookie.of(request))
        except (Unauthorized, Forbidden) as refusal:
            return self._failed(return_url, refusal.data)
        answer = redirect(return_url)
        self._flow_cookie.drop(answer)
        return self._parts.cookie.keep(answer, signed, self._parts.accounts.clock.now())

    def _failed(self, return_url: str, why: Mapping[str, str]) -> Response:
        reason = why["reason"]
        log.info("sign-in not completed", extra={"reason": reason, "check": why.get("check")})
        if reason not in PROVIDER_REASONS and reason != "banned":
            self._parts.accounts.metrics.auth_failed(reason)
        answer = redirect(with_auth_error(return_url, reason))
        # An answer to another sign-in, perhaps a foreign site's, must not end the one that is on its way.
        if reason != "state_mismatch":
            self._flow_cookie.drop(answer)
        return answer

    async def _session(self, request: Request) -> Response:
        self._parts.limits.sign_in(request)
        token = self._parts.cookie.of(request)
        # A page of another site that leads here must not make the session go on to its next generation.
        own = request.headers.get("sec-fetch-site", "none") in {"same-origin", "none"}
        signed = await self._parts.accounts.resume(token, may_refresh=own) if token else None
        if signed is None:
            return json_answer(NOT_SIGNED_IN)
        user = signed.user
        return self._parts.signed_in(signed, SsoUser(user.id, user.email, user.name, user.role))

    async def _logout(self, request: Request) -> Response:
        self._parts.limits.sign_in(request)
        return redirect(await self._sso.logout_url(self._parts.return_url(request.query_params.get("returnUrl"))))

    async def _logged_out(self, request: Request) -> Response:
        return redirect(self._parts.return_url(request.query_params.get("state")))


def _table(start: Handler, session: Handler, logout: Handler) -> tuple[ApiRoute, ...]:
    errors = (SsoUnavailable, RateLimited)
    provider = Query("provider", str, "One of `providers` of /v1/auth/mode", required=True)
    return (
        ApiRoute(
            "GET",
            "/v1/auth/sso/start",
            start,
            "Go to the SSO to sign in",
            Access.PUBLIC,
            {302: None},
            query=(provider, _RETURN_URL),
            errors=errors,
        ),
        ApiRoute(
            "GET",
            "/v1/auth/sso/session",
            session,
            "Who is signed in, with a session token",
            Access.SSO_COOKIE,
            {200: SsoSessionBody},
            errors=(*errors, Unavailable),
        ),
        ApiRoute(
            "GET",
            "/v1/auth/sso/logout",
            logout,
            "Go to the SSO to sign out there too",
            Access.PUBLIC,
            {302: None},
            query=(_RETURN_URL,),
            errors=errors,
        ),
    )


def redirect(location: str) -> Response:
    """302. The address was built from checked parts; quoting again is only for what a header cannot carry."""
    safe = urllib.parse.quote(location, safe=":/%#?=@[]!$&'()*+,;~")
    return Response(status_code=302, headers={"location": safe, "cache-control": "no-store"})
