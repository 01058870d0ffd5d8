"""What the cores need from the world. Adapters implement these; one contract test suite runs against each adapter.

Every method of a Store may raise `errors.Unavailable` when the database is gone; then nothing was stored. Cancelling a
call does not cancel a transaction that has begun: the caller must treat the outcome as unknown and ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.rooms.hints import AnyHint
from boltorezka.rooms.model import (
    Appended,
    DaySummary,
    Entrance,
    Event,
    EventKind,
    Member,
    Page,
    Role,
    Room,
    RoomView,
    User,
)
from boltorezka.voice.model import Seat, Taken


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


# A number above this is "many" to a person, and counting on would cost more than it tells.
MAX_UNREAD = 1000
# A socket that drops comes back within seconds, after a deploy too; longer and others wait for somebody who has gone.
SEAT_HOLD_US = 30 * 1_000_000
# One answer of the list of members; a room with more is not managed by reading a list.
MAX_MEMBERS = 10_000


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
    ref: str | None = None


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

        The answer has one entry per item, in the same order; a refused item takes nothing else with it. In the
        transaction, with the facts of that moment:
        - idempotency, unique (user, key) for good: the same kind, room, ref and text again answers the first event with
          `duplicate`, another body IdempotencyConflict; a message that was deleted meanwhile counts as the same body;
        - message, edit, delete: `access.written` (RoomNotFound, Forbidden); edit, delete: `access.changed` of the
          message `ref`, a deleted one being none;
        - joined: `user_id` becomes a member with the role `text` and has read everything up to now, Unchanged when they
          are one; left: they are no longer one and have no seat there, UserNotFound when they were none. `ref` is who
          caused it.
        An edit changes what `page` shows; a delete erases the text of the message and of its edits for good.
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

        Each with its newest text and the time of its last edit; deleted ones are left out, but are still a good
        `before_id`. Raises RoomNotFound; MessageNotFound when `before_id` is unknown in the room.
        """
        ...

    async def entrance(self, slug: str, user_id: str) -> Entrance | None:
        """The room with its present epoch and last_seq, and this user's membership; None when there is no room."""
        ...

    async def rooms_for(self, user_id: str) -> list[RoomView]:
        """Public rooms and the private ones this user is a member of, by creation time.

        `unread` counts messages of others after the read pointer that are not deleted, up to MAX_UNREAD.
        """
        ...

    async def create_room(self, room: Room, owner_id: str, event_id: str) -> Room:
        """Create a room with its owner as the first event of its log. Raises Conflict when the slug is taken."""
        ...

    async def ensure_room(self, room: Room) -> Room:
        """Create the room unless its slug is taken; return the one that is there."""
        ...

    async def members(self, room_id: str) -> list[Member]:
        """Everybody who is a member, by the time they joined; at most MAX_MEMBERS."""
        ...

    async def set_read(self, room_id: str, user_id: str, seq: int) -> int:
        """Move the read pointer of a member forward, never backwards and never beyond the log; return where it is.

        Raises RoomNotFound when they are not a member.
        """
        ...

    async def new_epochs(self, slugs: Sequence[str] | None = None) -> int:
        """Give these rooms (None: all) a new epoch, after the log was restored; return how many were changed."""
        ...

    async def heads(self) -> dict[str, tuple[str, int]]:
        """(epoch, last_seq) of every room, by room id: one cheap query, to find out what another process wrote."""
        ...

    async def day_summary(self, since: int) -> DaySummary:
        """What was written since this moment, for the telemetry."""
        ...


class IdentityStore(Protocol):
    """Users, sessions and tickets."""

    async def upsert_user(self, identity: Identity, user_id: str, role: Role | None, at: int) -> User:
        """The user of this identity: made with `user_id` at first sight, name and e-mail brought up to date.

        `role` (when not None) is set only if it is higher than the one stored.
        """
        ...

    async def user(self, user_id: str) -> User | None: ...

    async def users(self, limit: int, after_id: str | None = None) -> list[User]:
        """Users by id, for the admin's list: the first `limit` after `after_id`."""
        ...

    async def set_role(self, user_id: str, role: Role, at: int) -> User:
        """Give the user this role; return the user as they are now. Raises UserNotFound."""
        ...

    async def set_banned(self, user_id: str, banned: bool, at: int) -> User:
        """Ban or unban. A ban revokes all sessions and deletes all tickets and the seat of the user in its transaction.

        Raises UserNotFound.
        """
        ...

    async def changed_users(self, at: int) -> list[User]:
        """Users whose role or ban was changed at or after `at`: how another process's decision reaches our sockets."""
        ...

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
        """Take or renew our lease; return the other live instances.

        Expired leases are dropped together with their presence; their seats are held for SEAT_HOLD_US from `at` on.
        Seats whose hold has passed are dropped.
        """
        ...

    async def release_lease(self, instance: str, at: int) -> None:
        """Give the lease and its presence back (clean shutdown); its seats are held for SEAT_HOLD_US."""
        ...

    async def set_presence(self, instance: str, present: Sequence[Presence], absent: Sequence[Presence]) -> None:
        """Write what changed in one transaction."""
        ...

    async def presence(self) -> list[Presence]:
        """Everybody present through any live lease, ours included."""
        ...


class SeatStore(Protocol):
    """Voice seats: leased facts, at most one for each user. A seat whose `held_until` has passed is not there."""

    async def take_seat(self, seat: Seat, limit: int, *, move: bool) -> Taken:
        """Take `seat` (its `taken_at` is now), in one transaction with the look at who sits where.

        - The user's held seat in this room is reclaimed: the stored one, now of `seat.instance`, connected.
        - A held seat in another room is given up for the new one, and answered as `left`.
        - A connected seat of the user, in any room: Conflict, unless `move`; then it is given up, answered as `left`.
        Raises VoiceFull when `limit` seats of the room, held ones included, are taken by others; RoomNotFound when the
        user is not a member of the room; Forbidden when banned.
        """
        ...

    async def hold_seat(self, seat_id: str, instance: str, until: int) -> None:
        """Its socket is gone: keep it until then. Nothing happens when the seat is no longer this instance's."""
        ...

    async def set_seat(
        self, seat_id: str, *, muted: bool | None = None, audio_muted: bool | None = None, moderated: bool | None = None
    ) -> None:
        """Keep what is said of it, None being unchanged: its user and a moderator write without knowing of each other.

        Nothing happens when it is gone.
        """
        ...

    async def drop_seat(self, seat_id: str) -> bool:
        """Give a seat up; whether it was there."""
        ...

    async def seats(self, at: int) -> list[Seat]:
        """Every seat that is there at this moment, by room and the time it was taken."""
        ...


class Store(LogStore, IdentityStore, InstanceStore, SeatStore, Protocol):
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


class Bus(Protocol):
    """Hints between the processes of one database; ours do not come back to us."""

    async def start(self, on_hint: Callable[[AnyHint], None]) -> None:
        """Begin to hear: `on_hint` is called on the event loop. After an interruption it hears `Look`.

        Does not wait for a bus that is away: it is connected to as soon as it is there.
        """
        ...

    async def stop(self) -> None:
        """Send what was published, within a deadline, and hear nothing more."""
        ...

    def publish(self, hint: AnyHint) -> None:
        """Tell the others, soon and without a promise; never blocks, never raises. Bounded: beyond it, hints are lost.

        Bytes that a bus of this kind need not carry (the database itself tells, nobody else is live) are not sent.
        """
        ...

    def set_peers_live(self, live: bool) -> None:
        """Whether another process is alive: with nobody to hear, watching and publishing are not worth their cost."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether hints travel now."""
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

    def log_read(self, kind: str) -> None:
        """The log was read from the database: `delta` for a resume or a gap, `page` for history."""
        ...

    def voice_setup(self, outcome: str, seconds: float | None) -> None:
        """A voice setup `started`, or ended: `ok`, `failed` (both as its client said) or `unreported`.

        `seconds` from taking the seat to the first sound, where the client said it.
        """
        ...

    def voice_relayed(self, event_type: str, seats: int) -> None:
        """A signal was passed on to so many seats."""
        ...

    def voice_seats(self, connected: int, held: int) -> None:
        """How many voice seats this process has now."""
        ...
