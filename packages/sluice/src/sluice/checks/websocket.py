"""`websocket`: a real WebSocket handshake at [checks] websocket_path, as a browser would begin it, and its answer."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import urllib.parse
from typing import TYPE_CHECKING

from sluice.checks.trust import trust
from sluice.model.spec import ChecksSpec
from sluice.model.verdict import Finding, Verdict

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.http11 import Response

NAME = "websocket"
HANDSHAKE_S = 5.0  # a person waits no longer for a page to come alive
CHUNK = 16 * 1024
MAX_HANDSHAKE = 256 * 1024  # an answer to a handshake is a few hundred bytes; a refusal may bring a page along
SWITCHING = 101


async def websocket(url: str, origin: str, checks: ChecksSpec, ca_file: str = "") -> Finding:
    """Begin a WebSocket at `url` without credentials; pass when the answer is `checks.websocket_expect`.

    On 101 the answer must also prove that the key was read (Sec-WebSocket-Accept). `origin` is the page's own.
    """
    path, expect = checks.websocket_path, checks.websocket_expect
    if not path:
        return Finding(NAME, Verdict.SKIPPED, detail="Not judged: [checks] websocket_path names no WebSocket.")
    # here and below: only services with a WebSocket need it
    from websockets.exceptions import InvalidMessage, WebSocketException

    try:
        async with asyncio.timeout(HANDSHAKE_S):
            return _judged(path, expect, *await _handshake(url, path, origin, ca_file))
    except TimeoutError:
        return _bad(f"{path} did not answer the handshake within {HANDSHAKE_S:g} s")
    except InvalidMessage:
        return _bad(f"{path} did not answer the handshake in HTTP")
    except (OSError, EOFError, WebSocketException) as error:
        return _bad(f"{path}: {type(error).__name__}: {error}")


def _judged(path: str, expect: int, status: int, fault: str) -> Finding:
    if status != expect:
        what = "a handshake without credentials is let in" if status == SWITCHING else f"it answered {status}"
        return _bad(f"{path}: {what}, expected {expect}")
    if fault:
        return _bad(f"{path} answered 101, but not as a WebSocket: {fault}")
    if status == SWITCHING:
        return Finding(NAME, Verdict.PASS, detail=f"{path} switches protocols and proves the key.")
    return Finding(NAME, Verdict.PASS, detail=f"{path} refuses a handshake without credentials with {status}.")


def _bad(detail: str) -> Finding:
    fix = "[checks] websocket_path and websocket_expect say what is asked and expected; every edge must let it through"
    return Finding(NAME, Verdict.FAIL, detail=f"{detail}.", fix=fix)


async def _handshake(url: str, path: str, origin: str, ca_file: str) -> tuple[int, str]:
    """The status of the answer, and what is wrong with a 101 ("" when nothing is)."""
    from websockets.client import ClientProtocol
    from websockets.protocol import State
    from websockets.typing import Origin
    from websockets.uri import WebSocketURI

    parts = urllib.parse.urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    bare, _, query = path.partition("?")
    protocol = ClientProtocol(WebSocketURI(secure, host, port, bare, query), origin=Origin(origin.rstrip("/")))
    context: ssl.SSLContext | None = trust(ca_file) if secure else None
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        protocol.send_request(protocol.connect())
        writer.write(b"".join(protocol.data_to_send()))
        await writer.drain()
        answer = await _answer(reader, protocol)
        if protocol.state is State.OPEN:
            protocol.send_close(1000)
            writer.write(b"".join(protocol.data_to_send()))
            await writer.drain()
        fault = str(protocol.handshake_exc or "") if answer.status_code == SWITCHING else ""
        return answer.status_code, fault
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader, protocol: ClientProtocol) -> Response:
    from websockets.http11 import Response

    received = 0
    while True:
        data = await reader.read(CHUNK)
        received += len(data)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            if isinstance(event, Response):
                return event
        if not data or received > MAX_HANDSHAKE or protocol.handshake_exc is not None:
            raise protocol.handshake_exc or EOFError("the connection was closed before the answer was complete")
