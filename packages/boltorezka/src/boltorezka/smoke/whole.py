"""The whole smoke: two people sign in, enter `general`, and talk."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
from websockets.exceptions import InvalidStatus

from boltorezka.smoke import sso, voice
from boltorezka.smoke.report import CheckFailed, Report
from boltorezka.smoke.socket import Frame, Socket, fetch_ticket
from boltorezka.smoke.target import Person, Target, UsageError

ROOM = "general"
USERS = ("smoke-1", "smoke-2")
# A talk in which words take longer is broken for people, however slow the machine.
HEARD_WITHIN_S = 5.0
AFTER_LOGIN = (
    "rooms",
    "ws-ticket",
    "ws-handshake",
    "room-join",
    "presence",
    "message",
    "message-retry",
    "ticket-replay",
)


@dataclass
class Talk:
    """Two people with a socket each, in one room."""

    people: tuple[Person, Person]
    sockets: tuple[Socket, Socket]


async def run(target: Target, report: Report) -> None:
    """Every check. A call takes as long as its sounds do: everything else is asked meanwhile."""
    async with asyncio.TaskGroup() as group:
        group.create_task(voice.check_voice(target, report))
        await check_all_but_voice(target, report)


async def check_all_but_voice(target: Target, report: Report) -> None:
    """In the order in which a person would meet them; what depends on a failed one is skipped."""
    async with AsyncExitStack() as stack:
        browsers = [await stack.enter_async_context(sso.client(target)) for _ in USERS]
        http = await stack.enter_async_context(sso.client(target))
        await check_health(http, target, report)
        await sso.check_mode(http, target, report)
        await sso.check_only(http, target, report)
        await sso.check_redirect(http, target, report)
        await sso.check_nobody(http, target, report)
        people = await check_login(browsers, target, report)
        if people is None:
            report.skip(AFTER_LOGIN, "nobody could sign in")
            return
        await check_rooms(http, target, report, people[0])
        tickets = await check_tickets(http, target, report, people)
        if tickets is None:
            report.skip(AFTER_LOGIN[2:], "there are no tickets")
            return
        await check_sockets(stack, target, report, people, tickets)


async def check_sockets(
    stack: AsyncExitStack, target: Target, report: Report, people: tuple[Person, Person], tickets: tuple[str, str]
) -> None:
    """Everything that is said on a socket."""
    sockets = await check_handshake(target, report, people, tickets)
    if sockets is None:
        report.skip(AFTER_LOGIN[3:], "there are no sockets")
        return
    for socket in sockets:
        stack.push_async_callback(socket.close)
    talk = Talk(people, sockets)
    if await check_join(report, talk):
        await check_presence(report, talk)
        await check_message(target, report, talk)
    else:
        report.skip(("presence", "message", "message-retry"), f"nobody could enter {ROOM}")
    await check_replay(target, report, tickets[0])


async def check_health(http: httpx.AsyncClient, target: Target, report: Report) -> None:
    """200 by GET and by HEAD, and every dependency is well."""
    async with report.check("health") as note:
        answer = await http.get(f"{target.url}/health")
        if answer.status_code != httpx.codes.OK or answer.json().get("status") != "ok":
            raise CheckFailed(f"GET /health answered {answer.status_code} {answer.text[:120]!r}")
        head = await http.head(f"{target.url}/health")
        if head.status_code != httpx.codes.OK or head.content:
            raise CheckFailed(f"HEAD /health answered {head.status_code} with {len(head.content)} bytes")
        note.detail = "200 by GET and HEAD"


async def check_login(
    browsers: list[httpx.AsyncClient], target: Target, report: Report
) -> tuple[Person, Person] | None:
    """Both smoke users sign in through the SSO's page; where it has no such users, with the sessions made for us."""
    people: list[Person] = []
    async with report.check("login") as note:
        for browser, who in zip(browsers, USERS, strict=True):
            signed_in = await sso.sign_in(browser, target, who)
            if signed_in is None:
                people = given_people(target)
                note.detail = "the SSO offers no smoke users; used the sessions made for this run"
                break
            people.append(Person(*signed_in))
        else:
            note.detail = f"{' and '.join(USERS)} signed in through the SSO"
        if len({person.user_id for person in people}) != len(USERS):
            raise CheckFailed("two people signed in and got one account")
    return (people[0], people[1]) if report.verdicts["login"] == "pass" else None


def given_people(target: Target) -> list[Person]:
    """The accounts of the credentials file. Raises CheckFailed when there is none."""
    try:
        return target.people()[0]
    except UsageError as missing:
        raise CheckFailed(f"the SSO offers no smoke users, and {missing}") from None


async def check_rooms(http: httpx.AsyncClient, target: Target, report: Report, person: Person) -> None:
    """The list of rooms has `general`, and its history can be read."""
    async with report.check("rooms") as note:
        headers = {"Authorization": f"Bearer {person.token}"}
        answer = await http.get(f"{target.url}/v1/rooms", headers=headers)
        slugs = [room["slug"] for room in answer.json().get("rooms", [])]
        if answer.status_code != httpx.codes.OK or ROOM not in slugs:
            raise CheckFailed(f"GET /v1/rooms answered {answer.status_code} and no {ROOM}")
        history = await http.get(f"{target.url}/v1/rooms/{ROOM}/messages?limit=1", headers=headers)
        if history.status_code != httpx.codes.OK or not isinstance(history.json().get("lastSeq"), int):
            raise CheckFailed(f"the history of {ROOM} answered {history.status_code}")
        stranger = await http.get(f"{target.url}/v1/rooms")
        if stranger.status_code != httpx.codes.UNAUTHORIZED:
            raise CheckFailed(f"without a session GET /v1/rooms answered {stranger.status_code}, not 401")
        note.detail = f"{len(slugs)} rooms, {ROOM} among them" if len(slugs) > 1 else f"one room, {ROOM}"


async def check_tickets(
    http: httpx.AsyncClient, target: Target, report: Report, people: tuple[Person, Person]
) -> tuple[str, str] | None:
    """A ticket each."""
    tickets: list[str] = []
    async with report.check("ws-ticket") as note:
        tickets = [await fetch_ticket(http, target.url, person.token) for person in people]
        note.detail = "one ticket each, for 45 s"
    return (tickets[0], tickets[1]) if len(tickets) == len(people) else None


async def check_handshake(
    target: Target, report: Report, people: tuple[Person, Person], tickets: tuple[str, str]
) -> tuple[Socket, Socket] | None:
    """Two sockets open and are greeted by name."""
    opened: list[Socket] = []
    greeted = False
    async with report.check("ws-handshake") as note:
        for person, ticket in zip(people, tickets, strict=True):
            try:
                socket = await Socket.open(target.url, ticket, target.remaining())
            except InvalidStatus as refused:
                raise CheckFailed(f"the upgrade answered {refused.response.status_code}") from None
            opened.append(socket)
            ready = await socket.wait_for("server.ready", lambda f: f.get("type") == "server.ready")
            if ready["payload"].get("userId") != person.user_id:
                raise CheckFailed("server.ready greets somebody else")
        greeted = True
        note.detail = "both sockets are greeted"
    if not greeted:
        for socket in opened:
            await socket.close()
        return None
    return opened[0], opened[1]


async def check_join(report: Report, talk: Talk) -> bool:
    """Both enter the room; the frames come in the order of the contract."""
    async with report.check("room-join") as note:
        for socket in talk.sockets:
            await socket.request("room.join", {"roomSlug": ROOM})
            order = [f["type"] for f in socket.frames if f["type"] in ("room.joined", "room.presence", "ack")]
            if order[:3] != ["room.joined", "room.presence", "ack"]:
                raise CheckFailed(f"the answers to room.join came as {order}")
        note.detail = f"both are in {ROOM}"
    return report.verdicts["room-join"] == "pass"


async def check_presence(report: Report, talk: Talk) -> None:
    """Who came second sees both."""
    async with report.check("presence") as note:
        frame = await talk.sockets[1].wait_for("room.presence", lambda f: f.get("type") == "room.presence")
        present = {user["userId"] for user in frame["payload"]["users"]}
        if not {person.user_id for person in talk.people} <= present:
            raise CheckFailed(f"{len(present)} people are present, and not both of ours")
        note.detail = f"{len(present)} present, both of ours among them"


async def check_message(target: Target, report: Report, talk: Talk) -> None:
    """Sent on one socket, received on both; a retry with the same key is answered and delivered to nobody else."""
    key = str(uuid.uuid4())
    text = f"smoke {target.release[:24]} {key[:8]}".replace("  ", " ")
    message_id = ""
    async with report.check("message") as note:
        ack = await talk.sockets[0].request("chat.send", {"text": text}, key)
        message_id = str(ack["messageId"])
        seqs = {(await heard(socket, message_id, text))["payload"]["seq"] for socket in talk.sockets}
        if seqs != {ack["seq"]}:
            raise CheckFailed(f"acknowledged as seq {ack['seq']}, delivered as {sorted(seqs)}")
        note.detail = f"stored as seq {ack['seq']}, heard on both sockets"
    if not message_id:
        report.skip(("message-retry",), "no message was stored")
        return
    async with report.check("message-retry") as note:
        again = await talk.sockets[0].request("chat.send", {"text": text}, key)
        if again.get("duplicate") is not True or again.get("messageId") != message_id:
            raise CheckFailed("the same key again was not answered as a duplicate of the first message")
        # Events come in order: once the next message is heard, a second delivery of the first would have been too.
        marker = await talk.sockets[0].request("chat.send", {"text": f"{text} end"}, str(uuid.uuid4()))
        await heard(talk.sockets[1], str(marker["messageId"]), f"{text} end")
        if marker["seq"] <= again["seq"]:
            raise CheckFailed("a later message has an earlier seq")
        times = sum(is_message(frame, message_id) for frame in talk.sockets[1].frames)
        if times != 1:
            raise CheckFailed(f"the other person heard the message {times} times")
        note.detail = "duplicate answered with the first message, delivered once"


def is_message(frame: Frame, message_id: str) -> bool:
    """Whether a frame delivers this message."""
    return frame.get("type") == "chat.message" and frame["payload"].get("id") == message_id


async def heard(socket: Socket, message_id: str, text: str) -> Frame:
    """The delivery of a message. Raises CheckFailed when it does not come, or with another text."""
    frame = await socket.wait_for("the message", lambda f: is_message(f, message_id), within_s=HEARD_WITHIN_S)
    if frame["payload"].get("text") != text:
        raise CheckFailed("the message was delivered with another text")
    return frame


async def check_replay(target: Target, report: Report, used_ticket: str) -> None:
    """A ticket is good once."""
    async with report.check("ticket-replay") as note:
        socket = await Socket.open(target.url, used_ticket, target.remaining())
        try:
            code = await socket.wait_closed()
        finally:
            await socket.close()
        if code != 4002:  # contract.md section 3: InvalidTicket
            raise CheckFailed(f"a used ticket was closed with {code}, not 4002")
        note.detail = "a used ticket is refused with 4002"
