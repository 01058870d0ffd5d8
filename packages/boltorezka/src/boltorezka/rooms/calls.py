"""What people ask of voice: a seat, their signals to one another, their microphones, and a moderator's word.

Who sits where is decided by the store; here requests become effects, and what needs no decision is passed on.
"""

from __future__ import annotations

from typing import Literal

from boltorezka import protocol
from boltorezka.errors import NoActiveRoom, TargetNotInRoom
from boltorezka.rooms import effects as do
from boltorezka.rooms.connection import CALLS, SIGNALS, Connection, ack
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.floor import Floor, Handler
from boltorezka.rooms.seating import Holder, Seating, Taking
from boltorezka.voice.model import Seat

# Five changes a second are more than an eye follows; a voice detector switches far more often.
MIC_INTERVAL_S = 0.2


def _join(floor: Floor, conn: Connection, request: protocol.Request, now: int, _tick: float, out: list[Effect]) -> None:
    if not isinstance(request.said, protocol.CallJoin):
        raise TypeError("the table of handlers is wrong")
    seating, room = floor.seating, floor.joined(conn).room
    holder = seating.holding(conn.key)
    if holder is not None and holder.room_id == room.id:
        # Asking again is how a client gets new credentials before the old ones expire.
        welcome(seating, conn, holder, request, now, out)
        return
    conn.busy = True
    seating.taking[conn.key] = Taking(request, room.id, room.slug, conn.session_id)
    seating.book.begin(conn.user_id)
    # A tab that goes on to another room's voice means to leave the first.
    move = request.said.move or holder is not None
    out.append(do.TakeSeat(conn.key, room.id, conn.user_id, conn.user_name, move))


def welcome(
    seating: Seating, conn: Connection, holder: Holder, request: protocol.Request, now: int, out: list[Effect]
) -> None:
    """The ack of `call.join`: credentials are minted here and nowhere else, for whoever has a seat."""
    out += ack(
        conn.key, request.request_id, request.said.EVENT, now, room_id=holder.room_id, room_slug=holder.slug,
        seat_id=holder.seat_id, engine=seating.voice.caps.name, ice_servers=seating.voice.ice.mint(conn.user_id, now),
        participants=seating.participants(holder.room_id), engine_data=holder.engine_data,
    )  # fmt: skip


def _leave(
    floor: Floor, conn: Connection, request: protocol.Request, now: int, _tick: float, out: list[Effect]
) -> None:
    """Give the seat up, or the one that is held for this user; without a seat what was asked for is so already."""
    seating = floor.seating
    holder = seating.holding(conn.key)
    seat = seating.book.of_user(conn.user_id) if holder is None else seating.book.get(holder.seat_id)
    if seat is not None and (holder is not None or seat.held_until is not None):
        seating.drop(seat, "left", out)
    out += ack(conn.key, request.request_id, request.said.EVENT, now)


_RELAYED: dict[type[protocol.Said], type[protocol.Relayed]] = {
    protocol.CallOffer: protocol.RelayedOffer,
    protocol.CallAnswer: protocol.RelayedAnswer,
    protocol.CallIce: protocol.RelayedIce,
    protocol.CallReject: protocol.RelayedReject,
    protocol.CallHangup: protocol.RelayedHangup,
}


_KINDS: dict[type[protocol.Said], Literal["offer", "answer", "ice"]] = {
    protocol.CallOffer: "offer",
    protocol.CallAnswer: "answer",
    protocol.CallIce: "ice",
}


def _signal(
    floor: Floor, conn: Connection, request: protocol.Request, now: int, _tick: float, out: list[Effect]
) -> None:
    """To seats of the sender's room and to nobody else; who the sender is, the server says."""
    said = request.said
    if not isinstance(
        said,
        protocol.CallOffer | protocol.CallAnswer | protocol.CallIce | protocol.CallReject | protocol.CallHangup,
    ):
        raise TypeError("the table of handlers is wrong")
    seating = floor.seating
    seat, holder = seating.seated(conn)
    if isinstance(said, protocol.Signal) and seating.voice.caps.topology == "sfu":
        out.append(do.AskEngine(seat.id, _KINDS[type(said)], bytes(said.signal).decode()))
        out += ack(conn.key, request.request_id, said.EVENT, now, relayed_to=1)
        return
    seat_id = said.target_seat_id if isinstance(said, protocol.Signal) else None
    targets = seating.book.recipients(seat, seat_id, said.target_user_id)
    if targets is None:
        raise TargetNotInRoom("They are not in voice in this room.")
    more = {"signal": said.signal} if isinstance(said, protocol.Signal) else {"reason": said.reason}
    relayed = _RELAYED[type(said)](
        seat.user_id, seat.user_name, seat.id, seat.room_id, holder.slug, protocol.iso_time(now), said.target_user_id,
        **more,
    )  # fmt: skip
    count = seating.send(targets, relayed, out)
    out.append(do.CountRelayed(said.EVENT, count))
    out += ack(conn.key, request.request_id, said.EVENT, now, relayed_to=count)


def _mic(floor: Floor, conn: Connection, request: protocol.Request, now: int, tick: float, out: list[Effect]) -> None:
    said = request.said
    if not isinstance(said, protocol.CallMicState):
        raise TypeError("the table of handlers is wrong")
    seating = floor.seating
    seat, holder = seating.seated(conn)
    mic = holder.mic
    mic.newest = (said.muted, said.speaking, said.audio_muted)
    if not mic.waking and mic.newest != mic.sent:
        wait = mic.sent_at + MIC_INTERVAL_S - tick
        if wait > 0:
            mic.waking = True
            out.append(do.WakeMic(seat.id, wait))
        else:
            mic_changed(seating, seat, holder, now, tick, out)
    others = seating.book.recipients(seat, None, None) or []
    count = sum(each.held_until is None for each in others)
    out += ack(conn.key, request.request_id, said.EVENT, now, relayed_to=count)


def mic_changed(seating: Seating, seat: Seat, holder: Holder, now: int, tick: float, out: list[Effect]) -> None:
    """Tell the newest state. Speaking concerns those who listen; muted and audioMuted everybody who sees the room."""
    mic = holder.mic
    if mic.newest == mic.sent:
        return
    mic.sent, mic.sent_at = mic.newest, tick
    muted, speaking, audio_muted = mic.newest
    seating.speaks(seat.id, speaking=speaking)
    others = seating.book.recipients(seat, None, None) or []
    is_shown = (muted, audio_muted) != (seat.muted, seat.audio_muted)
    if is_shown:
        seat = seating.change(seat, out, muted=muted, audio_muted=audio_muted)
    state = seating.mic_state(seat, now)
    if state is None:
        return
    if is_shown:
        seating.tell(seat.room_id, state, out)
        others = [each for each in others if seating.holder(each.id) is None]
    seating.send(others, state, out, droppable=True)


def _setup(
    floor: Floor, conn: Connection, request: protocol.Request, now: int, _tick: float, out: list[Effect]
) -> None:
    """How the first connection went, as its client says: in a mesh nobody else can know."""
    said = request.said
    if not isinstance(said, protocol.CallSetup):
        raise TypeError("the table of handlers is wrong")
    seating = floor.seating
    seat, _ = seating.seated(conn)
    seconds = None if said.setup_ms is None or not said.connected else said.setup_ms / 1000
    seating.count(seating.setups.reported(seat.id, connected=said.connected), out, seconds)
    out += ack(conn.key, request.request_id, said.EVENT, now)


def _moderate(
    floor: Floor, conn: Connection, request: protocol.Request, _now: int, _tick: float, out: list[Effect]
) -> None:
    """The store says whether they may; a moderator needs no seat of their own."""
    said = request.said
    if not isinstance(said, protocol.CallModerate):
        raise TypeError("the table of handlers is wrong")
    seating = floor.seating
    holder = seating.holding(conn.key)
    if holder is None and conn.room_id is None:
        raise NoActiveRoom("Join a room first.")
    target = moderable(seating, conn, said.target_user_id)
    slug = seating.slug(target.room_id) or ""
    out.append(
        do.FindModerator(conn.key, conn.user_id, slug, said.target_user_id, said.action, request.request_id)
    )  # fmt: skip


def moderable(seating: Seating, conn: Connection, user_id: str) -> Seat:
    """The seat of a user in the socket's room, or in that of its own seat. Raises TargetNotInRoom."""
    target = seating.book.of_user(user_id)
    holder = seating.holding(conn.key)
    if target is None or target.room_id not in {conn.room_id, None if holder is None else holder.room_id}:
        raise TargetNotInRoom("They are not in voice in this room.")
    return target


HANDLERS: dict[type[protocol.Said], Handler] = {
    protocol.CallJoin: _join,
    protocol.CallLeave: _leave,
    protocol.CallMicState: _mic,
    protocol.CallSetup: _setup,
    protocol.CallModerate: _moderate,
    **dict.fromkeys(_RELAYED, _signal),
}
LIMITED: dict[type[protocol.Said], str] = {
    protocol.CallJoin: CALLS,
    protocol.CallModerate: CALLS,
    **dict.fromkeys((*_RELAYED, protocol.CallMicState, protocol.CallSetup), SIGNALS),
}
