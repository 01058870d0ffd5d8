"""The runbook's SSO checks, and a real sign-in through the SSO's own page."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Awaitable
from html.parser import HTMLParser
from urllib.parse import quote, urljoin, urlsplit

import httpx

from boltorezka.smoke.report import CheckBroken, CheckFailed, CheckInconclusive, Report, describe
from boltorezka.smoke.target import Target

PROVIDER = "google"


class _Forms(HTMLParser):
    """Every form of a page: where it goes, its hidden fields, its buttons with a name."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str], set[tuple[str, str]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((values.get("action", ""), {}, set()))
        elif self.forms and tag == "input" and values.get("type") == "hidden":
            self.forms[-1][1][values.get("name", "")] = values.get("value", "")
        elif self.forms and tag == "button" and values.get("name"):
            self.forms[-1][2].add((values["name"], values.get("value", "")))


def client(target: Target) -> httpx.AsyncClient:
    """A browser of its own: its cookie jar is nobody else's. Redirects are looked at, not followed."""
    return httpx.AsyncClient(timeout=target.remaining(), follow_redirects=False, verify=_authorities())


@functools.cache  # a smoke has three such browsers, and loading the certificates costs 25 ms of CPU or more
def _authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def check_mode(http: httpx.AsyncClient, target: Target, report: Report) -> None:
    """GET /v1/auth/mode says sso."""
    async with report.check("sso-mode") as note:
        answer = await http.get(f"{target.url}/v1/auth/mode")
        if answer.status_code != httpx.codes.OK or answer.json().get("mode") != "sso":
            raise CheckFailed(f"GET /v1/auth/mode answered {answer.status_code} {answer.text[:80]!r}, not mode=sso")
        note.detail = "mode=sso"


async def check_only(http: httpx.AsyncClient, target: Target, report: Report) -> None:
    """Local registration and login are gone: 410 SsoOnly, whatever the body."""
    async with report.check("sso-only") as note:
        for route in ("register", "login"):
            for body in (b'{"email":"smoke@smoke.invalid","password":"none"}', b"not json"):
                answer = await http.post(f"{target.url}/v1/auth/{route}", content=body)
                if answer.status_code != httpx.codes.GONE or answer.json().get("error") != "SsoOnly":
                    raise CheckFailed(f"POST /v1/auth/{route} answered {answer.status_code}, not 410 SsoOnly")
        note.detail = "register and login answer 410 SsoOnly"


async def start_address(http: httpx.AsyncClient, target: Target) -> str:
    """Where the service sends a browser that wants to sign in. Raises CheckFailed."""
    query = f"provider={PROVIDER}&returnUrl={quote(target.return_url, safe='')}"
    answer = await http.get(f"{target.url}/v1/auth/sso/start?{query}")
    location = answer.headers.get("location", "")
    if answer.status_code != httpx.codes.FOUND or not location:
        raise CheckFailed(f"GET /v1/auth/sso/start answered {answer.status_code}, not a redirect")
    return str(location)


async def check_redirect(http: httpx.AsyncClient, target: Target, report: Report) -> None:
    """The redirect leads to the SSO host the operator expects."""
    async with report.check("sso-redirect") as note:
        location = await start_address(http, target)
        host = urlsplit(location).netloc
        if not target.expect_sso_host:
            raise CheckInconclusive(
                f"the service redirects to {host}; set SMOKE_EXPECT_SSO_HOST to the host it must be, to have it judged"
            )
        if host != target.expect_sso_host:
            raise CheckFailed(f"the redirect leads to {host}, not to {target.expect_sso_host}")
        note.detail = f"redirects to {host}"


async def check_nobody(http: httpx.AsyncClient, target: Target, report: Report) -> None:
    """Without an SSO cookie nobody is signed in."""
    async with report.check("sso-session") as note:
        answer = await http.get(f"{target.url}/v1/auth/sso/session")
        body = answer.json()
        if answer.status_code != httpx.codes.OK or body.get("authenticated") is not False or body.get("token"):
            raise CheckFailed(f"a stranger's GET /v1/auth/sso/session answered {answer.status_code} and a session")
        note.detail = "a stranger gets no session"


async def sign_in(http: httpx.AsyncClient, target: Target, who: str) -> tuple[str, str] | None:
    """Sign in as a smoke user on the SSO's page; (user id, token), or None where that page offers no such user.

    Raises CheckFailed when the service makes no session of a successful sign-in, CheckBroken when the SSO is down.
    """
    address = await start_address(http, target)
    if target.expect_sso_host and urlsplit(address).netloc != target.expect_sso_host:
        raise CheckFailed("the SSO is not the expected one; nobody signs in there")
    page = await _ask_sso(http.get(address))
    forms = _Forms()
    forms.feed(page.text)
    chosen = next((form for form in forms.forms if ("user", who) in form[2]), None)
    if chosen is None:
        return None
    action, hidden, _ = chosen
    back = await _ask_sso(http.post(urljoin(address, action), data=hidden | {"user": who}))
    home = back.headers.get("location", "")
    if back.status_code != httpx.codes.FOUND or urlsplit(home).netloc != urlsplit(target.return_url).netloc:
        raise CheckFailed(f"after the sign-in the SSO answered {back.status_code} and did not lead back")
    answer = await http.get(f"{target.url}/v1/auth/sso/session")
    body = answer.json()
    if answer.status_code != httpx.codes.OK or body.get("authenticated") is not True or not body.get("token"):
        raise CheckFailed(f"after the sign-in GET /v1/auth/sso/session answered {answer.status_code} and no session")
    return str(body["user"]["id"]), str(body["token"])


async def _ask_sso(answer: Awaitable[httpx.Response]) -> httpx.Response:
    """An SSO that is down says nothing of the release. Raises CheckBroken."""
    try:
        return await answer
    except httpx.HTTPError as error:
        raise CheckBroken(f"the SSO did not answer: {describe(error)}") from None
