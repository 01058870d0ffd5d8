"""One WebSocket of one person: requests with their answers, and everything that was heard, in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import websockets

from boltorezka.smoke.report import CheckFailed
from boltorezka.smoke.target import ANSWER_DEADLINE_S

Frame = dict[str, Any]

# Far above what one run hears; a service that repeats itself without end must not fill our memory.
MAX_FRAMES = 20_000


def client(timeout_s: float, *urls: str) -> httpx.AsyncClient:
    """An HTTP client for these addresses and no others; redirects are looked at, not followed.

    Loading the certificates costs 70 ms of CPU, half of what a short probe needs: it is done where there is any https.
    """
    encrypted = any(url.startswith("https:") for url in urls)
    return httpx.AsyncClient(timeout=timeout_s, follow_redirects=False, verify=encrypted)


async def fetch_ticket(http: httpx.AsyncClient, url: str, token: str) -> str:
    """A one-use ticket for this session. Raises CheckFailed."""
    answer = await http.get(f"{url}/v1/auth/ws-ticket", headers={"Authorization": f"Bearer {token}"})
    if answer.status_code != httpx.codes.OK:
        raise CheckFailed(f"GET /v1/auth/ws-ticket answered {answer.status_code}")
    body = answer.json()
    if not isinstance(body.get("ticket"), str) or body.get("expiresInSec") != 45:
        raise CheckFailed("the ticket's answer is not {ticket, expiresInSec: 45}")
    return str(body["ticket"])


async def connect(
    url: str, ticket: str, patience_s: float, origin: str | None = None, goodbye_s: float = ANSWER_DEADLINE_S
) -> websockets.ClientConnection:
    """A bare connection; closing it takes `goodbye_s` at most. Raises what websockets does for a refused handshake."""
    address = f"{url.replace('http', 'ws', 1)}/v1/realtime/ws{'?ticket=' + ticket if ticket else ''}"
    site = None if origin is None else websockets.Origin(origin)
    return await websockets.connect(
        address, compression=None, open_timeout=patience_s, close_timeout=goodbye_s, origin=site
    )


class Socket:
    """Open with `await Socket.open(…)`; close with `await socket.close()`."""

    def __init__(self, connection: websockets.ClientConnection, patience_s: float) -> None:
        """Use `open`."""
        self._connection = connection
        self._patience_s = patience_s
        self._heard = asyncio.Condition()
        self.frames: list[Frame] = []
        self.ended = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, url: str, ticket: str, patience_s: float = ANSWER_DEADLINE_S, origin: str | None = None
    ) -> Socket:
        """Connect with a ticket, or with none; no answer is waited for longer than `patience_s`.

        `origin` is the site whose page opens the socket. Raises what websockets raises for a refused handshake.
        """
        return cls(await connect(url, ticket, patience_s, origin), patience_s)

    async def _read(self) -> None:
        # A frame that is not JSON ends the reading: whoever waits for an answer then learns that none can come.
        with contextlib.suppress(websockets.ConnectionClosed, json.JSONDecodeError):
            async for raw in self._connection:
                frame = json.loads(raw)
                async with self._heard:
                    self.frames.append(frame)
                    self._heard.notify_all()
                if len(self.frames) > MAX_FRAMES:
                    break
        async with self._heard:
            self.ended = True
            self._heard.notify_all()

    @property
    def close_code(self) -> int | None:
        """The code the service closed with, once it has."""
        return self._connection.close_code

    async def wait_for(self, what: str, wanted: Callable[[Frame], bool], within_s: float = ANSWER_DEADLINE_S) -> Frame:
        """The first wanted frame, heard already or yet to come. Raises CheckFailed naming what did not come."""
        seen, patience_s = 0, min(within_s, self._patience_s)

        def find() -> Frame | None:
            nonlocal seen
            for frame in self.frames[seen:]:
                seen += 1
                if wanted(frame):
                    return frame
            return None

        try:
            async with asyncio.timeout(patience_s), self._heard:
                while (frame := find()) is None:
                    if self.ended:
                        raise CheckFailed(f"the socket was closed with {self.close_code} before {what} came")
                    await self._heard.wait()
                return frame
        except TimeoutError:
            raise CheckFailed(f"{what} did not come within {patience_s:.0f} s") from None

    async def frame(self, index: int, within_s: float) -> Frame | None:
        """The frame heard as number `index` (from 0), waited for; None once the socket has ended before it.

        Raises TimeoutError.
        """
        async with asyncio.timeout(within_s), self._heard:
            while len(self.frames) <= index and not self.ended:
                await self._heard.wait()
        return self.frames[index] if index < len(self.frames) else None

    async def send(self, event: str, payload: Frame, key: str | None = None) -> str:
        """Send one request; return its id."""
        request_id = str(uuid.uuid4())
        frame = {"type": event, "requestId": request_id, "payload": payload}
        await self._connection.send(json.dumps(frame | ({"idempotencyKey": key} if key else {})))
        return request_id

    async def request(self, event: str, payload: Frame, key: str | None = None) -> Frame:
        """Send one request and return the payload of its ack. Raises CheckFailed on a nack or silence."""
        request_id = await self.send(event, payload, key)
        answer = await self.wait_for(
            f"the answer to {event}",
            lambda f: f.get("type") in ("ack", "nack") and f["payload"].get("requestId") == request_id,
        )
        if answer["type"] == "nack":
            raise CheckFailed(f"{event} was refused: {answer['payload'].get('code')}")
        payload_out: Frame = answer["payload"]
        return payload_out

    async def wait_closed(self) -> int | None:
        """Wait until the service has closed the socket; its code."""
        async with asyncio.timeout(self._patience_s):
            await self._reader
            await self._connection.wait_closed()
        return self.close_code

    async def close(self) -> None:
        """Say goodbye; everything heard stays readable."""
        await self._connection.close()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
