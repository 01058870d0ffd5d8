"""How we connect to PostgreSQL, and its errors in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import asyncpg

from boltorezka.adapters.addresses import PostgresAddress
from boltorezka.errors import BoltorezkaError, ConfigError, Unavailable, ValidationError

# A connection of asyncpg, which comes without types.
Connection = Any

# A server in reach answers in milliseconds; one that takes longer is not there for people who wait.
CONNECT_S = 5.0
# No statement of ours takes more than milliseconds; the summary of a day is the longest.
STATEMENT_S = 10.0

# Whatever else the server or the driver says. InternalClientError: a connection used between the server's goodbye and
# its end.
GONE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

_SESSION = {
    "application_name": "boltorezka",
    # An ack means that the message survives a power cut, also where the operator chose otherwise for other things.
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    # The server's own deadlines: it gives up what a process that hangs or was cut off had begun, and its locks with it.
    "statement_timeout": f"{STATEMENT_S:.0f}s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # Compiling costs more than any of our statements.
    "jit": "off",
}


def connect_arguments(address: PostgresAddress) -> dict[str, Any]:
    """What asyncpg is given: never a URL, so that no error of it can repeat one."""
    return {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "password": address.password,
        "database": address.name,
        "ssl": address.sslmode,
        "timeout": CONNECT_S,
        "command_timeout": STATEMENT_S,
        "server_settings": _SESSION,
    }


@contextlib.contextmanager
def starting(address: PostgresAddress) -> Iterator[None]:
    """Errors at start, for the operator: they name the server, the user and the database, never the password."""
    try:
        yield
    except BoltorezkaError:
        raise
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise _wrong(
            f"PostgreSQL at {address.place} does not let the user {address.user!r} in ({type(error).__name__});"
            " check the user and the password"
        ) from None
    except asyncpg.InvalidCatalogNameError:
        raise _wrong(
            f"PostgreSQL at {address.place} has no database {address.name!r}; create it, or name another"
        ) from None
    except GONE as error:
        raise Unavailable(
            f"PostgreSQL at {address.place} cannot be used now ({_name(error)})."
            " Check that it runs and can be reached, then start again."
        ) from error


def _wrong(problem: str) -> ConfigError:
    return ConfigError("The database cannot be opened.", problems=[f"DATABASE_URL: {problem}"])


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Errors while serving, for people: they name nothing of ours. What only a bug can cause stays what it is."""
    try:
        yield
    except (asyncpg.IntegrityConstraintViolationError, ValueError):
        raise
    except (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError) as error:
        raise ValidationError("Text must not contain the character NUL.") from error
    except GONE as error:
        raise Unavailable(f"The database does not answer ({_name(error)}). Try again in a moment.") from error


def _name(error: Exception) -> str:
    state = getattr(error, "sqlstate", None)
    return type(error).__name__ + (f", SQLSTATE {state}" if state else "")
