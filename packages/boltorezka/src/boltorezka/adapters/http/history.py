"""Routes of /v1/rooms: the list of rooms, and the history of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boltorezka.adapters.http.accounts import Caller
from boltorezka.adapters.http.answers import json_answer
from boltorezka.adapters.http.rows import message_row, room_head, room_row
from boltorezka.errors import RoomNotFound, ValidationError
from boltorezka.ports import Store
from boltorezka.protocol import iso_time
from boltorezka.rooms.model import Page, Room

DEFAULT_LIMIT = 50
MAX_LIMIT = 100

# The contract's bound of a seq: what every client can hold as a number.
MAX_SEQ = 2**53 - 1


def room_routes(store: Store, caller_of: Callable[[Request], Awaitable[Caller]]) -> list[Route]:
    """The routes over a store; `caller_of` says who asks."""

    async def rooms(request: Request) -> Response:
        caller = await caller_of(request)
        views = await store.rooms_for(caller.user.id)
        return json_answer({"rooms": [room_row(view) for view in views]})

    async def messages(request: Request) -> Response:
        caller = await caller_of(request)
        room = await _readable_room(store, request.path_params["slug"], caller)
        limit, before_seq, before_id = _window(request)
        page = await store.page(room.id, limit, before_seq=before_seq, before_id=before_id)
        return json_answer(_page_body(page))

    return [Route("/v1/rooms", rooms), Route("/v1/rooms/{slug}/messages", messages)]


async def _readable_room(store: Store, slug: str, caller: Caller) -> Room:
    """The room when the caller may read it; a private one looks to others as if it did not exist."""
    room = await store.room_by_slug(slug)
    if room is None or not (room.is_public or await store.is_member(room.id, caller.user.id)):
        raise RoomNotFound("There is no such room.")
    return room


def _page_body(page: Page) -> dict[str, object]:
    cursor = None
    if page.has_more and page.events:
        first = page.events[0]
        cursor = {"beforeCreatedAt": iso_time(first.created_at), "beforeId": first.id, "beforeSeq": first.seq}
    return {
        "room": room_head(page.room),
        "messages": [message_row(event) for event in page.events],
        "pagination": {"hasMore": page.has_more, "nextCursor": cursor},
        "epoch": page.room.epoch,
        "lastSeq": page.room.last_seq,
    }


def _window(request: Request) -> tuple[int, int | None, str | None]:
    """Which page is asked for. Raises ValidationError."""
    query = request.query_params
    limit = _whole_number(query.get("limit", str(DEFAULT_LIMIT)), "limit", MAX_LIMIT)
    seq, created_at, before_id = query.get("beforeSeq"), query.get("beforeCreatedAt"), query.get("beforeId")
    if (created_at is None) != (before_id is None):
        raise _issue("beforeCreatedAt and beforeId", "must be given together")
    if seq is not None and before_id is not None:
        raise _issue("beforeSeq", "cannot be given together with beforeId")
    if created_at is not None:
        try:
            datetime.fromisoformat(created_at)
        except ValueError:
            raise _issue("beforeCreatedAt", "must be a time in ISO 8601") from None
    return limit, None if seq is None else _whole_number(seq, "beforeSeq", MAX_SEQ), before_id


def _whole_number(text: str, name: str, largest: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(largest)) and 1 <= int(text) <= largest:
        return int(text)
    raise _issue(name, f"must be a whole number from 1 to {largest}")


def _issue(path: str, sentence: str) -> ValidationError:
    return ValidationError(f"{path} {sentence}.", issues=[{"path": path, "message": sentence}])
