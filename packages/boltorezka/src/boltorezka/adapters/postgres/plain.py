"""The common batch, new messages of members, stored by one statement: one round trip, with or without a transaction.

The statement looks at the facts and stores the batch only if every one of them is the plain one: the rooms are there,
the authors are members and not banned, the keys are new. What plain facts allow is asked of `access` like everything
else; about any other facts nothing is decided here: then nothing is stored and `append` judges the batch.

All of the statement sees the moment at which it began, and its rooms are locked a little later. In between somebody may
have left; but a joining or a leaving takes a seq of its room, so a room whose last seq is still the one that was seen
has the members that were seen. A room that has moved on, or that another transaction holds, counts as busy. It is not
waited for, because whoever waits goes on with what was true before: `append` waits for it and then asks again.
"""

from __future__ import annotations

from collections.abc import Sequence

from boltorezka.adapters.postgres.connect import Connection
from boltorezka.ports import NewEvent
from boltorezka.rooms import access
from boltorezka.rooms.model import Appended, Event, EventKind, Stored

# Each look-up is a subquery for each row: a step into a unique index, however small the tables were when it was
# planned. Rooms are locked in the order of their ids and keys go in in theirs, by bytes, as `append` does it.
# Planning costs more than running: with the arrays' lengths hidden in a SELECT every plan is expected to cost the same,
# and PostgreSQL soon stops making one for each call.
_STORE = """
WITH given AS (
    SELECT * FROM unnest((SELECT $1::text[]), $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::bigint[]) AS g (room_id, place, id, user_id, text, request_id, key, created_at)
), facts AS MATERIALIZED (
    SELECT bool_and(
        coalesce((SELECT true FROM members m WHERE m.room_id = a.room_id AND m.user_id = a.user_id), false)
        AND coalesce((SELECT NOT u.banned FROM users u WHERE u.id = a.user_id), true)
    ) AND (
        SELECT bool_and((SELECT e.seq FROM events e WHERE e.user_id = g.user_id AND e.idempotency_key = g.key) IS NULL)
        FROM given g
    ) AS are_plain FROM unnest((SELECT $9::text[]), $10::text[]) AS a (room_id, user_id)
), locked AS MATERIALIZED (
    SELECT id, last_seq FROM rooms WHERE id = ANY((SELECT $11::text[])::text[]) AND (SELECT are_plain FROM facts)
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), ready AS MATERIALIZED (
    SELECT count(*) = cardinality($11::text[]) AS all_rooms FROM locked l
    WHERE l.last_seq = (SELECT r.last_seq FROM rooms r WHERE r.id = l.id)
), stored AS (
    INSERT INTO events (room_id, seq, kind, id, user_id, text, request_id, idempotency_key, created_at)
    SELECT g.room_id, (SELECT l.last_seq FROM locked l WHERE l.id = g.room_id) + g.place, 'message', g.id, g.user_id,
        g.text, g.request_id, g.key, g.created_at
    FROM given g WHERE (SELECT all_rooms FROM ready) ORDER BY g.user_id COLLATE "C", g.key COLLATE "C"
), moved AS (
    UPDATE rooms r SET last_seq = l.last_seq + a.count
    FROM unnest((SELECT $11::text[]), $12::bigint[]) AS a (id, count) JOIN locked l ON l.id = a.id
    WHERE r.id = a.id AND (SELECT all_rooms FROM ready) RETURNING r.id, l.last_seq
)
SELECT f.are_plain, m.id, m.last_seq FROM facts f LEFT JOIN moved m ON true
"""


def is_plain(batch: Sequence[NewEvent]) -> bool:
    """Whether the batch is what the statement is for: messages, of which no two have the same key."""
    keys = [(new.user_id, new.idempotency_key) for new in batch if new.idempotency_key is not None]
    return (
        len(batch) > 0
        and len(set(keys)) == len(keys)
        and all(new.kind is EventKind.MESSAGE and new.ref is None for new in batch)
        and access.written(is_member=True, banned=False) is None
    )


async def store_plain(db: Connection, batch: Sequence[NewEvent]) -> tuple[list[Appended] | None, bool]:
    """Store the whole of a plain batch or nothing: the answers or None, and whether all its facts are plain.

    Plain facts and nothing stored: a room is busy.
    """
    counts: dict[str, int] = {}
    rows = []
    for new in batch:
        place = counts[new.room_id] = counts.get(new.room_id, 0) + 1
        rows.append(
            (new.room_id, place, new.id, new.user_id, new.text, new.request_id, new.idempotency_key, new.created_at)
        )
    pairs = {(new.room_id, new.user_id) for new in batch}
    columns = (*zip(*rows, strict=True), *zip(*pairs, strict=True))
    answer = await db.fetch(_STORE, *columns, list(counts), list(counts.values()))
    heads = {room_id: last_seq for _, room_id, last_seq in answer if room_id is not None}
    if not heads:
        return None, answer[0][0]
    return [Stored(_event(new, heads[new.room_id] + row[1])) for new, row in zip(batch, rows, strict=True)], True


def _event(new: NewEvent, seq: int) -> Event:
    return Event(
        new.room_id, seq, new.kind, new.id, new.user_id, new.user_name, new.text, new.created_at, new.request_id,
        new.idempotency_key,
    )  # fmt: skip
