"""The HTTP half of the wire contract, read anew: each route's fields, each error's status, two processes at once."""

import asyncio
import contextlib
import json

import httpx
import pytest
from websockets.asyncio.client import connect

from boltorezka.rooms.model import Role
from boltorezka.testing import DEADLINE_S, VirtualClock, bearer, in_process_server, sign_in

USER = "id email name role created_at"
ROOM = "id slug title is_public created_at is_member unread last_seq"
MEMBER = "user_id user_name role joined_at"
MESSAGE = "id room_id user_id user_name text created_at edited_at seq"

# Method, path, body, status, and what the answer holds at least: a path into it, and the fields there.
ROUTES = [
    ("GET", "/health", None, 200, {"": "status checks ts", "checks": "api db bus"}),
    ("GET", "/version", None, 200, {"": "service version sha tree builtAt"}),
    ("GET", "/v1/auth/mode", None, 200, {"": "mode ssoBaseUrl"}),
    ("GET", "/v1/auth/me", None, 200, {"user": USER}),
    ("GET", "/v1/auth/ws-ticket", None, 200, {"": "ticket expiresInSec"}),
    ("GET", "/v1/rooms", None, 200, {"rooms.0": ROOM}),
    ("POST", "/v1/rooms", {"slug": "new", "title": "New"}, 201, {"room": ROOM}),
    (
        "GET", "/v1/rooms/den/messages?limit=1", None, 200,
        {
            "": "room messages pagination epoch lastSeq", "messages.0": MESSAGE, "pagination": "hasMore nextCursor",
            "pagination.nextCursor": "beforeCreatedAt beforeId beforeSeq",
        },
    ),
    ("GET", "/v1/rooms/den/members", None, 200, {"members.0": MEMBER}),
    ("POST", "/v1/rooms/den/members", {"userId": "user-boris"}, 201, {"member": MEMBER}),
    ("GET", "/v1/admin/users", None, 200, {"users.0": "id email name role"}),
    *(("POST", f"/v1/admin/users/user-boris/{what}", None, 200, {"user": "id role"}) for what in
      ("promote", "demote", "ban", "unban")),
    ("GET", "/v1/telemetry/summary", None, 200, {"": "today"}),
    ("POST", "/v1/auth/refresh", None, 200, {"": "token expiresInSec user", "user": USER}),
]  # fmt: skip


@pytest.fixture
async def chief(person, room, say):
    """A super admin, owner of a private room with two messages; Boris is in none."""
    boss = await person("chief", Role.SUPER_ADMIN)
    await person("boris")
    den = await room("den", boss)
    for text in ("one", "two"):
        await say(den, boss, text)
    return boss


def inside(body, path: str):
    """The part of an answer that a path of keys and positions leads to."""
    for step in filter(None, path.split(".")):
        body = body[int(step) if step.isdigit() else step]
    return body


async def test_every_route_answers_with_the_fields_of_the_contract(api, chief):
    """Status and names are the contract's, and what holds a person's or a room's state is kept by no cache."""
    for method, path, body, status, expected in ROUTES:
        answer = await api.request(method, path, json=body, headers=chief.headers)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["cache-control"] == "no-store"
        for place, fields in expected.items():
            assert set(fields.split()) <= set(inside(answer.json(), place)), (path, place)
    gone = await api.delete("/v1/rooms/den/members/user-boris", headers=chief.headers)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await api.head("/health")).status_code == 200
    out = await api.post("/v1/auth/logout", headers=chief.headers)
    assert (out.status_code, out.json()) == (200, {"ok": True})


async def test_the_session_of_the_sso_has_the_fields_of_the_contract(running, api, stranger):
    """Signed in and not: the names, and the same token in the body and in the cookie."""
    nobody = (await stranger.get("/v1/auth/sso/session")).json()
    assert nobody == {"authenticated": False, "user": None, "token": None}
    body = await sign_in(api, running.url)
    assert {"authenticated", "user", "token", "expiresInSec", "sso"} <= set(body)
    assert set(body["sso"]) >= {"id", "email", "username", "role"}
    assert set(body["user"]) >= set(USER.split())
    assert (body["authenticated"], body["expiresInSec"] <= 600) == (True, True)
    assert body["token"] in api.cookies.values()


# What a refusal says, by its status: every code of the contract that a client can cause by itself.
REFUSALS = [
    ("POST", "/v1/rooms", b"{", 400, "ValidationError"),
    ("GET", "/v1/auth/sso/start?provider=nobody", None, 400, "ValidationError"),
    ("GET", "/v1/rooms/nowhere/messages", None, 404, "RoomNotFound"),
    ("POST", "/v1/rooms/den/members", b'{"userId":"nobody"}', 404, "UserNotFound"),
    ("POST", "/v1/admin/users/nobody/ban", None, 404, "UserNotFound"),
    (
        "GET", "/v1/rooms/den/messages?beforeId=none&beforeCreatedAt=2026-01-01T00:00:00Z", None,
        404, "MessageNotFound",
    ),
    ("POST", "/v1/rooms", b'{"slug":"den","title":"Den"}', 409, "Conflict"),
    ("POST", "/v1/auth/login", b"{", 410, "SsoOnly"),
    ("POST", "/v1/auth/register", b'{"email":"a@b"}', 410, "SsoOnly"),
    ("POST", "/v1/rooms", b"x" * 70_000, 413, "PayloadTooLarge"),
]  # fmt: skip


async def test_every_error_code_has_its_status_and_its_shape(api, stranger, person, chief):
    """`error`, `message` and `retryable`, whatever went wrong; 429 also says in Retry-After when to come back."""
    carol = await person("carol")
    answers = [
        (await api.request(method, path, content=body, headers=chief.headers), status, code)
        for method, path, body, status, code in REFUSALS
    ]
    answers.append((await stranger.get("/v1/rooms"), 401, "Unauthorized"))
    answers.append((await stranger.get("/v1/admin/users", headers=carol.headers), 403, "Forbidden"))
    while (limited := await stranger.get("/v1/auth/ws-ticket", headers=carol.headers)).status_code == 200:
        pass
    answers.append((limited, 429, "RateLimited"))
    for answer, status, code in answers:
        body = answer.json()
        assert (answer.status_code, body["error"], body["retryable"]) == (status, code, status == 429), answer.url
        assert body["message"].endswith(".")
        assert set(body) <= {"error", "message", "retryable", "issues"}
    assert int(limited.headers["retry-after"]) >= 1


class Slots:
    """Two servers on one database, as during a rollout, and people who are signed in at both."""

    def __init__(self, urls: list[str], stack: contextlib.AsyncExitStack) -> None:
        self.urls = urls
        self._stack = stack
        self.client: httpx.AsyncClient

    async def ask(self, slot: int, method: str, path: str, who: dict, body: dict | None = None) -> httpx.Response:
        """Ask one of the two."""
        return await self.client.request(method, self.urls[slot] + path, headers=bearer(who["token"]), json=body)

    async def enter(self, slot: int, who: dict, slug: str = "general") -> "Heard":
        """A socket of somebody in a room of one of the two."""
        ticket = (await self.ask(slot, "GET", "/v1/auth/ws-ticket", who)).json()["ticket"]
        address = f"{self.urls[slot].replace('http', 'ws', 1)}/v1/realtime/ws?ticket={ticket}"
        heard = Heard(await self._stack.enter_async_context(connect(address, compression=None)))
        await heard.asked("room.join", {"roomSlug": slug})
        return heard


class Heard:
    """A socket and what it is told."""

    def __init__(self, socket) -> None:
        self.socket = socket

    async def until(self, *kinds: str) -> dict:
        """The next frame of one of these types."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                frame = json.loads(await self.socket.recv())
                if frame["type"] in kinds:
                    return frame

    async def asked(self, kind: str, payload: dict) -> dict:
        """Ask, and answer the payload of the ack or the nack."""
        await self.socket.send(json.dumps({"type": kind, "requestId": kind, "payload": payload}))
        return (await self.until("ack", "nack"))["payload"]

    async def closed(self) -> tuple[str, int]:
        """The code of the error before the close, and that of the close."""
        code = (await self.until("error"))["payload"]["code"]
        await asyncio.wait_for(self.socket.wait_closed(), DEADLINE_S)
        return code, self.socket.close_code


@pytest.fixture
async def slots(tmp_path, sso):
    """Two servers."""
    async with contextlib.AsyncExitStack() as stack:
        clock = VirtualClock()
        servers = [
            await stack.enter_async_context(
                in_process_server(tmp_path, sso, clock, SUPER_ADMIN_EMAIL="ann@people.example")
            )
            for _ in range(2)
        ]
        made = Slots([server.url for server in servers], stack)
        made.client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        yield made


async def somebody(slots: Slots, name: str) -> dict:
    """The session body of a person who signs in at the first server."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        return await sign_in(browser, slots.urls[0], name)


async def test_what_was_read_through_one_process_is_read_in_the_list_of_the_other(slots):
    """Unread counts what others said after the pointer, whichever process moved it; it never moves back."""
    ann, boris = await somebody(slots, "ann"), await somebody(slots, "boris")
    reader, writer = await slots.enter(1, ann), await slots.enter(0, boris)
    seqs = [(await writer.asked("chat.send", {"text": text}))["seq"] for text in ("a", "b", "c")]

    async def unread(slot: int) -> int:
        (row,) = (await slots.ask(slot, "GET", "/v1/rooms", ann)).json()["rooms"]
        assert (row["is_member"], row["last_seq"]) == (True, seqs[-1])
        return row["unread"]

    assert [await unread(slot) for slot in (0, 1)] == [3, 3]
    assert (await reader.asked("room.read", {"seq": seqs[1]}))["seq"] == seqs[1]
    assert (await reader.asked("room.read", {"seq": 0}))["seq"] == seqs[1]
    assert [await unread(slot) for slot in (0, 1)] == [1, 1]


async def test_a_ban_through_one_process_ends_everything_in_the_other(slots):
    """The sockets close with 4003 there too; tokens and tickets are worth nothing; who stays hears nothing of it."""
    ann, boris = await somebody(slots, "ann"), await somebody(slots, "boris")
    sockets = [await slots.enter(slot, boris) for slot in (0, 1)]
    other = await slots.enter(1, ann)
    ticket = (await slots.ask(1, "GET", "/v1/auth/ws-ticket", boris)).json()["ticket"]
    assert (await slots.ask(0, "POST", f"/v1/admin/users/{boris['user']['id']}/ban", ann)).status_code == 200
    for socket in sockets:
        assert await socket.closed() == ("Banned", 4003)
    for slot in (0, 1):
        assert (await slots.ask(slot, "GET", "/v1/rooms", boris)).status_code == 401
        assert (await slots.ask(slot, "GET", "/v1/auth/ws-ticket", boris)).status_code == 401
    async with connect(f"{slots.urls[1].replace('http', 'ws', 1)}/v1/realtime/ws?ticket={ticket}") as late:
        assert await Heard(late).closed() == ("InvalidTicket", 4002)
    assert (await other.asked("ping", {}))["eventType"] == "ping"


async def test_a_role_given_through_one_process_counts_in_the_other(slots):
    """The next request of the same token has the right, and the one after the demotion has not."""
    ann, boris = await somebody(slots, "ann"), await somebody(slots, "boris")
    user = f"/v1/admin/users/{boris['user']['id']}"
    statuses = [(await slots.ask(1, "GET", "/v1/admin/users", boris)).status_code]
    for decision in ("promote", "demote"):
        await slots.ask(0, "POST", f"{user}/{decision}", ann)
        statuses.append((await slots.ask(1, "GET", "/v1/admin/users", boris)).status_code)
    assert statuses == [403, 200, 403]


async def test_a_removal_through_one_process_cuts_the_room_off_in_the_other(slots):
    """History, members and the list at once; then the socket is told and hears, types, sends and joins no more."""
    ann, boris = await somebody(slots, "ann"), await somebody(slots, "boris")
    boris_id = boris["user"]["id"]
    await slots.ask(0, "POST", "/v1/rooms", ann, {"slug": "den", "title": "Den", "is_public": False})
    assert (await slots.ask(0, "POST", "/v1/rooms/den/members", ann, {"userId": boris_id})).status_code == 201
    owner, removed = await slots.enter(0, ann, "den"), await slots.enter(1, boris, "den")
    await owner.asked("chat.send", {"text": "with you"})
    message = (await removed.until("chat.message"))["payload"]
    assert (await slots.ask(0, "DELETE", f"/v1/rooms/den/members/{boris_id}", ann)).status_code == 204
    await owner.asked("chat.send", {"text": "among us"})
    assert (await removed.until("room.left", "chat.message"))["type"] == "room.left"
    for slot in (0, 1):
        for path in ("messages", "members"):
            answer = await slots.ask(slot, "GET", f"/v1/rooms/den/{path}", boris)
            assert (answer.status_code, answer.json()["error"]) == (404, "RoomNotFound")
        assert "den" not in (await slots.ask(slot, "GET", "/v1/rooms", boris)).text
    seen = {"roomSlug": "den", "epoch": message["epoch"], "seq": message["seq"]}
    for kind, payload, code in (
        ("chat.send", {"text": "hi"}, "NoActiveRoom"), ("chat.typing", {}, "NoActiveRoom"),
        ("call.join", {}, "NoActiveRoom"), ("resume", {"rooms": [seen]}, "RoomNotFound"),
        ("room.join", {"roomSlug": "den", "after": seen}, "RoomNotFound"),
    ):  # fmt: skip
        assert (await removed.asked(kind, payload))["code"] == code, kind
