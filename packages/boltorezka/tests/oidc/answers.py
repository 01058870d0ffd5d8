"""A browser that comes back to our server with a provider's answer, and what became of it."""

import httpx

CALLBACK = "/v1/auth/sso/callback"
SESSION_COOKIE = "boltorezka_session"
SENTINELS = ("s3cret", "at-sentinel", "code-sentinel")


async def come_back(browser, hostile, **answer):
    """Go to the provider and come back with its answer; what our server makes of it."""
    location = await browser.start()
    hostile.nonce = location.params["nonce"]
    given = {"code": "code-sentinel", "state": location.params["state"], "iss": hostile.issuer, **answer}
    params = {name: value for name, value in given.items() if value is not None}
    return await browser.http.get(CALLBACK, params=params)


def sent_home_for(answer):
    """Why the browser was sent home without a session."""
    assert answer.status_code == 302, answer.text
    assert SESSION_COOKIE not in answer.cookies
    return httpx.URL(answer.headers["location"]).params.get("authError")


def signed_in(answer):
    """Whether the browser was sent home with one."""
    return (answer.status_code, SESSION_COOKIE in answer.cookies, "authError" in answer.headers["location"]) == (
        302,
        True,
        False,
    )
