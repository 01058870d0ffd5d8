"""uvicorn's HTTP/1.1, with the bounds it leaves to an ingress: the head of a request has a size and a deadline."""

from __future__ import annotations

import asyncio

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from boltorezka.adapters.http.rows import ErrorBody
from boltorezka.errors import ValidationError

# What ingresses allow too. Ours are below 2 KiB; the cookies of an SSO add some.
MAX_HEAD = 32 * 1024

# From connecting, or from the first byte of the next request, to the end of its head: a phone on a bad line needs a
# few seconds. Also for the rest of a body that was refused before it had come whole.
HEAD_DEADLINE_S = 15.0


class BoundedHttp(HttpToolsProtocol):
    """One connection. A malformed or too large head is answered 400 in the shape of every error, then closed."""

    _deadline: asyncio.TimerHandle | None = None
    _in_head = _in_body = False
    # Bytes of the unfinished head: as they came, and as the parser took them apart.
    _unread = _parsed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # The chunk in which a head begins is not counted here (it may also end a body), only what comes after it.
        self._unread += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self not in self.connections:
            return
        if self._in_head:
            if self._unread > MAX_HEAD:
                self.send_400_response(f"The head of the request is over {MAX_HEAD} bytes.")
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_complete:
            self._after_answer()

    def _after_answer(self) -> None:
        """Bytes came that nobody waits for: the rest of a refused body has the deadline, an idle connection its own."""
        if self._in_body:
            if self._deadline is None:
                self._begin()
            return
        self._end()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._in_body = True, False
        self._unread = self._parsed = 0
        if self._deadline is None:
            self._begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._end()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser could not read, and close."""
        body = msgspec.json.encode(ErrorBody(ValidationError.code, msg, retryable=False))
        self._end()
        self.transport.write(
            STATUS_LINE[400] + b"content-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def _count(self, size: int) -> None:
        self._parsed += size
        if self._parsed > MAX_HEAD:
            # The parser reports it as a malformed request, which is answered by send_400_response.
            raise ValueError(f"the head is over {MAX_HEAD} bytes")

    def _begin(self) -> None:
        self._deadline = self.loop.call_later(HEAD_DEADLINE_S, self.timeout_keep_alive_handler)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
