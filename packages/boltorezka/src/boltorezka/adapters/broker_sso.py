"""The `broker` driver: a central SSO that keeps its own cookie and answers who it belongs to (contract section 2)."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Sequence
from typing import TypeVar

import httpx
import msgspec

from boltorezka.adapters.authorities import authorities
from boltorezka.auth.model import Identity
from boltorezka.errors import SsoUnavailable, ValidationError

# A person waits for the answer: longer than this and they have pressed reload.
DEADLINE_S = 5.0

# Two small JSON objects are expected; more is not an SSO answering.
MAX_ANSWER = 64 * 1024

_Answer = TypeVar("_Answer")


class _TokenAnswer(msgspec.Struct):
    authenticated: bool = False


class _SsoUser(msgspec.Struct):
    id: str | int
    email: str = ""
    username: str = ""
    role: str = "user"


class _UserAnswer(msgspec.Struct):
    user: _SsoUser | None = None


class BrokerSso:
    """Speaks to one central SSO. Call `close` at the end."""

    name = "broker"

    def __init__(self, base_url: str, cookie_names: Sequence[str], providers: Sequence[str]) -> None:
        """`cookie_names` are the only cookies of a browser that are ever sent to the SSO."""
        self.base_url = base_url.rstrip("/")
        self._cookie_names = tuple(cookie_names)
        self._providers = frozenset(providers)
        # Proxies named in the environment are not for cookies; redirects would carry the cookies elsewhere.
        self._client = httpx.AsyncClient(
            timeout=DEADLINE_S,
            follow_redirects=False,
            trust_env=False,
            verify=authorities(),
            limits=httpx.Limits(max_connections=20),
        )

    async def close(self) -> None:
        """Close the connections to the SSO."""
        await self._client.aclose()

    def start_url(self, provider: str, return_url: str) -> str:
        if provider not in self._providers:
            known = ", ".join(sorted(self._providers))
            raise ValidationError(
                f"Unknown provider. Known ones: {known}.", issues=[{"field": "provider", "message": "is unknown"}]
            )
        return f"{self.base_url}/auth/{provider}?{urllib.parse.urlencode({'returnUrl': return_url})}"

    def logout_url(self, return_url: str) -> str:
        return f"{self.base_url}/auth/logout?{urllib.parse.urlencode({'returnUrl': return_url})}"

    async def identify(self, cookies: dict[str, str]) -> Identity | None:
        ours = {name: cookies[name] for name in self._cookie_names if cookies.get(name)}
        if not ours:
            return None
        header = "; ".join(f"{name}={value}" for name, value in ours.items())
        try:
            async with asyncio.timeout(DEADLINE_S):
                token = await self._ask("/auth/get-token", header, _TokenAnswer)
                if token is None or not token.authenticated:
                    return None
                answer = await self._ask("/auth/current-user", header, _UserAnswer)
        except (httpx.HTTPError, TimeoutError, msgspec.DecodeError, UnicodeError):
            # The cause may quote the request with its cookies, so it is not chained.
            raise SsoUnavailable("The SSO does not answer as it should. Try again in a moment.") from None
        if answer is None or answer.user is None:
            return None
        user = answer.user
        return Identity(
            driver=self.name,
            issuer=self.base_url,
            subject=str(user.id),
            email=user.email,
            name=user.username or user.email.partition("@")[0] or str(user.id),
            sso_role=user.role,
            email_verified=True,
        )

    async def _ask(self, path: str, cookie_header: str, answer: type[_Answer]) -> _Answer | None:
        headers = {"cookie": cookie_header, "accept": "application/json"}
        async with self._client.stream("GET", self.base_url + path, headers=headers) as response:
            if response.status_code in {401, 403}:
                return None
            if response.status_code != 200:
                raise SsoUnavailable(f"The SSO answered with status {response.status_code}. Try again in a moment.")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise SsoUnavailable("The SSO's answer is too large to be one.")
            return msgspec.json.decode(bytes(body), type=answer)
