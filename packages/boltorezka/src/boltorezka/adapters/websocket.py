"""The WebSocket protocol class for uvicorn's `ws=`: picows on the connection that uvicorn upgraded, on the same port.

uvicorn hands over a connection in three calls: `connection_made`, `data_received` with the request's bytes, and then it
makes us the transport's protocol. Our shim builds picows's protocol, feeds it the request, and gives the transport to
it as soon as uvicorn has returned; bytes that come in between pass through the shim.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from picows import (
    WSCloseCode,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSAutoPingStrategy, WSProtocol  # type: ignore[attr-defined]

from boltorezka import protocol
from boltorezka.adapters.realtime.client import Client
from boltorezka.adapters.realtime.service import Realtime
from boltorezka.protocol import CloseCode

# picows writes a line for each connection and each frame that breaks the protocol: peers must not be able to fill our
# log, and at its finest level it logs requests, tickets included. An adapter object also saves a logger per connection.
_logger = logging.getLogger("boltorezka.websocket")
_logger.setLevel(logging.CRITICAL)
_picows_logger: logging.LoggerAdapter[logging.Logger] = logging.LoggerAdapter(_logger, {})

# Data (a heartbeat every 25 s) that the peer's machine has not confirmed for this long: it is gone, not slow.
_USER_TIMEOUT_MS = 60_000
# Most frames are some hundred bytes; picows grows the buffer when one is larger.
_READ_BUFFER = 2048
# Pieces of a message, empty ones included: a client that cuts the largest one at every 64 bytes needs no more.
_MAX_PIECES = 1024


def websocket_protocol(realtime: Realtime) -> type[asyncio.Protocol]:
    """The class to give to uvicorn's `Config(ws=...)`; its sockets belong to this Realtime."""

    class RealtimeProtocol(_Shim):
        _realtime = realtime

    return RealtimeProtocol


class _Shim(asyncio.Protocol):
    """What uvicorn sees; lives for one turn of the loop."""

    _realtime: Realtime

    def __init__(self, **_uvicorn: Any) -> None:
        realtime = self._realtime
        self._picows = WSProtocol(
            None, None, False, lambda request: _route(realtime, request), _picows_logger,
            True, None, False, 20, 20, WSAutoPingStrategy.PING_WHEN_IDLE, False,
            # Above twice the limit picows itself ends the connection with a bare 1009; up to there we say why first.
            2 * realtime.settings.max_frame, None, _READ_BUFFER,
        )  # fmt: skip

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._picows.connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        if isinstance(transport, asyncio.Transport) or hasattr(transport, "set_protocol"):
            asyncio.get_running_loop().call_soon(transport.set_protocol, self._picows)

    def data_received(self, data: bytes) -> None:
        if self._picows.listener is None:
            data = _normal_connection(data)
        view = memoryview(data)
        while view:
            buffer = self._picows.get_buffer(len(view))
            size = min(len(view), len(buffer))
            buffer[:size] = view[:size]
            self._picows.buffer_updated(size)
            view = view[size:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._picows.connection_lost(exc)

    def pause_writing(self) -> None:
        self._picows.pause_writing()

    def resume_writing(self) -> None:
        self._picows.resume_writing()


def _normal_connection(request: bytes) -> bytes:
    """Browsers may send `connection: keep-alive, Upgrade`, which picows refuses; uvicorn has checked the tokens."""
    head, end, rest = request.partition(b"\r\n\r\n")
    lines = [b"connection: upgrade" if line[:11].lower() == b"connection:" else line for line in head.split(b"\r\n")]
    return b"\r\n".join(lines) + end + rest


def _route(realtime: Realtime, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
    """Only one path, and only from pages that may: an Origin is compared with the list, as it is."""
    address = urlsplit(request.path.decode("ascii", "replace"))
    if address.path != protocol.PATH:
        return None
    if request.headers.get("sec-websocket-version") != "13":
        response = WSUpgradeResponse.create_error_response(426, None, {"Sec-WebSocket-Version": "13"})
        return WSUpgradeResponseWithListener(response, None)
    origin = request.headers.get("origin")
    if origin is not None and origin not in realtime.settings.allowed_origins:
        realtime.refused_origin()
        body = b'{"error":"Forbidden","message":"This Origin may not open a socket.","retryable":false}'
        response = WSUpgradeResponse.create_error_response(403, body, {"Content-Type": "application/json"})
        return WSUpgradeResponseWithListener(response, None)
    tickets = parse_qs(address.query).get("ticket")
    return _Listener(realtime, tickets[0] if tickets else None, has_origin=origin is not None)


class _Listener(WSListener):
    """One socket between picows and Realtime."""

    def __init__(self, realtime: Realtime, ticket: str | None, *, has_origin: bool) -> None:
        self._realtime = realtime
        self._ticket = ticket
        self._has_origin = has_origin
        self._client: Client
        self._pieces: list[bytes] | None = None
        self._pieces_size = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        ticket, self._ticket = self._ticket, None
        tcp = transport.underlying_transport
        pause, resume = _reading(tcp)
        self._client = self._realtime.opened(tcp, ticket, pause, resume, has_origin=self._has_origin)

    def on_ws_frame(self, transport: WSTransport, frame: Any) -> None:
        kind = frame.msg_type
        if frame.payload_size > self._realtime.settings.max_frame:
            self._realtime.breach(self._client, CloseCode.TOO_BIG, "The message is over 64 KiB.")
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._realtime.breach(self._client, CloseCode.PROTOCOL_ERROR, "No extension was agreed on.")
        elif kind == WSMsgType.TEXT and frame.fin and self._pieces is None:
            self._realtime.received(self._client, frame.get_payload_as_bytes())
        elif kind == WSMsgType.PING:
            # Not by picows: pongs for a peer that does not read them would fill the memory.
            if not self._client.choked and not self._client.closing:
                transport.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.CLOSE:
            if not self._client.closing:
                self._client.reason = "client"
                transport.send_close(_answer_to(frame.get_close_code()))
            self._realtime.closed(self._client)
            transport.disconnect()
        elif kind == WSMsgType.BINARY:
            self._realtime.breach(self._client, CloseCode.UNSUPPORTED, "Frames are text: JSON in UTF-8.")
        elif kind in {WSMsgType.TEXT, WSMsgType.CONTINUATION}:
            self._piece(frame)

    def _piece(self, frame: Any) -> None:
        """A message in several frames (RFC 6455 section 5.4): kept until it is whole, within the bound of one."""
        if (self._pieces is None) == (frame.msg_type == WSMsgType.CONTINUATION):
            self._realtime.breach(self._client, CloseCode.PROTOCOL_ERROR, "A continuation out of place.")
            return
        piece = frame.get_payload_as_bytes()
        self._pieces = pieces = [] if self._pieces is None else self._pieces
        self._pieces_size = self._pieces_size + len(piece) if pieces else len(piece)
        pieces.append(piece)
        if self._pieces_size > self._realtime.settings.max_frame or len(pieces) > _MAX_PIECES:
            self._pieces = None
            self._realtime.breach(self._client, CloseCode.TOO_BIG, "The message is over 64 KiB, or in too many pieces.")
        elif frame.fin:
            self._pieces = None
            self._realtime.received(self._client, b"".join(pieces))

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        self._realtime.closed(self._client)

    def pause_writing(self) -> None:
        self._client.choked = True

    def resume_writing(self) -> None:
        self._client.choked = False


def _answer_to(code: Any) -> Any:
    """The code that a client's close is answered with: its own, unless it is none (RFC 6455 section 7.4).

    picows has names for some codes and gives and takes the others as they are, whatever its annotations say.
    """
    if code == WSCloseCode.NO_INFO:
        return WSCloseCode.OK
    return code if 1000 <= code < 5000 else WSCloseCode.PROTOCOL_ERROR


def _reading(tcp: asyncio.Transport) -> tuple[Callable[[], None], Callable[[], None]]:
    """Stop and go on reading; both are fine to call on a connection that is ending."""

    def pause() -> None:
        if not tcp.is_closing():
            tcp.pause_reading()

    def resume() -> None:
        if not tcp.is_closing():
            tcp.resume_reading()

    return pause, resume
