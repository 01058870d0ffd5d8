"""Who is in a room for good. Every change is an event of the room's log, so nobody learns of it out of order."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.answers import json_answer
from boltorezka.adapters.http.inputs import an_id, read_json
from boltorezka.adapters.http.rows import MemberBody, MembersBody, NewMember, member_row
from boltorezka.adapters.http.table import Access, ApiRoute, CallerOf
from boltorezka.errors import Conflict, UserNotFound
from boltorezka.ports import Clock, Ids, NewEvent, Store
from boltorezka.rooms import access
from boltorezka.rooms.model import Appended, EventKind, Member, MemberRole, Room, Stored, User


class Log(Protocol):
    """Where events are stored and told to every socket."""

    async def store_event(self, new: NewEvent) -> Appended:
        """Store one event and deliver it. Raises a Refusal when it is not stored."""
        ...


class Members:
    """The routes of a room's members."""

    def __init__(self, store: Store, log: Log, clock: Clock, ids: Ids, caller_of: CallerOf) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._ids = ids
        self._caller_of = caller_of

    def table(self) -> tuple[ApiRoute, ...]:
        """List, add and remove."""
        path = "/v1/rooms/{slug}/members"
        return (
            ApiRoute("GET", path, self._list, "Everybody who is a member", Access.READER, {200: MembersBody}),
            ApiRoute(
                "POST",
                path,
                self._add,
                "Add a user to the room; 200 when they are a member already",
                Access.MANAGER,
                {201: MemberBody, 200: MemberBody},
                body=NewMember,
                errors=(UserNotFound,),
            ),
            ApiRoute(
                "DELETE",
                path + "/{userId}",
                self._remove,
                "Remove a member. Everybody may remove themselves, the last owner excepted",
                Access.MANAGER,
                {204: None},
                errors=(UserNotFound, Conflict),
            ),
        )

    async def _list(self, request: Request) -> Response:
        caller = await self._caller_of(request)
        room = access.entered(await self._store.entrance(request.path_params["slug"], caller.user.id)).room
        members = await self._store.members(room.id)
        return json_answer(MembersBody([member_row(member) for member in members]))

    async def _add(self, request: Request) -> Response:
        caller = await self._caller_of(request)
        slug = request.path_params["slug"]
        room = access.members_managed(await self._store.entrance(slug, caller.user.id), caller.user.role).room
        new = await read_json(request, NewMember)
        user = await self._store.user(new.user_id)
        if user is None:
            raise UserNotFound("There is no such user.")
        event = self._event(room, EventKind.JOINED, user.id, user.name, MemberRole.MEMBER, caller.user)
        appended = await self._log.store_event(event)
        if isinstance(appended, Stored):
            stored = appended.event
            member = Member(stored.user_id, stored.user_name, MemberRole.MEMBER, stored.created_at)
            return json_answer(MemberBody(member_row(member)), 201)
        return json_answer(MemberBody(member_row(await self._member(slug, user.id))))

    async def _remove(self, request: Request) -> Response:
        caller = await self._caller_of(request)
        slug, user_id = request.path_params["slug"], an_id(request.path_params["userId"], "userId")
        found = await self._store.entrance(slug, caller.user.id)
        if user_id == caller.user.id:
            room = access.entered(found).room
        else:
            room = access.members_managed(found, caller.user.role).room
        member = await self._member(slug, user_id)
        if member.role is MemberRole.OWNER and await self._owners(room) == 1:
            raise Conflict("The last owner stays: a room without one could only be managed by admins.")
        await self._log.store_event(
            self._event(room, EventKind.LEFT, user_id, member.user_name, member.role, caller.user)
        )
        return Response(status_code=204, headers={"cache-control": "no-store"})

    async def _member(self, slug: str, user_id: str) -> Member:
        found = await self._store.entrance(slug, user_id)
        if found is None or found.member is None:
            raise UserNotFound("This user is not a member of the room.")
        return found.member

    async def _owners(self, room: Room) -> int:
        return sum(member.role is MemberRole.OWNER for member in await self._store.members(room.id))

    def _event(self, room: Room, kind: EventKind, user_id: str, user_name: str, role: MemberRole, by: User) -> NewEvent:
        return NewEvent(
            room_id=room.id,
            kind=kind,
            id=self._ids.new_id(),
            user_id=user_id,
            user_name=user_name,
            text=role.value,
            created_at=self._clock.now(),
            ref=by.id,
        )
