"""The rules of signing in through an OpenID Connect provider: pure, with the time as an argument (microseconds, UTC).

The code flow with PKCE (RFC 7636), `state`, `nonce`, and the issuer in the provider's answer (RFC 9207). Every failed
check raises Unauthorized whose `reason` is one of REASONS: short enough to be shown in an address, and saying nothing
that a stranger could use. `check` names the rule that failed, for the log.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from boltorezka.auth.model import Identity
from boltorezka.auth.sessions import SECOND
from boltorezka.errors import Unauthorized

# From leaving for the provider to coming back: a person who types a password and a second factor, and not a day later.
FLOW_LIFETIME_S = 600

# Clocks of two machines that are kept by NTP differ by far less; a clock that is further off should be seen.
LEEWAY_S = 30

# OpenID Connect Core 2: a subject is at most 255 characters. Beyond that somebody tries something.
MAX_SUBJECT = 255
MAX_EMAIL = 254
MAX_NAME = 80

# What a provider may answer instead of a code (RFC 6749 section 4.1.2.1, OpenID Connect Core section 3.1.2.6).
PROVIDER_REASONS = frozenset(
    {
        "access_denied",
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "invalid_request",
        "invalid_scope",
        "login_required",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_response_type",
    }
)

# Everything `reason` can be: the provider's, any other error of a provider, and what was wrong with an answer.
REASONS = PROVIDER_REASONS | {
    "provider_error",
    "sign_in_expired",
    "state_mismatch",
    "wrong_issuer",
    "code_refused",
    "invalid_id_token",
}


class Flow(msgspec.Struct, frozen=True):
    """One sign-in on its way: what the browser carries, sealed, to the provider and back."""

    state: str
    nonce: str
    verifier: str
    return_url: str
    began_at: int


class Claims(msgspec.Struct, frozen=True):
    """What the provider says about a person, after its checks. An e-mail counts as verified only by a plain `true`."""

    sub: str
    email: str = ""
    email_verified: bool = False
    name: str = ""


def refused(reason: str, check: str) -> Unauthorized:
    """The sign-in cannot go on."""
    return Unauthorized("The sign-in could not be completed. Begin again.", reason=reason, check=check)


def code_challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def awaited_flow(answer: Mapping[str, str], flow: Flow | None, now: int) -> Flow:
    """The flow, if it is young enough and this is the answer to it. Raises Unauthorized."""
    if flow is None or not 0 <= now - flow.began_at < FLOW_LIFETIME_S * SECOND:
        raise refused("sign_in_expired", "flow")
    if not _same(answer.get("state", ""), flow.state):
        raise refused("state_mismatch", "state")
    return flow


def answered_code(answer: Mapping[str, str], issuer: str, *, issuer_required: bool) -> str:
    """The code in an answer to our flow. Raises Unauthorized.

    `issuer_required`: the provider says that it always names itself in its answers (RFC 9207).
    """
    if answer.get("iss", issuer) != issuer or (issuer_required and "iss" not in answer):
        raise refused("wrong_issuer", "iss")
    if "error" in answer:
        known = answer["error"] in PROVIDER_REASONS
        raise refused(answer["error"] if known else "provider_error", "answer")
    if not answer.get("code"):
        raise refused("provider_error", "no code")
    return answer["code"]


def checked_id_token(payload: dict[str, Any], issuer: str, client_id: str, nonce: str, now: int) -> Claims:
    """The claims of an ID token whose signature was good (OpenID Connect Core section 3.1.3.7). Raises Unauthorized."""
    audience = payload.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    seconds = now / SECOND
    expires, issued = _time(payload.get("exp")), _time(payload.get("iat"))
    checks = {
        "iss": payload.get("iss") == issuer,
        "aud": client_id in audiences,
        "azp": payload.get("azp", client_id if len(audiences) == 1 else None) == client_id,
        "exp": seconds < expires + LEEWAY_S,
        "nbf": _time(payload.get("nbf", 0)) - LEEWAY_S <= seconds,
        # The token was made for this sign-in, so it cannot be older than the sign-in may be.
        "iat": issued - LEEWAY_S <= seconds < issued + FLOW_LIFETIME_S + LEEWAY_S,
        "nonce": isinstance(payload.get("nonce"), str) and _same(payload["nonce"], nonce),
        "sub": _is_subject(payload.get("sub")),
    }
    for name, holds in checks.items():
        if not holds:
            raise refused("invalid_id_token", name)
    return _claims(payload)


def with_userinfo(claims: Claims, payload: dict[str, Any]) -> Claims:
    """The claims, with what the provider's userinfo adds. Raises Unauthorized when it speaks of somebody else."""
    if payload.get("sub") != claims.sub:
        raise refused("invalid_id_token", "userinfo sub")
    more = _claims(payload)
    # An address and the word that it is verified belong together: never one from here and one from there.
    email = claims if claims.email else more
    return Claims(claims.sub, email.email, email.email_verified, claims.name or more.name)


def identity(claims: Claims, issuer: str) -> Identity:
    """Who this is: known by (driver, issuer, subject), never by the e-mail."""
    return Identity(
        driver="oidc",
        issuer=issuer,
        subject=claims.sub,
        email=claims.email,
        name=claims.name or claims.email.partition("@")[0] or claims.sub[:MAX_NAME],
        sso_role="user",
        email_verified=claims.email_verified,
    )


def with_auth_error(return_url: str, reason: str) -> str:
    """The address a browser is sent back to, saying why it is not signed in."""
    parts = urlsplit(return_url)
    query = f"{parts.query}&authError={reason}" if parts.query else f"authError={reason}"
    return urlunsplit(parts._replace(query=query))


def _claims(payload: dict[str, Any]) -> Claims:
    names = (_text(payload.get(name), MAX_NAME) for name in ("name", "preferred_username", "nickname"))
    email = _text(payload.get("email"), MAX_EMAIL)
    verified = bool(email) and payload.get("email_verified") is True
    return Claims(payload["sub"], email, verified, next((name for name in names if name), ""))


def _text(value: object, most: int) -> str:
    """What can be shown of a value the provider may have let its people choose freely."""
    if not isinstance(value, str):
        return ""
    plain = "".join(char if char.isprintable() else " " for char in value[: 4 * most])
    return " ".join(plain.split())[:most].rstrip()


def _is_subject(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_SUBJECT


def _time(value: object) -> float:
    """A time in seconds, or a number that no comparison holds for. A bool is a number to Python, and not a time."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value < 1e12 else math.nan


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
