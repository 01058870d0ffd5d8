"""The rules of sessions, tokens and tickets."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltorezka.adapters.tokens import Tokens
from boltorezka.auth.sessions import (
    PREVIOUS_GOOD_S,
    SECOND,
    TOKEN_LIFETIME_S,
    Claims,
    Standing,
    claims_for,
    is_super_admin,
    new_session,
    standing,
    ticket_hash,
)
from boltorezka.errors import Unauthorized

NOW = 1_800_000_000 * SECOND
SECRET = "a-secret-of-more-than-thirty-two-bytes"


def _claims(gen, session):
    return Claims(session.id, gen, session.user_id, "user", 0)


def _rotated(generation, at):
    return msgspec.structs.replace(new_session("s", "u", NOW), generation=generation, rotated_at=at)


@given(generation=st.integers(1, 6), token=st.integers(0, 7), age_s=st.integers(0, 30))
def test_only_the_present_and_for_ten_seconds_the_previous_generation_are_good(generation, token, age_s):
    """A token of any other generation is superseded."""
    session = _rotated(generation, NOW)
    how = standing(session, _claims(token, session), NOW + age_s * SECOND)
    if token == generation:
        assert how is Standing.CURRENT
    elif token == generation - 1 and age_s < PREVIOUS_GOOD_S:
        assert how is Standing.PREVIOUS
    else:
        assert how is Standing.SUPERSEDED


def test_a_session_ends_by_time_by_revocation_and_for_another_user():
    """None of the three can be brought back by a token of the right generation."""
    session = new_session("s", "u", NOW, lifetime_s=60)
    assert standing(session, _claims(1, session), NOW + 60 * SECOND) is Standing.ENDED
    revoked = msgspec.structs.replace(session, revoked_at=NOW)
    assert standing(revoked, _claims(1, session), NOW) is Standing.ENDED
    foreign = msgspec.structs.replace(_claims(1, session), sub="other")
    assert standing(session, foreign, NOW) is Standing.ENDED


@given(lifetime_s=st.integers(1, 40 * 24 * 3600), age_s=st.integers(0, 3600))
def test_a_token_never_outlives_ten_minutes_nor_its_session(lifetime_s, age_s):
    """The expiry is the nearer of both."""
    session = new_session("s", "u", NOW, lifetime_s)
    expiry = claims_for(session, "user", NOW + age_s * SECOND).exp
    assert expiry <= NOW // SECOND + age_s + TOKEN_LIFETIME_S
    assert expiry * SECOND <= session.expires_at


def test_super_admin_only_by_a_verified_address():
    """An address the provider did not verify brings no right."""
    assert is_super_admin("Boss@x.example", "boss@x.example", email_verified=True)
    assert not is_super_admin("boss@x.example", "boss@x.example", email_verified=False)
    assert not is_super_admin("boss@x.example", None, email_verified=True)
    assert not is_super_admin("", "", email_verified=True)


def test_tickets_are_stored_hashed():
    """The stored form does not hold the ticket."""
    assert b"ticket" not in ticket_hash("ticket")
    assert len(ticket_hash("ticket")) == 32


def test_tokens_are_refused_when_forged_foreign_or_expired():
    """Another secret, another algorithm, missing claims, garbage and an old token all raise Unauthorized."""
    tokens, session = Tokens(SECRET), new_session("s", "u", NOW)
    token = tokens.encode(claims_for(session, "user", NOW))
    assert tokens.decode(token, NOW).sid == "s"
    assert tokens.decode(token, NOW + 3600 * SECOND, accept_expired=True).sid == "s"
    header, payload, _ = token.split(".")
    none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"
    for bad in ("", "x", "a.b.c", f"{header}.{payload}.", f"{none}.{payload}.", token[:-4] + "AAAA"):
        with pytest.raises(Unauthorized) as refusal:
            tokens.decode(bad, NOW)
        assert SECRET not in str(refusal.value)
        assert refusal.value.__cause__ is None
    with pytest.raises(Unauthorized):
        Tokens(SECRET + "x").decode(token, NOW)
    with pytest.raises(Unauthorized):
        tokens.decode(token, NOW + TOKEN_LIFETIME_S * SECOND)
    assert SECRET not in repr(tokens)
