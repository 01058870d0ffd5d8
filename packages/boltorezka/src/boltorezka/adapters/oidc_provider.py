"""What is asked of an OpenID Connect provider: its discovery document, its keys, its tokens. All within deadlines."""

from __future__ import annotations

import asyncio
import logging
import re
import urllib.parse
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import httpx
import msgspec
from joserfc import jws
from joserfc.errors import InvalidKeyIdError, JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, Key, KeySet, OKPKey, RSAKey

from boltorezka.adapters.authorities import authorities
from boltorezka.auth.oidc import refused
from boltorezka.errors import SsoUnavailable
from boltorezka.ports import Clock
from boltorezka.rooms.limits import TokenBucket

# A person waits for the answer of one request: longer than this and they have pressed reload.
DEADLINE_S = 5.0

# The longest answer is a set of keys; some providers publish dozens with their certificates.
MAX_ANSWER = 256 * 1024

# How soon a change of endpoints, or a key that was withdrawn, is seen without anything else happening.
MAX_AGE_S = 3600.0

# A key id we do not know makes us look again, this often at most: two at once, then one every ten seconds.
REFETCHES_PER_S = 0.1
REFETCH_BURST = 2.0

# Only signatures that a holder of our own secret, or nobody at all, cannot make.
ALGORITHMS = frozenset(
    {*(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)), "EdDSA", "Ed25519"}
)

log = logging.getLogger("boltorezka.oidc")

_T = TypeVar("_T")


class Metadata(msgspec.Struct, frozen=True):
    """What a provider publishes about itself (OpenID Connect Discovery section 3), as far as it is used here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False

    @property
    def endpoints(self) -> list[str]:
        """Every address that a browser is sent to or that we speak to."""
        optional = (self.userinfo_endpoint, self.end_session_endpoint)
        return [self.authorization_endpoint, self.token_endpoint, self.jwks_uri, *(one for one in optional if one)]


class _Remembered(Generic[_T]):
    """A value that is fetched when it is needed and old: one fetch at a time, whose outcome all who wait get."""

    def __init__(self, fetch: Callable[[], Awaitable[_T]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._outcome: _T | SsoUnavailable | None = None
        self._fetched_at = 0.0
        self._fetches = 0

    async def get(self, *, anew: bool = False) -> _T:
        """The value, not older than MAX_AGE_S; with `anew` fetched after this call. Raises SsoUnavailable."""
        seen = self._fetches
        async with self._lock:
            # A fetch that ended while we waited has told us everything a new one would.
            if self._fetches == seen and (anew or self._is_old()):
                try:
                    self._outcome = await self._fetch()
                except SsoUnavailable as failure:
                    self._outcome = failure
                self._fetched_at = self._clock.monotonic()
                self._fetches += 1
            outcome = self._outcome
        if isinstance(outcome, SsoUnavailable):
            raise SsoUnavailable(outcome.message)
        assert outcome is not None  # noqa: S101 - nothing was fetched only before the first fetch
        return outcome

    def _is_old(self) -> bool:
        good = self._outcome is not None and not isinstance(self._outcome, SsoUnavailable)
        return not good or self._clock.monotonic() - self._fetched_at >= MAX_AGE_S


class OidcProvider:
    """One provider, found by its issuer. Every method may raise SsoUnavailable. Call `close` at the end."""

    def __init__(self, issuer: str, clock: Clock) -> None:
        self.issuer = issuer
        # Proxies named in the environment are not for tokens; a redirect would carry them elsewhere.
        self._client = httpx.AsyncClient(
            timeout=DEADLINE_S,
            follow_redirects=False,
            trust_env=False,
            verify=authorities(),
            limits=httpx.Limits(max_connections=20),
        )
        self._clock = clock
        self._metadata = _Remembered(self._discover, clock)
        self._keys = _Remembered(self._fetch_keys, clock)
        self._refetches = TokenBucket(REFETCHES_PER_S, REFETCH_BURST)

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._client.aclose()

    async def metadata(self) -> Metadata:
        """What the provider says about itself, at most an hour old."""
        return await self._metadata.get()

    async def ask(
        self, url: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request, a POST when there is a form: status and body. Nothing of either is in an error."""
        method, asked = "GET" if form is None else "POST", {"accept": "application/json", **(headers or {})}
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                self._client.stream(method, url, data=form, headers=asked) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise unavailable("answered too much")
                return response.status_code, bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, TimeoutError):
            # The cause may quote the request with its secrets, so it is not chained.
            raise unavailable("does not answer") from None

    async def read(self, url: str, headers: Mapping[str, str] | None = None) -> bytes:
        """The body of a plain 200."""
        status, body = await self.ask(url, headers=headers)
        if status != 200:
            raise unavailable(f"answered with status {status}")
        return body

    async def verified(self, id_token: str) -> dict[str, Any]:
        """The payload of a token the provider has signed. Raises Unauthorized for one it has not."""
        metadata = await self.metadata()
        allowed = ALGORITHMS.intersection(metadata.id_token_signing_alg_values_supported)
        keys = await self._keys.get()
        try:
            return _payload(id_token, keys, allowed)
        except InvalidKeyIdError:
            # Keys are rotated: look once whether this one is new.
            if self._refetches.take(self._clock.monotonic()) > 0:
                raise refused("invalid_id_token", "unknown key, asked too often") from None
        keys = await self._keys.get(anew=True)
        try:
            return _payload(id_token, keys, allowed)
        except InvalidKeyIdError:
            raise refused("invalid_id_token", "unknown key") from None

    async def _discover(self) -> Metadata:
        body = await self.read(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            metadata = msgspec.json.decode(body, type=Metadata)
        except (msgspec.DecodeError, UnicodeError):
            raise unavailable("published no discovery document") from None
        if metadata.issuer != self.issuer:
            raise unavailable("calls itself by another issuer than BOLTOREZKA_OIDC_ISSUER")
        if not all(_is_endpoint(url, secure=self.issuer.startswith("https://")) for url in metadata.endpoints):
            raise unavailable("published an endpoint that is not a plain address, or not https like its issuer")
        return metadata

    async def _fetch_keys(self) -> KeySet:
        body = await self.read((await self.metadata()).jwks_uri)
        try:
            published = msgspec.json.decode(body, type=dict[str, list[dict[str, Any]]])["keys"]
        except (msgspec.DecodeError, UnicodeError, KeyError):
            raise unavailable("published no set of keys") from None
        # A kind of key we do not know must not hide the others.
        keys = [key for entry in published if (key := _public_key(entry)) is not None]
        if not keys:
            raise unavailable("published no key that signs")
        return KeySet(keys)


def _payload(id_token: str, keys: KeySet, allowed: frozenset[str]) -> dict[str, Any]:
    """Check the signature. Raises Unauthorized; InvalidKeyIdError when the key is not among these."""
    if not allowed:
        # An empty list would mean the library's own choice.
        raise refused("invalid_id_token", "alg")
    registry = jws.JWSRegistry(algorithms=sorted(allowed), strict_check_header=False)
    try:
        with warnings.catch_warnings():
            # The name EdDSA is deprecated (RFC 9864), and is what providers say.
            warnings.simplefilter("ignore", SecurityWarning)
            signed = jws.deserialize_compact(id_token, keys, registry=registry)
        return msgspec.json.decode(signed.payload, type=dict[str, Any])
    except InvalidKeyIdError:
        raise
    except (JoseError, msgspec.DecodeError, ValueError, TypeError) as error:
        raise refused("invalid_id_token", f"signature: {type(error).__name__}") from None


def _public_key(entry: dict[str, Any]) -> Key | None:
    if entry.get("use", "sig") != "sig":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)
            key = JWKRegistry.import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError):
        log.info("a key of the provider is not understood", extra={"kty": _word(entry.get("kty"))})
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) else None


def _is_endpoint(url: str, *, secure: bool) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        named = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False
    return named and not parts.fragment and parts.scheme in ({"https"} if secure else {"http", "https"})


def unavailable(what: str) -> SsoUnavailable:
    """The refusal; what was wrong is for the log, and holds nothing the provider said."""
    log.error("the provider cannot be used", extra={"why": what})
    return SsoUnavailable("The SSO does not answer as it should. Try again in a moment.")


def _word(value: object) -> str:
    """What a log line may hold of a foreign value."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", value) else "?"
