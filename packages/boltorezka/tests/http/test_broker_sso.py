"""The broker driver against SSOs that answer badly, on real sockets."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from boltorezka.adapters import broker_sso
from boltorezka.adapters.broker_sso import BrokerSso
from boltorezka.errors import SsoUnavailable

COOKIES = {"sso_session": "sso-cookie-value", "boltorezka_session": "our-own", "other": "x"}
YES = b'{"authenticated":true,"email":"a@x.example","username":"A","role":"user"}'


@asynccontextmanager
async def _answering(*answers):
    """An SSO that gives these raw answers, one a connection; yields its address and the requests it saw."""
    requests, left = [], list(answers)

    async def serve(reader, writer):
        served.add(asyncio.current_task())
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        answer = left.pop(0)
        if answer is not None:
            writer.write(answer)
            await writer.drain()
            writer.write_eof()
        # Until the client has closed: closing first could cut the answer short.
        await reader.read()
        writer.close()
        await writer.wait_closed()

    served = set()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
        await asyncio.gather(*served, return_exceptions=True)


def _http(body, status="200 OK", more=""):
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{more}\r\n"
    return head.encode() + body


async def _identify(url, cookies=COOKIES):
    sso = BrokerSso(url, ("sso_session",), ("google",))
    try:
        return await sso.identify(cookies)
    finally:
        await sso.close()


@pytest.mark.parametrize(
    "answer",
    [
        _http(b"<html>not json"),
        _http(b"\xff\xfe"),
        _http(b'{"authenticated":"yes"}'),
        _http(b"[]"),
        _http(b"{}", "500 Internal Server Error"),
        _http(b"{}", "302 Found", "location: http://127.0.0.1:1/\r\n"),
        _http(b'{"a":"' + b"x" * 100_000 + b'"}'),
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
    ],
)
async def test_nonsense_is_sso_unavailable(answer):
    """Whatever an SSO answers that is not its protocol, nobody is signed in, and the cookie is not in the error."""
    async with _answering(answer) as (url, _):
        with pytest.raises(SsoUnavailable) as error:
            await _identify(url)
    assert "sso-cookie-value" not in f"{error.value!r} {error.value.data} {error.value.__cause__}"


async def test_silence_is_sso_unavailable(monkeypatch):
    """A person does not wait longer than the deadline."""
    monkeypatch.setattr(broker_sso, "DEADLINE_S", 0.05)
    async with _answering(None) as (url, _):
        with pytest.raises(SsoUnavailable):
            await _identify(url)


async def test_only_the_named_cookies_travel():
    """Our own session cookie and everybody else's stay here; without a named one nobody is asked at all."""
    user = b'{"user":{"id":7,"email":"a@x.example","username":"","role":"admin"}}'
    async with _answering(_http(YES), _http(user)) as (url, requests):
        identity = await _identify(url)
        assert await _identify(url, {"boltorezka_session": "our-own"}) is None
    assert identity is not None
    assert (identity.driver, identity.issuer, identity.subject, identity.name) == ("broker", url, "7", "a")
    assert len(requests) == 2
    for request in requests:
        assert b"cookie: sso_session=sso-cookie-value\r\n" in request
        assert b"our-own" not in request
        assert b"other" not in request


@pytest.mark.parametrize(
    "answers",
    [
        [_http(b'{"authenticated":false}')],
        [_http(b"{}")],
        [_http(b"{}", "401 Unauthorized")],
        [_http(YES), _http(b'{"user":null}')],
        [_http(YES), _http(b"{}", "403 Forbidden")],
    ],
)
async def test_a_plain_no_is_no(answers):
    """Not signed in is an answer, not a failure."""
    async with _answering(*answers) as (url, _):
        assert await _identify(url) is None
