"""Settings from the environment."""

import pickle

import pytest

from boltorezka.config import PREFIX, SETTINGS, Secret, describe, load
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
    required = {PREFIX + name for name, setting in SETTINGS.items() if setting.required}
    assert {problem.partition(":")[0] for problem in _problems({})} == required


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
        ("JWT_SECRET", "short"),
        ("JWT_SECRET", "\x00" * 40),
        ("METRICS_TOKEN", "short"),
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
