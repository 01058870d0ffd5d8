"""The development SSO speaks the central SSO's protocol and believes only loopback."""

import httpx
import pytest

from boltorezka.dev_sso import MAX_SESSIONS, dev_sso_application, require_safe_place
from boltorezka.errors import ConfigError

BACK = "http://127.0.0.1:9/room?x=1"


@pytest.fixture
async def browser():
    """A browser-like client of the application, on a loopback address."""
    transport = httpx.ASGITransport(dev_sso_application())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8090") as client:
        yield client


@pytest.mark.parametrize(("host", "environment"), [("::", ""), ("192.0.2.1", "test"), ("127.0.0.1", "prod")])
def test_refuses_to_run_where_people_could_reach_it(host, environment):
    """Only loopback, and never in prod."""
    with pytest.raises(ConfigError):
        require_safe_place(host, environment)


async def test_nobody_is_signed_in_without_a_cookie(browser):
    """Both questions of the protocol answer no, as JSON."""
    assert (await browser.get("/auth/get-token")).json() == {"authenticated": False}
    assert (await browser.get("/auth/current-user")).json() == {"user": None}
    browser.cookies.set("sso_session", "guessed")
    assert (await browser.get("/auth/get-token")).json() == {"authenticated": False}


async def test_choosing_a_person_signs_in_and_goes_back(browser):
    """The cookie is HttpOnly, the browser returns, and the protocol names the person."""
    page = await browser.get("/auth/google", params={"returnUrl": BACK})
    assert page.status_code == 200
    assert "Smoke One" in page.text
    answer = await browser.post("/auth/google/choose", data={"user": "smoke-1", "returnUrl": BACK})
    assert (answer.status_code, answer.headers["location"]) == (302, BACK)
    assert "HttpOnly" in answer.headers["set-cookie"]
    token = (await browser.get("/auth/get-token")).json()
    assert token == {
        "authenticated": True,
        "email": "smoke-1@people.example",
        "username": "Smoke One",
        "role": "user",
    }
    assert (await browser.get("/auth/current-user")).json()["user"]["id"] == "smoke-1"
    assert "signed in" in (await browser.get("/auth/google")).text
    assert "Smoke One" in (await browser.get("/")).text


async def test_the_same_typed_name_is_the_same_person(browser):
    """Coming back under a name finds the same account; another name another one; no name of ours can be taken."""
    ids = []
    for name in ("Мария  Ку", "мария ку", "Smoke One"):
        await browser.post("/auth/google/choose", data={"name": name, "returnUrl": BACK})
        ids.append((await browser.get("/auth/current-user")).json()["user"]["id"])
    assert ids[0] == ids[1] != ids[2] != "smoke-1"


@pytest.mark.parametrize(
    "form", [{}, {"user": "nobody"}, {"name": "  "}, {"name": "x" * 41}, {"name": "a\x00b"}, {"user": ["a"] * 20}]
)
async def test_bad_forms_sign_nobody_in(browser, form):
    """Unknown people, empty and odd names are answered with a page and 400."""
    answer = await browser.post("/auth/google/choose", data=form)
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers


async def test_a_large_form_is_refused(browser):
    """A body that is not this form does not stay in memory."""
    assert (await browser.post("/auth/google/choose", content=b"x" * 100_000)).status_code == 413


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}])
async def test_foreign_pages_cannot_send_the_form(browser, headers):
    """No other site can change who a browser is signed in as."""
    answer = await browser.post("/auth/google/choose", data={"user": "ann"}, headers=headers)
    assert answer.status_code == 403


async def test_a_foreign_name_of_loopback_is_refused(browser):
    """A name that resolves to loopback must not share our origin."""
    answer = await browser.get("/auth/google", headers={"host": "evil.example:8090"})
    assert answer.status_code == 403


@pytest.mark.parametrize("back", ["http://evil.example/", "//evil.example", "javascript:alert(1)"])
async def test_the_browser_goes_back_to_loopback_only(browser, back):
    """Anything else ends at the SSO's own page, after signing in and after signing out."""
    answer = await browser.post("/auth/google/choose", data={"user": "ann", "returnUrl": back})
    assert answer.headers["location"] == "/"
    assert (await browser.get("/auth/logout", params={"returnUrl": back})).headers["location"] == "/"


async def test_signing_out_ends_the_session_itself(browser):
    """A kept copy of the cookie is worth nothing afterwards."""
    await browser.post("/auth/google/choose", data={"user": "ann", "returnUrl": BACK})
    kept = browser.cookies["sso_session"]
    answer = await browser.get("/auth/logout", params={"returnUrl": BACK})
    assert answer.headers["location"] == BACK
    browser.cookies.set("sso_session", kept)
    assert (await browser.get("/auth/get-token")).json() == {"authenticated": False}


async def test_sessions_are_bounded(browser):
    """The oldest session makes room."""
    await browser.post("/auth/google/choose", data={"user": "ann"})
    first = browser.cookies["sso_session"]
    for _ in range(MAX_SESSIONS):
        await browser.post("/auth/google/choose", data={"user": "boris"})
    answer = await browser.get("/auth/get-token", headers={"cookie": f"sso_session={first}"})
    assert answer.json() == {"authenticated": False}


async def test_typed_text_never_becomes_markup(browser):
    """Names and addresses are shown as text."""
    await browser.post("/auth/google/choose", data={"name": "<b>$body</b>"})
    assert "&lt;b&gt;$body&lt;/b&gt;" in (await browser.get("/")).text
    page = await browser.get("/auth/%3Cscript%3E", params={"returnUrl": 'http://127.0.0.1/"><x>'})
    assert "<script>" not in page.text
    assert "<x>" not in page.text
