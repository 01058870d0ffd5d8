"""Which rooms a socket hears: join, leave, and catching up with several rooms at once."""

from __future__ import annotations

from boltorezka import protocol
from boltorezka.errors import Refusal, RoomNotFound
from boltorezka.rooms import effects as do
from boltorezka.rooms.access import entered
from boltorezka.rooms.connection import Connection, Stage, Visit, ack, refuse
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.floor import Floor, Handler
from boltorezka.rooms.live import LiveRoom
from boltorezka.rooms.model import Entrance, EventKind, MemberRole


def _join(
    _floor: Floor, conn: Connection, request: protocol.Request, _now: int, _tick: float, out: list[Effect]
) -> None:
    if not isinstance(request.said, protocol.RoomJoin):
        raise TypeError("the table of handlers is wrong")
    _visit(conn, Visit(request, [request.said]), out)


def _resume(
    _floor: Floor, conn: Connection, request: protocol.Request, now: int, _tick: float, out: list[Effect]
) -> None:
    if not isinstance(request.said, protocol.Resume):
        raise TypeError("the table of handlers is wrong")
    if request.said.rooms:
        _visit(conn, Visit(request, list(request.said.rooms)), out)
    else:
        out += ack(conn.key, request.request_id, protocol.Resume.EVENT, now)


def _leave(
    floor: Floor, conn: Connection, request: protocol.Request, now: int, _tick: float, out: list[Effect]
) -> None:
    room = floor.joined(conn).room
    floor.hall.leave(conn, out)
    out.append(do.Send(conn.key, protocol.encode(protocol.RoomLeft(room.id, room.slug))))
    out += ack(conn.key, request.request_id, protocol.RoomLeave.EVENT, now, room_id=room.id, room_slug=room.slug)


def _visit(conn: Connection, visit: Visit, out: list[Effect]) -> None:
    conn.busy, conn.visit = True, visit
    out.append(do.FindRoom(conn.key, visit.slug, conn.user_id))


def found(floor: Floor, conn: Connection, entrance: Entrance | None, out: list[Effect]) -> LiveRoom | None:
    """The room a visit looks for; answers the live room that has to advance. Raises RoomNotFound.

    Joining a public room makes its visitor a member, and that is an event of its log: then it is looked for again.
    """
    visit = conn.visit
    if visit is None:
        raise TypeError("only a socket that visits can have found a room")
    at = entered(entrance)
    if at.member is None and isinstance(visit.request.said, protocol.RoomJoin):
        role, event = MemberRole.MEMBER.value, protocol.RoomJoin.EVENT
        out.append(
            do.Append(
                conn.key, event, EventKind.JOINED, at.room.id, conn.user_id, conn.user_name, role, ref=conn.user_id
            )
        )
        return None
    visit.known = protocol.Position(at.room.epoch, at.room.last_seq)
    return floor.hall.expect(conn, at.room, visit.after)


def member_now(conn: Connection, out: list[Effect]) -> None:
    """The membership a join asked for is stored."""
    if conn.visit is not None and conn.stage is Stage.OPEN:
        out.append(do.FindRoom(conn.key, conn.visit.slug, conn.user_id))


def reached(floor: Floor, conn: Connection, live: LiveRoom, now: int, out: list[Effect]) -> bool:
    """The log is known as far as this visit needs it; answers whether the whole request is done."""
    visit = conn.visit
    if visit is None or conn.stage is not Stage.OPEN:
        return False
    if visit.known.epoch != live.feed.epoch:
        # The log was restored meanwhile, and with it who is a member.
        out.append(do.FindRoom(conn.key, visit.slug, conn.user_id))
        return False
    if live.feed.is_removed(conn.user_id, visit.known.seq):
        return failed(conn, RoomNotFound("There is no such room."), now, out)
    if isinstance(visit.request.said, protocol.RoomJoin):
        floor.hall.enter(conn, live, visit.after, out)
        room = live.room
        done = _done(conn, now, out, room_id=room.id, room_slug=room.slug)
        out.append(floor.seating.initial_state(conn, room.id, room.slug))
        return done
    if visit.after is not None:
        out.append(do.Send(conn.key, protocol.encode(live.catch_up(visit.after))))
    return _next(conn, visit, now, out)


def failed(conn: Connection, error: Refusal, now: int, out: list[Effect]) -> bool:
    """The room cannot be looked into; a join ends by that, a resume goes on if it was only about this room."""
    visit = conn.visit
    if visit is None or conn.stage is not Stage.OPEN:
        return False
    if isinstance(visit.request.said, protocol.Resume) and isinstance(error, RoomNotFound):
        visit.missing = True
        return _next(conn, visit, now, out)
    conn.busy, conn.visit = False, None
    out.append(refuse(conn.key, visit.request.request_id, visit.request.said.EVENT, error, now))
    return True


def _next(conn: Connection, visit: Visit, now: int, out: list[Effect]) -> bool:
    visit.wanted.pop(0)
    if visit.wanted:
        out.append(do.FindRoom(conn.key, visit.slug, conn.user_id))
        return False
    if not visit.missing:
        return _done(conn, now, out)
    conn.busy, conn.visit = False, None
    error = RoomNotFound("Some of these rooms do not exist; nothing was sent of them, everything of the others.")
    out.append(refuse(conn.key, visit.request.request_id, visit.request.said.EVENT, error, now))
    return True


def _done(conn: Connection, now: int, out: list[Effect], **more: object) -> bool:
    visit = conn.visit
    if visit is None:
        raise TypeError("only a visit can be done")
    conn.busy, conn.visit = False, None
    out += ack(conn.key, visit.request.request_id, visit.request.said.EVENT, now, **more)
    return True


HANDLERS: dict[type[protocol.Said], Handler] = {
    protocol.RoomJoin: _join,
    protocol.Resume: _resume,
    protocol.RoomLeave: _leave,
}
