"""What reaches the server as raw bytes: sizes, slowness, malformed requests, and the error shape of every refusal."""

import asyncio
import contextlib
import json

from boltorezka.adapters.http import answers, server
from boltorezka.adapters.http.answers import MAX_BODY
from boltorezka.adapters.http.server import MAX_HEAD
from boltorezka.testing import DEADLINE_S


@contextlib.asynccontextmanager
async def _connected(running):
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _answer(reader):
    """The next answer of a connection: status, headers, body."""
    async with asyncio.timeout(DEADLINE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, body


async def _ended(reader):
    """Whether the server has closed the connection, within the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        with contextlib.suppress(ConnectionError):
            return await reader.read() == b""
    return True


def _refusal(body):
    """The code of a refusal, which has the shape of all of them."""
    error = json.loads(body)
    assert set(error) <= {"error", "message", "retryable", "issues"}
    assert isinstance(error["retryable"], bool)
    assert error["message"]
    return error["error"]


async def test_malformed_requests_are_refused_in_the_shape_of_every_error(running):
    """Whatever the parser cannot read is 400 as JSON, and the connection ends; never a fault of ours."""
    for request in (
        b"nonsense\r\n\r\n",
        b"FOO /health HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nbad name: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\n\r\n",
        b"GET /he\xff\xfealth HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /he\x00alth HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    ):
        async with _connected(running) as (reader, writer):
            writer.write(request)
            status, headers, body = await _answer(reader)
            assert (status, _refusal(body)) == (400, "ValidationError"), request
            assert headers["content-type"] == "application/json"
            assert await _ended(reader)


async def test_addresses_are_percent_encoded_utf8(running):
    """Half an escape, broken UTF-8 and NUL in a path are 400, wherever they stand; a good escape is what it says."""
    for path, status in (
        (b"/v1/rooms/%zz/messages", 400),
        (b"/v1/rooms/%f/messages", 400),
        (b"/v1/rooms/%/messages", 400),
        (b"/v1/rooms/%FF/messages", 400),
        (b"/v1/rooms/%ED%A0%80/messages", 400),
        (b"/v1/rooms/a%00b/messages", 400),
        (b"/nowhere%00", 400),
        (b"/%68ealth", 200),
        (b"/v1/rooms/%D0%B0/messages", 401),
    ):
        async with _connected(running) as (reader, writer):
            writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
            got, headers, body = await _answer(reader)
            assert got == status, path
            assert headers["x-request-id"]
            assert headers["x-content-type-options"] == "nosniff"
            if status >= 400:
                assert _refusal(body)


async def test_a_head_has_a_size(running):
    """One long address, one long field, many fields, a field without an end: all end at the bound."""
    for request in (
        b"GET /" + b"a" * (MAX_HEAD + 1) + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\ncookie: " + b"a" * MAX_HEAD + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(8000)) + b"\r\n",
    ):
        async with _connected(running) as (reader, writer):
            writer.write(request)
            status, _, body = await _answer(reader)
            assert (status, _refusal(body)) == (400, "ValidationError")
    async with _connected(running) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nendless: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                writer.write(b"a" * 1024)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert (await _answer(reader))[0] == 400
        assert await _ended(reader)


async def test_a_large_but_bounded_head_is_fine(running):
    """Cookies of an SSO may be long; requests one after another are counted each for itself."""
    async with _connected(running) as (reader, writer):
        for _ in range(4):
            writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\ncookie: " + b"a" * (MAX_HEAD - 200) + b"\r\n\r\n")
            assert (await _answer(reader))[0] == 200


async def test_pipelined_requests_are_answered_in_order(running):
    """Several requests in one packet, one of them cut in two, have nothing to do with the bounds of one."""
    async with _connected(running) as (reader, writer):
        ask = b"GET /health/live HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 8000 + b"\r\n\r\n"
        writer.write(ask * 8 + ask[:100])
        for _ in range(8):
            assert (await _answer(reader))[0] == 200
        writer.write(ask[100:])
        assert (await _answer(reader))[0] == 200


async def test_a_head_has_a_deadline(running, monkeypatch):
    """A connection that says nothing, or never ends its head, is closed; also after a good request."""
    good = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    for begun in (b"", b"\r\n", b"GET /heal", good[:-2]):
        with monkeypatch.context() as hurried:
            hurried.setattr(server, "HEAD_DEADLINE_S", 0.05)
            async with _connected(running) as (reader, writer):
                writer.write(begun)
                assert await _ended(reader)
    for begun in (b"GET /heal", good[:-2], good + b"GET /heal"):
        async with _connected(running) as (reader, writer):
            writer.write(good)
            assert (await _answer(reader))[0] == 200
            with monkeypatch.context() as hurried:
                # Only now: the deadline of the good request itself is not what is hurried.
                hurried.setattr(server, "HEAD_DEADLINE_S", 0.05)
                writer.write(begun)
                async with asyncio.timeout(DEADLINE_S):
                    with contextlib.suppress(ConnectionError):
                        await reader.read()


async def test_a_body_has_a_deadline(running, person, monkeypatch):
    """A body that does not come is refused in time, and so is one that ends with its connection."""
    ann = await person("ann")
    monkeypatch.setattr(answers, "BODY_DEADLINE_S", 0.05)
    head = (
        f"POST /v1/auth/refresh HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ann.token}\r\ncontent-length: 9\r\n\r\n"
    )
    async with _connected(running) as (reader, writer):
        writer.write(head.encode() + b"half")
        status, _, body = await _answer(reader)
        assert (status, _refusal(body)) == (400, "ValidationError")
    async with _connected(running) as (reader, writer):
        writer.write(head.encode() + b"half")
        writer.write_eof()
        assert await _ended(reader)


async def test_bodies_over_the_limit_are_refused_before_they_have_come(running, person):
    """A declared size is enough; without one, the first byte over it. The connection goes on when the body ends."""
    ann = await person("ann")
    head = f"POST /v1/auth/refresh HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ann.token}\r\n".encode()
    async with _connected(running) as (reader, writer):
        writer.write(head + b"content-length: 1000000000\r\n\r\n")
        status, _, body = await _answer(reader)
        assert (status, _refusal(body)) == (413, "PayloadTooLarge")
    async with _connected(running) as (reader, writer):
        chunk = b"%x\r\n%b\r\n" % (MAX_BODY // 2, b"x" * (MAX_BODY // 2))
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 2)
        writer.write(b"1\r\nx\r\n")
        status, _, body = await _answer(reader)
        assert (status, _refusal(body)) == (413, "PayloadTooLarge")
        writer.write(chunk + b"0\r\n\r\nGET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await _answer(reader))[0] == 200


async def test_the_rest_of_a_refused_body_has_a_deadline(running, person, monkeypatch):
    """Whoever goes on sending after the refusal is not listened to for ever."""
    ann = await person("ann")
    head = f"POST /v1/auth/refresh HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ann.token}\r\n".encode()
    async with _connected(running) as (reader, writer):
        writer.write(head + b"content-length: 1000000000\r\n\r\n")
        assert (await _answer(reader))[0] == 413
        monkeypatch.setattr(server, "HEAD_DEADLINE_S", 0.05)
        writer.write(b"x" * 1000)
        assert await _ended(reader)


async def test_a_request_id_is_echoed_when_it_is_safe(api):
    """A short one of ours or theirs; a long or strange one is replaced by a new one."""
    for given in ("abc-1.2_3", "x" * 64):
        assert (await api.get("/health/live", headers={"x-request-id": given})).headers["x-request-id"] == given
    for given in ("", "x" * 65, "a b", 'a"b', "<script>", "ы".encode()):
        made = (await api.get("/health/live", headers={"x-request-id": given})).headers["x-request-id"]
        assert made.isalnum()
        assert 16 <= len(made) <= 64


async def test_every_route_and_method_answers_in_the_shape(api):
    """Nobody gets anything but JSON refusals from any route with any method, and a wrong one names the right ones."""
    for path in (
        "/v1/rooms",
        "/v1/rooms/general/messages",
        "/v1/rooms/general/members",
        "/v1/rooms/general/members/x",
        "/v1/admin/users",
        "/v1/admin/users/x/promote",
        "/v1/telemetry/summary",
        "/v1/nowhere",
    ):
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "HEAD", "POST", "GET"):
            answer = await api.request(method, path)
            assert answer.status_code in {401, 404, 405}, (method, path)
            if method != "HEAD":
                code = _refusal(answer.content)
                assert {401: "Unauthorized", 404: "NotFound", 405: "MethodNotAllowed"}[answer.status_code] == code
            if answer.status_code == 405:
                assert answer.headers["allow"]
                assert method not in answer.headers["allow"].split(", ")
