"""A development SSO: a page where you choose who you are, speaking the central SSO's protocol (contract section 2).

It believes everybody, so it listens on loopback only, sends browsers back to loopback only, and refuses to run where
the environment is `prod`.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import logging
import re
import secrets
import signal
import socket
from collections import OrderedDict
from dataclasses import dataclass
from string import Template
from urllib.parse import parse_qsl, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from boltorezka.adapters.http.answers import read_body, refusal_answer
from boltorezka.adapters.logs import configure_logs
from boltorezka.auth.return_url import HOME, checked_return_url
from boltorezka.errors import ConfigError, Refusal

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})

COOKIE = "sso_session"

# A developer and a test run never need more; the oldest is signed out first.
MAX_SESSIONS = 1000

MAX_NAME = 40

log = logging.getLogger("boltorezka.dev_sso")


@dataclass(frozen=True)
class Person:
    """Somebody this SSO knows."""

    id: str
    username: str
    email: str
    role: str = "user"


PEOPLE = {
    person.id: person
    for person in (
        Person("ann", "Ann", "ann@people.example", "admin"),
        Person("boris", "Boris", "boris@people.example"),
        Person("vera", "Vera", "vera@people.example"),
        Person("smoke-1", "Smoke One", "smoke-1@people.example"),
        Person("smoke-2", "Smoke Two", "smoke-2@people.example"),
    )
}


def require_safe_place(host: str, environment: str) -> None:
    """Raise ConfigError unless this is a loopback address of a machine that does not serve people."""
    problems = []
    if environment == "prod":
        problems.append("BOLTOREZKA_ENVIRONMENT: the development SSO believes everybody and never runs in prod")
    if host not in {"127.0.0.1", "localhost", "::1"}:
        problems.append("--host: the development SSO listens on 127.0.0.1, localhost or ::1 only")
    if problems:
        raise ConfigError("The development SSO must not run here.", problems=problems)


async def serve_dev_sso(listener: socket.socket) -> None:
    """Serve on the bound loopback socket until SIGTERM or SIGINT."""
    configure_logs("info")
    server = dev_sso_server()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # Whoever reads the next line may connect at once; uvicorn accepts a moment later.
    listener.listen()
    host, port = listener.getsockname()[:2]
    log.info("listening", extra={"host": host, "port": port})
    # Without uvicorn's own signal handling: it would raise the signal again after a clean end.
    await server._serve(sockets=[listener])  # noqa: SLF001


def dev_sso_server() -> uvicorn.Server:
    """The server, not yet serving."""
    config = uvicorn.Config(
        dev_sso_application(),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def dev_sso_application() -> ASGIApp:
    """The routes, with sessions in memory."""
    sso = _DevSso()
    return Starlette(
        routes=[
            Route("/", sso.home),
            Route("/auth/get-token", sso.get_token),
            Route("/auth/current-user", sso.current_user),
            Route("/auth/logout", sso.logout),
            Route("/auth/{provider}", sso.page),
            Route("/auth/{provider}/choose", sso.choose, methods=["POST"]),
        ],
        exception_handlers={Refusal: refusal_answer},
    )


class _DevSso:
    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Person] = OrderedDict()

    async def page(self, request: Request) -> Response:
        """Who do you want to be?"""
        if not _is_loopback_request(request):
            return _refused("This development SSO answers on loopback addresses only.")
        return_url = _checked(request.query_params.get("returnUrl"))
        present = self._person(request)
        return _html(_choose_page(request.path_params["provider"], return_url, present))

    async def choose(self, request: Request) -> Response:
        """Sign in as the chosen or typed person and go back."""
        if not _is_loopback_request(request) or not _from_own_page(request):
            return _refused("This form can only be sent from the page of the development SSO itself.")
        form = dict(parse_qsl((await read_body(request)).decode(errors="replace")))
        person = _chosen(form.get("user", ""), form.get("name", ""))
        if person is None:
            return _html(_message_page("Choose a person, or type a name of up to 40 characters."), 400)
        session = secrets.token_urlsafe(32)
        self._sessions[session] = person
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        answer = _redirect(_checked(form.get("returnUrl")))
        answer.set_cookie(COOKIE, session, path="/", httponly=True, samesite="lax")
        return answer

    async def get_token(self, request: Request) -> Response:
        person = self._person(request)
        if person is None:
            return _json({"authenticated": False})
        return _json({"authenticated": True, "email": person.email, "username": person.username, "role": person.role})

    async def current_user(self, request: Request) -> Response:
        person = self._person(request)
        if person is None:
            return _json({"user": None})
        return _json(
            {"user": {"id": person.id, "email": person.email, "username": person.username, "role": person.role}}
        )

    async def logout(self, request: Request) -> Response:
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)
        answer = _redirect(_checked(request.query_params.get("returnUrl")))
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
        return answer

    async def home(self, request: Request) -> Response:
        person = self._person(request)
        if person is None:
            return _html(_message_page("Nobody is signed in here. Begin at the application you want to use."))
        return _html(_message_page(f"You are signed in as {person.username}. Go back to the application."))

    def _person(self, request: Request) -> Person | None:
        return self._sessions.get(request.cookies.get(COOKIE, ""))


def _chosen(user: str, name: str) -> Person | None:
    """The fixed person, or one made from a typed name: the same name is the same person every time."""
    if user:
        return PEOPLE.get(user)
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        return None
    key = hashlib.sha256(name.casefold().encode()).hexdigest()[:12]
    slug = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-") or "person"
    return Person(f"typed-{key}", name, f"{slug}-{key[:6]}@people.example")


def _checked(return_url: str | None) -> str:
    return checked_return_url(return_url, LOOPBACK)


def _is_loopback_request(request: Request) -> bool:
    """Against a foreign name that resolves to loopback: its pages would share our origin."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return host in {"127.0.0.1", "localhost", "::1"}


def _from_own_page(request: Request) -> bool:
    """Browsers say where a form was sent from; programs without a browser say nothing and hold no one's cookies."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or origin == f"http://{request.headers.get('host', '')}"


def _redirect(location: str) -> Response:
    return Response(status_code=302, headers={"location": location, "cache-control": "no-store"})


def _json(content: object) -> Response:
    return JSONResponse(content, headers={"cache-control": "no-store"})


def _refused(sentence: str) -> Response:
    return _html(_message_page(sentence), 403)


def _html(body: str, status: int = 200) -> Response:
    style = secrets.token_urlsafe(12)
    policy = (
        f"default-src 'none'; style-src 'nonce-{style}'; base-uri 'none'; frame-ancestors 'none'; "
        # Browsers apply form-action to the redirect after the form too, and that goes back to the application.
        "form-action 'self' http://127.0.0.1:* http://localhost:* http://[::1]:*"
    )
    headers = {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
    }
    return Response(_PAGE.substitute(body=body, style=style), status, headers, "text/html; charset=utf-8")


def _choose_page(provider: str, return_url: str, present: Person | None) -> str:
    target = html.escape(f"/auth/{provider}/choose")
    hidden = f'<input type="hidden" name="returnUrl" value="{html.escape(return_url)}">'
    buttons = "\n".join(_person_button(person, present) for person in PEOPLE.values())
    where = "this server" if return_url == HOME else urlsplit(return_url).netloc
    return _CHOOSE.substitute(
        target=target, hidden=hidden, buttons=buttons, where=html.escape(where), provider=html.escape(provider)
    )


def _person_button(person: Person, present: Person | None) -> str:
    initials = "".join(word[0] for word in person.username.split())[:2]
    note = "signed in" if person == present else "admin" if person.role == "admin" else ""
    return (
        f'<button class="person" name="user" value="{person.id}">'
        f'<span class="face" aria-hidden="true">{initials}</span>'
        f'<span class="who"><b>{html.escape(person.username)}</b><small>{html.escape(person.email)}</small></span>'
        f"<em>{note}</em></button>"
    )


def _message_page(sentence: str) -> str:
    return f'<p class="message">{html.escape(sentence)}</p>'


_CHOOSE = Template("""<h1>Who are you today?</h1>
<p>You are signing in to <b>$where</b> through <b>$provider</b>.</p>
<form method="post" action="$target">$hidden
<div class="people">
$buttons
</div>
</form>
<form method="post" action="$target" class="typed">$hidden
<label for="name">Somebody else</label>
<div class="row"><input id="name" name="name" maxlength="40" required autocomplete="off" placeholder="Type a name">
<button class="go">Sign in</button></div>
</form>
<p class="note">Development sign-in: no passwords, this machine only.</p>""")

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Development sign-in</title>
<style nonce="$style">
:root { --bg: #f4f5f7; --card: #ffffff; --line: #dcdfe5; --text: #1b1f27; --soft: #626a78;
  --accent: #3557d6; --on: #fff }
@media (prefers-color-scheme: dark) {
  :root { --bg: #13151a; --card: #1c1f26; --line: #313641; --text: #e9ebf0; --soft: #9aa2b1;
    --accent: #8aa4ff; --on: #10131c }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 24px 16px;
  background: var(--bg); color: var(--text); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif }
main { width: 100%; max-width: 420px; background: var(--card); border: 1px solid var(--line); border-radius: 16px;
  padding: 28px }
h1 { margin: 0 0 4px; font-size: 22px; line-height: 1.25; letter-spacing: -.01em }
p { margin: 0 0 20px; color: var(--soft); overflow-wrap: anywhere }
p b { color: var(--text); font-weight: 600 }
.people { display: grid; gap: 8px }
button, input { font: inherit; color: inherit }
.person { display: flex; align-items: center; gap: 12px; width: 100%; padding: 10px 12px; text-align: left;
  background: none; border: 1px solid var(--line); border-radius: 12px; cursor: pointer }
.person:hover { border-color: var(--accent) }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
.face { flex: none; display: grid; place-items: center; width: 38px; height: 38px; border-radius: 50%;
  background: var(--bg); color: var(--soft); font-size: 14px; font-weight: 600 }
.who { flex: 1; min-width: 0; display: grid; line-height: 1.3 }
.who b { font-weight: 600 }
small { color: var(--soft); font-size: 13px; overflow: hidden; text-overflow: ellipsis }
em { font-style: normal; font-size: 12px; color: var(--soft) }
.typed { margin-top: 24px; padding-top: 20px; border-top: 1px solid var(--line) }
label { display: block; margin-bottom: 6px; font-size: 14px; font-weight: 600 }
.row { display: flex; gap: 8px }
input { flex: 1; min-width: 0; padding: 9px 12px; background: var(--bg);
  border: 1px solid var(--line); border-radius: 10px }
.go { padding: 9px 16px; border: 0; border-radius: 10px; background: var(--accent); color: var(--on); font-weight: 600;
  cursor: pointer }
.note { margin: 20px 0 0; font-size: 12px; text-align: center }
.message { margin: 0; color: var(--text) }
</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")
