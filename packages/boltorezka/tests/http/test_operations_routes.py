"""Health, version, metrics, errors, the web client: what needs no session."""

import asyncio

import httpx
import pytest

from boltorezka.adapters.http import operations
from boltorezka.adapters.http.answers import MAX_BODY
from boltorezka.errors import ConfigError
from boltorezka.testing import METRICS_TOKEN, bearer, in_process_server, sign_in


async def test_health_answers_get_and_head(api):
    """A healthy server says so, with its checks and the time."""
    answer = await api.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "checks": {"api": "ok", "db": "ok", "bus": "ok"},
        "ts": "2027-01-15T08:00:00.000Z",
    }
    head = await api.head("/health")
    assert (head.status_code, head.content) == (200, b"")
    assert (await api.get("/health/live")).json()["status"] == "ok"


async def test_health_names_a_database_that_is_gone(running, api):
    """While the database does not answer the probe gets 503 and the failing check; the process itself is alive."""
    await running.server.store.close()
    answer = await api.get("/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "degraded"
    checks = answer.json()["checks"]
    assert (checks["api"], checks["db"]) == ("ok", "down")
    assert (await api.head("/health")).status_code == 503
    assert (await api.get("/health/live")).status_code == 200


@pytest.mark.parametrize(("part", "check"), [("bus_healthy", "bus"), ("healthy", "api")])
async def test_health_names_the_one_thing_that_is_down(running, api, monkeypatch, part, check):
    """A bus that is away, or sockets that no longer write, are told apart from a database that is gone."""
    monkeypatch.setattr(type(running.server.realtime), part, property(lambda _self: False))
    answer = await api.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
    assert answer.json()["checks"] == {"api": "ok", "db": "ok", "bus": "ok"} | {check: "down"}


async def test_a_database_that_hangs_is_down_too(running, api, monkeypatch):
    """The probe has its answer within its deadline, whatever the database does."""

    class Hanging:
        async def read(self, _call):
            await asyncio.Event().wait()

    monkeypatch.setattr(operations, "PING_DEADLINE_S", 0.01)
    monkeypatch.setattr(type(running.server.store), "engine", Hanging())
    answer = await api.get("/health")
    assert (answer.status_code, answer.json()["checks"]["db"]) == (503, "down")


async def test_version_says_what_serves(api):
    """The commit given at start is there, and what is unknown is null."""
    body = (await api.get("/version")).json()
    assert body["service"] == "boltorezka"
    assert body["sha"] == "a" * 40
    assert set(body) == {"service", "version", "sha", "tree", "builtAt"}
    assert body["tree"] is None


async def test_build_info_is_read_at_start(tmp_path, sso):
    """The tree baked in is shown; a file that is not one stops the start."""
    info = tmp_path / "build.json"
    info.write_text('{"tree": "t1", "builtAt": "2026-01-01T00:00:00Z", "more": 1}')
    async with in_process_server(tmp_path, sso, BUILD_INFO=str(info)) as server, httpx.AsyncClient() as client:
        body = (await client.get(f"{server.url}/version")).json()
        assert (body["tree"], body["builtAt"]) == ("t1", "2026-01-01T00:00:00Z")
    info.write_text("not json")
    with pytest.raises(ConfigError) as error:
        async with in_process_server(tmp_path, sso, BUILD_INFO=str(info)):
            pass
    assert error.value.data["problems"][0].startswith("BOLTOREZKA_BUILD_INFO")


async def test_metrics_need_their_token(api):
    """Without the exact token there are no numbers."""
    for headers in ({}, bearer("wrong"), bearer("x y"), {"authorization": METRICS_TOKEN}):
        answer = await api.get("/metrics", headers=headers)
        assert answer.status_code == 401
        assert b"boltorezka_" not in answer.content


async def test_metrics_are_prometheus_text(api):
    """With the token the counters are there."""
    answer = await api.get("/metrics", headers=bearer(METRICS_TOKEN))
    assert answer.status_code == 200
    assert "boltorezka_sockets 0.0" in answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_unknown_routes_have_the_error_shape(api):
    """Also what is not there answers as the contract writes errors."""
    for method, path, status, code in (
        ("GET", "/nowhere", 404, "NotFound"),
        ("GET", "/health/", 404, "NotFound"),
        ("GET", "/assets/../../etc/passwd", 404, "NotFound"),
        ("POST", "/v1/auth/nowhere", 404, "NotFound"),
        ("DELETE", "/health", 405, "MethodNotAllowed"),
        ("GET", "/v1/auth/login", 405, "MethodNotAllowed"),
    ):
        answer = await api.request(method, path)
        body = answer.json()
        assert (answer.status_code, body["error"], body["retryable"]) == (status, code, False)
        assert body["message"]


async def test_a_fault_of_ours_tells_nothing(running, api, monkeypatch, caplog):
    """An unexpected exception becomes ServerError; its text reaches no caller."""

    async def broken(*_args):
        raise RuntimeError("the inner text")

    await sign_in(api, running.url)
    monkeypatch.setattr(type(running.server.store), "rooms_for", broken)
    answer = await api.get("/v1/rooms")
    assert (answer.status_code, answer.json()["error"]) == (500, "ServerError")
    assert "inner text" not in answer.text
    assert caplog.records


async def test_local_accounts_are_gone_whatever_the_body(api):
    """Registration and login answer 410 SsoOnly to everything."""
    for path in ("/v1/auth/register", "/v1/auth/login"):
        for body in (b"", b"{}", b"{broken", b"\xff" * 100, b"x" * (4 * MAX_BODY)):
            answer = await api.post(path, content=body, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["error"]) == (410, "SsoOnly")


async def test_health_names_sockets_that_no_longer_write(running, api):
    """A process whose sockets' side has ended must not be sent anybody, though its database answers."""
    await running.server.realtime.stop()
    answer = await api.get("/health")
    assert answer.status_code == 503
    assert (answer.json()["checks"]["api"], answer.json()["checks"]["db"]) == ("down", "ok")


async def test_the_web_client_is_served_with_its_caching(api, running):
    """The page is never kept, hashed files for good, others are asked for again; nothing may be framed."""
    page = await api.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-store"
    asset = await api.get("/assets/main-AB12CD34.js")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (await api.get("/favicon.svg")).headers["cache-control"] == "no-cache"
    again = await api.get("/favicon.svg", headers={"if-none-match": (await api.get("/favicon.svg")).headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    policy = page.headers["content-security-policy"]
    assert "*" not in policy
    assert "frame-ancestors 'none'" in policy
    assert f"connect-src 'self' {running.url.replace('http', 'ws')};" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
