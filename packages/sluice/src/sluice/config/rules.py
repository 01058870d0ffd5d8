"""What both files' rules share: one way to say what is wrong, and the shapes of names and addresses."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from pathlib import PurePosixPath

from sluice.model.errors import ConfigError

LAST_PORT = 65535
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")  # names become folders, units, Compose projects and refs


def wrong(where: str, path: str, found: str, next_step: str = "") -> ConfigError:
    """The error for one key of one file."""
    return ConfigError(
        f"{where}: {path} {found}{'' if found.endswith('?') else '.'}",
        next=next_step or f"correct {path} in {where}, then `sluice config check`",
        file=where,
        path=path,
    )


class Rules:
    """What the types cannot say. The first thing that is wrong is raised, with its path."""

    def __init__(self, where: str) -> None:
        """`where` names the file in errors."""
        self._where = where

    def _must(self, holds: bool, path: str, found: str) -> None:
        if not holds:
            raise wrong(self._where, path, found)


def is_inside(path: str) -> bool:
    """Whether this is a path below the folder it is told from."""
    told = PurePosixPath(path)
    return bool(path) and not told.is_absolute() and ".." not in told.parts


def is_http(url: str) -> bool:
    """Whether this is an absolute http or https URL without a path."""
    try:
        parts = urllib.parse.urlsplit(url)
        sane_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and sane_port


def is_address(text: str) -> bool:
    """Whether this is ADDRESS:PORT with a literal address."""
    host, _, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return port.isdigit() and 0 < int(port) <= LAST_PORT
