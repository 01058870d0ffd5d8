"""The HTTP routes described for machines: an OpenAPI 3.1 document, made from the table that the router is made from.

Both documents of the API, this one and the socket's, are served at `/v1/openapi.json` and `/v1/asyncapi.json`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.answers import json_bytes
from boltorezka.adapters.http.rows import ErrorBody
from boltorezka.adapters.http.table import Access, ApiRoute, Handler
from boltorezka.errors import RateLimited, Refusal
from boltorezka.protocol.asyncapi import asyncapi_document

OPENAPI_PATH: Final = "/v1/openapi.json"
ASYNCAPI_PATH: Final = "/v1/asyncapi.json"

# They change with a release and hold nothing about anybody.
_CACHED: Final = {"cache-control": "public, max-age=300"}

_SCHEMAS: Final = "#/components/schemas/"
_JSON: Final = "application/json"

ABOUT: Final = """\
Sign in through the SSO; then send the session token as a Bearer token, or let the browser send its cookie. Rows are
snake_case, envelopes camelCase, times ISO 8601 UTC. Unknown fields must be ignored. A retry can help where an error
says so (`retryable`). The socket has a document of its own: `/v1/asyncapi.json`."""

_OF_A_SESSION: Final[list[dict[str, list[str]]]] = [{"sessionToken": []}, {"sessionCookie": []}]
_SECURITY: Final[dict[Access, list[dict[str, list[str]]]]] = {
    Access.PUBLIC: [],
    Access.SSO_COOKIE: [],
    Access.METRICS_TOKEN: [{"metricsToken": []}],
    Access.SESSION: _OF_A_SESSION,
    Access.READER: _OF_A_SESSION,
    Access.MANAGER: _OF_A_SESSION,
    Access.ADMIN: _OF_A_SESSION,
}

_SCHEMES: Final = {
    "sessionToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token of `/v1/auth/sso/session` or `/v1/auth/refresh`; at most ten minutes.",
    },
    "sessionCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "boltorezka_session",
        "description": "For our own pages only; `__Host-boltorezka_session` where the origin is https.",
    },
    "metricsToken": {"type": "http", "scheme": "bearer", "description": "From the server's environment."},
}

_HEADERS: Final[dict[int, dict[str, Any]]] = {
    302: {"Location": {"description": "Where to go.", "required": True, "schema": {"type": "string"}}},
    401: {"WWW-Authenticate": {"description": "Bearer.", "required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "string"}}},
}


def document_routes(table: Sequence[ApiRoute]) -> list[ApiRoute]:
    """The routes that serve the documents of these routes and of the socket; they are in the document themselves."""
    documents: dict[str, bytes] = {}

    def serving(path: str) -> Handler:
        async def serve(_request: Request) -> Response:
            return json_bytes(documents[path], headers=_CACHED)

        return serve

    routes = [
        ApiRoute("GET", path, serving(path), summary, Access.PUBLIC, {200: dict[str, Any]})
        for path, summary in (
            (OPENAPI_PATH, "These routes as an OpenAPI 3.1 document."),
            (ASYNCAPI_PATH, "The socket as an AsyncAPI 3.0 document."),
        )
    ]
    documents[OPENAPI_PATH] = msgspec.json.encode(openapi_document([*table, *routes]))
    documents[ASYNCAPI_PATH] = msgspec.json.encode(asyncapi_document())
    return routes


def openapi_document(table: Iterable[ApiRoute]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes, as JSON types."""
    routes = list(table)
    schema_of = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operations = paths.setdefault(route.path, _path_parameters(route.path))
        operations[route.method.lower()] = _operation(route, schema_of)
        if route.method == "GET":
            operations["head"] = _head(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Boltorezka",
            "version": "1",
            "description": ABOUT.replace("\n", " "),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schema_of.components, "securitySchemes": _SCHEMES},
    }


class _Schemas:
    """The schema of every type the routes name; types with a name of their own are components."""

    def __init__(self, routes: Iterable[ApiRoute]) -> None:
        kinds: list[object] = [ErrorBody]
        for route in routes:
            kinds += [kind for kind in route.answers.values() if kind is not None and kind is not bytes]
            kinds += [query.kind for query in route.query]
            kinds += [] if route.body is None else [route.body]
        schemas, self.components = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS + "{name}")
        # Some kinds (annotated ones) cannot be keys; few enough to be found by comparison.
        self._known = list(zip(kinds, schemas, strict=True))

    def __call__(self, kind: object) -> dict[str, Any]:
        return next(schema for known, schema in self._known if known == kind)


def _path_parameters(path: str) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", path)
    if not names:
        return {}
    return {
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    }


def _operation(route: ApiRoute, schema_of: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _identifier(route.method, route.path),
        "summary": route.summary,
        "description": f"For {route.access.value}.",
        "security": _SECURITY[route.access],
    }
    if route.query:
        described["parameters"] = [
            {
                "name": query.name,
                "in": "query",
                "required": query.required,
                "description": query.summary,
                "schema": schema_of(query.kind),
            }
            for query in route.query
        ]
    if route.body is not None:
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema_of(route.body)}}}
    answers = {str(status): _answer(status, kind, schema_of) for status, kind in route.answers.items()}
    described["responses"] = {**answers, **_refusals(route)}
    return described


def _head(route: ApiRoute, schema_of: _Schemas) -> dict[str, Any]:
    """HEAD is GET without the body."""
    described = _operation(route, schema_of)
    for answer in described["responses"].values():
        answer.pop("content", None)
    return {**described, "operationId": _identifier("HEAD", route.path), "summary": f"HEAD of: {route.summary}"}


def _answer(status: int, kind: object, schema_of: _Schemas) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase + "."}
    if status in _HEADERS:
        answer["headers"] = _HEADERS[status]
    if kind is bytes:
        answer["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif kind is not None:
        answer["content"] = {_JSON: {"schema": schema_of(kind)}}
    return answer


def _refusals(route: ApiRoute) -> dict[str, Any]:
    """One answer for each status a refusal has, with the codes there are."""
    by_status: dict[int, list[type[Refusal]]] = {}
    for kind in route.refusals:
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _refusal(status, by_status[status]) for status in sorted(by_status)}


def _refusal(status: int, kinds: Sequence[type[Refusal]]) -> dict[str, Any]:
    codes = list(dict.fromkeys(kind.code for kind in kinds))
    narrowed = {"properties": {"error": {"enum": codes}}}
    answer: dict[str, Any] = {
        "description": " ".join(f"`{kind.code}`: {_sentence(kind)}" for kind in kinds),
        "content": {_JSON: {"schema": {"allOf": [{"$ref": _SCHEMAS + ErrorBody.__name__}, narrowed]}}},
    }
    if status in _HEADERS and (status != RateLimited.status or RateLimited in kinds):
        answer["headers"] = _HEADERS[status]
    return answer


def _identifier(method: str, path: str) -> str:
    return "_".join([method.lower(), *re.findall(r"\w+", path)])


def _sentence(kind: type[Refusal]) -> str:
    """What the error means to a caller; what it holds for our own code is left out."""
    sentence, internal, _ = " ".join((inspect.getdoc(kind) or "").split()).partition("; `data[")
    return sentence + "." if internal else sentence
