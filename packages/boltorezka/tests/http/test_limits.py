"""How often an address or a session may ask, and whose address it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from boltorezka.adapters.http import limits
from boltorezka.adapters.http.limits import Limits, LimitSettings, client_of
from boltorezka.errors import RateLimited
from boltorezka.testing import VirtualClock

TRUSTED = LimitSettings().trusted_proxies


def _connection(peer, *forwarded):
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    return HTTPConnection({"type": "http", "client": peer and (peer, 1), "headers": headers})


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        # Nobody is believed who is not a trusted proxy.
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        ("127.0.0.1", (), "127.0.0.1"),
        ("127.0.0.1", ("",), "127.0.0.1"),
        ("127.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        # What stands left of the first foreign hop was written by the client.
        ("127.0.0.1", ("10.9.9.9, 198.51.100.1",), "198.51.100.1"),
        ("127.0.0.1", ("198.51.100.1, ::1, 127.0.0.2",), "198.51.100.1"),
        ("127.0.0.1", ("198.51.100.7", "198.51.100.1"), "198.51.100.1"),
        ("127.0.0.1", ("127.0.0.3",), "127.0.0.3"),
        # A hop that is no address ends the search at whom we know.
        ("127.0.0.1", ("198.51.100.1, unknown",), "127.0.0.1"),
        ("127.0.0.1", ("198.51.100.1, \xff",), "127.0.0.1"),
        ("127.0.0.1", ("198.51.100.1:4711",), "198.51.100.1"),
        ("127.0.0.1", ("[2001:db8:1:2::7]:4711",), "2001:db8:1:2::/64"),
        ("127.0.0.1", ("2001:db8:1:2:ffff::1",), "2001:db8:1:2::/64"),
        ("::1", ("2001:db8:1:3::1",), "2001:db8:1:3::/64"),
        ("::ffff:127.0.0.1", ("::ffff:198.51.100.1",), "198.51.100.1"),
        (None, ("198.51.100.1",), "unknown"),
        ("testclient", ("198.51.100.1",), "unknown"),
    ],
)
def test_whom_a_request_is_counted_for(peer, forwarded, client):
    """The peer, or the right-most hop that is not a trusted proxy; IPv6 by its /64."""
    assert client_of(_connection(peer, *forwarded), TRUSTED) == client


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=20), max_size=4))
def test_nothing_in_the_header_changes_who_comes_without_a_proxy(forwarded):
    """Whatever is written there, a peer that is not trusted is counted for itself."""
    assert client_of(_connection("203.0.113.9", *forwarded), TRUSTED) == "203.0.113.9"


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=20), max_size=4), st.ip_addresses(v=4))
def test_nothing_left_of_the_proxys_word_changes_it(forwarded, address):
    """A client behind a proxy cannot write itself another address."""
    expected = str(address)
    if address.is_loopback:
        # That is a proxy too, so the hop before it counts.
        expected = client_of(_connection(expected, *forwarded), TRUSTED)
    assert client_of(_connection("127.0.0.1", *forwarded, str(address)), TRUSTED) == expected


def test_a_burst_then_the_rate():
    """A third of a minute's sign-ins at once, then as many as the minute has; the refusal says when."""
    clock = VirtualClock()
    counted = Limits(LimitSettings(logins_per_minute=60), clock)
    for _ in range(20):
        counted.sign_in(_connection("203.0.113.9"))
    with pytest.raises(RateLimited) as refusal:
        counted.sign_in(_connection("203.0.113.9"))
    assert refusal.value.data["retry_after_ms"] == 1000
    counted.sign_in(_connection("203.0.113.10"))
    clock.advance(1)
    counted.sign_in(_connection("203.0.113.9"))


def test_neighbours_in_one_ipv6_network_are_one():
    """Somebody with a whole /64 has one limit."""
    counted = Limits(LimitSettings(logins_per_minute=6), VirtualClock())
    for host in range(2):
        counted.sign_in(_connection(f"2001:db8:1:2::{host}"))
    with pytest.raises(RateLimited):
        counted.sign_in(_connection("2001:db8:1:2:ffff:ffff:ffff:ffff"))
    counted.sign_in(_connection("2001:db8:1:3::1"))


def test_tables_are_bounded_and_forget_the_longest_unused(monkeypatch):
    """Beyond the bound the least recently used starts afresh; who asks all the time stays refused."""
    monkeypatch.setattr(limits, "MAX_KEYS", 3)
    counted = Limits(LimitSettings(tickets_per_minute=6), VirtualClock())
    for _ in range(3):
        counted.ticket("busy")
    for stranger in range(50):
        counted.ticket(f"stranger-{stranger}")
        with pytest.raises(RateLimited):
            counted.ticket("busy")
    assert len(counted._tickets._buckets) == 3
    counted.ticket("stranger-0")


def test_a_crowd_on_one_address_with_many_sessions_is_not_hindered():
    """Tickets are counted by session, so a machine that plays thousands of people gets thousands."""
    counted = Limits(LimitSettings(), VirtualClock())
    for session in range(2000):
        for _ in range(3):
            counted.ticket(f"session-{session}")
