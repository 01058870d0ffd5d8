"""Credentials of relays: what coturn computes, who gets them, and how long they are good."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltorezka.voice.turn import MAX_TTL_S, IceServers, credentials

NOW = 1_800_000_000 * 1_000_000
SECRET = "sixteen-bytes-or-more"


@pytest.mark.parametrize("ttl", [0, -1, MAX_TTL_S + 1])
def test_a_credential_never_lives_longer_than_an_hour(ttl):
    """A lifetime that is no lifetime, or too long a one, is refused."""
    with pytest.raises(ValueError, match="lives from"):
        credentials(SECRET, "ann", NOW, ttl)


def test_relays_need_a_secret():
    """A relay without a secret would be announced without credentials, and refuse everybody."""
    with pytest.raises(ValueError, match="secret"):
        IceServers(["turn:turn.example"])


def test_a_known_credential():
    """The password of a user name worked out elsewhere (openssl dgst -sha1 -hmac), so that both cannot be wrong."""
    username, password = credentials("north-north-north", "u1", 0, 60)
    assert username == "60:u1"
    assert password == "tq2sBf5fyngvpt5jRvPDItiNSxE="


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1), st.integers(1, MAX_TTL_S))
def test_the_relay_computes_the_same(user_id, ttl):
    """From the user name alone, with the secret, comes the password; before the colon stands the expiry."""
    username, password = credentials(SECRET, user_id, NOW, ttl)
    assert password == base64.b64encode(hmac.digest(SECRET.encode(), username.encode(), hashlib.sha1)).decode()
    expiry, _, whom = username.partition(":")
    assert (int(expiry), whom) == (1_800_000_000 + ttl, user_id)


def test_only_relays_get_credentials():
    """STUN servers are told apart from relays, and nothing at all is announced when nothing is set."""
    servers = IceServers(["stun:a", "turn:b?transport=udp", "turns:c"], SECRET, 60).mint("ann", NOW)
    assert [server.urls for server in servers] == [("stun:a",), ("turn:b?transport=udp", "turns:c")]
    assert (servers[0].username, servers[0].credential) == (None, None)
    assert (servers[1].username, servers[1].credential) == credentials(SECRET, "ann", NOW, 60)
    assert IceServers().mint("ann", NOW) == ()


def test_the_secret_is_not_in_the_repr():
    """Settings are logged sooner or later; the secret must not be."""
    assert SECRET not in repr(IceServers(["turn:b"], SECRET))
