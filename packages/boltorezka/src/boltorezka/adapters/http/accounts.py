"""Signing in, staying signed in, tickets and signing out: the rules of auth.sessions over a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from boltorezka.adapters.tokens import Tokens
from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.auth.sessions import (
    SECOND,
    SESSION_LIFETIME_S,
    TICKET_LIFETIME_S,
    Claims,
    Standing,
    claims_for,
    is_super_admin,
    new_session,
    standing,
    ticket_hash,
)
from boltorezka.errors import Forbidden, Unauthorized
from boltorezka.ports import Clock, IdentityStore, Ids
from boltorezka.rooms.model import Role, User


class AuthMetrics(Protocol):
    """What signing in counts."""

    def auth_failed(self, reason: str) -> None: ...

    def logged_in(self) -> None: ...


class SessionSockets(Protocol):
    """What ends with a session."""

    def close_session(self, session_id: str) -> None: ...


@dataclass(frozen=True)
class Caller:
    """Somebody with a live session, and how they showed it."""

    session: Session
    user: User
    via_bearer: bool


@dataclass(frozen=True)
class Signed:
    """A live session and a fresh token for it."""

    session: Session
    user: User
    token: str
    expires_in_s: int


@dataclass(frozen=True)
class Accounts:
    """Sessions of people. Every method may raise Unavailable; a cancelled call may have taken effect."""

    store: IdentityStore
    clock: Clock
    ids: Ids
    tokens: Tokens
    metrics: AuthMetrics
    sockets: SessionSockets
    super_admin_email: str | None = None

    async def sign_in(
        self, identity: Identity, present: str | None = None, lifetime_s: int = SESSION_LIFETIME_S
    ) -> Signed:
        """Sign in as the identity's user, made at first sight.

        `present` is the session token the browser already holds: a live session of the same user goes on, so that
        reloading a page does not pile up sessions. Raises Forbidden for a banned user.
        """
        now = self.clock.now()
        verified = identity.email_verified
        first = is_super_admin(identity.email, self.super_admin_email, email_verified=verified)
        role = Role.SUPER_ADMIN if first else None
        user = await self.store.upsert_user(identity, self.ids.new_id(), role, now)
        self._refuse_banned(user)
        kept = await self._live_session(present)
        if kept is not None and kept.user_id == user.id:
            return self._signed(kept, user)
        session = new_session(self.ids.new_id(), user.id, now, lifetime_s)
        await self.store.create_session(session)
        self.metrics.logged_in()
        return self._signed(session, user)

    async def authenticate(self, token: str, *, via_bearer: bool) -> Caller:
        """Whose token this is. Raises Unauthorized, or Forbidden for a banned user."""
        session, user, how = await self._look_up(token, accept_expired=False)
        if how not in {Standing.CURRENT, Standing.PREVIOUS}:
            raise self._ended(how)
        self._refuse_banned(user)
        return Caller(session, user, via_bearer)

    async def refresh(self, token: str) -> Signed:
        """The next generation's token. A token older than the previous one revokes the session: it was copied."""
        session, user, how = await self._look_up(token, accept_expired=True)
        self._refuse_banned(user)
        if how is Standing.CURRENT:
            await self.store.advance_session(session.id, session.generation, self.clock.now())
            # Whoever lost the race against another tab finds that tab's generation here, and gets a token for it.
            session, user, how = await self._look_up(token, accept_expired=True)
        if how is Standing.SUPERSEDED:
            await self.end(session.id)
        if how not in {Standing.CURRENT, Standing.PREVIOUS}:
            raise self._ended(how)
        return self._signed(session, user)

    async def resume(self, token: str, *, may_refresh: bool) -> Signed | None:
        """Whose token this is, for a page that begins: the token itself while it is good, then the next generation's.

        None without a live session, and for an expired token unless `may_refresh`. Raises Forbidden for a banned user.
        """
        try:
            session, user, how = await self._look_up(token, accept_expired=True)
            if how in {Standing.CURRENT, Standing.PREVIOUS}:
                self._refuse_banned(user)
                left_s = self._decode(token, accept_expired=True).exp - self.clock.now() // SECOND
                if left_s > 0:
                    return Signed(session, user, token, left_s)
            return await self.refresh(token) if may_refresh else None
        except Unauthorized:
            return None

    def session_id(self, token: str) -> str:
        """The session this token was signed for, ended or not. Raises Unauthorized for one we did not sign."""
        return self._decode(token, accept_expired=True).sid

    async def logout(self, token: str) -> None:
        """Revoke the token's session and close its sockets. A session that has ended already is no error."""
        session, _, how = await self._look_up(token, accept_expired=True)
        if how is not Standing.ENDED:
            await self.end(session.id)

    async def end(self, session_id: str) -> None:
        """Revoke a session and close its sockets at once; other processes find it in the store."""
        await self.store.revoke_session(session_id, self.clock.now())
        self.sockets.close_session(session_id)

    async def ticket(self, caller: Caller) -> str:
        """A one-use ticket for the WebSocket, bound to the caller's session; only its hash is stored."""
        ticket = self.ids.new_secret()
        expires_at = self.clock.now() + TICKET_LIFETIME_S * SECOND
        grant = TicketGrant(caller.session.id, caller.user.id, caller.via_bearer, expires_at)
        await self.store.put_ticket(ticket_hash(ticket), grant)
        return ticket

    async def _look_up(self, token: str, *, accept_expired: bool) -> tuple[Session, User, Standing]:
        claims = self._decode(token, accept_expired=accept_expired)
        found = await self.store.session(claims.sid)
        if found is None:
            raise self._ended(Standing.ENDED)
        session, user = found
        return session, user, standing(session, claims, self.clock.now())

    def _decode(self, token: str, *, accept_expired: bool) -> Claims:
        try:
            return self.tokens.decode(token, self.clock.now(), accept_expired=accept_expired)
        except Unauthorized as refusal:
            self.metrics.auth_failed(refusal.data["reason"])
            raise

    async def _live_session(self, token: str | None) -> Session | None:
        if token is None:
            return None
        now = self.clock.now()
        try:
            claims = self.tokens.decode(token, now, accept_expired=True)
        except Unauthorized:
            return None
        found = await self.store.session(claims.sid)
        if found is None or standing(found[0], claims, now) not in {Standing.CURRENT, Standing.PREVIOUS}:
            return None
        return found[0]

    def _signed(self, session: Session, user: User) -> Signed:
        now = self.clock.now()
        claims = claims_for(session, user.role, now)
        return Signed(session, user, self.tokens.encode(claims), claims.exp - now // SECOND)

    def _ended(self, how: Standing) -> Unauthorized:
        reason = "superseded_token" if how is Standing.SUPERSEDED else "ended_session"
        self.metrics.auth_failed(reason)
        return Unauthorized("The session has ended. Sign in again.", reason=reason)

    def _refuse_banned(self, user: User) -> None:
        if user.banned:
            self.metrics.auth_failed("banned")
            raise Forbidden("This account is banned from the server.", reason="banned")
