"""Settings from the environment: every one named, typed and checked at start; secrets never shown.

The table SETTINGS is the only list of settings: parsing, `check-config` and the reference page all read it.
"""

from __future__ import annotations

import difflib
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeVar

from boltorezka.adapters.addresses import Database, NatsAddress, PostgresAddress, database_address, nats_address
from boltorezka.auth.return_url import host_of
from boltorezka.errors import ConfigError
from boltorezka.voice.turn import MAX_TTL_S

PREFIX = "BOLTOREZKA_"

_T = TypeVar("_T")

ENVIRONMENTS = ("development", "test", "prod")
SSO_DRIVERS = ("broker", "oidc")
LOG_LEVELS = ("debug", "info", "warning", "error")

# What people are offered when nothing was named.
DEFAULT_PROVIDERS = {"broker": ("google", "yandex"), "oidc": ("oidc",)}

# HS256 signs with 256 bits; a shorter secret makes every token weaker than its signature looks.
MIN_SECRET_BYTES = 32

# Long enough that it cannot be guessed through the ingress.
MIN_METRICS_TOKEN = 16


# As long as the digest it keys is strong: a guessed secret is a relay open to everybody.
MIN_TURN_SECRET = 16


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

    database_url: Database
    nats_url: NatsAddress | None
    environment: str
    public_origin: str
    allowed_origins: tuple[str, ...]
    allowed_return_hosts: tuple[str, ...]
    sso_driver: str
    auth_sso_base_url: str | None
    auth_sso_cookie_names: tuple[str, ...]
    auth_sso_providers: tuple[str, ...]
    oidc_issuer: str | None
    oidc_client_id: str | None
    oidc_client_secret: Secret | None
    oidc_scopes: str
    jwt_secret: Secret
    metrics_token: Secret
    super_admin_email: str | None
    web_root: Path | None
    build_info: Path | None
    release_sha: str | None
    release_version: str | None
    turn_urls: tuple[str, ...]
    turn_secret: Secret | None
    turn_ttl_s: float
    chat_per_second: float
    frames_per_second: float
    logins_per_minute: int
    tickets_per_minute: int
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    heartbeat_s: float
    drain_spread_s: float
    log_level: str

    @property
    def return_hosts(self) -> frozenset[str]:
        """Hosts a browser may be sent back to: the allowed ones and our own."""
        return frozenset({*self.allowed_return_hosts, host_of(self.public_origin)})

    @property
    def sso_address(self) -> str:
        """Where people sign in: the central SSO, or the provider's issuer."""
        return self.auth_sso_base_url or self.oidc_issuer or ""


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", text):
        raise ValueError("must be an origin in lower case without a path, like https://rooms.example.org")
    return text


def _base_url(text: str) -> str:
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in text:
        raise ValueError("must be an http(s) address without user, query and fragment")
    return text.rstrip("/")


def _list(item: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    def parse(text: str) -> tuple[_T, ...]:
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


def _issuer(text: str) -> str:
    # Compared letter by letter with what the provider calls itself, so it is kept as it was written.
    _base_url(text)
    return text


def _scopes(text: str) -> str:
    words = text.split()
    if "openid" not in words or not all(re.fullmatch(r"[!#-\[\]-~]+", word) for word in words):
        raise ValueError("must be words separated by spaces, openid among them")
    return " ".join(words)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError("must be networks like 10.0.0.0/8 or fd00::/8, or single addresses") from None


def _count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _ice_url(text: str) -> str:
    place = r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?"
    if not re.fullmatch(rf"stuns?:{place}|turns?:{place}(\?transport=(udp|tcp))?", text):
        raise ValueError("must be stun: or turn: addresses, like turn:turn.example.org:3478?transport=udp")
    return text


def _number(least: float, most: float, unit: str = "") -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"must be a number{unit and ' of'}{unit}") from None
        if not least <= value <= most:
            raise ValueError(f"must be from {least:g} to {most:g}{unit}")
        return value

    return parse


def _seconds(least: float, most: float) -> Callable[[str], float]:
    return _number(least, most, " seconds")


@dataclass(frozen=True)
class Setting:
    """One setting: how it is read, and what it is when it is not given (REQUIRED: it must be given)."""

    parse: Callable[[str], Any]
    default: str | None
    purpose: str
    secret: bool = False
    required: bool = False
    driver: str | None = None
    """The only SSO_DRIVER that reads it; None: every one."""

    def is_for(self, driver: str) -> bool:
        """Whether it means something with this SSO_DRIVER."""
        return self.driver in {None, driver}


_host = _matching(r"[a-z0-9.-]+|\[[0-9a-f:]+\]", "must be host names in lower case, without scheme and port")
_cookie = _matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "must be names of cookies")
_client_id = _matching(r"[ -~]{1,255}", "must be up to 255 printable characters of ASCII")
_word = _matching(r"[a-z0-9_-]{1,32}", "must be short names in lower case")

SETTINGS: Mapping[str, Setting] = {
    "DATABASE_URL": Setting(database_address, None, "where rooms, users and messages are kept", required=True),
    "NATS_URL": Setting(nats_address, None, "through which processes on one PostgreSQL tell each other"),
    "ENVIRONMENT": Setting(_one_of(ENVIRONMENTS), "development", "development, test or prod"),
    "PUBLIC_ORIGIN": Setting(_origin, None, "the origin people see in their browser", required=True),
    "ALLOWED_ORIGINS": Setting(_list(_origin), "", "origins that may open sockets; PUBLIC_ORIGIN when empty"),
    "ALLOWED_RETURN_HOSTS": Setting(_list(_host), "", "hosts, beside our own, to return to after signing in"),
    "SSO_DRIVER": Setting(_one_of(SSO_DRIVERS), "broker", "how people sign in: broker (a central SSO) or oidc"),
    "AUTH_SSO_BASE_URL": Setting(_base_url, None, "the address of the central SSO", driver="broker", required=True),
    "AUTH_SSO_COOKIE_NAMES": Setting(
        _list(_cookie), "sso_session", "the only cookies forwarded to the central SSO", driver="broker"
    ),
    "AUTH_SSO_PROVIDERS": Setting(_list(_word), None, "names to sign in under; google,yandex or oidc when empty"),
    "OIDC_ISSUER": Setting(
        _issuer, None, "the OpenID Connect provider, as it names itself", driver="oidc", required=True
    ),
    "OIDC_CLIENT_ID": Setting(_client_id, None, "our name at the provider", driver="oidc", required=True),
    "OIDC_CLIENT_SECRET": Setting(
        _secret(1), None, "our secret at the provider; a public client has none", driver="oidc", secret=True
    ),
    "OIDC_SCOPES": Setting(_scopes, "openid email profile", "what the provider is asked to tell", driver="oidc"),
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
    "TURN_URLS": Setting(_list(_ice_url), "", "STUN and TURN servers that people in voice may use"),
    "TURN_SECRET": Setting(
        _secret(MIN_TURN_SECRET), None, "shared with the TURN servers; at least 16 bytes", secret=True
    ),
    "TURN_TTL_S": Setting(_seconds(60, MAX_TTL_S), str(MAX_TTL_S), "seconds a TURN credential is good for"),
    "CHAT_PER_SECOND": Setting(
        _number(0.1, 100_000), "10", "messages a second one socket may send for long; ten times as many at once"
    ),
    "FRAMES_PER_SECOND": Setting(
        _number(1, 1_000_000), "100", "frames a second one socket may send for long; four times as many at once"
    ),
    "LOGINS_PER_MINUTE": Setting(_count(6, 1_000_000), "300", "steps of signing in that one address may take"),
    "TICKETS_PER_MINUTE": Setting(_count(6, 1_000_000), "60", "tickets that one session may fetch"),
    "TRUSTED_PROXIES": Setting(
        _list(_network), "127.0.0.0/8,::1/128", "networks whose word about the client's address is taken"
    ),
    "HEARTBEAT_S": Setting(_seconds(0.1, 300), "25", "seconds between heartbeats of a socket"),
    "DRAIN_SPREAD_S": Setting(_seconds(0, 3), "3", "seconds over which sockets are asked to come back on a drain"),
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


def database(environ: Mapping[str, str]) -> Database:
    """Only where the database is, for commands that need nothing else. Raises ConfigError."""
    values, problems = _read(environ)
    mine = [problem for problem in problems if problem.startswith(f"{PREFIX}DATABASE_URL:")]
    if mine:
        raise ConfigError("The database is not named.", problems=mine)
    found: Database = values["DATABASE_URL"]
    return found


def describe(environ: Mapping[str, str]) -> tuple[list[tuple[str, str, str]], list[str]]:
    """For `check-config`: (name, state, value) of every setting, and the problems. Secrets have no value here."""
    values, _ = _read(environ)
    rows = []
    for name, setting in SETTINGS.items():
        given = environ.get(PREFIX + name, "")
        needed = setting.required and setting.is_for(_driver(environ))
        state = "set" if given else "missing" if needed else "default" if setting.default else "empty"
        if given and name not in values:
            # Not shown: what was meant for another setting may be a secret.
            rows.append((PREFIX + name, "invalid", ""))
        elif setting.secret:
            rows.append((PREFIX + name, state, repr(values[name]) if given else ""))
        elif given and setting.parse in {database_address, nats_address}:
            # These say themselves where they are, without their password.
            rows.append((PREFIX + name, state, str(values[name])))
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
    driver = _driver(environ)
    for name, setting in SETTINGS.items():
        # An empty value is what templates leave for "not given".
        text = environ.get(PREFIX + name, "") or setting.default
        try:
            values[name] = None if text is None else setting.parse(text)
        except ValueError as error:
            problems.append(f"{PREFIX}{name}: {error}")
            continue
        if environ.get(PREFIX + name) and driver in SSO_DRIVERS and not setting.is_for(driver):
            problems.append(f"{PREFIX}{name}: is for {PREFIX}SSO_DRIVER={setting.driver}, which was not chosen")
        if setting.required and setting.is_for(driver) and text is None:
            problems.append(f"{PREFIX}{name}: is missing ({setting.purpose})")
    return values, problems


def _driver(environ: Mapping[str, str]) -> str:
    return environ.get(f"{PREFIX}SSO_DRIVER", "") or SSO_DRIVERS[0]


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, [PREFIX + known for known in SETTINGS], n=1)
    return f"{name}: is not a setting of this version" + (f"; did you mean {near[0]}?" if near else "")


def _complete(values: dict[str, Any]) -> Settings:
    values["ALLOWED_ORIGINS"] = values["ALLOWED_ORIGINS"] or (values["PUBLIC_ORIGIN"],)
    if values["AUTH_SSO_PROVIDERS"] is None:
        values["AUTH_SSO_PROVIDERS"] = DEFAULT_PROVIDERS[values["SSO_DRIVER"]]
    values["ALLOWED_RETURN_HOSTS"] = values["ALLOWED_RETURN_HOSTS"] or ()
    return Settings(**{field.name: values[field.name.upper()] for field in fields(Settings)})


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.environment == "prod" and settings.public_origin.startswith("http://"):
        problems.append(f"{PREFIX}PUBLIC_ORIGIN: must be https in prod")
    if settings.environment == "prod" and (settings.auth_sso_base_url or "").startswith("http://"):
        problems.append(f"{PREFIX}AUTH_SSO_BASE_URL: must be https in prod, because it is sent people's cookies")
    if settings.environment == "prod" and (settings.oidc_issuer or "").startswith("http://"):
        problems.append(f"{PREFIX}OIDC_ISSUER: must be https in prod, because it says who people are")
    if isinstance(settings.database_url, PostgresAddress) != (settings.nats_url is not None):
        problems.append(f"{PREFIX}NATS_URL: must be given with PostgreSQL, and only with it: SQLite needs no bus")
    if not settings.auth_sso_cookie_names or not settings.auth_sso_providers:
        problems.append(f"{PREFIX}AUTH_SSO_COOKIE_NAMES, {PREFIX}AUTH_SSO_PROVIDERS: must name at least one each")
    if any(name.endswith("boltorezka_session") for name in settings.auth_sso_cookie_names):
        problems.append(f"{PREFIX}AUTH_SSO_COOKIE_NAMES: must not name our own session cookie")
    if settings.turn_secret is None and any(url.startswith("turn") for url in settings.turn_urls):
        problems.append(f"{PREFIX}TURN_URLS: a TURN server needs {PREFIX}TURN_SECRET to make credentials with")
    if settings.web_root is not None and not (settings.web_root / "index.html").is_file():
        problems.append(f"{PREFIX}WEB_ROOT: there is no index.html in this directory")
    return problems
