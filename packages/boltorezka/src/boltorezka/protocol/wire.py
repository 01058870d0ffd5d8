"""What both directions share: bounds, close codes, positions, times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from typing import Annotated, ClassVar

import msgspec

PATH = "/v1/realtime/ws"

# A message of 4000 characters is at most 24 kB as JSON (\uXXXX each); 64 KiB leaves room for call signals (SDP).
MAX_FRAME = 64 * 1024
# People paste; more than this belongs in a file. Counted in Unicode characters, as the contract says.
MAX_TEXT = 4000
# A resume larger than this is cheaper to draw anew from the history page than to replay.
MAX_DELTA = 300
# Room names in addresses (contract.md: 3..48); the lower bound is checked where rooms are made.
MAX_SLUG = 48
# Clients use UUIDs (36) with a prefix at most; both are echoed and one is stored, so they must not carry a payload.
MAX_ID = 128
# Our tickets have 43 characters; anything much longer is not one and is not worth hashing.
MAX_TICKET = 512
# A seq travels as a JSON number: 2^53 is where JavaScript stops counting by one.
MAX_SEQ = (1 << 53) - 1
# A client keeps the rooms on its screen up to date; somebody in more rooms than this loads the rest when they look.
MAX_RESUME = 32
# Why somebody hung up, for people: a sentence.
MAX_REASON = 200


class CloseCode(IntEnum):
    """Why the server closes a socket. 4012 and 4008: come back; 4001..4003 and 4009: sign in or fetch a ticket."""

    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    TRY_LATER = 1013
    MISSING_TICKET = 4001
    INVALID_TICKET = 4002
    BANNED = 4003
    SLOW_CONSUMER = 4008
    SESSION_ENDED = 4009
    DRAINING = 4012


# The code of the `error` frame that goes before a close, and the label of the metric.
REASONS: dict[int, str] = {
    1002: "ValidationError", 1003: "ValidationError", 1008: "RateLimited", 1009: "PayloadTooLarge",
    1011: "ServerError", 1013: "ServerError", 4001: "MissingTicket", 4002: "InvalidTicket", 4003: "Banned",
    4008: "SlowConsumer", 4009: "SessionEnded", 4012: "Draining",
}  # fmt: skip

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
Slug = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SLUG)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
Ticket = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TICKET)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class Payload(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The inside of a frame; `EVENT` is its type on the wire."""

    EVENT: ClassVar[str] = ""


class Position(msgspec.Struct, frozen=True, rename="camel"):
    """A place in a room's log: everything up to and including `seq` of this `epoch` has been seen."""

    epoch: Id
    seq: Seq


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=64)  # what happens in one second shares it, and formatting it was a tenth of the cost of an ack
def _second(at_s: int) -> str:
    return (_EPOCH + timedelta(seconds=at_s)).isoformat()[:-6]


def iso_time(at: int) -> str:
    """Microseconds since the Unix epoch as ISO 8601 UTC with milliseconds: `2026-01-02T03:04:05.678Z`."""
    at_s, rest = divmod(at, 1_000_000)
    return f"{_second(at_s)}.{rest // 1000:03d}Z"
