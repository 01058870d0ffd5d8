"""The pages of docs/reference/ that describe the API: two documents for machines, and the same for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

from boltorezka.adapters.http.application import HttpParts, HttpSettings, api_table
from boltorezka.adapters.http.openapi import openapi_document
from boltorezka.adapters.http.operations import BuildInfo
from boltorezka.adapters.oidc_sso import OidcSso
from boltorezka.protocol.asyncapi import ACK_FIELDS, ANSWERS, NACKS, asyncapi_document

GENERATED = "<!-- Generated from the code by scripts/generate_docs.py (make docs). Do not edit. -->"

Document = dict[str, Any]


def openapi() -> Document:
    """Every route there is, those of both ways of signing in included."""
    build = BuildInfo("boltorezka", "", None, None, None)
    settings = HttpSettings("https://rooms.example", frozenset(), "https://sso.example", build)
    # Only the table is read; nothing behind it is called.
    parts = HttpParts(Mock(), Mock(), Mock(), Mock(), Mock(spec=OidcSso), Mock(), Mock())
    return openapi_document(api_table(settings, parts, ""))


def openapi_json() -> str:
    """docs/reference/openapi.json."""
    return json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n"


def asyncapi_json() -> str:
    """docs/reference/asyncapi.json."""
    return json.dumps(asyncapi_document(), indent=1, ensure_ascii=False) + "\n"


def http_page() -> str:
    """docs/reference/http-api.md."""
    return "\n".join(_http(openapi())) + "\n"


def socket_page() -> str:
    """docs/reference/socket.md."""
    return "\n".join(_socket(asyncapi_document())) + "\n"


def _http(document: Document) -> Iterator[str]:
    yield from ("# HTTP API", "", GENERATED, "", document["info"]["description"], "")
    yield "For machines: [openapi.json](openapi.json), also served at `/v1/openapi.json`. Every GET answers HEAD too."
    yield ""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method not in {"parameters", "head"}:
                yield from _operation(f"{method.upper()} {path}", operation)
    yield from ("## Rows and bodies", "")
    for name, schema in document["components"]["schemas"].items():
        yield from _schema(name, schema)


def _operation(title: str, operation: Document) -> Iterator[str]:
    yield from (f"## `{title}`", "", f"{operation['summary']}. {operation['description']}", "")
    for query in operation.get("parameters", ()):
        needed = ", required" if query["required"] else ""
        yield f"- `?{query['name']}=` {_kind(query['schema'])}{needed}: {query['description']}."
    if "requestBody" in operation:
        yield f"- body: {_content(operation['requestBody'])}"
    for status, answer in operation["responses"].items():
        refused = int(status) >= 400 and "enum" in json.dumps(answer)
        body = "" if refused or "content" not in answer else f" {_content(answer)}"
        headers = "".join(f" `{name}`" for name in answer.get("headers", ()))
        yield f"- {status}{body}{headers}{': ' if refused else ' '}{answer['description']}"
    yield ""


def _content(holder: Document) -> str:
    return next(
        _kind(media["schema"]) + ("" if kind == "application/json" else f" ({kind})")
        for kind, media in holder["content"].items()
    )


def _socket(document: Document) -> Iterator[str]:
    channel = document["channels"]["realtime"]
    yield from ("# The socket", "", GENERATED, "", document["info"]["description"], "")
    yield f"The address is `{channel['address']}?ticket=…`, with `wss` where the origin is https. For machines:"
    yield "[asyncapi.json](asyncapi.json), also served at `/v1/asyncapi.json`. Examples of every frame:"
    yield "[`wire/`](../../wire/README.md). How delivery holds together: [delivery](../explanation/delivery.md)."
    yield ""
    yield from ("## From the client", "")
    yield 'A frame is `{"type", "requestId"?, "idempotencyKey"?, "payload"}`.'
    yield ""
    for operation in document["operations"].values():
        if operation["action"] == "receive":
            yield from _request(operation, document)
    yield from ("## From the server", "")
    for operation in document["operations"].values():
        if operation["action"] == "send":
            event = operation["messages"][0]["$ref"].rpartition("/")[2].removeprefix("server.")
            yield from _payload(event, operation["summary"], f"server.{event}", document)
    for event in ("ack", "nack"):
        message = document["components"]["messages"][f"server.{event}"]
        yield from _payload(event, message["summary"], f"server.{event}", document)
    yield from _tables(channel)
    yield from ("## Rows", "")
    schemas = document["components"]["schemas"]
    for name in ("Position", "Seen", "PresentUser", "RoomHead", "DeltaEvent", "Participant", "IceServer"):
        yield from _schema(name, schemas[name])


def _request(operation: Document, document: Document) -> Iterator[str]:
    event = operation["messages"][0]["$ref"].rpartition("/")[2].removeprefix("client.")
    yield from _payload(event, operation["summary"], f"client.{event}", document)
    always = "".join(f" `{name}`" for name in ACK_FIELDS.get(event, ()))
    answers = ", ".join([*(f"`{answer}`" for answer in ANSWERS.get(event, ())), f"`ack`{always}"])
    yield from (f"Answers: {answers}, or `nack`.", "")


def _payload(event: str, summary: str, message: str, document: Document) -> Iterator[str]:
    yield from (f"### `{event}`", "", summary, "")
    payload = document["components"]["messages"][message]["payload"]["properties"]["payload"]
    reference = payload.get("$ref") or payload["anyOf"][0]["$ref"]
    yield from _fields(document["components"]["schemas"][reference.rpartition("/")[2]])


def _tables(channel: Document) -> Iterator[str]:
    yield from ("## Codes of a nack", "", "| code | retry | meaning |", "|---|---|---|")
    for kind in NACKS:
        meaning = " ".join((kind.__doc__ or "").split()).partition("; `data[")[0].rstrip(".") + "."
        yield f"| `{kind.code}` | {'can help' if kind.retryable else 'no'} | {meaning} |"
    yield from ("", "## Closes", "", "| close code | `error` before it | meaning |", "|---|---|---|")
    for code, close in channel["x-close-codes"].items():
        yield f"| {code} | `{close['error']}` | {close['description']} |"
    yield from ("", "## Bounds", "", "| what | at most |", "|---|---|")
    for name, bound in channel["x-bounds"].items():
        yield f"| {name} | {bound} |"
    yield ""


def _schema(name: str, schema: Document) -> Iterator[str]:
    yield from (f"### {name}", "", schema.get("description", ""), "")
    yield from _fields(schema)


def _fields(schema: Document) -> Iterator[str]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        yield f"- `{name}`{'' if name in required else '?'}: {_kind(field)}"
    if schema.get("properties"):
        yield ""


# The bounds of JSON Schema, as a reader says them.
BOUNDS = {
    "minLength": "≥ {} characters", "maxLength": "≤ {} characters", "minimum": "≥ {}", "maximum": "≤ {}",
    "minItems": "≥ {} items", "maxItems": "≤ {} items", "pattern": "`{}`",
}  # fmt: skip


def _kind(schema: Document) -> str:
    """The type of a field in words."""
    if "$ref" in schema:
        return f"{schema['$ref'].rpartition('/')[2]}"
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema.get("type", "any JSON"))
    if kind == "array":
        kind = f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        kind = f"map to {_kind(schema['additionalProperties'])}"
    bounds = [text.format(schema[name]) for name, text in BOUNDS.items() if name in schema]
    return f"{kind} ({', '.join(bounds)})" if bounds else kind
