"""Settings from the environment: every one named, typed and checked at start; secrets never shown.

The table SETTINGS is the only list of settings: parsing, `check-config` and the reference page all read it.
"""

from __future__ import annotations

import difflib
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from boltorezka.auth.return_url import host_of
from boltorezka.errors import ConfigError

PREFIX = "BOLTOREZKA_"

ENVIRONMENTS = ("development", "test", "prod")
LOG_LEVELS = ("debug", "info", "warning", "error")

# HS256 signs with 256 bits; a shorter secret makes every token weaker than its signature looks.
MIN_SECRET_BYTES = 32

# Long enough that it cannot be guessed through the ingress.
MIN_METRICS_TOKEN = 16


class Secret:
    """A value that prints redacted everywhere; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the part that needs it and for nobody else."""
        return self._value

    def __repr__(self) -> str:
        return "[redacted]"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled: it would leave the process in the clear")


@dataclass(frozen=True)
class Settings:
    """Everything the server is told. Made by `load`, so every value has been checked."""

    database_url: Path
    environment: str
    public_origin: str
    allowed_origins: tuple[str, ...]
    allowed_return_hosts: tuple[str, ...]
    auth_sso_base_url: str
    auth_sso_cookie_names: tuple[str, ...]
    auth_sso_providers: tuple[str, ...]
    jwt_secret: Secret
    metrics_token: Secret
    super_admin_email: str | None
    web_root: Path | None
    build_info: Path | None
    release_sha: str | None
    release_version: str | None
    heartbeat_s: float
    drain_spread_s: float
    log_level: str

    @property
    def return_hosts(self) -> frozenset[str]:
        """Hosts a browser may be sent back to: the allowed ones and our own."""
        return frozenset({*self.allowed_return_hosts, host_of(self.public_origin)})


def _sqlite(text: str) -> Path:
    scheme, separator, path = text.partition(":///")
    if not separator or scheme != "sqlite":
        raise ValueError("only sqlite:////absolute/path and sqlite:///relative/path are known")
    if not path or path.startswith(":memory:") or "?" in path:
        raise ValueError("must name a file, without parameters")
    return Path(path)


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", text):
        raise ValueError("must be an origin in lower case without a path, like https://rooms.example.org")
    return text


def _base_url(text: str) -> str:
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in text:
        raise ValueError("must be an http(s) address without user, query and fragment")
    return text.rstrip("/")


def _list(item: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        return tuple(item(part.strip()) for part in text.split(",") if part.strip())

    return parse


def _matching(pattern: str, sentence: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(sentence)
        return text

    return parse


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    return _matching("|".join(allowed), f"must be one of {', '.join(allowed)}")


def _secret(least: int) -> Callable[[str], Secret]:
    def parse(text: str) -> Secret:
        if len(text.encode()) < least:
            raise ValueError(f"must be at least {least} bytes long")
        if not text.isascii() or not text.isprintable():
            raise ValueError("must be printable ASCII")
        return Secret(text)

    return parse


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("must be a number of seconds") from None
        if not least <= value <= most:
            raise ValueError(f"must be from {least:g} to {most:g} seconds")
        return value

    return parse


@dataclass(frozen=True)
class Setting:
    """One setting: how it is read, and what it is when it is not given (REQUIRED: it must be given)."""

    parse: Callable[[str], Any]
    default: str | None
    purpose: str
    secret: bool = False
    required: bool = False


_host = _matching(r"[a-z0-9.-]+|\[[0-9a-f:]+\]", "must be host names in lower case, without scheme and port")
_cookie = _matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "must be names of cookies")
_word = _matching(r"[a-z0-9_-]{1,32}", "must be short names in lower case")

SETTINGS: Mapping[str, Setting] = {
    "DATABASE_URL": Setting(_sqlite, None, "where rooms, users and messages are kept", required=True),
    "ENVIRONMENT": Setting(_one_of(ENVIRONMENTS), "development", "development, test or prod"),
    "PUBLIC_ORIGIN": Setting(_origin, None, "the origin people see in their browser", required=True),
    "ALLOWED_ORIGINS": Setting(_list(_origin), "", "origins that may open sockets; PUBLIC_ORIGIN when empty"),
    "ALLOWED_RETURN_HOSTS": Setting(_list(_host), "", "hosts, beside our own, to return to after signing in"),
    "AUTH_SSO_BASE_URL": Setting(_base_url, None, "the address of the central SSO", required=True),
    "AUTH_SSO_COOKIE_NAMES": Setting(_list(_cookie), "sso_session", "the only cookies forwarded to the SSO"),
    "AUTH_SSO_PROVIDERS": Setting(_list(_word), "google,yandex", "providers the SSO offers"),
    "JWT_SECRET": Setting(
        _secret(MIN_SECRET_BYTES), None, "signs session tokens; at least 32 bytes", secret=True, required=True
    ),
    "METRICS_TOKEN": Setting(
        _secret(MIN_METRICS_TOKEN), None, "opens /metrics; at least 16 bytes", secret=True, required=True
    ),
    "SUPER_ADMIN_EMAIL": Setting(
        _matching(r"[^@\s]+@[^@\s]+", "must be an e-mail address"), None, "who becomes super admin on signing in"
    ),
    "WEB_ROOT": Setting(Path, None, "directory of the built web client, served at /"),
    "BUILD_INFO": Setting(Path, None, 'file with {"tree", "builtAt"} written by the build'),
    "RELEASE_SHA": Setting(_matching(r"[0-9a-f]{40,64}", "must be a full commit id"), None, "commit shown by /version"),
    "RELEASE_VERSION": Setting(
        _matching(r"[\w.+/-]{1,100}", "must be a version or tag"), None, "version shown by /version"
    ),
    "HEARTBEAT_S": Setting(_seconds(0.1, 300), "25", "seconds between heartbeats of a socket"),
    "DRAIN_SPREAD_S": Setting(_seconds(0, 3), "2", "seconds over which sockets are asked to come back on a drain"),
    "LOG_LEVEL": Setting(_one_of(LOG_LEVELS), "info", "how much is logged"),
}


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of this environment. Raises ConfigError listing every problem by name, never a value."""
    values, problems = _read(environ)
    if not problems:
        settings = _complete(values)
        problems = _contradictions(settings)
        if not problems:
            return settings
    raise ConfigError(f"The configuration has {len(problems)} problem(s).", problems=problems)


def database_path(environ: Mapping[str, str]) -> Path:
    """Only where the database is, for commands that need nothing else. Raises ConfigError."""
    values, problems = _read(environ)
    mine = [problem for problem in problems if problem.startswith(f"{PREFIX}DATABASE_URL:")]
    if mine:
        raise ConfigError("The database is not named.", problems=mine)
    path: Path = values["DATABASE_URL"]
    return path


def describe(environ: Mapping[str, str]) -> tuple[list[tuple[str, str, str]], list[str]]:
    """For `check-config`: (name, state, value) of every setting, and the problems. Secrets have no value here."""
    values, _ = _read(environ)
    rows = []
    for name, setting in SETTINGS.items():
        given = environ.get(PREFIX + name, "")
        state = "set" if given else "missing" if setting.required else "default" if setting.default else "empty"
        if given and name not in values:
            # Not shown: what was meant for another setting may be a secret.
            rows.append((PREFIX + name, "invalid", ""))
        elif setting.secret:
            rows.append((PREFIX + name, state, repr(values[name]) if given else ""))
        else:
            rows.append((PREFIX + name, state, given or setting.default or ""))
    try:
        load(environ)
    except ConfigError as error:
        return rows, list(error.data["problems"])
    return rows, []


def _read(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    problems = [_unknown(name) for name in sorted(environ) if name.startswith(PREFIX) and name[11:] not in SETTINGS]
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        # An empty value is what templates leave for "not given".
        text = environ.get(PREFIX + name, "") or setting.default
        try:
            values[name] = None if text is None else setting.parse(text)
        except ValueError as error:
            problems.append(f"{PREFIX}{name}: {error}")
            continue
        if setting.required and text is None:
            problems.append(f"{PREFIX}{name}: is missing ({setting.purpose})")
    return values, problems


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, [PREFIX + known for known in SETTINGS], n=1)
    return f"{name}: is not a setting of this version" + (f"; did you mean {near[0]}?" if near else "")


def _complete(values: dict[str, Any]) -> Settings:
    values["ALLOWED_ORIGINS"] = values["ALLOWED_ORIGINS"] or (values["PUBLIC_ORIGIN"],)
    values["ALLOWED_RETURN_HOSTS"] = values["ALLOWED_RETURN_HOSTS"] or ()
    return Settings(**{field.name: values[field.name.upper()] for field in fields(Settings)})


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.environment == "prod" and settings.public_origin.startswith("http://"):
        problems.append(f"{PREFIX}PUBLIC_ORIGIN: must be https in prod")
    if settings.environment == "prod" and settings.auth_sso_base_url.startswith("http://"):
        problems.append(f"{PREFIX}AUTH_SSO_BASE_URL: must be https in prod, because it is sent people's cookies")
    if not settings.auth_sso_cookie_names or not settings.auth_sso_providers:
        problems.append(f"{PREFIX}AUTH_SSO_COOKIE_NAMES, {PREFIX}AUTH_SSO_PROVIDERS: must name at least one each")
    if any(name.endswith("boltorezka_session") for name in settings.auth_sso_cookie_names):
        problems.append(f"{PREFIX}AUTH_SSO_COOKIE_NAMES: must not name our own session cookie")
    if settings.web_root is not None and not (settings.web_root / "index.html").is_file():
        problems.append(f"{PREFIX}WEB_ROOT: there is no index.html in this directory")
    return problems
