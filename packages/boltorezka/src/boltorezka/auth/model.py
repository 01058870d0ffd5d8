"""Sessions and tickets as values. Times are integer microseconds since the Unix epoch, UTC."""

from __future__ import annotations

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """Who the SSO says somebody is. (driver, issuer, subject) is the key; the rest may change."""

    driver: str
    issuer: str
    subject: str
    email: str
    name: str
    sso_role: str
    email_verified: bool


class Session(msgspec.Struct, frozen=True):
    """A server-side, revocable session. A token names (id, generation) and lives ten minutes at most.

    `generation` counts refreshes; `rotated_at` is when the present generation began, so that the one before it stays
    good for ten seconds (tabs race) and an older one revokes the session.
    """

    id: str
    user_id: str
    generation: int
    created_at: int
    rotated_at: int
    expires_at: int
    revoked_at: int | None = None


class TicketGrant(msgspec.Struct, frozen=True):
    """What a one-use WebSocket ticket stood for when it was consumed."""

    session_id: str
    user_id: str
    via_bearer: bool
    expires_at: int
