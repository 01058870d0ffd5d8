"""What two environments of a host share by what their env files say. Compared by value, told by name alone."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from sluice.hosts.sources import ServerValues, sources_of
from sluice.model.errors import Refused, StepFailed
from sluice.model.spec import HostEnvironment

# Where data lives. A shared SSO, mail server or message bus may be meant; a shared database never is.
DATABASES = ("sqlite", "postgres", "mysql", "mariadb", "mongodb", "redis", "mssql", "oracle")
OTHER_WORDS = {"postgresql": "postgres", "rediss": "redis"}
PORTS = {"postgres": 5432, "mysql": 3306, "mariadb": 3306, "mongodb": 27017, "redis": 6379}


def shared_data(own: HostEnvironment, others: Mapping[str, HostEnvironment]) -> list[str]:
    """One sentence for each env file and each database shared with another environment; `others` by `service/env`.

    An env file that is not there yet, or that this user may not read, shares nothing through us. Raises StepFailed
    when one cannot be understood.
    """
    found = []
    mine = _databases(own)
    for name, other in sorted(others.items()):
        if Path(other.env_file).resolve() == Path(own.env_file).resolve():
            found.append(f"the env file {own.env_file} is also that of {name}")
            continue
        theirs = _databases(other)
        for variable, place in sorted(mine.items()):
            same = sorted(their for their, its in theirs.items() if its == place)
            if same:
                found.append(f"{variable} names the database that {same[0]} of {name} names")
    return found


def _databases(host: HostEnvironment) -> dict[str, tuple[str, ...]]:
    file = Path(host.env_file)
    if not file.exists() or not os.access(file, os.R_OK):
        return {}
    try:
        values = ServerValues(sources_of(host)).values()
    except Refused as error:
        raise StepFailed(
            f"Whether environments share a database cannot be told: {error.what}", next=error.next
        ) from error
    places = {name: database_of(value.reveal()) for name, value in values.items()}
    return {name: place for name, place in places.items() if place is not None}


def database_of(value: str) -> tuple[str, ...] | None:
    """Which database a URL names, whoever signs in there and by whichever driver; None when it names none for sure."""
    try:
        parts = urllib.parse.urlsplit(value)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.partition("+")[0].lower()
    scheme = OTHER_WORDS.get(scheme, scheme)
    if scheme not in DATABASES:
        return None
    if scheme == "sqlite":
        file = urllib.parse.unquote(parts.path[1:])
        # A relative one lies in the environment's own folder.
        return (scheme, str(Path(file).resolve())) if file.startswith("/") else None
    host = (parts.hostname or "").lower()
    host = "localhost" if host in {"127.0.0.1", "::1", ""} else host
    return scheme, host, str(port or PORTS.get(scheme, 0)), parts.path.strip("/")
