"""Users as admins see them: the list, roles and bans."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.answers import json_answer
from boltorezka.adapters.http.inputs import an_id, query_of, whole_number
from boltorezka.adapters.http.rows import (
    AccountBody,
    AccountCursor,
    AccountPagination,
    AccountsBody,
    account_row,
)
from boltorezka.adapters.http.table import Access, ApiRoute, CallerOf, Query
from boltorezka.errors import Forbidden, UserNotFound
from boltorezka.ports import Clock, IdentityStore
from boltorezka.protocol.wire import Id
from boltorezka.rooms import access
from boltorezka.rooms.model import Role, User

DEFAULT_LIMIT = 100
# A row is some 200 bytes: a page stays below what one answer of history may have.
MAX_LIMIT = 500

_QUERY = (
    Query("limit", Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)], f"Users in a page; {DEFAULT_LIMIT} when left out"),
    Query("after", Id, "Only users after this id"),
)


class UserSockets(Protocol):
    """What a decision about a user means for their sockets."""

    def user_changed(self, user: User) -> None:
        """A ban closes them, another role counts at once, in every process."""
        ...


class Administration:
    """The routes of /v1/admin."""

    def __init__(self, store: IdentityStore, sockets: UserSockets, clock: Clock, caller_of: CallerOf) -> None:
        self._store = store
        self._sockets = sockets
        self._clock = clock
        self._caller_of = caller_of

    def table(self) -> tuple[ApiRoute, ...]:
        """The list, and the four decisions. Each may be repeated: it says what shall be, not what shall change."""
        decisions: tuple[tuple[str, str, Callable[[str, int], Awaitable[User]]], ...] = (
            ("promote", "Make a user an admin", self._roles(Role.ADMIN)),
            ("demote", "Make an admin a user again", self._roles(Role.USER)),
            ("ban", "Ban a user: their sessions end, their sockets close, they cannot sign in", self._bans(True)),
            ("unban", "Let a banned user sign in again", self._bans(False)),
        )
        listing = ApiRoute(
            "GET", "/v1/admin/users", self._list, "Users by id", Access.ADMIN, {200: AccountsBody}, query=_QUERY
        )
        return (
            listing,
            *(
                ApiRoute(
                    "POST",
                    f"/v1/admin/users/{{id}}/{name}",
                    partial(self._decide, decision),
                    summary,
                    Access.ADMIN,
                    {200: AccountBody},
                    errors=(UserNotFound,),
                )
                for name, summary, decision in decisions
            ),
        )

    def _roles(self, role: Role) -> Callable[[str, int], Awaitable[User]]:
        return lambda user_id, at: self._store.set_role(user_id, role, at)

    def _bans(self, banned: bool) -> Callable[[str, int], Awaitable[User]]:
        return lambda user_id, at: self._store.set_banned(user_id, banned, at)

    async def _list(self, request: Request) -> Response:
        caller = await self._caller_of(request)
        access.administered(caller.user.role)
        query = query_of(request)
        limit = whole_number(query.get("limit", str(DEFAULT_LIMIT)), "limit", MAX_LIMIT)
        after = None if "after" not in query else an_id(query["after"], "after")
        # One more than asked for tells whether there is a next page.
        users = await self._store.users(limit + 1, after)
        rows, has_more = [account_row(user) for user in users[:limit]], len(users) > limit
        cursor = AccountCursor(rows[-1].id) if has_more else None
        return json_answer(AccountsBody(rows, AccountPagination(has_more, cursor)))

    async def _decide(self, decision: Callable[[str, int], Awaitable[User]], request: Request) -> Response:
        caller = await self._caller_of(request)
        access.administered(caller.user.role)
        user_id = an_id(request.path_params["id"], "id")
        if user_id == caller.user.id:
            raise Forbidden("Nobody may change their own role or ban themselves.")
        user = await self._store.user(user_id)
        if user is None:
            raise UserNotFound("There is no such user.")
        access.role_changed(caller.user.role, user.role)
        decided = await decision(user_id, self._clock.now())
        self._sockets.user_changed(decided)
        return json_answer(AccountBody(account_row(decided)))
