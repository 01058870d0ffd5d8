"""What the cores need from the world. Adapters implement these; one contract test suite runs against each adapter.

Every method of a Store may raise `errors.Unavailable` when the database is gone; then nothing was stored. Cancelling a
call does not cancel a transaction that has begun: the caller must treat the outcome as unknown and ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.rooms.model import Appended, Event, EventKind, Page, Role, Room, RoomView, User


class Clock(Protocol):
    """Time as an argument: tests pass a virtual one."""

    def now(self) -> int:
        """Wall time in microseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...


class Ids(Protocol):
    """Randomness as an argument."""

    def new_id(self) -> str:
        """A new, unguessable, time-ordered identifier (UUIDv7, lower-case hex)."""
        ...

    def new_secret(self) -> str:
        """At least 128 random bits, URL-safe."""
        ...


class NewEvent(msgspec.Struct, frozen=True):
    """An event somebody wants stored. `id` and `created_at` are chosen by the caller; seq by the store."""

    room_id: str
    kind: EventKind
    id: str
    user_id: str
    user_name: str
    text: str
    created_at: int
    request_id: str | None = None
    idempotency_key: str | None = None


class Presence(msgspec.Struct, frozen=True):
    """One user is in one room through at least one live socket of one process (`instance`)."""

    room_id: str
    user_id: str
    user_name: str
    instance: str


class LogStore(Protocol):
    """Rooms and their logs."""

    async def append(self, batch: Sequence[NewEvent]) -> list[Appended]:
        """Store a batch in one transaction, in order, each room's seq growing by one; return when it is durable.

        The answer has one entry per item, in the same order. Idempotency: unique (user, key) for good.
        """
        ...

    async def delta(self, room_id: str, after_seq: int, limit: int) -> list[Event]:
        """The first `limit` events with seq > `after_seq`, in order, without holes."""
        ...

    async def page(
        self,
        room_id: str,
        limit: int,
        before_seq: int | None = None,
        before_id: str | None = None,
    ) -> Page:
        """The newest `limit` messages before a seq, or before the message `before_id`; oldest first in the page.

        Raises RoomNotFound; MessageNotFound when `before_id` is unknown in the room.
        """
        ...

    async def room_by_slug(self, slug: str) -> Room | None:
        """The room with its present epoch and last_seq, or None."""
        ...

    async def rooms_for(self, user_id: str) -> list[RoomView]:
        """Public rooms and the private ones this user is a member of, by creation time."""
        ...

    async def ensure_room(self, room: Room) -> Room:
        """Create the room unless its slug is taken; return the one that is there."""
        ...

    async def is_member(self, room_id: str, user_id: str) -> bool:
        """Whether the user has joined the room once, or was added to it."""
        ...

    async def add_member(self, room_id: str, user_id: str, at: int) -> None:
        """Make the user a member; adding twice is fine."""
        ...

    async def heads(self) -> dict[str, int]:
        """last_seq of every room, by room id: one cheap query, used to find out what another process wrote."""
        ...


class IdentityStore(Protocol):
    """Users, sessions and tickets."""

    async def upsert_user(self, identity: Identity, user_id: str, role: Role | None, at: int) -> User:
        """The user of this identity: made with `user_id` at first sight, name and e-mail brought up to date.

        `role` (when not None) is set only if it is higher than the one stored.
        """
        ...

    async def user(self, user_id: str) -> User | None: ...

    async def create_session(self, session: Session) -> None: ...

    async def session(self, session_id: str) -> tuple[Session, User] | None:
        """The session and its user, revoked or expired ones included: the caller judges."""
        ...

    async def advance_session(self, session_id: str, from_generation: int, at: int) -> bool:
        """Compare and set: generation + 1 and rotated_at = at, only if it is `from_generation` and not revoked."""
        ...

    async def revoke_session(self, session_id: str, at: int) -> None: ...

    async def revoked_since(self, at: int) -> list[str]:
        """Ids of sessions revoked at or after `at`: how another process's logout reaches our sockets."""
        ...

    async def put_ticket(self, ticket_hash: bytes, grant: TicketGrant) -> None: ...

    async def take_ticket(self, ticket_hash: bytes) -> TicketGrant | None:
        """Consume atomically: of any number of concurrent callers exactly one gets the grant. Expired ones too."""
        ...


class InstanceStore(Protocol):
    """Leases: which processes live on this database, and who is present through each."""

    async def renew_lease(self, instance: str, at: int, expires_at: int) -> list[str]:
        """Take or renew our lease, drop expired ones together with their presence; return the other live instances."""
        ...

    async def release_lease(self, instance: str) -> None:
        """Give the lease and its presence back (clean shutdown)."""
        ...

    async def set_presence(self, instance: str, present: Sequence[Presence], absent: Sequence[Presence]) -> None:
        """Write what changed in one transaction."""
        ...

    async def presence(self) -> list[Presence]:
        """Everybody present through any live lease, ours included."""
        ...


class Store(LogStore, IdentityStore, InstanceStore, Protocol):
    """The whole store of one process."""

    async def open(self) -> None:
        """Open and check the schema: raises SchemaError when it is older than this code (a newer one is accepted)."""
        ...

    async def close(self) -> None:
        """Finish writes that have begun, then close. Calls after it raise Unavailable."""
        ...

    async def ping(self) -> None:
        """Raise Unavailable unless the database answers a read now."""
        ...

    def watch(self, on_foreign_commit: Callable[[], None]) -> None:
        """Call back (on the event loop) soon after another process committed. A hint: the log is the truth."""
        ...

    def set_peers_live(self, live: bool) -> None:
        """Watch for foreign commits only while another process is alive: polling is not free."""
        ...


class SsoDriver(Protocol):
    """One way of signing in."""

    name: str

    def start_url(self, provider: str, return_url: str) -> str:
        """Where to send the browser. Raises ValidationError for an unknown provider."""
        ...

    def logout_url(self, return_url: str) -> str:
        """Where to send the browser to leave the SSO too."""
        ...

    async def identify(self, cookies: dict[str, str]) -> Identity | None:
        """Who these browser cookies belong to, or None. Raises SsoUnavailable."""
        ...


class RealtimeMetrics(Protocol):
    """What the sockets count. Labels are bounded sets: reasons and codes, never ids."""

    def socket_opened(self) -> None: ...

    def socket_closed(self, reason: str) -> None: ...

    def acked(self, event_type: str) -> None: ...

    def nacked(self, event_type: str, code: str) -> None: ...

    def refused(self, code: str) -> None:
        """A socket was refused before it was let in (MissingTicket, InvalidTicket, Banned, Origin)."""
        ...

    def delivered(self, frames: int) -> None: ...

    def delivery_seconds(self, seconds: float) -> None:
        """From reading a message to writing it to the sockets of the room."""
        ...

    def dropped(self, kind: str, frames: int) -> None:
        """Droppable frames that were not sent, or a socket cut as a slow consumer."""
        ...
