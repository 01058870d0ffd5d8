"""What people do in a room: write, change, take back, type, read."""

from __future__ import annotations

from boltorezka import protocol
from boltorezka.errors import RateLimited, ValidationError
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import SIGNS, Connection, Stage, ack
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.floor import Floor, Handler
from boltorezka.rooms.hints import Relay
from boltorezka.rooms.model import EventKind


def _send(
    floor: Floor, conn: Connection, request: protocol.Request, _now: int, _tick: float, out: list[Effect]
) -> None:
    said = request.said
    if not isinstance(said, protocol.ChatSend):
        raise TypeError("the table of handlers is wrong")
    _append(floor, conn, request, EventKind.MESSAGE, said.text, None, out)


def _edit(
    floor: Floor, conn: Connection, request: protocol.Request, _now: int, _tick: float, out: list[Effect]
) -> None:
    said = request.said
    if not isinstance(said, protocol.ChatEdit):
        raise TypeError("the table of handlers is wrong")
    _append(floor, conn, request, EventKind.EDIT, said.text, said.message_id, out)


def _delete(
    floor: Floor, conn: Connection, request: protocol.Request, _now: int, _tick: float, out: list[Effect]
) -> None:
    said = request.said
    if not isinstance(said, protocol.ChatDelete):
        raise TypeError("the table of handlers is wrong")
    _append(floor, conn, request, EventKind.DELETE, "", said.message_id, out)


def _append(
    floor: Floor,
    conn: Connection,
    request: protocol.Request,
    kind: EventKind,
    text: str,
    ref: str | None,
    out: list[Effect],
) -> None:
    """Give an event to the store; rights are judged there, with the facts of the transaction."""
    room_id = floor.joined(conn).room.id
    if "\0" in text:
        raise ValidationError("The text must not contain a NUL character.")
    if conn.unanswered >= floor.limits.unanswered:
        raise RateLimited("Too many messages are waiting to be stored; wait for their acks.", retry_after_ms=250)
    conn.unanswered += 1
    out.append(
        do.Append(
            conn.key, request.said.EVENT, kind, room_id, conn.user_id, conn.user_name, text,
            request.request_id, request.idempotency_key, ref,
        )
    )  # fmt: skip


def _typing(
    floor: Floor, conn: Connection, request: protocol.Request, now: int, tick: float, out: list[Effect]
) -> None:
    """To the others, not more often than they can notice; what is too much is left out, not refused."""
    live = floor.joined(conn)
    if not conn.bucket(SIGNS, floor.limits.rates).take(tick):
        typing = protocol.Typing(conn.user_id, conn.user_name, live.room.id, live.room.slug)
        hint = Relay(live.room.id, protocol.encode(typing).decode(), but=conn.user_id)
        relayed(floor, hint, out)
        out.append(do.Publish(hint))
    out += ack(conn.key, request.request_id, request.said.EVENT, now)


def _read(
    floor: Floor, conn: Connection, request: protocol.Request, _now: int, _tick: float, out: list[Effect]
) -> None:
    said = request.said
    if not isinstance(said, protocol.RoomRead):
        raise TypeError("the table of handlers is wrong")
    room = floor.joined(conn).room
    out.append(do.SetRead(conn.key, room.id, room.slug, conn.user_id, said.seq, request.request_id))


def read_set(floor: Floor, asked: do.SetRead, seq: int, now: int) -> list[Effect]:
    """The read pointer is at this seq now: the ack, and word to the user's other tabs."""
    out = ack(asked.key, asked.request_id, protocol.RoomRead.EVENT, now, seq=seq)
    frame = protocol.encode(protocol.RoomWasRead(asked.room_id, asked.room_slug, seq))
    for conn in floor.of(asked.user_id):
        if conn.key != asked.key and conn.stage is Stage.OPEN:
            out.append(do.Send(conn.key, frame, droppable=True))
    out.append(do.Publish(Relay(asked.room_id, frame.decode(), users=(asked.user_id,))))
    return out


def relayed(floor: Floor, hint: Relay, out: list[Effect]) -> None:
    """An ephemeral frame, to those of our sockets it is for (voice seats excepted)."""
    frame = hint.frame.encode()
    if hint.users:
        found = [conn for user_id in hint.users for conn in floor.of(user_id)]
    else:
        live = floor.hall.live(hint.room_id)
        found = [] if live is None else list(live.sockets.values())
    out += [
        do.Send(conn.key, frame, droppable=True)
        for conn in found
        if conn.stage is Stage.OPEN and conn.user_id != hint.but
    ]


HANDLERS: dict[type[protocol.Said], Handler] = {
    protocol.ChatSend: _send,
    protocol.ChatEdit: _edit,
    protocol.ChatDelete: _delete,
    protocol.ChatTyping: _typing,
    protocol.RoomRead: _read,
}
