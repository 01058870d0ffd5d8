"""Routes as data: what the application serves and what the API document says come from the same table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boltorezka.adapters.http.accounts import Caller
from boltorezka.errors import (
    Forbidden,
    PayloadTooLarge,
    Refusal,
    RoomNotFound,
    Unauthorized,
    Unavailable,
    ValidationError,
)

Handler = Callable[[Request], Awaitable[Response]]

# Who is calling. Raises Unauthorized, or Forbidden (banned; a foreign site that uses the cookie).
CallerOf = Callable[[Request], Awaitable[Caller]]


class Access(StrEnum):
    """Whom a route answers. Decided by the handler and `rooms.access`; here it is said."""

    PUBLIC = "everybody"
    SSO_COOKIE = "whoever the browser's SSO cookies belong to"
    METRICS_TOKEN = "whoever has the metrics token"  # noqa: S105 - a description
    SESSION = "everybody with a session"
    READER = "whoever may enter the room"
    MANAGER = "the room's owner, or an admin who may enter it"
    ADMIN = "admins"


# What every route of this kind may refuse with, beside its own.
_REFUSED: Mapping[Access, tuple[type[Refusal], ...]] = {
    Access.PUBLIC: (),
    Access.SSO_COOKIE: (Forbidden,),
    Access.METRICS_TOKEN: (Unauthorized,),
    Access.SESSION: (Unauthorized, Forbidden, Unavailable),
    Access.READER: (Unauthorized, Forbidden, Unavailable, RoomNotFound),
    Access.MANAGER: (Unauthorized, Forbidden, Unavailable, RoomNotFound),
    Access.ADMIN: (Unauthorized, Forbidden, Unavailable),
}


@dataclass(frozen=True)
class Query:
    """One parameter of the query: `kind` is a type msgspec knows, with its bounds as `Annotated` constraints."""

    name: str
    kind: object
    summary: str
    required: bool = False


@dataclass(frozen=True)
class ApiRoute:
    """One method of one path. GET answers HEAD too.

    `path` holds its parameters in braces, each a string. `body` is the msgspec type of the JSON that is read, None
    when none is. `answers` has a type for each good status: None for an answer without a body, `bytes` for one that is
    not JSON. `errors` are the refusals of this route alone; `refusals` has all of them.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    access: Access
    answers: Mapping[int, object]
    query: tuple[Query, ...] = ()
    body: type | None = None
    errors: tuple[type[Refusal], ...] = ()

    @property
    def refusals(self) -> tuple[type[Refusal], ...]:
        """Every refusal this route may answer with, each once; its `code` and `status` are what the caller sees."""
        of_body = () if self.body is None else (PayloadTooLarge,)
        every = (ValidationError, *_REFUSED[self.access], *of_body, *self.errors)
        return tuple(dict.fromkeys(every))


def starlette_routes(table: Iterable[ApiRoute]) -> list[Route]:
    """One route of the router per path, so that a wrong method is told every right one."""
    paths: dict[str, dict[str, Handler]] = {}
    for route in table:
        handlers = paths.setdefault(route.path, {})
        if route.method in handlers:
            raise AssertionError(f"{route.method} {route.path} stands in the table twice")
        handlers[route.method] = route.handler
    return [Route(path, _by_method(handlers), methods=list(handlers)) for path, handlers in paths.items()]


def _by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def handle(request: Request) -> Response:
        # The router lets HEAD in wherever GET is; the server leaves the body out.
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return handle
