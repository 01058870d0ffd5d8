"""The negative probes: a good server refuses them all, and a server that lets one in is caught by that one."""

from __future__ import annotations

import json

import httpx
import jwt
import pytest

from boltorezka.adapters import tokens, websocket
from boltorezka.adapters.http.authentication import Authentication
from boltorezka.adapters.sqlite import SqliteStore
from boltorezka.adapters.tokens import Tokens
from boltorezka.rooms import access, subscriptions
from boltorezka.smoke import refusals
from boltorezka.smoke.target import UsageError, from_environment

NAMES = {
    "refused-no-token", "refused-expired-token", "refused-forged-token", "refused-replayed-ticket",
    "refused-foreign-room", "refused-foreign-origin", "refused-admin",
}  # fmt: skip


async def probed(place, credentials, **changes):
    """The probes, straight at the server: the newest line of each."""
    return await place.smoke(refusals.run, url=place.server.url, credentials=credentials, **changes)


async def test_a_good_server_refuses_everything(place, credentials):
    """Each with its evidence; and again at once, as the watch repeats it."""
    for _ in range(2):
        lines = await probed(place, credentials)
        assert set(lines) == NAMES
        assert [line for line in lines.values() if line["verdict"] != "pass"] == []
    assert "closed with 4001" in lines["refused-no-token"]["detail"]
    assert "closed with 4002" in lines["refused-replayed-ticket"]["detail"]
    assert "RoomNotFound" in lines["refused-foreign-room"]["detail"]


async def test_no_token_is_in_any_evidence(place, credentials):
    """Neither the sessions' tokens nor what was made of them."""
    given = json.loads(credentials.read_text())
    text = json.dumps(list((await probed(place, credentials)).values()))
    secrets = [user["token"] for user in [*given["users"], given["stranger"]]] + [given["stranger"]["expiredToken"]]
    assert not any(part in text for secret in secrets for part in secret.split(".")[1:])


def lets_anybody_in(place, credentials, patch):
    """A request without a token is taken for somebody's."""
    token, real = json.loads(credentials.read_text())["users"][0]["token"], Authentication._token
    patch.setattr(
        Authentication,
        "_token",
        lambda self, asked: real(self, asked) if {"authorization", "cookie"} & {*asked.headers} else (token, True),
    )


def forgets_expiry(_place, _credentials, patch):
    """A token is good for ever."""
    real = Tokens.decode
    patch.setattr(Tokens, "decode", lambda self, token, now, **_: real(self, token, now, accept_expired=True))


def decoding(algorithm):
    """Read tokens as ours does, except that the signature of those with this algorithm is not looked at."""
    real = jwt.decode

    def decode(token, key, **settings):
        unchecked = jwt.get_unverified_header(token)["alg"] == algorithm
        options = {**settings["options"], "verify_signature": not unchecked}
        return real(token, key, **{**settings, "options": options})

    return decode


def forgets_signatures(_place, _credentials, patch):
    """The signature is not looked at."""
    patch.setattr(tokens.jwt, "decode", decoding("HS256"))


def takes_alg_none(_place, _credentials, patch):
    """The token says itself whether it is signed."""
    patch.setattr(tokens.jwt, "decode", decoding("none"))


def keeps_tickets(_place, _credentials, patch):
    """A ticket stays good after its use."""
    seen, real = {}, SqliteStore.take_ticket

    async def take_ticket(self, ticket_hash):
        seen[ticket_hash] = seen.get(ticket_hash) or await real(self, ticket_hash)
        return seen[ticket_hash]

    patch.setattr(SqliteStore, "take_ticket", take_ticket)


def shows_private_rooms(_place, _credentials, patch):
    """Everybody may read every room over HTTP."""
    patch.setattr(access, "entered", lambda found: found)


def opens_private_rooms(_place, _credentials, patch):
    """Everybody may enter every room by socket."""
    patch.setattr(subscriptions, "entered", lambda found: found)


def takes_any_origin(_place, _credentials, patch):
    """Any page may open a socket: the handshake's Origin is not looked at."""
    real = websocket._route

    class Request:
        def __init__(self, request):
            self.path = request.path
            self.headers = {k: v for k, v in request.headers.items() if k.lower() != "origin"}

    patch.setattr(websocket, "_route", lambda realtime, request: real(realtime, Request(request)))


def takes_foreign_pages(_place, _credentials, patch):
    """The session's cookie is enough, whichever page sends it."""
    patch.setattr(Authentication, "_from_own_site", lambda *_: True)


def makes_everybody_admin(_place, _credentials, patch):
    """The role is not looked at."""
    patch.setattr(access, "administered", lambda _role: None)


BROKEN = {
    lets_anybody_in: ("refused-no-token", "GET /v1/rooms answered 200, not 401 Unauthorized: it was let in"),
    forgets_expiry: ("refused-expired-token", "GET /v1/auth/me answered 200"),
    forgets_signatures: ("refused-forged-token", "GET /v1/auth/me answered 200"),
    takes_alg_none: ("refused-forged-token", "GET /v1/auth/me answered 200"),
    keeps_tickets: ("refused-replayed-ticket", "a used ticket was let in"),
    shows_private_rooms: ("refused-foreign-room", "GET /v1/rooms/canary/messages answered 200"),
    opens_private_rooms: ("refused-foreign-room", "room.join of canary by who is no member was acknowledged"),
    takes_any_origin: ("refused-foreign-origin", "a foreign Origin was accepted"),
    takes_foreign_pages: ("refused-foreign-origin", "answered 404 RoomNotFound, not 403 Forbidden"),
    makes_everybody_admin: ("refused-admin", "GET /v1/admin/users answered 200"),
}


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault.__name__)
async def test_a_server_that_lets_something_in_is_caught(place, credentials, monkeypatch, fault):
    """The real server with one rule gone: the probe of that rule fails and says what was let in, the others pass."""
    name, sentence = BROKEN[fault]
    fault(place, credentials, monkeypatch)
    lines = await probed(place, credentials)
    assert {each: line["verdict"] for each, line in lines.items()} == dict.fromkeys(NAMES, "pass") | {name: "fail"}
    assert sentence in lines[name]["detail"]


async def test_a_socket_that_needs_no_ticket_is_caught(place, credentials):
    """It is greeted though it brought nothing."""
    place.proxy.frames = lambda: lambda frame: [frame | {"type": "server.ready"}]
    line = (await place.smoke(refusals.run, credentials=credentials))["refused-no-token"]
    assert line["verdict"] == "fail"
    assert "a socket without a ticket was let in" in line["detail"]


async def test_a_private_room_in_a_strangers_list_is_caught(place, credentials):
    """That it exists is a secret too."""

    def answer(_method, path, real):
        return httpx.Response(200, json={"rooms": [{"slug": "canary"}]}) if path == "/v1/rooms" else real

    place.proxy.answer = answer
    line = (await place.smoke(refusals.run, credentials=credentials))["refused-foreign-room"]
    assert line["verdict"] == "fail"
    assert "lists the private room" in line["detail"]


async def test_another_close_code_is_not_the_refusal_of_the_contract(place, credentials):
    """Clients decide by the code what to do next."""
    place.proxy.close_code = lambda _: 4009
    lines = await place.smoke(refusals.run, credentials=credentials)
    for name, code in (("refused-no-token", 4001), ("refused-replayed-ticket", 4002)):
        assert lines[name]["verdict"] == "fail"
        assert f"closed with 4009, not {code}" in lines[name]["detail"]


@pytest.mark.parametrize("code", [1006, 1011, 1013, 4012])
async def test_a_socket_that_was_not_judged_is_an_error(place, credentials, monkeypatch, code):
    """The server was going, or had too much to do: neither let in nor refused."""
    monkeypatch.setattr(refusals, "MISSING_TICKET", -1)
    monkeypatch.setattr(refusals, "INVALID_TICKET", -1)
    monkeypatch.setattr(refusals, "UNJUDGED", (4001, 4002, code))
    lines = await probed(place, credentials)
    assert {lines[name]["verdict"] for name in ("refused-no-token", "refused-replayed-ticket")} == {"error"}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_answer_that_judges_nothing_is_an_error(place, credentials, status):
    """Too busy or broken is not refused, and not let in either."""
    place.proxy.answer = lambda *_: httpx.Response(status, json={"error": "RateLimited"})
    lines = await place.smoke(refusals.run, credentials=credentials)
    assert {line["verdict"] for line in lines.values()} == {"error"}
    assert all("could not be tried" in line["detail"] for line in lines.values())


async def test_a_server_that_is_not_there_could_not_be_tried(place, credentials):
    """Health is for others to judge: here it is an error, never a pass."""
    lines = await probed(place, credentials) | await place.smoke(
        refusals.run, url="http://127.0.0.1:1", credentials=credentials
    )
    assert {line["verdict"] for line in lines.values()} == {"error"}


async def test_without_accounts_only_strangers_can_be_refused(place):
    """What needs a session is an error that names the variable."""
    lines = await probed(place, None)
    assert {name for name, line in lines.items() if line["verdict"] == "pass"} == {"refused-no-token"}
    rest = [line for name, line in lines.items() if name != "refused-no-token"]
    assert {line["verdict"] for line in rest} == {"error"}
    assert all("SLUICE_CREDENTIALS" in line["detail"] for line in rest)


async def test_a_refusal_to_everybody_proves_nothing(place, credentials):
    """Where who may is refused as well, the probe was not tried: the sessions ended, or the room is not there."""
    given = json.loads(credentials.read_text())
    for user in [*given["users"], given["stranger"]]:
        await place.server.server.store.revoke_session(user["sessionId"], 1)
    lines = await probed(place, credentials)
    for name in NAMES - {"refused-no-token", "refused-admin"}:
        assert lines[name]["verdict"] == "error", lines[name]


def test_the_side_comes_from_the_environment(monkeypatch, tmp_path):
    """New unless it is said; accounts made by another version are named as missing."""
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"users": [], "canaryRoom": "canary"}))
    monkeypatch.setenv("SLUICE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SLUICE_CREDENTIALS", str(path))
    assert from_environment().side == "new"
    monkeypatch.setenv("SLUICE_SIDE", "old")
    target = from_environment()
    assert target.side == "old"
    for needs in (target.stranger, target.callers, target.canary_people):
        with pytest.raises(UsageError, match="another version"):
            needs()
