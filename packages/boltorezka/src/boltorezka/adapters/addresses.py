"""Where our database and our bus are: values that print without their password."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

_POSTGRES_PORT = 5432
_NATS_PORT = 4222
# libpq's names. `prefer` is what PostgreSQL's own clients do when nothing is said.
_SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class SqliteFile:
    """A database in one file."""

    path: Path

    def __str__(self) -> str:
        return f"sqlite:///{self.path}"


@dataclass(frozen=True)
class PostgresAddress:
    """A database of a PostgreSQL server. Its text names everything but the password."""

    host: str
    port: int
    user: str
    password: str | None = field(repr=False)
    name: str
    sslmode: str = "prefer"

    @property
    def place(self) -> str:
        """Host and port, for sentences."""
        return _place(self.host, self.port)

    def __str__(self) -> str:
        password = "" if self.password is None else ":[redacted]"
        name = urllib.parse.quote(self.name, safe="")
        return f"postgresql://{urllib.parse.quote(self.user, safe='')}{password}@{self.place}/{name}"


@dataclass(frozen=True)
class NatsAddress:
    """A NATS server. Its text names everything but password and token."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tls: bool = False

    @property
    def place(self) -> str:
        """Host and port, for sentences."""
        return _place(self.host, self.port)

    def __str__(self) -> str:
        who = "[redacted]@" if self.token else "" if self.user is None else f"{self.user}:[redacted]@"
        return f"{'tls' if self.tls else 'nats'}://{who}{self.place}"


Database = SqliteFile | PostgresAddress


def database_address(text: str) -> Database:
    """Read a DATABASE_URL. Raises ValueError with a sentence that repeats nothing of the value."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "postgresql":
        return _postgres(text)
    if not separator or scheme != "sqlite" or not rest.startswith("/"):
        raise ValueError(
            "only sqlite:////absolute/path, sqlite:///relative/path and postgresql://user:password@host/name are known"
        )
    path = rest[1:]
    if not path or path.startswith(":memory:") or "?" in path:
        raise ValueError("must name a file, without parameters")
    return SqliteFile(Path(path))


def nats_address(text: str) -> NatsAddress:
    """Read a NATS_URL. Raises ValueError with a sentence that repeats nothing of the value."""
    sentence = "must be nats://host:port or tls://host:port, with user:password@ or token@ before the host if needed"
    parts, port = _split(text, sentence)
    if parts.scheme not in {"nats", "tls"} or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(sentence)
    user, password = _unquoted(parts.username), _unquoted(parts.password)
    token = None
    if password is None:
        user, token = None, user
    return NatsAddress(parts.hostname or "", port or _NATS_PORT, user, password, token, parts.scheme == "tls")


def _postgres(text: str) -> PostgresAddress:
    sentence = "must be postgresql://user:password@host:port/name"
    parts, port = _split(text, sentence)
    user, name = _unquoted(parts.username), urllib.parse.unquote(parts.path.removeprefix("/"))
    if not user or not name or "/" in parts.path.removeprefix("/") or parts.fragment:
        raise ValueError(sentence)
    options = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
    mode = options.pop("sslmode", ["prefer"])[-1]
    if options or mode not in _SSL_MODES:
        raise ValueError(f"knows one parameter, sslmode: {', '.join(_SSL_MODES)}")
    return PostgresAddress(parts.hostname or "", port or _POSTGRES_PORT, user, _unquoted(parts.password), name, mode)


def _split(text: str, sentence: str) -> tuple[urllib.parse.SplitResult, int | None]:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces; quote other characters as %XX")
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        # Its own words would repeat parts of the value, which may be of the password.
        raise ValueError(sentence) from None
    if not parts.hostname:
        raise ValueError(sentence)
    return parts, port


def _unquoted(text: str | None) -> str | None:
    return None if text is None else urllib.parse.unquote(text)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
