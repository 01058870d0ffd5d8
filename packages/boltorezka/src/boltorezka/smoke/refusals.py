"""What must be refused: each forbidden thing is tried in earnest. Refused as the contract says is a pass, let in fails.

What could not be tried is an `error`, never a pass: no answer, a server that is too busy, no accounts to try it with.
Where a refusal would prove nothing by itself, the same is first done by somebody who may.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.http11 import Response

from boltorezka.smoke.report import CheckBroken, CheckFailed, Note, Report, describe
from boltorezka.smoke.socket import Socket, client, fetch_ticket
from boltorezka.smoke.target import Person, Target, UsageError

# One answer. These probes are repeated every few seconds: what takes longer is for the other criteria to judge.
PATIENCE_S = 3.0
FOREIGN = "https://foreign.invalid"
NO_ROOM = "smoke-no-such-room"  # asked for by what must be refused earlier, and is harmless if it is not
MISSING_TICKET, INVALID_TICKET = 4001, 4002  # contract.md section 3
NO_CODE = 0  # the connection ended without one
# A socket that ends so was not judged: nothing came, or the server goes, restarts or has too much to do.
UNJUDGED = (NO_CODE, 1001, 1006, 1011, 1012, 1013, 4012)
TOO_MANY, BROKEN = 429, 500


@dataclass(frozen=True)
class Attempt:
    """How the probes reach the service."""

    http: httpx.AsyncClient
    target: Target
    report: Report

    @asynccontextmanager
    async def at(self, name: str) -> AsyncIterator[Note]:
        """Judge one probe; what kept it from being tried is an `error`."""
        async with self.report.check(name) as note:
            try:
                yield note
            except UsageError as missing:
                raise CheckBroken(f"could not be tried: {missing}") from None
            except (httpx.HTTPError, WebSocketException, OSError, TimeoutError) as error:
                raise CheckBroken(f"could not be tried: {describe(error)}") from None

    async def get(self, path: str, token: str = "") -> httpx.Response:
        """GET as the holder of this token; as nobody without one."""
        return await self.http.get(f"{self.target.url}{path}", headers=_bearer(token) if token else {})

    async def refused(self, path: str, status: int, code: str, token: str = "") -> str:
        """GET what must be refused so; the evidence."""
        return demand(f"GET {path}", await self.get(path, token), status, code)

    async def allowed(self, path: str, person: Person) -> None:
        """GET what this person may: only then does a refusal to somebody else prove anything. Raises CheckBroken."""
        answer = await self.get(path, person.token)
        if answer.status_code != httpx.codes.OK:
            raise CheckBroken(f"could not be tried: GET {path} by who may answered {answer.status_code}")

    async def ticket(self, person: Person) -> str:
        """A ticket. Raises CheckBroken."""
        try:
            return await fetch_ticket(self.http, self.target.url, person.token)
        except CheckFailed as failed:
            raise CheckBroken(f"could not be tried: {failed}") from None

    @asynccontextmanager
    async def socket(self, ticket: str = "", origin: str | None = None) -> AsyncIterator[Socket]:
        """A socket, not yet let in."""
        socket = await Socket.open(self.target.url, ticket, PATIENCE_S, origin)
        try:
            yield socket
        finally:
            await socket.close()


async def run(target: Target, report: Report) -> None:
    """Every probe, one after the other: some twenty requests and five handshakes, well under a second."""
    async with client(min(PATIENCE_S, target.remaining()), target.url) as http:
        attempt = Attempt(http, target, report)
        for probe in (
            no_token, expired_token, forged_token, replayed_ticket, foreign_room, foreign_origin, admin_routes,
        ):  # fmt: skip
            await probe(attempt)


async def no_token(attempt: Attempt) -> None:
    """Over HTTP, and as the first frame of a socket that brings no ticket."""
    async with attempt.at("refused-no-token") as note:
        paths = ("/v1/rooms", "/v1/auth/ws-ticket", f"/v1/rooms/{NO_ROOM}/messages", "/metrics")
        said = [await attempt.refused(path, 401, "Unauthorized") for path in paths]
        async with attempt.socket() as socket:
            await socket.send("room.join", {"roomSlug": NO_ROOM})
            said.append(await _turned_away("a socket without a ticket", socket, MISSING_TICKET))
        note.detail = "; ".join(said)


async def expired_token(attempt: Attempt) -> None:
    """A token with a good signature, of a session that is alive: nothing is wrong with it but its expiry."""
    async with attempt.at("refused-expired-token") as note:
        stranger = attempt.target.stranger()
        await attempt.allowed("/v1/auth/me", stranger.person)
        paths = ("/v1/auth/me", "/v1/auth/ws-ticket")
        said = [await attempt.refused(path, 401, "Unauthorized", stranger.expired_token) for path in paths]
        note.detail = f"expired a minute ago, of a live session: {'; '.join(said)}"


async def forged_token(attempt: Attempt) -> None:
    """A good token with another signature, and with the algorithm `none`."""
    async with attempt.at("refused-forged-token") as note:
        person = attempt.target.stranger().person
        await attempt.allowed("/v1/auth/me", person)
        forged = {"another signature": other_signature(person.token), "alg none": unsigned(person.token)}
        said = [f"{how}: {await attempt.refused('/v1/auth/me', 401, 'Unauthorized', t)}" for how, t in forged.items()]
        note.detail = "; ".join(said)


async def replayed_ticket(attempt: Attempt) -> None:
    """A ticket is good once."""
    async with attempt.at("refused-replayed-ticket") as note:
        ticket = await attempt.ticket(attempt.target.people()[0][0])
        async with attempt.socket(ticket) as first:
            if (code := await _sent_away(first)) is not None:
                raise CheckBroken(f"could not be tried: a fresh ticket was closed with {code}")
            async with attempt.socket(ticket) as second:
                note.detail = await _turned_away("a used ticket", second, INVALID_TICKET)


async def foreign_room(attempt: Attempt) -> None:
    """Who is no member of a private room cannot enter or read it, and is told that there is none."""
    async with attempt.at("refused-foreign-room") as note:
        people, room = attempt.target.people()
        stranger = attempt.target.stranger().person
        history, members = f"/v1/rooms/{room}/messages", f"/v1/rooms/{room}/members"
        await attempt.allowed(history, people[0])
        said = [await attempt.refused(path, 404, "RoomNotFound", stranger.token) for path in (history, members)]
        listed = await attempt.get("/v1/rooms", stranger.token)
        if room in listed.text:
            raise CheckFailed(f"GET /v1/rooms lists the private room {room} to who is no member")
        async with attempt.socket(await attempt.ticket(stranger)) as socket:
            said.append(await _join_refused(socket, room))
        note.detail = f"{'; '.join(said)}; a member may read it"


async def foreign_origin(attempt: Attempt) -> None:
    """A page of another site can neither open a socket nor use the session's cookie for a change."""
    async with attempt.at("refused-foreign-origin") as note:
        person = attempt.target.people()[0][1]
        try:
            async with attempt.socket(await attempt.ticket(person), FOREIGN):
                raise CheckFailed("a WebSocket handshake with a foreign Origin was accepted")
        except InvalidStatus as refused:
            said = [demand("the handshake", refused.response, 403, "Forbidden")]
        # The one name is for http, the other for https; only the service knows how it is reached.
        cookies = f"boltorezka_session={person.token}; __Host-boltorezka_session={person.token}"
        path = f"/v1/rooms/{NO_ROOM}/members"
        for extra in ({}, {"Sec-Fetch-Site": "cross-site"}):
            headers = {"Cookie": cookies, "Origin": FOREIGN} | extra
            answer = await attempt.http.post(
                f"{attempt.target.url}{path}", headers=headers, json={"userId": person.user_id}
            )
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                raise CheckBroken("could not be tried: the service does not know the session cookie")
            said.append(demand(f"POST {path} with the cookie", answer, 403, "Forbidden"))
        note.detail = f"from {FOREIGN}: {'; '.join(said)}"


async def admin_routes(attempt: Attempt) -> None:
    """Somebody with the role `user` is no admin. Only what reads is asked for: it is harmless if it is let in."""
    async with attempt.at("refused-admin") as note:
        person = attempt.target.people()[0][0]
        paths = ("/v1/admin/users", "/v1/telemetry/summary")
        note.detail = "; ".join([await attempt.refused(path, 403, "Forbidden", person.token) for path in paths])


def demand(asked: str, answer: httpx.Response | Response, status: int, code: str) -> str:
    """The evidence of a refusal as it must be. Raises CheckFailed, or CheckBroken for an answer that judges nothing."""
    said = f"{asked} answered {answer.status_code} {_code_of(answer)}".rstrip()
    if answer.status_code == status and _code_of(answer) == code:
        return said
    if answer.status_code >= BROKEN or answer.status_code == TOO_MANY:
        raise CheckBroken(f"could not be tried: {said}")
    let_in = ": it was let in" if answer.status_code < httpx.codes.BAD_REQUEST else ""
    raise CheckFailed(f"{said}, not {status} {code}{let_in}")


def _code_of(answer: httpx.Response | Response) -> str:
    body = answer.content if isinstance(answer, httpx.Response) else answer.body
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    return str(said.get("error", ""))[:40] if isinstance(said, dict) else ""


async def _sent_away(socket: Socket) -> int | None:
    """Wait for the verdict on a socket's ticket: None when it was let in, else the code it was closed with."""
    seen = 0
    while (frame := await socket.frame(seen, PATIENCE_S)) is not None:
        if frame.get("type") == "server.ready":
            return None
        seen += 1
    return socket.close_code or NO_CODE


async def _turned_away(what: str, socket: Socket, code: int) -> str:
    """The evidence that a socket was closed with this code. Raises CheckFailed or CheckBroken."""
    closed = await _sent_away(socket)
    if closed is None:
        raise CheckFailed(f"{what} was let in: server.ready came")
    if closed == code:
        return f"{what} was closed with {code}"
    if closed in UNJUDGED:
        raise CheckBroken(f"could not be tried: {what} was closed with {closed}")
    raise CheckFailed(f"{what} was closed with {closed}, not {code}")


async def _join_refused(socket: Socket, room: str) -> str:
    request_id = await socket.send("room.join", {"roomSlug": room})
    answer = await socket.wait_for(
        "the answer to room.join",
        lambda frame: (
            frame.get("type") in ("ack", "nack", "error") and frame["payload"].get("requestId") in (request_id, None)
        ),
    )
    code = answer["payload"].get("code")
    if answer["type"] == "nack" and code == "RoomNotFound":
        return "room.join got the nack RoomNotFound"
    if answer["type"] == "ack":
        raise CheckFailed(f"room.join of {room} by who is no member was acknowledged")
    if code in ("RateLimited", "ServerError"):
        raise CheckBroken(f"could not be tried: room.join got {code}")
    raise CheckFailed(f"room.join of {room} by who is no member got {code}, not RoomNotFound")


def other_signature(token: str) -> str:
    """The token, signed by somebody without our secret."""
    head, claims, signature = token.split(".")
    return f"{head}.{claims}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


def unsigned(token: str) -> str:
    """The token's own claims, under a header that says that nobody needs to sign them."""
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
