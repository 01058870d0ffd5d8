"""`boltorezka smoke-session`: sessions of the fixed smoke accounts, and the rooms only they know.

Every smoke waits for this command, so the module needs a store and tokens, and nothing of the server.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from boltorezka.adapters.addresses import Database
from boltorezka.adapters.database import open_store
from boltorezka.adapters.http.accounts import Accounts, Signed
from boltorezka.adapters.system import SystemClock, SystemIds
from boltorezka.adapters.tokens import Tokens
from boltorezka.auth.model import Identity
from boltorezka.auth.sessions import SECOND, claims_for
from boltorezka.ports import NewEvent, Store
from boltorezka.protocol import iso_time
from boltorezka.rooms.model import EventKind, MemberRole, Room

ISSUER = "boltorezka"  # of the accounts, which every version must find again
CANARY_ROOM = "canary"
# Several sockets each: a slot that forgets somebody's second tab, or one person, is seen by the others.
CANARY_PEOPLE = 4
# A person has one seat in voice, and the slots of a rollout share the database: calls that are tried on both at once
# need people and a room for each side.
CALL_ROOMS = {"new": "canary-calls-new", "old": "canary-calls-old"}


async def smoke_sessions(database: Database, jwt_secret: str, ttl_s: int) -> dict[str, object]:
    """Sessions of `ttl_s` seconds for the fixed smoke accounts, and the private rooms some of them are members of.

    `users` are for the smoke, `canary` for the watch, `calls` for calls on both slots at once. `stranger` is a member
    of no private room, and has beside its session's token one that has expired.
    """
    store = open_store(database, SystemClock())
    await store.open()
    try:
        smoke = _SmokeSessions(store, Tokens(jwt_secret), ttl_s)
        users = await smoke.group(("smoke-1", "Smoke One"), ("smoke-2", "Smoke Two"))
        canary = await smoke.group(*((f"canary-{n}", f"Canary {n}") for n in range(1, CANARY_PEOPLE + 1)))
        await smoke.room(CANARY_ROOM, "Canary", [*users, *canary])
        calls = {}
        for side, slug in CALL_ROOMS.items():
            callers = await smoke.group(*((f"call-{side}-{n}", f"Caller {n} ({side})") for n in (1, 2)))
            await smoke.room(slug, f"Calls ({side})", callers)
            calls[side] = {"room": slug, "users": [_shown(each) for each in callers]}
        (stranger,) = await smoke.group(("stranger", "Stranger"))
        return {
            "expiresAt": iso_time(stranger.session.expires_at),
            "canaryRoom": CANARY_ROOM,
            "users": [_shown(each) for each in users],
            "canary": [_shown(each) for each in canary],
            "calls": calls,
            "stranger": _shown(stranger) | {"expiredToken": smoke.expired(stranger)},
        }
    finally:
        await store.close()


class _SmokeSessions:
    """Makes the smoke accounts at first sight, their sessions each time."""

    def __init__(self, store: Store, tokens: Tokens, ttl_s: int) -> None:
        self._store, self._tokens, self._ttl_s = store, tokens, ttl_s
        self._clock, self._ids = SystemClock(), SystemIds()
        self._accounts = Accounts(store, self._clock, self._ids, tokens, _NoMetrics(), _NoSockets())

    async def group(self, *people: tuple[str, str]) -> list[Signed]:
        """A session for each (subject, name)."""
        identities = [
            Identity("smoke", ISSUER, subject, f"{subject}@smoke.invalid", name, "user", False)
            for subject, name in people
        ]
        return [await self._accounts.sign_in(identity, lifetime_s=self._ttl_s) for identity in identities]

    async def room(self, slug: str, title: str, members: Sequence[Signed]) -> None:
        """A private room: nobody but these members ever learns of it."""
        ids, now = self._ids, self._clock.now()
        room = await self._store.ensure_room(Room(ids.new_id(), slug, title, False, now, ids.new_id(), 0))
        joined, member = EventKind.JOINED, MemberRole.MEMBER.value
        users = [each.user for each in members]
        await self._store.append(
            [NewEvent(room.id, joined, ids.new_id(), user.id, user.name, member, now, ref=user.id) for user in users]
        )

    def expired(self, signed: Signed) -> str:
        """A token of this live session with nothing wrong but its expiry, a minute ago."""
        now = self._clock.now()
        claims = claims_for(signed.session, signed.user.role, now)
        return self._tokens.encode(msgspec.structs.replace(claims, exp=now // SECOND - 60))


def _shown(signed: Signed) -> dict[str, object]:
    user = signed.user
    return {"userId": user.id, "name": user.name, "token": signed.token, "sessionId": signed.session.id}


class _NoSockets:
    """A process without sockets of its own: the serving ones find ended sessions in the store."""

    def close_session(self, session_id: str) -> None:
        """Nothing to close here."""


class _NoMetrics:
    """A process that nobody scrapes."""

    def auth_failed(self, reason: str) -> None:
        """Nothing to count here."""

    def logged_in(self) -> None:
        """Nothing to count here."""
