"""The `oidc` driver: any OpenID Connect provider, by discovery; the code flow with PKCE (contract section 2).

The server keeps nothing of a sign-in on its way: the browser carries it sealed, so any process can end what another
began.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from boltorezka.adapters.oidc_provider import Metadata, OidcProvider, unavailable
from boltorezka.auth.model import Identity
from boltorezka.auth.oidc import (
    Claims,
    Flow,
    answered_code,
    awaited_flow,
    checked_id_token,
    code_challenge,
    identity,
    refused,
    with_userinfo,
)
from boltorezka.errors import ValidationError
from boltorezka.ports import Clock, Ids

# One request more than a person waits for, because the provider's last page is already gone: after it they begin again.
FINISH_DEADLINE_S = 10.0

_ENCRYPTION = {"alg": "dir", "enc": "A256GCM"}


@dataclass(frozen=True)
class OidcClient:
    """Who we are to the provider. `secret` None: a public client, whose only proof is PKCE."""

    id: str
    secret: str | None = field(repr=False)
    scopes: str
    redirect_uri: str
    after_logout_uri: str
    """Both addresses are registered at the provider, and compared there exactly."""


class FlowSeal:
    """Seals a Flow for the browser to carry: encrypted and authenticated with a key of its own."""

    __slots__ = ("__key",)

    def __init__(self, secret: str) -> None:
        """The key is derived from the server's secret for this one purpose, so nothing sealed here is a token."""
        self.__key = OctKey.import_key(hmac.digest(secret.encode(), b"boltorezka sign-in flow", hashlib.sha256))

    def seal(self, flow: Flow) -> str:
        """The flow as a value of a cookie."""
        return jwe.encrypt_compact(_ENCRYPTION, msgspec.json.encode(flow), self.__key, list(_ENCRYPTION.values()))

    def open(self, sealed: str | None) -> Flow | None:
        """The flow, or None for anything that was not sealed here. How old it is, is not judged."""
        try:
            opened = jwe.decrypt_compact(sealed or "", self.__key, list(_ENCRYPTION.values()))
            return msgspec.json.decode(opened.plaintext or b"", type=Flow)
        except (JoseError, msgspec.DecodeError, ValueError, TypeError):
            return None


class _TokenAnswer(msgspec.Struct):
    id_token: str
    access_token: str | None = None


class _TokenRefusal(msgspec.Struct):
    error: str = ""


class OidcSso:
    """Speaks to one provider. Every method may raise SsoUnavailable. Call `close` at the end."""

    name = "oidc"

    def __init__(
        self, issuer: str, client: OidcClient, providers: Sequence[str], seal: FlowSeal, clock: Clock, ids: Ids
    ) -> None:
        """`providers` are the names under which people may ask for this provider; `seal` is shared by all processes."""
        self.seal = seal
        self._provider = OidcProvider(issuer, clock)
        self._client = client
        self._providers = frozenset(providers)
        self._clock = clock
        self._ids = ids

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._provider.close()

    async def begin(self, provider: str, return_url: str) -> tuple[str, Flow]:
        """Where to send the browser, and what it must bring back. Raises ValidationError for an unknown provider."""
        if provider not in self._providers:
            known = ", ".join(sorted(self._providers))
            raise ValidationError(
                f"Unknown provider. Known ones: {known}.", issues=[{"field": "provider", "message": "is unknown"}]
            )
        secret = self._ids.new_secret
        # A verifier is at least 43 characters long (RFC 7636 section 4.1).
        flow = Flow(secret(), secret(), secret() + secret(), return_url, self._clock.now())
        metadata = await self._provider.metadata()
        query = {
            "response_type": "code",
            "client_id": self._client.id,
            "redirect_uri": self._client.redirect_uri,
            "scope": self._client.scopes,
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": code_challenge(flow.verifier),
            "code_challenge_method": "S256",
        }
        return _with_query(metadata.authorization_endpoint, query), flow

    async def finish(self, flow: Flow | None, answer: Mapping[str, str]) -> Identity:
        """Who has come back with this answer (the parameters of the callback). Raises Unauthorized."""
        flow = awaited_flow(answer, flow, self._clock.now())
        metadata = await self._provider.metadata()
        named = metadata.authorization_response_iss_parameter_supported
        code = answered_code(answer, metadata.issuer, issuer_required=named)
        try:
            async with asyncio.timeout(FINISH_DEADLINE_S):
                claims = await self._claims(metadata, flow, code)
        except TimeoutError:
            raise unavailable("takes too long") from None
        return identity(claims, metadata.issuer)

    async def logout_url(self, return_url: str) -> str:
        """Where to send the browser to leave the provider too; our own address when it has no such place.

        The provider sends it back to the registered address with `return_url` as the state (RP-Initiated Logout 1.0).
        """
        metadata = await self._provider.metadata()
        if metadata.end_session_endpoint is None:
            return return_url
        query = {
            "client_id": self._client.id,
            "post_logout_redirect_uri": self._client.after_logout_uri,
            "state": return_url,
        }
        return _with_query(metadata.end_session_endpoint, query)

    async def _claims(self, metadata: Metadata, flow: Flow, code: str) -> Claims:
        tokens = await self._exchange(metadata, code, flow.verifier)
        payload = await self._provider.verified(tokens.id_token)
        claims = checked_id_token(payload, metadata.issuer, self._client.id, flow.nonce, self._clock.now())
        if not (claims.email and claims.name):
            return await self._completed(metadata, claims, tokens.access_token)
        return claims

    async def _exchange(self, metadata: Metadata, code: str, verifier: str) -> _TokenAnswer:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._client.redirect_uri,
            "code_verifier": verifier,
        }
        headers = self._authenticated(metadata, form)
        status, body = await self._provider.ask(metadata.token_endpoint, form=form, headers=headers)
        try:
            if status == 200:
                return msgspec.json.decode(body, type=_TokenAnswer)
            refusal = msgspec.json.decode(body, type=_TokenRefusal).error
        except (msgspec.DecodeError, UnicodeError):
            refusal = ""
        if refusal == "invalid_grant":
            raise refused("code_refused", "code")
        # Anything else is not the person's doing: a wrong secret, a client that is not registered, a broken provider.
        known = refusal if refusal in {"invalid_client", "unauthorized_client", "invalid_request"} else "no reason"
        raise unavailable(f"refuses to exchange a code, with status {status} and {known}")

    def _authenticated(self, metadata: Metadata, form: dict[str, str]) -> dict[str, str]:
        """Add to the form, or answer as headers, what proves who we are (RFC 6749 section 2.3.1)."""
        secret = self._client.secret
        if secret is None:
            form["client_id"] = self._client.id
            return {}
        methods = metadata.token_endpoint_auth_methods_supported
        if "client_secret_basic" not in methods and "client_secret_post" in methods:
            form |= {"client_id": self._client.id, "client_secret": secret}
            return {}
        pair = f"{urllib.parse.quote_plus(self._client.id)}:{urllib.parse.quote_plus(secret)}"
        return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    async def _completed(self, metadata: Metadata, claims: Claims, access_token: str | None) -> Claims:
        """Many providers keep name and e-mail out of the ID token."""
        if metadata.userinfo_endpoint is None or access_token is None:
            return claims
        headers = {"authorization": f"Bearer {access_token}"}
        body = await self._provider.read(metadata.userinfo_endpoint, headers)
        try:
            return with_userinfo(claims, msgspec.json.decode(body, type=dict[str, object]))
        except (msgspec.DecodeError, UnicodeError):
            raise unavailable("has a userinfo that is not a JSON object") from None


def _with_query(endpoint: str, query: dict[str, str]) -> str:
    """An endpoint may have a query of its own, which is kept (RFC 6749 section 3.1)."""
    parts = urllib.parse.urlsplit(endpoint)
    encoded = urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
    return urllib.parse.urlunsplit(parts._replace(query=f"{parts.query}&{encoded}" if parts.query else encoded))
