"""What becomes of voice seats: the store's answers, what other processes did, and sockets and users that are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from boltorezka import protocol
from boltorezka.errors import Refusal, RoomNotFound, TargetNotInRoom, ValidationError
from boltorezka.rooms import effects as do
from boltorezka.rooms.access import voice_moderated
from boltorezka.rooms.calls import mic_changed, moderable, welcome
from boltorezka.rooms.connection import Connection, Stage, ack, refuse
from boltorezka.rooms.effects import Effect
from boltorezka.rooms.floor import Floor
from boltorezka.rooms.hints import Relay
from boltorezka.rooms.model import Entrance, Event, EventKind
from boltorezka.rooms.seating import Seating, Taking
from boltorezka.voice.engine import AnyEvent, Connected, Lost, Speaking
from boltorezka.voice.model import Seat, Taken

_ENGINE_SAYS: dict[str, type[protocol.RelayedSignal]] = {
    "offer": protocol.RelayedOffer,
    "answer": protocol.RelayedAnswer,
    "ice": protocol.RelayedIce,
}
# Serves what a socket sent while it was busy.
Pump = Callable[[Connection, int, float, list[Effect]], None]


class SeatChanges:
    """Every method returns what is to be done, in order."""

    def __init__(self, floor: Floor, pump: Pump) -> None:
        self._floor = floor
        self._seating: Seating = floor.seating
        self._book = floor.seating.book
        self._pump = pump

    @property
    def instance(self) -> str:
        """The name of this process in the store."""
        return self._seating.voice.instance

    @property
    def counts(self) -> tuple[int, int]:
        """How many seats are connected through this process, and how many it holds."""
        mine = [seat for seat in self._book if seat.instance == self._seating.voice.instance]
        held = sum(seat.held_until is not None for seat in mine)
        return len(mine) - held, held

    # what the store answers

    def taken(
        self, asked: do.TakeSeat, taken: Taken, engine_data: dict[str, Any], now: int, tick: float
    ) -> list[Effect]:
        """A seat is theirs."""
        out: list[Effect] = []
        seating, seat = self._seating, taken.seat
        self._book.end(asked.user_id)
        taking = None if asked.again else seating.taking.pop(asked.key, None)
        before = self._book.of_user(asked.user_id)
        if before is not None and before.id != seat.id:
            seating.gone(before, "moved", out)
        is_new = self._book.put(seat)
        conn = self._floor.connections.get(asked.key)
        if taking is None or conn is None or conn.stage is not Stage.OPEN:
            self._unclaimed(asked.key, seat, taking, is_new=is_new, out=out)
            return out
        conn.busy = False
        if taking.barred:
            self._give_back(seat, is_new=is_new, out=out)
            gone = RoomNotFound("There is no such room.")
            out.append(refuse(asked.key, taking.request.request_id, taking.request.said.EVENT, gone, now))
        else:
            holder = seating.sit(conn, seat, taking.slug, engine_data)
            if not taken.reclaimed:
                others = [each for each in self._book.in_room(seat.room_id) if each.id != seat.id]
                company = any(each.held_until is None for each in others)
                seating.count(seating.setups.seated(seat.id, company=company), out)
            welcome(seating, conn, holder, taking.request, now, out)
            if is_new and not taken.reclaimed:
                seating.came(seat, out)
        self._pump(conn, now, tick, out)
        return out

    def _unclaimed(self, key: int, seat: Seat, taking: Taking | None, *, is_new: bool, out: list[Effect]) -> None:
        """The socket went while its seat was being taken: it is held like any other; whoever was barred loses it."""
        if taking is not None and taking.barred:
            self._give_back(seat, is_new=is_new, out=out)
            return
        if is_new:
            self._seating.came(seat, out)
        if self._seating.holding(key) is None:
            if taking is not None:
                self._seating.held[seat.id] = taking.session_id
            self._seating.hold(seat, out)

    def _give_back(self, seat: Seat, *, is_new: bool, out: list[Effect]) -> None:
        """Nobody was told of a new seat, so nobody is told that it is gone."""
        if is_new:
            self._book.remove(seat.id)
            self._book.begin(seat.user_id)
            out.append(do.DropSeat(seat.id, seat.user_id))
        else:
            self._seating.drop(seat, "left", out)

    def refused(self, asked: do.TakeSeat, error: Refusal, now: int, tick: float) -> list[Effect]:
        """There is no seat for them."""
        out: list[Effect] = []
        self._book.end(asked.user_id)
        taking = None if asked.again else self._seating.taking.pop(asked.key, None)
        conn = self._floor.connections.get(asked.key)
        if taking is None:
            # A seat of ours that had been taken down could not be had again: the store knows whose it is now.
            out.append(do.LookSeats())
        elif conn is not None and conn.stage is Stage.OPEN:
            conn.busy = False
            out.append(refuse(asked.key, taking.request.request_id, taking.request.said.EVENT, error, now))
            self._pump(conn, now, tick, out)
        return out

    def settled(self, user_id: str, seat_id: str = "", until: int | None = None) -> list[Effect]:
        """The store has answered a change; a held seat is kept `until` then."""
        self._book.end(user_id)
        seat = self._book.get(seat_id)
        if until is not None and seat is not None and seat.held_until is not None:
            self._seating.hold_until(seat, until)
        return []

    def mark(self) -> int:
        """To be taken before the seats are read."""
        return self._book.mark()

    def seen(self, stored: Iterable[Seat], mark: int, now: int) -> list[Effect]:
        """Every seat the store has: whoever came or went through another process is told to ours."""
        out: list[Effect] = []
        different = self._book.observe(stored, mark)
        movers = {seat.user_id for seat in different.joined}
        for seat in different.left:
            was_held = seat.held_until is not None
            self._seating.gone(seat, "moved" if seat.user_id in movers else "lost" if was_held else "left", out)
        for seat in different.joined:
            self._seating.came(seat, out)
        for seat in different.changed:
            state = self._seating.mic_state(seat, now)
            if state is not None:
                self._seating.tell(seat.room_id, state, out)
        self._repair(out)
        return out

    def _repair(self, out: list[Effect]) -> None:
        """What the store says wrongly of us: our lease had run out, or a write of ours was lost."""
        seating, instance = self._seating, self._seating.voice.instance
        for seat in list(self._book):
            holder = seating.holder(seat.id)
            if self._book.is_pending(seat.user_id):
                continue
            if seat.instance == instance and holder is None and seat.held_until is None:
                seating.hold(seat, out)
            elif holder is not None and seat.held_until is not None:
                self._book.begin(seat.user_id)
                out.append(do.TakeSeat(holder.key, seat.room_id, seat.user_id, seat.user_name, again=True))
            elif seat.instance != instance:
                if holder is not None:
                    # Another socket of the same user sits there now, through another process.
                    seating.stand(seat.id)
                    left = protocol.CallLeft(
                        seat.room_id, holder.slug, seat.user_id, seat.user_name, seat.id, "moved"
                    )  # fmt: skip
                    out.append(do.Send(holder.key, protocol.encode(left)))
                seating.setups.moved(seat.id)
                seating.held.pop(seat.id, None)

    # microphones and moderators

    def mic_due(self, seat_id: str, now: int, tick: float) -> list[Effect]:
        """The newest state of a microphone may be told now."""
        out: list[Effect] = []
        holder, seat = self._seating.holder(seat_id), self._book.get(seat_id)
        if holder is not None and seat is not None:
            holder.mic.waking = False
            mic_changed(self._seating, seat, holder, now, tick, out)
        return out

    def judged(self, asked: do.FindModerator, found: Entrance | Refusal | None, now: int) -> list[Effect]:
        """Whether somebody may moderate is known."""
        conn = self._floor.connections.get(asked.key)
        if conn is None or conn.stage is not Stage.OPEN:
            return []
        out: list[Effect] = []
        event = protocol.CallModerate.EVENT
        try:
            if isinstance(found, Refusal):
                raise found
            voice_moderated(found, conn.role)
            target = moderable(self._seating, conn, asked.target_user_id)
            if found is None or target.room_id != found.room.id:
                raise TargetNotInRoom("They are not in voice in this room any more.")
            count = self._moderate(conn, target, asked, now, out)
        except Refusal as error:
            return [refuse(asked.key, asked.request_id, event, error, now)]
        return [*out, *ack(asked.key, asked.request_id, event, now, relayed_to=count)]

    def _moderate(self, conn: Connection, target: Seat, asked: do.FindModerator, now: int, out: list[Effect]) -> int:
        seating = self._seating
        own = seating.holding(conn.key)
        said = protocol.Moderated(
            conn.user_id, conn.user_name, "" if own is None else own.seat_id, target.room_id, asked.room_slug,
            protocol.iso_time(now), target.user_id, action=asked.action,  # type: ignore[arg-type]
        )  # fmt: skip
        if asked.action == "kick":
            count = seating.send([target], said, out)
            seating.drop(target, "kicked", out)
            return count
        count = seating.send(self._book.in_room(target.room_id), said, out)
        moderated = asked.action == "mute"
        if target.moderated != moderated:
            target = seating.change(target, out, moderated=moderated)
            state = seating.mic_state(target, now)
            if state is not None:
                seating.tell(target.room_id, state, out)
        return count

    def relayed(self, hint: Relay) -> list[Effect]:
        """Another process passes something on to seats."""
        out: list[Effect] = []
        frame = hint.frame.encode()
        try:
            said = protocol.decode_server(frame)
        except ValidationError:
            said = None  # of a newer version: our sockets may know it
        if isinstance(said, protocol.RelayedMicState):
            self._seating.speaks(said.from_seat_id, speaking=said.speaking)
        droppable = isinstance(said, protocol.RelayedMicState)
        for seat_id in hint.seats:
            holder = self._seating.holder(seat_id)
            if holder is not None:
                out.append(do.Send(holder.key, frame, droppable=droppable))
        return out

    def engine_said(self, seat_id: str, event: AnyEvent, now: int, tick: float) -> list[Effect]:
        """The engine speaks on its own, of a seat of ours."""
        out: list[Effect] = []
        holder, seat = self._seating.holder(seat_id), self._book.get(seat_id)
        if seat is None or holder is None:
            return []
        if isinstance(event, Connected):
            self._seating.count(self._seating.setups.reported(seat_id, connected=True), out)
        elif isinstance(event, Lost):
            self._seating.drop(seat, "lost", out)
        elif isinstance(event, Speaking):
            holder.mic.newest = (holder.mic.newest[0], event.speaking, holder.mic.newest[2])
            mic_changed(self._seating, seat, holder, now, tick, out)
        else:
            # From no seat: the engine is nobody, and its own ids are not for clients.
            said = _ENGINE_SAYS[event.message.kind](
                "", "", "", seat.room_id, holder.slug, protocol.iso_time(now), seat.user_id,
                signal=msgspec.Raw(event.message.body.encode()),
            )  # fmt: skip
            out.append(do.Send(holder.key, protocol.encode(said)))
        return out

    # who is gone

    def socket_gone(self, conn: Connection, out: list[Effect], *, sent_away: bool = False) -> None:
        """A socket is gone: its seat is held for a while, unless its user was sent away."""
        taking = self._seating.taking.get(conn.key)
        if taking is not None and sent_away:
            taking.barred = True
        holder = self._seating.holding(conn.key)
        seat = None if holder is None else self._book.get(holder.seat_id)
        if seat is None:
            return
        if sent_away:
            self._seating.drop(seat, "left", out)
            return
        self._seating.stand(seat.id)
        self._seating.held[seat.id] = conn.session_id
        self._seating.hold(seat, out)

    def ended(self, who: str, out: list[Effect]) -> None:
        """A session or a user of this id has ended: what is held for them is given up."""
        for seat in list(self._book):
            is_theirs = seat.user_id == who or self._seating.held.get(seat.id) == who
            if is_theirs and (seat.held_until is not None or seat.user_id == who):
                self._seating.drop(seat, "left", out)

    def removed(self, events: Sequence[Event], out: list[Effect]) -> None:
        """These were stored: whoever is no member any more has no seat in that room."""
        for event in events:
            if event.kind is not EventKind.LEFT:
                continue
            seat = self._book.of_user(event.user_id)
            if seat is not None and seat.room_id == event.room_id:
                self._seating.drop(seat, "left", out)
            for key, taking in self._seating.taking.items():
                conn = self._floor.connections.get(key)
                if taking.room_id == event.room_id and conn is not None and conn.user_id == event.user_id:
                    taking.barred = True

    def look_again(self, now: int, out: list[Effect]) -> None:
        """A hold that has ended: the store says who is still there."""
        if self._book.overdue(now):
            out.append(do.LookSeats())
