"""The history of a room, page by page. The first page of a room that is talked in is answered from memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.answers import json_bytes
from boltorezka.adapters.http.inputs import an_id, issue, query_of, whole_number
from boltorezka.adapters.http.rows import (
    MessageCursor,
    MessagePagination,
    MessagesBody,
    message_row,
    room_head,
)
from boltorezka.adapters.http.table import Access, ApiRoute, CallerOf, Query
from boltorezka.errors import MessageNotFound
from boltorezka.ports import LogStore
from boltorezka.protocol import iso_time
from boltorezka.protocol.wire import MAX_SEQ, Id
from boltorezka.rooms import access
from boltorezka.rooms.model import Page

DEFAULT_LIMIT = 50
MAX_LIMIT = 100

# Encoded first pages. One of 50 messages is some 12 KiB, so this is hundreds of rooms; the longest possible page (100
# messages of 4000 characters, six bytes each) still fits several times.
MAX_KEPT_BYTES = 16 * 1024 * 1024

_QUERY = (
    Query(
        "limit", Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)], f"Messages in a page; {DEFAULT_LIMIT} when left out"
    ),
    Query("beforeSeq", Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQ)], "Only messages with a smaller seq"),
    Query("beforeId", Id, "Only messages before this one; together with beforeCreatedAt"),
    Query("beforeCreatedAt", datetime, "The time of the message beforeId"),
)


class Recent(Protocol):
    """The newest messages, kept in memory by the sockets' side."""

    def recent(self, slug: str, user_id: str, limit: int) -> Page | None:
        """The newest page, when it is in memory and this user may read it; None: ask the store."""
        ...


class Pages:
    """Encoded first pages, the newest of each (room, limit). The same for every reader, so it holds nobody's facts."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, int], tuple[str, int, bytes]] = OrderedDict()

    def encoded(self, page: Page, limit: int) -> bytes:
        """The body of this page, encoded once for each position of the room's log."""
        key, room = (page.room.id, limit), page.room
        kept = self._kept.get(key)
        if kept is not None and kept[:2] == (room.epoch, room.last_seq):
            self._kept.move_to_end(key)
            return kept[2]
        body = encoded_page(page)
        if kept is not None:
            self._bytes -= len(self._kept.pop(key)[2])
        self._kept[key] = (room.epoch, room.last_seq, body)
        self._bytes += len(body)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1][2])
        return body


class History:
    """The route of a room's messages; `read` counts the pages that come from the database."""

    def __init__(self, store: LogStore, recent: Recent, caller_of: CallerOf, read: Callable[[], None]) -> None:
        self._store = store
        self._read = read
        self._recent = recent
        self._caller_of = caller_of
        self._pages = Pages()

    def table(self) -> tuple[ApiRoute, ...]:
        """The history."""
        return (
            ApiRoute(
                "GET",
                "/v1/rooms/{slug}/messages",
                self._messages,
                "The newest messages, or those before a place; oldest first in the page",
                Access.READER,
                {200: MessagesBody},
                query=_QUERY,
                errors=(MessageNotFound,),
            ),
        )

    async def _messages(self, request: Request) -> Response:
        caller = await self._caller_of(request)
        slug, user_id = request.path_params["slug"], caller.user.id
        limit, before_seq, before_id = _window(query_of(request))
        if before_seq is None and before_id is None:
            recent = self._recent.recent(slug, user_id, limit)
            if recent is not None:
                if not recent.room.is_public:
                    # Another process may have removed them a moment ago.
                    access.entered(await self._store.entrance(slug, user_id))
                return json_bytes(self._pages.encoded(recent, limit))
        room = access.entered(await self._store.entrance(slug, user_id)).room
        self._read()
        return json_bytes(encoded_page(await self._store.page(room.id, limit, before_seq, before_id)))


def encoded_page(page: Page) -> bytes:
    """The body of a page."""
    cursor = None
    if page.has_more and page.events:
        first = page.events[0]
        cursor = MessageCursor(iso_time(first.created_at), first.id, first.seq)
    body = MessagesBody(
        room=room_head(page.room),
        messages=[message_row(event) for event in page.events],
        pagination=MessagePagination(page.has_more, cursor),
        epoch=page.room.epoch,
        last_seq=page.room.last_seq,
    )
    return msgspec.json.encode(body)


def _window(query: dict[str, str]) -> tuple[int, int | None, str | None]:
    """Which page is asked for. Raises ValidationError."""
    limit = whole_number(query.get("limit", str(DEFAULT_LIMIT)), "limit", MAX_LIMIT)
    seq, created_at, before_id = query.get("beforeSeq"), query.get("beforeCreatedAt"), query.get("beforeId")
    if (created_at is None) != (before_id is None):
        raise issue("beforeCreatedAt and beforeId", "must be given together")
    if created_at is not None and before_id is not None:
        an_id(before_id, "beforeId")
        try:
            datetime.fromisoformat(created_at)
        except ValueError:
            raise issue("beforeCreatedAt", "must be a time in ISO 8601") from None
    if seq is None:
        return limit, None, before_id
    # A client that hands the whole `nextCursor` back names one place in two ways; the seq is the exact one.
    return limit, whole_number(seq, "beforeSeq", MAX_SEQ), None
