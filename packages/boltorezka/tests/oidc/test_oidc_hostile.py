"""Providers that misbehave, are misconfigured or away. What a real one never does, ours does in its shapes."""

import base64
import json
import logging
from urllib.parse import parse_qs

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from starlette.responses import Response

from .answers import CALLBACK, SENTINELS, come_back, sent_home_for, signed_in

SECOND_KEY = RSAKey.generate_key(2048, parameters={"use": "sig", "kid": "second"})


async def test_an_honest_answer_signs_in(deceived, hostile):
    """The very steps that are spoiled below lead to a session when they are not."""
    answer = await come_back(deceived, hostile)
    assert (answer.status_code, answer.headers["location"]) == (302, f"{deceived.url}/")
    session = await deceived.session()
    assert (session["user"]["name"], session["user"]["role"]) == ("Ann", "super_admin")


async def test_the_hostile_provider_has_the_real_ones_shapes(hostile, provider, browser, real_id_token):
    """Nothing it publishes or answers has a form that the independent one does not have."""
    real = (await browser.http.get(f"{provider.issuer}/.well-known/openid-configuration")).json()
    for name, value in hostile.metadata.items():
        assert type(real[name]) is type(value), name
    keys = (await browser.http.get(real["jwks_uri"])).json()["keys"]
    assert set(keys[0]) == set(hostile.key.as_dict(private=False))
    location = await browser.start()
    callback = await browser.follow(location, browser.url + CALLBACK)
    assert set(callback.params) == {"code", "state", "iss"}
    real_token, ours = await real_id_token(browser, callback), hostile.id_token()
    for which in (0, 1):
        real_part, our_part = (
            json.loads(base64.urlsafe_b64decode(token.split(".")[which] + "==")) for token in (real_token, ours)
        )
        assert set(our_part) <= set(real_part)
        assert {name: type(value) for name, value in our_part.items()} == {
            name: type(real_part[name]) for name in our_part
        }


async def test_the_exchange_proves_who_we_are(deceived, hostile):
    """Name and secret encoded as RFC 6749 wants them, the code's verifier, the registered address."""
    await come_back(deceived, hostile)
    _, headers, body = next(asked for asked in hostile.asked if asked[0] == "/token")
    name, _, secret = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode().partition(":")
    assert (name, secret) == ("rooms+of+ours", "s3cret%3Aof+the%2Bclient%2Fthat%25never%26shows")
    form = parse_qs(body)
    assert set(form) == {"grant_type", "code", "redirect_uri", "code_verifier"}
    assert form["redirect_uri"] == [deceived.url + CALLBACK]
    assert len(form["code_verifier"][0]) >= 43


async def test_a_secret_may_be_wanted_in_the_form(deceived, hostile):
    """A provider that takes it only there gets it there."""
    hostile.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    await come_back(deceived, hostile)
    _, headers, body = next(asked for asked in hostile.asked if asked[0] == "/token")
    assert "authorization" not in headers
    assert parse_qs(body)["client_id"] == ["rooms of ours"]


WRONG_CLAIMS = [
    {"nonce": None},
    {"nonce": "another"},
    {"nonce": 7},
    {"aud": None},
    {"aud": "another client"},
    {"aud": ["rooms of ours", "another client"]},
    {"aud": ["rooms of ours"], "azp": "another client"},
    {"aud": {"rooms of ours": True}},
    {"iss": None},
    {"iss": "https://evil.example"},
    {"sub": None},
    {"sub": ""},
    {"sub": 7},
    {"sub": "x" * 256},
    {"exp": None},
    {"exp": 1_799_999_969},
    {"exp": "2100-01-01"},
    {"exp": True},
    {"iat": None},
    {"iat": 1_800_000_031},
    {"iat": 1_799_999_000},
    {"nbf": 1_800_000_031},
    {"nbf": "now"},
]


async def test_a_wrong_claim_signs_nobody_in(deceived, hostile):
    """Each rule of OpenID Connect Core 3.1.3.7 is kept, whatever the others say."""
    for claims in WRONG_CLAIMS:
        hostile.claims = claims
        assert sent_home_for(await come_back(deceived, hostile)) == "invalid_id_token"
        assert (await deceived.session())["authenticated"] is False


ALLOWED_CLAIMS = [
    {"exp": 1_799_999_971},
    {"iat": 1_800_000_030},
    {"aud": ["rooms of ours"]},
    {"aud": ["another", "rooms of ours"], "azp": "rooms of ours"},
    {"unknown": {"deep": [1]}},
]


async def test_what_the_rules_allow_signs_in(deceived, hostile):
    """Clocks that differ by half a minute, audiences as a list, claims we do not know."""
    for claims in ALLOWED_CLAIMS:
        deceived.http.cookies.clear()
        hostile.claims = claims
        assert signed_in(await come_back(deceived, hostile))
        assert (await deceived.session())["authenticated"] is True


FORGERIES = [
    lambda hostile: hostile.unsigned(),
    lambda hostile: hostile.unsigned().rstrip("."),
    lambda hostile: hostile.signed_with_public_key(),
    lambda hostile: hostile.on_other_curve(),
    lambda hostile: hostile.signed(SECOND_KEY),
    lambda hostile: hostile.signed(alg="RS512"),
    lambda hostile: hostile.signed(alg="PS256"),
    lambda hostile: hostile.signed(kid="../../etc/passwd"),
    lambda hostile: hostile.signed()[:-8] + "AAAAAAAA",
    lambda hostile: hostile.signed().rpartition(".")[0] + ".",
    lambda hostile: hostile.signed().replace(".", ".e30.", 1),
    lambda _hostile: "not.a.token",
    lambda _hostile: "",
    lambda _hostile: "\u00e4.\u00e4.\u00e4",
    lambda _hostile: "e30.e30.e30",
]


async def test_a_token_the_provider_did_not_sign_signs_nobody_in(deceived, hostile):
    """No signature, another key, another algorithm, a changed byte, nonsense."""
    for forge in FORGERIES:
        hostile.id_token = lambda forge=forge: forge(hostile)
        assert sent_home_for(await come_back(deceived, hostile)) == "invalid_id_token"


WEAK = [["none"], ["HS256"], ["none", "HS256", "dir"], []]


async def test_no_weak_algorithm_is_taken_from_the_discovery(deceived, hostile, clock):
    """A provider that offers only what anybody can sign with signs nobody in, also with a good signature."""
    for algorithms in WEAK:
        hostile.id_token = hostile.signed
        clock.advance(3600)
        hostile.metadata["id_token_signing_alg_values_supported"] = algorithms
        assert sent_home_for(await come_back(deceived, hostile)) == "invalid_id_token"
        hostile.id_token = hostile.signed_with_public_key
        assert sent_home_for(await come_back(deceived, hostile)) == "invalid_id_token"


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("ES256", ECKey.generate_key("P-256", parameters={"kid": "curve"})),
        ("PS512", RSAKey.generate_key(2048, parameters={"kid": "pss"})),
        ("EdDSA", OKPKey.generate_key("Ed25519", parameters={"kid": "edwards"})),
    ],
)
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_other_good_algorithms_and_keys_we_do_not_know(deceived, hostile, alg, key):
    """Beside keys of other uses and of kinds yet unknown, the right one is found and used."""
    odd = [{"kty": "LATTICE", "kid": "odd"}, {"kty": "RSA", "n": "!", "e": "AQAB"}, {"kty": "oct", "k": "c2VjcmV0"}, {}]
    encrypting = RSAKey.generate_key(2048, parameters={"use": "enc", "kid": "enc"})
    hostile.metadata["id_token_signing_alg_values_supported"] = ["RS256", alg]
    hostile.published = [*odd, encrypting, hostile.key, key]
    hostile.id_token = lambda: hostile.signed(key, alg=alg, kid=key.kid)
    assert signed_in(await come_back(deceived, hostile))
    hostile.id_token = lambda: hostile.signed(encrypting, kid="enc")
    assert sent_home_for(await come_back(deceived, hostile)) == "invalid_id_token"


async def test_a_new_key_is_looked_for_but_not_too_often(deceived, hostile, clock):
    """One more look for a key id that is new; somebody who invents them cannot make us hammer the provider."""
    assert signed_in(await come_back(deceived, hostile))
    hostile.key = SECOND_KEY
    hostile.published.append(hostile.key)
    assert signed_in(await come_back(deceived, hostile))
    invented = iter(range(100))
    hostile.id_token = lambda: hostile.signed(kid=f"invented-{next(invented)}")
    for _ in range(10):
        assert sent_home_for(await come_back(deceived, hostile)) == "invalid_id_token"
    assert sum(path == "/jwks" for path, _, _ in hostile.asked) == 3
    clock.advance(10)
    assert sent_home_for(await come_back(deceived, hostile)) == "invalid_id_token"
    assert sum(path == "/jwks" for path, _, _ in hostile.asked) == 4


async def test_a_key_that_was_withdrawn_is_forgotten_within_the_hour(deceived, hostile, clock):
    """What the provider publishes is read again after an hour, discovery and keys."""
    assert signed_in(await come_back(deceived, hostile))
    stolen = hostile.signed
    hostile.published = [SECOND_KEY]
    clock.advance(3600)
    hostile.id_token = stolen
    assert sent_home_for(await come_back(deceived, hostile)) == "invalid_id_token"


ANSWERS = [
    ({"iss": "https://evil.example"}, "wrong_issuer"),
    ({"iss": None}, "wrong_issuer"),
    ({"code": None}, "provider_error"),
    ({"code": ""}, "provider_error"),
    ({"error": "login_required"}, "login_required"),
    ({"error": "<script>alert(1)</script>"}, "provider_error"),
    ({"error": "access_denied", "iss": "https://evil.example"}, "wrong_issuer"),
    ({"error": "access_denied", "state": "x"}, "state_mismatch"),
]


async def test_answers_without_a_code(deceived, hostile):
    """The reason is one of a fixed set, whatever the provider wrote; and an error counts only from who was asked."""
    for answer, reason in ANSWERS:
        assert sent_home_for(await come_back(deceived, hostile, **answer)) == reason
        assert not any(path == "/token" for path, _, _ in hostile.asked)


async def test_a_provider_that_never_names_itself_need_not(deceived, hostile):
    """The name in the answer is required where it is announced; a wrong one is refused everywhere."""
    hostile.metadata["authorization_response_iss_parameter_supported"] = False
    assert signed_in(await come_back(deceived, hostile, iss=None))
    assert sent_home_for(await come_back(deceived, hostile, iss="https://evil.example")) == "wrong_issuer"


async def test_a_sign_in_takes_ten_minutes_at_most(deceived, hostile, clock):
    """Afterwards the cookie is worth nothing, even if the browser still has it."""
    location = await deceived.start()
    clock.advance(600)
    params = {"code": "c", "state": location.params["state"], "iss": hostile.issuer}
    assert sent_home_for(await deceived.http.get(CALLBACK, params=params)) == "sign_in_expired"


REFUSALS = [
    ((400, {"error": "invalid_grant"}), 302, "code_refused"),
    ((401, {"error": "invalid_client"}), 503, None),
    ((400, {"error": "at-sentinel"}), 503, None),
    ((500, {}), 503, None),
    ((200, {"access_token": "x"}), 503, None),
    ((200, Response(b"<html>")), 503, None),
    ((200, Response(b"\xff")), 503, None),
    ((302, Response(status_code=302, headers={"location": "http://127.0.0.1:1/"})), 503, None),
]


async def test_an_exchange_that_fails(deceived, hostile, caplog):
    """A code that is no good is the person's to repeat; everything else is the provider's or the operator's, 503."""
    for refusal, status, reason in REFUSALS:
        deceived.http.cookies.clear()
        caplog.set_level(logging.DEBUG)
        hostile.token_refusal = refusal
        answer = await come_back(deceived, hostile)
        assert answer.status_code == status
        if reason:
            assert sent_home_for(answer) == reason
        else:
            assert answer.json()["error"] == "SsoUnavailable"
        assert not any(word in caplog.text + answer.text + str(answer.headers) for word in SENTINELS[:2])


@pytest.mark.parametrize(
    "userinfo",
    [{"sub": "boris", "email": "boris@people.example"}, {"email": "ann@people.example", "email_verified": True}],
)
async def test_userinfo_of_somebody_else_signs_nobody_in(deceived, hostile, userinfo):
    """It must speak of the subject of the ID token (OpenID Connect Core 5.3.2)."""
    hostile.userinfo = userinfo
    assert sent_home_for(await come_back(deceived, hostile)) == "invalid_id_token"


ADDRESSES = [
    ({"email": "ann@people.example", "email_verified": False}, {"email_verified": True}, "user"),
    ({"email": "ann@people.example"}, {"email": "ann@people.example", "email_verified": True}, "user"),
    ({}, {"email": "ann@people.example", "email_verified": "true"}, "user"),
    ({}, {"email": "ann@people.example", "email_verified": 1}, "user"),
    ({"email_verified": True}, {"email": "ann@people.example"}, "user"),
    ({}, {"email": "ann@people.example", "email_verified": True}, "super_admin"),
]


async def test_an_address_counts_only_where_the_provider_verified_it(deceived, hostile):
    """A plain `true` beside the very address it is about, or no right at all."""
    for claims, userinfo, role in ADDRESSES:
        deceived.http.cookies.clear()
        # Somebody new each time: a role once given stays.
        subject = {"sub": f"person-{len(hostile.asked)}"}
        hostile.claims, hostile.userinfo = {**subject, **claims}, {**subject, **userinfo}
        assert signed_in(await come_back(deceived, hostile))
        assert (await deceived.session())["user"]["role"] == role


async def test_names_are_shown_plain_and_short(deceived, hostile):
    """What people may choose freely at the provider cannot break a line or a layout here; there always is one."""
    hostile.userinfo = {"sub": "ann", "email": "a\r\n@x.example", "name": " \x1b[31mAnn\u202e\n" + "n" * 500}
    await come_back(deceived, hostile)
    user = (await deceived.session())["user"]
    assert user["name"].startswith("[31mAnn n")
    assert len(user["name"]) == 80
    assert user["email"] == "a @x.example"
    hostile.claims, hostile.userinfo = {"sub": "nameless"}, {"sub": "nameless", "name": 7, "email": ["x"]}
    await come_back(deceived, hostile)
    assert (await deceived.session())["user"]["name"] == "nameless"


async def test_claims_in_the_id_token_save_a_question(deceived, hostile):
    """A provider that says everything there is not asked for its userinfo."""
    hostile.claims = {"name": "Ann", "email": "ann@people.example", "email_verified": True}
    assert signed_in(await come_back(deceived, hostile))
    assert not any(path == "/me" for path, _, _ in hostile.asked)
