"""Providers that are misconfigured, talk nonsense, are silent or away; and what comes after signing in."""

import logging

import httpx
import pytest
from starlette.responses import Response

from boltorezka.adapters import oidc_provider
from boltorezka.testing import METRICS_TOKEN, bearer

from .answers import CALLBACK, SENTINELS, SESSION_COOKIE, come_back, sent_home_for, signed_in

DISCOVERIES = [
    {"issuer": "https://evil.example"},
    {"token_endpoint": "ftp://127.0.0.1/token"},
    {"authorization_endpoint": "javascript:alert(1)"},
    {"jwks_uri": "http://user@127.0.0.1/jwks"},
    {"jwks_uri": "http://127.0.0.1:99999/jwks"},
    {"token_endpoint": None},
    {"token_endpoint": 7},
]


async def test_a_discovery_that_cannot_be_trusted(deceived, hostile):
    """Another issuer than the configured one, letter by letter, or endpoints that are none: nobody is sent there."""
    honest = hostile.metadata
    for discovery in (*DISCOVERIES, {"issuer": f"{hostile.issuer}/"}):
        hostile.metadata = {**honest, **discovery}
        answer = await deceived.http.get("/v1/auth/sso/start", params={"provider": "oidc"})
        assert (answer.status_code, answer.json()["error"], answer.json()["retryable"]) == (503, "SsoUnavailable", True)


NONSENSE = (
    Response(b"<html>"),
    Response(b"[]"),
    Response(b"null"),
    Response(b"\xff\xfe"),
    Response(b"{}", 500),
    Response(b"{}", 302, {"location": "http://127.0.0.1:1/"}),
    Response(b'{"a":"' + b"x" * (oidc_provider.MAX_ANSWER + 1) + b'"}'),
)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks", "/me"])
async def test_nonsense_is_sso_unavailable(deceived, hostile, clock, path):
    """Whatever is not the protocol signs nobody in, and does not break the server: the next sign-in works."""
    for instead in NONSENSE:
        deceived.http.cookies.clear()
        # What was read before has grown old.
        clock.advance(3600)
        hostile.answers[path] = instead
        if path.startswith("/.well-known"):
            answer = await deceived.http.get("/v1/auth/sso/start", params={"provider": "oidc"})
        else:
            answer = await come_back(deceived, hostile)
        assert (answer.status_code, answer.json()["error"]) == (503, "SsoUnavailable")
        hostile.answers.clear()
        assert signed_in(await come_back(deceived, hostile))


async def test_a_provider_that_is_away(serving, browse, closed_port):
    """Nobody answers there: 503 within the deadline, worth a retry; the server itself goes on."""

    def client(_url):
        return {"OIDC_CLIENT_ID": "rooms"}

    async with serving(closed_port, client) as server:
        browser = await browse(server.url)
        for route in ("start?provider=oidc", "logout"):
            answer = await browser.http.get(f"/v1/auth/sso/{route}")
            assert (answer.status_code, answer.json()["error"]) == (503, "SsoUnavailable")
        assert (await browser.http.get("/health")).status_code == 200
        assert (await browser.session())["authenticated"] is False
        assert (await browser.http.get(CALLBACK)).headers["location"] == f"{server.url}/?authError=sign_in_expired"


async def test_a_provider_that_is_silent(deceived, hostile, clock, monkeypatch):
    """A person does not wait longer than the deadline for any of its answers."""
    for path in ("/token", "/jwks", "/.well-known/openid-configuration"):
        # What was read before has grown old: each answer is asked for anew, and only the silent one is hurried.
        clock.advance(3600)
        location = await deceived.start()
        hostile.nonce, state = location.params["nonce"], location.params["state"]
        hostile.silent = {path}
        with monkeypatch.context() as hurried:
            hurried.setattr(oidc_provider, "DEADLINE_S", 0.05)
            if path.startswith("/.well-known"):
                clock.advance(3600)
                answer = await deceived.http.get("/v1/auth/sso/start", params={"provider": "oidc"})
            else:
                given = {"code": "code-sentinel", "state": state, "iss": hostile.issuer}
                answer = await deceived.http.get(CALLBACK, params=given)
        assert (answer.status_code, answer.json()["error"], hostile.asked[-1][0]) == (503, "SsoUnavailable", path)
        hostile.silent = set()


async def test_leaving_a_provider_without_a_place_for_it(deceived):
    """Straight to the checked address."""
    answer = await deceived.http.get("/v1/auth/sso/logout", params={"returnUrl": "/bye"})
    assert (answer.status_code, answer.headers["location"]) == (302, f"{deceived.url}/bye")


async def test_nothing_secret_is_logged_or_counted(deceived, hostile, caplog):
    """Neither codes, nor tokens, nor our secret, nor the sealed cookie are in a log line or the metrics."""
    caplog.set_level(logging.DEBUG)
    hostile.claims = {"nonce": "another"}
    await deceived.start()
    sealed = deceived.http.cookies["boltorezka_sign_in"]
    await come_back(deceived, hostile)
    hostile.claims = {}
    await come_back(deceived, hostile)
    token = (await deceived.session())["token"]
    metrics = (await deceived.http.get("/metrics", headers=bearer(METRICS_TOKEN))).text
    assert 'boltorezka_auth_failures_total{reason="invalid_id_token"} 1.0' in metrics
    ours = [record for record in caplog.records if record.name.startswith("boltorezka")]
    lines = "\n".join(str(vars(record)) for record in ours) + metrics
    assert any(record.getMessage() == "sign-in not completed" for record in ours)
    for secret in (*SENTINELS, sealed, token, hostile.nonce):
        assert secret not in lines


async def test_a_banned_person_comes_back_with_the_reason(deceived, hostile, banned):
    """The provider says who they are; we say that they may not come in."""
    await come_back(deceived, hostile)
    await banned((await deceived.session())["user"]["id"])
    deceived.http.cookies.clear()
    assert sent_home_for(await come_back(deceived, hostile)) == "banned"


async def test_a_page_goes_on_with_its_session(deceived, hostile, clock):
    """The token itself while it is good, then the next generation's; an old one ends the session."""
    await come_back(deceived, hostile)
    first = await deceived.session()
    clock.advance(60)
    again = await deceived.session()
    assert (again["token"], again["expiresInSec"]) == (first["token"], 540)
    clock.advance(600)
    foreign = await deceived.http.get("/v1/auth/sso/session", headers={"sec-fetch-site": "cross-site"})
    assert foreign.json() == {"authenticated": False, "user": None, "token": None}
    kept = deceived.http.cookies[SESSION_COOKIE]
    later = await deceived.session()
    assert later["token"] != first["token"] == kept
    assert deceived.http.cookies[SESSION_COOKIE] == later["token"]
    clock.advance(11)
    async with httpx.AsyncClient(base_url=deceived.url, trust_env=False) as thief:
        stolen = await thief.get("/v1/auth/sso/session", headers={"cookie": f"{SESSION_COOKIE}={kept}"})
    assert stolen.json()["authenticated"] is False
    assert (await deceived.session())["authenticated"] is False
