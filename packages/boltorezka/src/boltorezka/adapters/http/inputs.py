"""What callers send, read strictly: bodies, queries, numbers. What is malformed is a ValidationError with its place."""

from __future__ import annotations

import re
import urllib.parse
from typing import TypeVar

import msgspec
from starlette.requests import Request

from boltorezka.adapters.http.answers import read_body
from boltorezka.errors import ValidationError
from boltorezka.protocol.wire import MAX_ID

T = TypeVar("T", bound=msgspec.Struct)

# The largest query of the contract has three parameters; a form of thousands is not one of ours.
MAX_PARAMETERS = 32

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# Names, titles and ids are single lines. PostgreSQL cannot keep a NUL at all, and a terminal obeys the others.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


def issue(path: str, sentence: str) -> ValidationError:
    """The refusal of one field or parameter; `sentence` goes on after its name."""
    return ValidationError(f"{path} {sentence}.", issues=[{"field": path, "message": sentence}])


async def read_json(request: Request, kind: type[T]) -> T:
    """The body as this type. Raises ValidationError, PayloadTooLarge. Its texts hold no control characters."""
    body = await read_body(request)
    try:
        content = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise issue("body", "is not JSON in UTF-8") from None
    except RecursionError:
        raise issue("body", "is nested too deeply") from None
    for field in msgspec.structs.fields(kind):
        value = getattr(content, field.name)
        if isinstance(value, str):
            single_line(field.encode_name, value)
    return content


def _misfit(sentence: str) -> ValidationError:
    """What msgspec found, with its place apart from the sentence."""
    place = _PLACE.search(sentence)
    path = place["path"] if place else ""
    said = sentence[: place.start()] if place else sentence
    return ValidationError(f"{path or 'body'}: {said}.", issues=[{"field": path or "body", "message": said}])


def well_escaped(raw: bytes) -> bool:
    """Whether these bytes of an address are percent-encoded UTF-8."""
    if _BAD_ESCAPE.search(raw):
        return False
    try:
        urllib.parse.unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return False
    return True


def query_of(request: Request) -> dict[str, str]:
    """The parameters of the query, each given once. Raises ValidationError."""
    raw: bytes = request.scope["query_string"]
    if not raw:
        return {}
    if not well_escaped(raw):
        raise issue("query", "is not percent-encoded UTF-8")
    try:
        pairs = urllib.parse.parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise issue("query", f"has more than {MAX_PARAMETERS} parameters") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name in query:
            raise issue(single_line("query", name), "is given twice")
        query[name] = single_line(name, value)
    return query


def single_line(path: str, text: str) -> str:
    """The text, if it has no control characters. Raises ValidationError."""
    if _CONTROL.search(text):
        raise issue(_CONTROL.sub("?", path), "must not hold control characters")
    return text


def whole_number(text: str, path: str, largest: int) -> int:
    """A number from 1 to `largest`. Raises ValidationError."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(largest)) and 1 <= int(text) <= largest:
        return int(text)
    raise issue(path, f"must be a whole number from 1 to {largest}")


def an_id(text: str, path: str) -> str:
    """An id as clients send it back. Raises ValidationError."""
    if not 1 <= len(text) <= MAX_ID:
        raise issue(path, f"must have 1 to {MAX_ID} characters")
    return single_line(path, text)
