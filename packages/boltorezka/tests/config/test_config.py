"""Settings from the environment."""

import pickle
from pathlib import Path

import pytest

from boltorezka.adapters.addresses import NatsAddress, PostgresAddress, SqliteFile, nats_address
from boltorezka.config import PREFIX, SETTINGS, Secret, database, describe, load
from boltorezka.errors import ConfigError
from boltorezka.testing import environment

SENTINEL = "s3ntinel-value-that-must-never-be-shown-anywhere"


def _problems(env):
    with pytest.raises(ConfigError) as error:
        load(env)
    return error.value.data["problems"]


@pytest.fixture
def good(tmp_path):
    """A complete environment."""
    return environment(tmp_path, "http://127.0.0.1:2", "http://127.0.0.1:1")


def test_everything_missing_is_named_at_once():
    """An empty environment lists every required setting."""
    required = {PREFIX + name for name, setting in SETTINGS.items() if setting.required and setting.is_for("broker")}
    assert {problem.partition(":")[0] for problem in _problems({})} == required


def test_each_driver_needs_its_own_settings_and_no_others(good):
    """What the chosen driver needs is missing by name; what only another one reads is a mistake somebody made."""
    chosen = {**good, "BOLTOREZKA_SSO_DRIVER": "oidc"}
    assert [problem.partition(":")[0] for problem in _problems(chosen)] == [
        "BOLTOREZKA_AUTH_SSO_BASE_URL",
        "BOLTOREZKA_OIDC_ISSUER",
        "BOLTOREZKA_OIDC_CLIENT_ID",
    ]
    stray = {**good, "BOLTOREZKA_OIDC_CLIENT_SECRET": SENTINEL}
    problems = _problems(stray)
    assert problems == ["BOLTOREZKA_OIDC_CLIENT_SECRET: is for BOLTOREZKA_SSO_DRIVER=oidc, which was not chosen"]


def test_the_oidc_driver_with_its_settings(good):
    """A public client needs issuer and name alone; the issuer is kept letter by letter, and prod wants https."""
    env = {
        **good,
        "BOLTOREZKA_SSO_DRIVER": "oidc",
        "BOLTOREZKA_AUTH_SSO_BASE_URL": "",
        "BOLTOREZKA_OIDC_ISSUER": "http://127.0.0.1:3/realm/",
        "BOLTOREZKA_OIDC_CLIENT_ID": "rooms",
    }
    settings = load(env)
    assert (settings.oidc_issuer, settings.oidc_client_secret) == ("http://127.0.0.1:3/realm/", None)
    assert (settings.auth_sso_providers, settings.oidc_scopes) == (("oidc",), "openid email profile")
    prod = {**env, "BOLTOREZKA_ENVIRONMENT": "prod", "BOLTOREZKA_PUBLIC_ORIGIN": "https://rooms.example"}
    assert _problems(prod) == ["BOLTOREZKA_OIDC_ISSUER: must be https in prod, because it says who people are"]
    rows, problems = describe({**env, "BOLTOREZKA_OIDC_ISSUER": "", "BOLTOREZKA_OIDC_CLIENT_SECRET": SENTINEL})
    states = {name: (state, value) for name, state, value in rows}
    assert states["BOLTOREZKA_OIDC_ISSUER"] == ("missing", "")
    assert states["BOLTOREZKA_OIDC_CLIENT_SECRET"] == ("set", "[redacted]")
    assert [problem.partition(":")[0] for problem in problems] == ["BOLTOREZKA_OIDC_ISSUER"]


def test_an_unknown_setting_is_refused_with_the_nearest_known_one(good):
    """A typing mistake must not silently mean the default."""
    problems = _problems({**good, "BOLTOREZKA_JWT_SECRTE": SENTINEL})
    assert problems == ["BOLTOREZKA_JWT_SECRTE: is not a setting of this version; did you mean BOLTOREZKA_JWT_SECRET?"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgres://u:p@h/db"),
        ("DATABASE_URL", "sqlite://x"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:///x.db?mode=ro"),
        ("DATABASE_URL", "postgresql://rooms.example/db"),
        ("DATABASE_URL", "postgresql://u:p@rooms.example"),
        ("DATABASE_URL", "postgresql://u:p@rooms.example:port/db"),
        ("DATABASE_URL", "postgresql://u:p@/db"),
        ("DATABASE_URL", "postgresql://u:p@rooms.example/db/more"),
        ("DATABASE_URL", "postgresql://u:p@rooms.example/db?sslmode=sometimes"),
        ("DATABASE_URL", "postgresql://u:p@rooms.example/db?options=-c"),
        ("NATS_URL", "http://rooms.example"),
        ("NATS_URL", "nats://rooms.example:port"),
        ("NATS_URL", "nats://u:p@/"),
        ("NATS_URL", "nats://rooms.example/x"),
        ("NATS_URL", "nats://rooms.example"),
        ("ENVIRONMENT", "production"),
        ("PUBLIC_ORIGIN", "no-scheme"),
        ("PUBLIC_ORIGIN", "https://rooms.example/"),
        ("PUBLIC_ORIGIN", "https://u:p@rooms.example"),
        ("ALLOWED_ORIGINS", "https://a.example,*"),
        ("ALLOWED_RETURN_HOSTS", "https://a.example"),
        ("AUTH_SSO_BASE_URL", "ftp://sso.example"),
        ("AUTH_SSO_BASE_URL", "https://u:p@sso.example"),
        ("AUTH_SSO_COOKIE_NAMES", "a b"),
        ("AUTH_SSO_COOKIE_NAMES", "boltorezka_session"),
        ("AUTH_SSO_PROVIDERS", "../x"),
        ("AUTH_SSO_PROVIDERS", ","),
        ("SSO_DRIVER", "ldap"),
        ("LOGINS_PER_MINUTE", "5"),
        ("LOGINS_PER_MINUTE", "many"),
        ("TICKETS_PER_MINUTE", "1e3"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,ingress"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("JWT_SECRET", "short"),
        ("JWT_SECRET", "\x00" * 40),
        ("METRICS_TOKEN", "short"),
        ("TURN_SECRET", "fifteen-bytes-x"),
        ("TURN_URLS", "http://turn.example"),
        ("TURN_URLS", "turn:user@turn.example"),
        ("TURN_URLS", "turn:turn.example?transport=sctp"),
        ("TURN_URLS", "stun:stun.example?transport=udp"),
        ("TURN_TTL_S", "3601"),
        ("SUPER_ADMIN_EMAIL", "boss"),
        ("WEB_ROOT", "/nowhere/at/all"),
        ("RELEASE_SHA", "main"),
        ("HEARTBEAT_S", "often"),
        ("HEARTBEAT_S", "nan"),
        ("DRAIN_SPREAD_S", "-1"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_malformed_settings_are_refused_by_name(good, name, value):
    """The problem names the setting and does not repeat the value."""
    problems = _problems({**good, PREFIX + name: value})
    assert len(problems) == 1
    assert problems[0].startswith(PREFIX + name) or f", {PREFIX}{name}:" in problems[0]
    assert value not in problems[0].partition(":")[2] or value in {",", "boss", "main", "short"}


POSTGRES = f"postgresql://rooms:{SENTINEL}%40%2F@[::1]/rooms%20db?sslmode=require"


def test_postgresql_comes_with_its_bus(good):
    """PostgreSQL without NATS is refused by name; with it both addresses are read, ports and quoting included."""
    env = {**good, "BOLTOREZKA_DATABASE_URL": POSTGRES}
    assert _problems(env) == [
        "BOLTOREZKA_NATS_URL: must be given with PostgreSQL, and only with it: SQLite needs no bus"
    ]
    settings = load({**env, "BOLTOREZKA_NATS_URL": "nats://bus.example"})
    assert settings.database_url == database(env)
    assert settings.database_url == PostgresAddress("::1", 5432, "rooms", f"{SENTINEL}@/", "rooms db", "require")
    assert settings.nats_url == NatsAddress("bus.example", 4222)


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("nats://ann:pass@h:1", NatsAddress("h", 1, "ann", "pass"), "nats://ann:[redacted]@h:1"),
        ("tls://token@h", NatsAddress("h", 4222, token="token", tls=True), "tls://[redacted]@h:4222"),
    ],
)
def test_the_bus_takes_passwords_and_tokens(url, address, shown):
    """A lone name before the host is a token, as NATS' own clients read it; neither is shown."""
    assert nats_address(url) == address
    assert str(address) == shown
    assert "pass" not in repr(address).replace("password", "")


def test_addresses_show_everything_but_their_secrets(good):
    """`check-config`, the settings' text and a refusal name server, user and database, and no password."""
    env = {**good, "BOLTOREZKA_DATABASE_URL": POSTGRES, "BOLTOREZKA_NATS_URL": f"nats://bus:{SENTINEL}@bus.example"}
    rows, problems = describe(env)
    shown = {name: value for name, _, value in rows}
    assert problems == []
    assert shown["BOLTOREZKA_DATABASE_URL"] == "postgresql://rooms:[redacted]@[::1]:5432/rooms%20db"
    assert shown["BOLTOREZKA_NATS_URL"] == "nats://bus:[redacted]@bus.example:4222"
    assert SENTINEL not in f"{rows} {load(env)}"
    for name in ("DATABASE_URL", "NATS_URL"):
        broken = {**env, PREFIX + name: env[PREFIX + name].replace(SENTINEL, f"{SENTINEL}#/:?")}
        assert SENTINEL not in f"{describe(broken)} {_problems(broken)}"


def test_the_database_alone_can_be_asked_for(good):
    """`migrate` needs no other setting; without or with a wrong DATABASE_URL that one is named."""
    assert database({"BOLTOREZKA_DATABASE_URL": "sqlite:////x/y.db"}) == SqliteFile(Path("/x/y.db"))
    for wrong in ({}, {"BOLTOREZKA_DATABASE_URL": "mysql://u:p@h/db"}):
        with pytest.raises(ConfigError) as error:
            database(wrong)
        assert [problem.partition(":")[0] for problem in error.value.data["problems"]] == ["BOLTOREZKA_DATABASE_URL"]


def test_prod_refuses_plain_http(good):
    """In prod neither our own origin nor the SSO may be without TLS."""
    problems = _problems({**good, "BOLTOREZKA_ENVIRONMENT": "prod"})
    assert [problem.partition(":")[0] for problem in problems] == [
        "BOLTOREZKA_PUBLIC_ORIGIN",
        "BOLTOREZKA_AUTH_SSO_BASE_URL",
    ]


def test_defaults_follow_the_public_origin(good):
    """Without further settings only our own origin opens sockets and is returned to."""
    settings = load({**good, "BOLTOREZKA_WEB_ROOT": ""})
    assert settings.allowed_origins == ("http://127.0.0.1:1",)
    assert settings.return_hosts == {"127.0.0.1"}
    assert settings.web_root is None
    assert settings.heartbeat_s == 25


def test_secrets_never_show(good):
    """Neither the settings, nor the description of a good or a broken environment, show a secret."""
    env = {**good, "BOLTOREZKA_JWT_SECRET": SENTINEL, "BOLTOREZKA_METRICS_TOKEN": SENTINEL}
    assert SENTINEL not in repr(load(env))
    assert SENTINEL not in f"{describe(env)}"
    misplaced = {**env, "BOLTOREZKA_DATABASE_URL": f"postgres://u:{SENTINEL}@h/db"}
    assert SENTINEL not in f"{describe(misplaced)} {_problems(misplaced)}"
    with pytest.raises(TypeError):
        pickle.dumps(Secret(SENTINEL))


def test_description_names_the_state_of_every_setting(good):
    """`check-config` shows what is set, what is a default, and non-secret values."""
    rows, problems = describe(good)
    states = {name: (state, value) for name, state, value in rows}
    assert problems == []
    assert states["BOLTOREZKA_ENVIRONMENT"] == ("set", "test")
    assert states["BOLTOREZKA_HEARTBEAT_S"] == ("default", "25")
    assert states["BOLTOREZKA_JWT_SECRET"] == ("set", "[redacted]")
    assert len(rows) == len(SETTINGS)


def test_a_turn_server_without_its_secret_is_a_contradiction(good):
    """A relay named without a secret is refused at start; STUN needs none, and with the secret both are taken."""
    urls = {"BOLTOREZKA_TURN_URLS": "stun:s.example, turn:t.example:3478?transport=udp,turns:[2001:db8::1]:5349"}
    assert _problems({**good, **urls}) == [
        "BOLTOREZKA_TURN_URLS: a TURN server needs BOLTOREZKA_TURN_SECRET to make credentials with"
    ]
    assert load({**good, "BOLTOREZKA_TURN_URLS": "stun:s.example"}).turn_secret is None
    settings = load({**good, **urls, "BOLTOREZKA_TURN_SECRET": SENTINEL})
    assert settings.turn_urls == ("stun:s.example", "turn:t.example:3478?transport=udp", "turns:[2001:db8::1]:5349")
    assert SENTINEL not in repr(settings)
    assert settings.turn_ttl_s == 3600
