"""The list of rooms, and making one."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.accounts import Caller
from boltorezka.adapters.http.answers import json_answer
from boltorezka.adapters.http.inputs import issue, read_json
from boltorezka.adapters.http.rows import MIN_TITLE, NewRoom, RoomBody, RoomsBody, room_row
from boltorezka.adapters.http.table import Access, ApiRoute, CallerOf
from boltorezka.errors import Conflict
from boltorezka.ports import Clock, Ids, LogStore
from boltorezka.rooms import access
from boltorezka.rooms.model import Room, RoomView


class Rooms:
    """The routes of /v1/rooms itself."""

    def __init__(self, store: LogStore, clock: Clock, ids: Ids, caller_of: CallerOf) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._caller_of = caller_of

    def table(self) -> tuple[ApiRoute, ...]:
        """List and create."""
        return (
            ApiRoute(
                "GET",
                "/v1/rooms",
                self._list,
                "The public rooms and the private ones the caller is a member of",
                Access.SESSION,
                {200: RoomsBody},
            ),
            ApiRoute(
                "POST",
                "/v1/rooms",
                self._create,
                "Make a room; the caller becomes its owner",
                Access.ADMIN,
                {201: RoomBody},
                body=NewRoom,
                errors=(Conflict,),
            ),
        )

    async def _list(self, request: Request) -> Response:
        caller: Caller = await self._caller_of(request)
        views = await self._store.rooms_for(caller.user.id)
        return json_answer(RoomsBody([room_row(view) for view in views]))

    async def _create(self, request: Request) -> Response:
        caller = await self._caller_of(request)
        access.administered(caller.user.role)
        new = await read_json(request, NewRoom)
        title = new.title.strip()
        if len(title) < MIN_TITLE:
            raise issue("title", f"must have at least {MIN_TITLE} characters beside spaces around it")
        room = Room(self._ids.new_id(), new.slug, title, new.is_public, self._clock.now(), self._ids.new_id(), 0)
        made = await self._store.create_room(room, caller.user.id, self._ids.new_id())
        return json_answer(RoomBody(room_row(RoomView(made, is_member=True, unread=0))), 201)
