"""The rules of sessions, tokens and tickets: pure, with the time as an argument (integer microseconds, UTC)."""

from __future__ import annotations

import hashlib
from enum import Enum

import msgspec

from boltorezka.auth.model import Session

SECOND = 1_000_000

# Ten minutes: how long a stolen token is worth something; the session behind it can be revoked at once.
TOKEN_LIFETIME_S = 600

# A month without signing in again.
SESSION_LIFETIME_S = 30 * 24 * 3600

# Two tabs refresh at the same moment, or an answer is lost on the way: the token before stays good this long.
PREVIOUS_GOOD_S = 10

# A ticket travels in a URL: long enough for a slow handshake, too short to be found in a history.
TICKET_LIFETIME_S = 45


class Claims(msgspec.Struct, frozen=True):
    """What a signed token says: the session, which generation of it, and until when (seconds)."""

    sid: str
    gen: int
    sub: str
    role: str
    exp: int


class Standing(Enum):
    """How a token stands to its session."""

    CURRENT = "current"
    PREVIOUS = "previous"
    """The generation before, still within its ten seconds: good, but not a reason to rotate again."""
    SUPERSEDED = "superseded"
    """An older generation. Asking to refresh with it means that somebody else holds a copy: the session is revoked."""
    ENDED = "ended"


def standing(session: Session, claims: Claims, now: int) -> Standing:
    """Judge a token (its expiry apart) against its session."""
    if session.revoked_at is not None or now >= session.expires_at or claims.sub != session.user_id:
        return Standing.ENDED
    if claims.gen == session.generation:
        return Standing.CURRENT
    fresh = now < session.rotated_at + PREVIOUS_GOOD_S * SECOND
    return Standing.PREVIOUS if claims.gen == session.generation - 1 and fresh else Standing.SUPERSEDED


def token_expiry(session: Session, now: int) -> int:
    """When a token made now expires, in whole seconds since the epoch: never after its session."""
    return min(now // SECOND + TOKEN_LIFETIME_S, session.expires_at // SECOND)


def claims_for(session: Session, role: str, now: int) -> Claims:
    """What a token made now for the session's present generation says."""
    return Claims(
        sid=session.id, gen=session.generation, sub=session.user_id, role=role, exp=token_expiry(session, now)
    )


def new_session(session_id: str, user_id: str, now: int, lifetime_s: int = SESSION_LIFETIME_S) -> Session:
    """A session that begins now."""
    return Session(
        id=session_id,
        user_id=user_id,
        generation=1,
        created_at=now,
        rotated_at=now,
        expires_at=now + lifetime_s * SECOND,
    )


def ticket_hash(ticket: str) -> bytes:
    """How a ticket is stored: the database never holds one that could be used."""
    return hashlib.sha256(ticket.encode()).digest()


def is_super_admin(email: str, super_admin_email: str | None, *, email_verified: bool) -> bool:
    """Whether an e-mail makes its owner super admin: the configured address, where the provider verified it."""
    return bool(super_admin_email) and email_verified and email.casefold() == str(super_admin_email).casefold()
