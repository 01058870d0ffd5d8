"""Signing in, staying signed in, tickets, signing out: against the real server and a real SSO."""

import asyncio

import httpx
import pytest

from boltorezka.adapters.http.answers import MAX_BODY
from boltorezka.auth.sessions import SECOND, ticket_hash
from boltorezka.testing import METRICS_TOKEN, bearer, in_process_server, loopback_listener, sign_in

COOKIE = "boltorezka_session"

# Every route that changes something for somebody with a session.
UNSAFE = (
    ("POST", "/v1/auth/refresh"),
    ("POST", "/v1/auth/logout"),
    ("POST", "/v1/rooms"),
    ("POST", "/v1/rooms/general/members"),
    ("DELETE", "/v1/rooms/general/members/x"),
    *(("POST", f"/v1/admin/users/x/{decision}") for decision in ("promote", "demote", "ban", "unban")),
)


@pytest.fixture
async def ann(api, running):
    """Ann's session body; her cookies are in `api`."""
    return await sign_in(api, running.url, "ann")


async def _me(client, token):
    return (await client.get("/v1/auth/me", headers=bearer(token))).status_code


async def test_mode_is_sso(api, sso):
    """Clients learn where to sign in."""
    mode = {"mode": "sso", "ssoBaseUrl": sso, "providers": ["google", "yandex"]}
    assert (await api.get("/v1/auth/mode")).json() == mode


async def test_start_refuses_unknown_providers(api):
    """Only the configured providers can be named."""
    for provider in ("", "github", "../logout", "google?x="):
        answer = await api.get("/v1/auth/sso/start", params={"provider": provider})
        assert (answer.status_code, answer.json()["error"]) == (400, "ValidationError")


async def test_start_and_logout_redirect_to_the_sso_with_a_checked_address(api, sso, running):
    """A foreign return address becomes our home, both ways."""
    for route, place in (("start", "auth/google"), ("logout", "auth/logout")):
        for wanted, sent in (("https://evil.example/", "/"), ("/room", "/room"), (f"{running.url}/x?y=1", "/x?y=1")):
            params = {"provider": "google", "returnUrl": wanted}
            answer = await api.get(f"/v1/auth/sso/{route}", params=params)
            location = httpx.URL(answer.headers["location"])
            assert answer.status_code == 302
            assert str(location).startswith(f"{sso}/{place}?")
            assert location.params["returnUrl"] == running.url + sent


async def test_nobody_is_signed_in_without_the_sso(api):
    """Without the SSO's cookie, or with a made-up one, the answer is a plain no."""
    no = {"authenticated": False, "user": None, "token": None}
    assert (await api.get("/v1/auth/sso/session")).json() == no
    made_up = await api.get("/v1/auth/sso/session", headers={"cookie": "sso_session=made-up"})
    assert made_up.json() == no


async def test_signing_in_gives_a_token_and_a_cookie(api, ann, running):
    """The body is the contract's; the same token is in an HttpOnly cookie; the configured address is super admin."""
    assert ann["authenticated"] is True
    assert ann["expiresInSec"] == 600
    assert ann["sso"] == {"id": "ann", "email": "ann@people.example", "username": "Ann", "role": "admin"}
    user = ann["user"]
    assert (user["name"], user["role"]) == ("Ann", "super_admin")
    assert user["created_at"] == "2027-01-15T08:00:00.000Z"
    assert set(user) == {"id", "email", "name", "role", "created_at"}
    assert api.cookies[COOKIE] == ann["token"]
    me = await api.get("/v1/auth/me", headers=bearer(ann["token"]))
    assert me.json() == {"user": user}
    assert (await api.get("/v1/auth/me")).json() == {"user": user}
    again = await sign_in(api, running.url, "boris")
    assert again["user"]["id"] != user["id"]
    assert again["user"]["role"] == "user"


async def test_reloading_keeps_the_session(api, ann, clock):
    """The session a browser holds goes on, also with an expired token: ending it ends the first token too."""
    clock.advance(700)
    again = (await api.get("/v1/auth/sso/session")).json()
    assert await _me(api, again["token"]) == 200
    await api.post("/v1/auth/logout", headers=bearer(again["token"]))
    refreshed = await api.post("/v1/auth/refresh", headers=bearer(ann["token"]))
    assert refreshed.status_code == 401


@pytest.mark.usefixtures("ann")
async def test_bad_tokens_are_unauthorized_even_beside_a_good_cookie(api):
    """A header outweighs the cookie, so a client sees its own mistake."""
    assert (await api.get("/v1/auth/me")).status_code == 200
    for header in ("", "Bearer", "Bearer x", "Basic eDp5", "Bearer a.b.c"):
        answer = await api.get("/v1/auth/me", headers={"authorization": header})
        assert (answer.status_code, answer.json()["error"]) == (401, "Unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_sessions_are_needed(stranger):
    """Nothing of a person's is shown without a session."""
    for route in ("/v1/auth/ws-ticket", "/v1/rooms", "/v1/rooms/general/messages"):
        assert (await stranger.get(route)).status_code == 401


async def test_nobody_is_an_answer(stranger, ann, clock):
    """`me` without a session is null; with one that has ended or expired it is a mistake the client can see."""
    assert (await stranger.get("/v1/auth/me")).json() == {"user": None}
    empty = await stranger.get("/v1/auth/me", headers={"cookie": f"{COOKIE}="})
    assert (empty.status_code, empty.json()) == (200, {"user": None})
    clock.advance(601)
    expired = await stranger.get("/v1/auth/me", headers={"cookie": f"{COOKIE}={ann['token']}"})
    assert (expired.status_code, expired.json()["error"]) == (401, "Unauthorized")


async def test_local_accounts_do_not_exist(stranger):
    """Registration and login answer 410 whatever the body."""
    for route in ("register", "login"):
        for body in (b"", b"{", b'{"email":"a@x.example","password":"p"}'):
            answer = await stranger.post(f"/v1/auth/{route}", content=body)
            assert (answer.status_code, answer.json()["error"]) == (410, "SsoOnly")


async def test_refresh_gives_the_next_generation(stranger, ann, clock):
    """The token before stays good for ten seconds and gets the same generation; then it is worth nothing."""
    first = ann["token"]
    second = (await stranger.post("/v1/auth/refresh", headers=bearer(first))).json()
    assert set(second) == {"token", "expiresInSec", "user"}
    clock.advance(9)
    raced = (await stranger.post("/v1/auth/refresh", headers=bearer(first))).json()
    assert [await _me(stranger, token) for token in (first, second["token"], raced["token"])] == [200, 200, 200]
    clock.advance(1)
    assert await _me(stranger, first) == 401
    assert await _me(stranger, raced["token"]) == 200


async def test_refreshing_with_an_old_generation_revokes_the_session(stranger, ann, clock):
    """Somebody else holds a copy: nobody keeps the session."""
    second = (await stranger.post("/v1/auth/refresh", headers=bearer(ann["token"]))).json()
    clock.advance(11)
    stolen = await stranger.post("/v1/auth/refresh", headers=bearer(ann["token"]))
    assert stolen.status_code == 401
    assert await _me(stranger, second["token"]) == 401
    text = (await stranger.get("/metrics", headers=bearer(METRICS_TOKEN))).text
    assert 'boltorezka_auth_failures_total{reason="superseded_token"}' in text


async def test_many_tabs_refreshing_at_once_all_stay_signed_in(stranger, ann):
    """Of concurrent refreshes one makes the generation and all get it."""
    answers = await asyncio.gather(*(stranger.post("/v1/auth/refresh", headers=bearer(ann["token"])) for _ in range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert [await _me(stranger, answer.json()["token"]) for answer in answers] == [200] * 8


async def test_an_expired_token_can_be_refreshed_for_a_month(stranger, ann, clock):
    """Within the session's life the expired token is enough; after it, it is not."""
    clock.advance(601)
    assert await _me(stranger, ann["token"]) == 401
    refreshed = await stranger.post("/v1/auth/refresh", headers=bearer(ann["token"]))
    assert refreshed.status_code == 200
    clock.advance(30 * 24 * 3600)
    late = await stranger.post("/v1/auth/refresh", headers=bearer(refreshed.json()["token"]))
    assert late.status_code == 401


async def test_the_cookie_is_worth_nothing_to_other_sites(api, ann, running):
    """An unsafe request by cookie has to come from our own pages, on every route there is."""
    foreign = (
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": running.url},
    )
    for headers in foreign:
        for method, path in UNSAFE:
            answer = await api.request(method, path, headers=headers, json={})
            assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden"), (method, path, headers)
    assert await _me(api, ann["token"]) == 200


async def test_own_pages_refresh_and_log_out_by_cookie(api, ann, running):
    """Both ways of telling a browser's own page work, and logging out takes the cookie away."""
    refreshed = await api.post("/v1/auth/refresh", headers={"sec-fetch-site": "same-origin"})
    assert api.cookies[COOKIE] == refreshed.json()["token"] != ann["token"]
    out = await api.post("/v1/auth/logout", headers={"origin": running.url})
    assert out.json() == {"ok": True}
    assert COOKIE not in api.cookies
    assert await _me(api, refreshed.json()["token"]) == 401


async def test_logout_closes_the_sockets_of_that_session(stranger, ann, running, monkeypatch):
    """The sockets' side is told at once, also when the token has expired meanwhile."""
    closed = []
    monkeypatch.setattr(type(running.server.realtime), "close_session", lambda _self, session: closed.append(session))
    assert (await stranger.post("/v1/auth/logout", headers=bearer(ann["token"]))).json() == {"ok": True}
    assert len(closed) == 1
    assert (await stranger.post("/v1/auth/logout", headers=bearer(ann["token"]))).json() == {"ok": True}
    assert len(closed) == 1


async def test_a_session_fetches_so_many_tickets_and_no_more(stranger, ann, running, clock):
    """Thirty at once, then one a second; the refusal says when to come back, and other sessions are not hindered."""
    for _ in range(30):
        assert (await stranger.get("/v1/auth/ws-ticket", headers=bearer(ann["token"]))).status_code == 200
    refused = await stranger.get("/v1/auth/ws-ticket", headers=bearer(ann["token"]))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json() == {"error": "RateLimited", "message": refused.json()["message"], "retryable": True}
    boris = await sign_in(stranger, running.url, "boris")
    assert (await stranger.get("/v1/auth/ws-ticket", headers=bearer(boris["token"]))).status_code == 200
    clock.advance(1)
    assert (await stranger.get("/v1/auth/ws-ticket", headers=bearer(ann["token"]))).status_code == 200


async def test_a_session_is_refreshed_so_often_and_no_more(stranger, ann):
    """Sixty tabs may wake up at once; a loop is refused, and the session lives on."""
    token, statuses = ann["token"], []
    for _ in range(61):
        answer = await stranger.post("/v1/auth/refresh", headers=bearer(token))
        statuses.append(answer.status_code)
        token = answer.json().get("token", token)
    assert statuses == [200] * 60 + [429]
    assert await _me(stranger, token) == 200


async def test_an_address_signs_in_so_often_and_no_more(tmp_path, sso, clock):
    """Every step counts for the address the proxy names, not for the proxy, and one address is not another's fault."""
    routes = [("GET", "sso/start?provider=google"), ("GET", "sso/session"), ("POST", "login"), ("POST", "register")]
    async with (
        in_process_server(tmp_path, sso, clock, LOGINS_PER_MINUTE="12") as server,
        httpx.AsyncClient(base_url=f"{server.url}/v1/auth/", trust_env=False) as client,
    ):

        async def status(address, route):
            headers = {"x-forwarded-for": f"192.0.2.200, {address}"}
            return (await client.request(*route, headers=headers)).status_code

        assert [await status("198.51.100.1", route) for route in routes] == [302, 200, 410, 410]
        assert [await status("198.51.100.1", route) for route in routes] == [429] * 4
        assert await status("198.51.100.2", routes[0]) == 302
        clock.advance(5)
        assert await status("198.51.100.1", routes[0]) == 302


async def test_large_bodies_are_refused(stranger, ann):
    """A body over the limit is refused by its declared length and by what really comes."""

    async def chunks():
        for _ in range(5):
            yield b"x" * (MAX_BODY // 4)

    for content in (b"x" * (MAX_BODY + 1), chunks()):
        answer = await stranger.post("/v1/auth/refresh", headers=bearer(ann["token"]), content=content)
        assert (answer.status_code, answer.json()["error"]) == (413, "PayloadTooLarge")


async def test_tickets_are_stored_hashed_and_remember_how_they_were_fetched(api, ann, running, clock):
    """One use, 45 seconds, bound to the session; only one fetched with a Bearer token may come without an Origin."""
    for headers, via_bearer in ((bearer(ann["token"]), True), ({}, False)):
        body = (await api.get("/v1/auth/ws-ticket", headers=headers)).json()
        assert body["expiresInSec"] == 45
        grant = await running.server.store.take_ticket(ticket_hash(body["ticket"]))
        assert grant is not None
        assert (grant.user_id, grant.via_bearer) == (ann["user"]["id"], via_bearer)
        assert grant.expires_at == clock.now() + 45 * SECOND
        assert await running.server.store.take_ticket(ticket_hash(body["ticket"])) is None
        assert body["ticket"].encode() not in b"".join(path.read_bytes() for path in _database(running))


def _database(running):
    database = running.settings.database_url.path
    return database.parent.glob(f"{database.name}*")


async def test_https_cookies_are_host_bound(tmp_path, sso):
    """Behind TLS the cookie is Secure and carries the __Host- prefix."""
    async with in_process_server(tmp_path, sso, PUBLIC_ORIGIN="https://rooms.example") as server:
        async with httpx.AsyncClient(trust_env=False) as client:
            chosen = await client.post(f"{sso}/auth/google/choose", data={"user": "ann"})
            cookie = chosen.cookies["sso_session"]
            headers = {"cookie": f"sso_session={cookie}"}
            answer = await client.get(f"{server.url}/v1/auth/sso/session", headers=headers)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-boltorezka_session=")
        assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))


async def test_an_sso_that_is_down_is_said_so(tmp_path):
    """Nobody answers there: 503, worth a retry."""
    listener, nobody = loopback_listener()
    with listener:
        async with in_process_server(tmp_path, nobody) as server, httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{server.url}/v1/auth/sso/session", headers={"cookie": "sso_session=x"})
    assert (answer.status_code, answer.json()["error"]) == (503, "SsoUnavailable")
    assert answer.json()["retryable"] is True
