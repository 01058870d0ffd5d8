"""Signing in against an independent OpenID Connect provider: the whole way, as a browser goes it."""

import asyncio

import httpx
import pytest

from boltorezka.testing import bearer

from .answers import SESSION_COOKIE

FLOW_COOKIE = "boltorezka_sign_in"


def _ended_with(answer, reason):
    """Whether the browser was sent home with this reason, and is not signed in by it."""
    assert answer.status_code == 302
    assert httpx.URL(answer.headers["location"]).params["authError"] == reason
    assert SESSION_COOKIE not in answer.cookies


async def test_a_person_signs_in(browser, rooms, provider):
    """Browser to provider and back: a session with token and cookie, and who it is for."""
    ended, session = await browser.sign_in("/room/general?tab=1#top")
    assert (ended.status_code, ended.headers["location"]) == (302, f"{rooms.url}/room/general?tab=1#top")
    assert ended.headers["cache-control"] == "no-store"
    user = session["user"]
    assert (user["name"], user["email"], user["role"]) == ("Ann", "ann@people.example", "super_admin")
    assert session["sso"] == {"id": user["id"], "email": user["email"], "username": "Ann", "role": "super_admin"}
    assert session["authenticated"] is True
    assert session["expiresInSec"] in range(590, 601)
    me = await browser.http.get("/v1/auth/me", headers=bearer(session["token"]))
    assert me.json()["user"] == user
    mode = (await browser.http.get("/v1/auth/mode")).json()
    assert mode == {"mode": "sso", "ssoBaseUrl": provider.issuer, "providers": ["oidc"]}
    assert FLOW_COOKIE not in browser.http.cookies


async def test_the_way_to_the_provider_is_guarded(browser, provider):
    """PKCE with S256, state and nonce, each new every time; the cookie is HttpOnly, Lax, short-lived and opaque."""
    answer = await browser.http.get("/v1/auth/sso/start", params={"provider": "oidc"})
    again = await browser.start()
    location = httpx.URL(answer.headers["location"])
    assert str(location).startswith(f"{provider.issuer}/auth?")
    assert location.params["code_challenge_method"] == "S256"
    assert location.params["response_type"] == "code"
    for name in ("state", "nonce", "code_challenge"):
        assert len(location.params[name]) >= 43
        assert location.params[name] != again.params[name]
        assert location.params[name] not in answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=600"} <= set(answer.headers["set-cookie"].split("; "))


async def test_unknown_providers_are_refused(browser):
    """Only the names the configuration offers can be asked for."""
    for provider in ("", "google", "../oidc", "oidc "):
        answer = await browser.http.get("/v1/auth/sso/start", params={"provider": provider})
        assert (answer.status_code, answer.json()["error"]) == (400, "ValidationError")


async def test_the_same_person_is_the_same_user(rooms, provider, browse):
    """A second sign-in from another browser finds the user by the subject; another subject is another user."""
    users = []
    for account in ("ann", "ann", "boris"):
        provider.obey(account=account)
        browser = await browse(rooms.url)
        _, session = await browser.sign_in()
        users.append(session["user"])
    assert users[0] == users[1]
    assert users[2]["id"] != users[0]["id"]
    assert users[2]["role"] == "user"


async def test_an_unverified_address_brings_nothing(browser, rooms, provider, browse):
    """Somebody who claims Ann's address is neither Ann nor super admin, whoever of them comes first."""
    provider.obey(account="mallory")
    _, session = await browser.sign_in()
    assert (session["user"]["email"], session["user"]["role"]) == ("ann@people.example", "user")
    provider.obey(account="ann")
    other = await browse(rooms.url)
    _, ann = await other.sign_in()
    assert ann["user"]["id"] != session["user"]["id"]
    assert ann["user"]["role"] == "super_admin"


async def test_claims_may_stand_in_the_id_token(browser, provider):
    """Some providers put name and e-mail there, others only into their userinfo."""
    provider.obey(claimsInIdToken=True)
    _, session = await browser.sign_in()
    assert (session["user"]["name"], session["user"]["role"]) == ("Ann", "super_admin")


async def test_a_public_client_has_only_pkce(serving, provider, browse):
    """Without a secret the verifier proves that the code is ours."""

    def public(url):
        return provider.register(url, token_endpoint_auth_method="none")

    async with serving(provider.issuer, public) as server:
        browser = await browse(server.url)
        _, session = await browser.sign_in()
    assert session["authenticated"] is True


async def test_a_client_that_posts_its_secret(serving, provider, browse):
    """A wrong secret is the operator's mistake, said as 503 and not as the person's failure."""

    def wrong(url):
        return {**provider.register(url), "OIDC_CLIENT_SECRET": "not-the-one-that-was-given"}

    async with serving(provider.issuer, wrong) as server:
        browser = await browse(server.url)
        answer = await browser.http.get(await browser.to_callback())
        assert (answer.status_code, answer.json()["error"]) == (503, "SsoUnavailable")
        assert (await browser.session())["authenticated"] is False


async def test_a_person_who_says_no_comes_back_with_the_reason(browser, provider):
    """The provider's answer is shown as one of a fixed set of words, behind the query the address had."""
    provider.obey(deny=True)
    callback = await browser.to_callback("/room?tab=1#top")
    answer = await browser.http.get(callback)
    assert answer.headers["location"] == f"{browser.url}/room?tab=1&authError=access_denied#top"
    assert (await browser.session()) == {"authenticated": False, "user": None, "token": None}


async def test_another_state_is_refused_and_the_sign_in_goes_on(browser):
    """A foreign site's answer ends with its reason; the person's own, which comes later, still works."""
    callback = await browser.to_callback()
    for wrong in ("x", "", callback.params["state"][:-1], callback.params["state"] + "x", "\u00e4"):
        _ended_with(await browser.http.get(callback.copy_set_param("state", wrong)), "state_mismatch")
    _ended_with(await browser.http.get(callback.copy_remove_param("state")), "state_mismatch")
    answer = await browser.http.get(callback)
    assert (answer.status_code, answer.headers["location"]) == (302, f"{browser.url}/")
    assert (await browser.session())["authenticated"] is True


async def test_a_callback_works_once(browser, rooms):
    """Played again it finds no cookie; with the cookie kept from before, the provider does not take the code again."""
    callback = await browser.to_callback()
    kept = browser.http.cookies[FLOW_COOKIE]
    assert (await browser.http.get(callback)).headers["location"] == f"{rooms.url}/"
    _ended_with(await browser.http.get(callback), "sign_in_expired")
    async with httpx.AsyncClient(trust_env=False) as thief:
        _ended_with(await thief.get(callback, headers={"cookie": f"{FLOW_COOKIE}={kept}"}), "code_refused")


async def test_of_two_callbacks_at_once_at_most_one_signs_in(browser, rooms):
    """The provider gives a code's tokens once, and may take them back when it is used again."""
    callback = await browser.to_callback()
    cookie = {"cookie": f"{FLOW_COOKIE}={browser.http.cookies[FLOW_COOKIE]}"}
    async with httpx.AsyncClient(trust_env=False) as other:
        answers = await asyncio.gather(*(other.get(callback, headers=cookie) for _ in range(2)))
    assert sum(SESSION_COOKIE in answer.cookies for answer in answers) <= 1


async def test_a_code_belongs_to_the_browser_that_asked(browser, rooms, browse):
    """Login by a foreign hand: Mallory's code in Ann's browser has another state, and her cookie another verifier."""
    foreign = await browser.to_callback()
    ann = await browse(rooms.url)
    _ended_with(await ann.http.get(foreign), "sign_in_expired")
    own = await ann.start()
    _ended_with(await ann.http.get(foreign), "state_mismatch")
    # Even with the right state: the code was bound to another verifier.
    _ended_with(await ann.http.get(foreign.copy_set_param("state", own.params["state"])), "code_refused")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-4] + "AAAA",
        lambda text: "A" + text[1:],
        lambda _text: "x",
        lambda text: text.replace("..", ".x."),
    ],
)
async def test_a_changed_cookie_is_no_cookie(browser, change):
    """What was not sealed here, as it is, is not opened."""
    callback = await browser.to_callback()
    changed = change(browser.http.cookies[FLOW_COOKIE])
    async with httpx.AsyncClient(trust_env=False) as other:
        answer = await other.get(callback, headers={"cookie": f"{FLOW_COOKIE}={changed}"})
    _ended_with(answer, "sign_in_expired")


async def test_the_provider_must_name_itself(browser):
    """It says that it always does (RFC 9207), so an answer without its name, or with another, is another's."""
    for change in (
        lambda url: url.copy_remove_param("iss"),
        lambda url: url.copy_set_param("iss", "https://evil.example"),
    ):
        _ended_with(await browser.http.get(change(await browser.to_callback())), "wrong_issuer")


async def test_parameters_are_given_once(browser):
    """A second state beside the good one is a malformed request."""
    callback = await browser.to_callback()
    answer = await browser.http.get(f"{callback}&state=x")
    assert (answer.status_code, answer.json()["error"]) == (400, "ValidationError")


async def test_keys_are_rotated_between_two_sign_ins(browser, rooms, provider, browse):
    """A key id that is not known yet makes the server look again."""
    await browser.sign_in()
    provider.obey(rotate=True)
    other = await browse(rooms.url)
    _, session = await other.sign_in()
    assert session["authenticated"] is True


async def test_foreign_return_addresses_become_home(browser, rooms):
    """Both when leaving for the provider and when leaving it for good."""
    for odd in (
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "https://127.0.0.1@evil.example/",
    ):
        answer = await browser.http.get(await browser.to_callback(odd))
        assert answer.headers["location"] == f"{rooms.url}/"
        out = await browser.http.get("/v1/auth/sso/logged-out", params={"state": odd})
        assert (out.status_code, out.headers["location"]) == (302, f"{rooms.url}/")


async def test_leaving_the_provider_comes_back_to_the_checked_address(browser, rooms, provider):
    """The provider knows our registered address, and carries where the person wanted to go as its state."""
    _, session = await browser.sign_in()
    out = await browser.http.post("/v1/auth/logout", headers={"sec-fetch-site": "same-origin"})
    assert out.json() == {"ok": True}
    left = await browser.http.get("/v1/auth/sso/logout", params={"returnUrl": f"{rooms.url}/bye"})
    location = httpx.URL(left.headers["location"])
    assert str(location).startswith(f"{provider.issuer}/session/end?")
    # The provider asks the person; its form is sent as a browser would.
    page = await browser.http.get(location)
    secret = page.text.partition('name="xsrf" value="')[2].partition('"')[0]
    form = {"xsrf": secret, "logout": "yes"}
    answer = await browser.http.post(f"{provider.issuer}/session/end/confirm", data=form)
    back = httpx.URL(answer.headers["location"])
    assert str(back).startswith(f"{rooms.url}/v1/auth/sso/logged-out?")
    assert (await browser.http.get(back)).headers["location"] == f"{rooms.url}/bye"
    assert (await browser.session())["authenticated"] is False
    assert (await browser.http.get("/v1/auth/me", headers=bearer(session["token"]))).status_code == 401


async def test_https_sign_ins_have_host_bound_cookies(serving, provider, browse):
    """Behind TLS both cookies are Secure and carry the __Host- prefix, so no neighbouring host can plant one."""

    def client(_url):
        return provider.register("https://rooms.example")

    async with serving(provider.issuer, client, PUBLIC_ORIGIN="https://rooms.example") as server:
        http = (await browse(server.url)).http
        start = await http.get("/v1/auth/sso/start", params={"provider": "oidc"})
    cookie = start.headers["set-cookie"]
    assert cookie.startswith(f"__Host-{FLOW_COOKIE}=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    assert httpx.URL(start.headers["location"]).params["redirect_uri"] == "https://rooms.example/v1/auth/sso/callback"
