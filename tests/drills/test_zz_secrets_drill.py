"""Secrets in every sink, after all that the other drills did in this world (files run in the order of their names)."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.drill


def test_no_secret_ticket_or_token_in_any_sink(served_world, secret_patterns):
    """The sentinels, every ticket and every token appear in no output, log, journal, ledger, report or process list."""
    served_world.run("smoke", "--env", "test", "--service", "boltorezka")
    served_world.run("status", "--env", "test", "--service", "boltorezka", "--json")
    served_world.run("log", "--env", "test", "--service", "boltorezka", "--json")
    sinks = list(served_world.sinks())
    places = {name for name, _ in sinks}
    assert {"printed", "process list"} < places
    assert any(name.endswith("ledger.jsonl") for name in places)
    assert any("/journal/" in name for name in places)
    leaks = [(name, what) for name, text in sinks for what, find in secret_patterns.items() if find(text)]
    assert leaks == []


def test_the_search_itself_finds_a_leak(secret_patterns):
    """The patterns do find what they look for, also in derived forms: a check that cannot fail proves nothing."""
    token = "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzaWQiOiJhYmMifQ.c2lnbmF0dXJlLWJ5dGVz"
    assert secret_patterns["token"](f"Authorization: Bearer {token}")
    assert secret_patterns["ticket"]("GET /v1/realtime/ws?ticket=Zm9vYmFyYmF6 HTTP/1.1")
    assert not secret_patterns["ticket"]("GET /v1/realtime/ws?ticket=[redacted] HTTP/1.1")
    for sample in secret_patterns["jwt secret"].samples:
        assert secret_patterns["jwt secret"](f"xx{sample}yy")
