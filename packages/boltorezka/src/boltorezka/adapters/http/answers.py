"""JSON answers, and one error shape for everything that can go wrong over HTTP."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from boltorezka.errors import PayloadTooLarge, Refusal, Unauthorized, ValidationError

# No route of the contract takes more than a few kilobytes.
MAX_BODY = 64 * 1024

# 64 KiB over a line of 50 kbit/s.
BODY_DEADLINE_S = 10.0

_encode = msgspec.json.Encoder().encode

_NO_STORE = {"cache-control": "no-store"}


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Encode the content; nothing that answers about a person or a state is kept by a cache."""
    return json_bytes(_encode(content), status, headers)


def json_bytes(content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer that was encoded before."""
    return Response(content, status, {**_NO_STORE, **(headers or {})}, "application/json")


def error_answer(code: str, message: str, status: int, *, retryable: bool = False, **more: Any) -> Response:
    """The contract's error body."""
    headers = more.pop("headers", None)
    return json_answer({"error": code, "message": message, "retryable": retryable, **more}, status, headers)


def refusal_answer(_request: Request, refusal: Exception) -> Response:
    """What a Refusal looks like over HTTP."""
    assert isinstance(refusal, Refusal)  # noqa: S101 - registered for this type only
    headers = {}
    if isinstance(refusal, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    if "retry_after_ms" in refusal.data:
        headers["retry-after"] = str(math.ceil(refusal.data["retry_after_ms"] / 1000))
    more = {"issues": refusal.data["issues"]} if "issues" in refusal.data else {}
    return error_answer(
        refusal.code, refusal.message, refusal.status, retryable=refusal.retryable, headers=headers, **more
    )


def routing_answer(request: Request, error: Exception) -> Response:
    """Unknown routes and methods."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type only
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        message = f"{request.method} is not allowed here; use {allow}."
        return error_answer("MethodNotAllowed", message, 405, headers=dict(error.headers or {}))
    if error.status_code == 404:
        return error_answer("NotFound", "There is no such route.", 404)
    return error_answer("ValidationError", "The request cannot be read.", error.status_code)


def failure_answer(_request: Request, _error: Exception) -> Response:
    """A fault of ours; what it was goes to the log, never to the caller."""
    return error_answer("ServerError", "The server failed. Try again in a moment.", 500, retryable=True)


async def read_body(request: Request) -> bytes:
    """The whole body. Raises PayloadTooLarge as soon as it is known to be over the limit, ValidationError when slow."""
    declared = request.headers.get("content-length", "0")
    body = bytearray()
    if declared.isdigit() and int(declared) <= MAX_BODY:
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MAX_BODY:
                        break
                else:
                    return bytes(body)
        except TimeoutError:
            raise ValidationError(f"The body did not come whole within {BODY_DEADLINE_S:g} seconds.") from None
        except ClientDisconnect:
            raise ValidationError("The connection ended before the body did.") from None
    raise PayloadTooLarge(f"The body is over {MAX_BODY} bytes.")
