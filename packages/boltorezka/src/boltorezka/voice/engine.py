"""The port of media engines: what carries the sound between the seats of a room.

The app decides who may sit where, mints the relays' credentials and owns the one socket of each client; an engine is
told about seats and speaks to clients only through us. Its own ids stay in `Ticket.session` and never reach a client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

Topology = Literal["mesh", "sfu"]


class Caps(msgspec.Struct, frozen=True):
    """What an engine can do.

    With the topology `mesh` clients talk to each other and the app relays their signals; else every signal is given
    to the engine. Where `enforces_mute` is False, a moderator's mute is a wish that the clients obey.
    """

    name: str
    topology: Topology
    max_seats: int
    enforces_mute: bool
    hides_addresses: bool


class Grant(msgspec.Struct, frozen=True):
    """What the app allows one seat: decided before, and by the app alone."""

    seat_id: str
    user_id: str
    user_name: str
    may_publish: bool = True


class Ticket(msgspec.Struct, frozen=True):
    """A seat is known to the engine as `session`; `engine_data` is what the client is told beside the ICE servers."""

    session: str
    engine_data: dict[str, Any] = msgspec.field(default_factory=dict)


class Message(msgspec.Struct, frozen=True):
    """A signal between one client and the engine: `kind` is offer, answer or ice; `body` JSON text."""

    kind: Literal["offer", "answer", "ice"]
    body: str


class Stats(msgspec.Struct, frozen=True):
    """What an engine carries now."""

    rooms: int
    sessions: int


class Event(msgspec.Struct, frozen=True, tag_field="kind"):
    """Something an engine says on its own, of one session."""

    session: str


class SignalOut(Event, frozen=True, tag="signal"):
    """A message for the client of this session."""

    message: Message


class Connected(Event, frozen=True, tag="connected"):
    """The session's first audio packet came through."""


class Lost(Event, frozen=True, tag="lost"):
    """The engine has no connection to this session's client any more; its seat is to be given up."""


class Speaking(Event, frozen=True, tag="speaking"):
    """The client of this session began or stopped to speak."""

    speaking: bool


AnyEvent = SignalOut | Connected | Lost | Speaking


class MediaEngine(Protocol):
    """One engine. Calls raise `errors.Unavailable` when it cannot be reached; a cancelled call may have been obeyed."""

    @property
    def caps(self) -> Caps:
        """What it can do; does not change."""
        ...

    async def start(self, on_event: Callable[[AnyEvent], None]) -> None:
        """Begin; `on_event` is called on the event loop."""
        ...

    async def stop(self) -> None:
        """End every session of ours, within a deadline."""
        ...

    async def healthy(self) -> bool:
        """Whether it would take a new session now."""
        ...

    async def join(self, room_id: str, grant: Grant) -> Ticket:
        """Let a seat in, making the room when it is the first. Repeating it for a seat answers the same session."""
        ...

    async def signal(self, session: str, message: Message) -> tuple[Message, ...]:
        """A client's signal for the engine, and its immediate answers to that client. Raises TargetNotInRoom."""
        ...

    async def set_publish(self, session: str, *, allowed: bool) -> None:
        """Let the session's sound through, or not. Raises TargetNotInRoom for an unknown session."""
        ...

    async def leave(self, session: str) -> None:
        """The seat was given up; nothing happens when the session is unknown."""
        ...

    async def kick(self, session: str) -> None:
        """As `leave`, decided by somebody else: the engine cuts the client off where it can."""
        ...

    async def stats(self) -> Stats:
        """What it carries through this process."""
        ...
