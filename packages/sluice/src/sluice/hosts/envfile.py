"""The server's environment file: outside git, mode 0600, read by name everywhere, by value only where needed."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from sluice.hosts.places import exchangeable, seen_by_git
from sluice.model.errors import Refused
from sluice.model.secret import Secret, with_members
from sluice.model.secret_forms import is_bare_address

MAX_BYTES = 256 * 1024  # an environment must fit exec's limits anyway; more than this is some other file
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class EnvFile:
    """`NAME=value` lines; `#` comments, an optional `export `, and one pair of quotes around a value are understood."""

    def __init__(self, path: Path, called: str = "the environment file") -> None:
        """Touches nothing. `called`: what a refusal calls it."""
        self.path = path
        self._called = called

    def check(self) -> None:
        """Raises Refused unless `check_place` passes and it holds NAME=value lines."""
        self.check_place()
        self._values()

    def check_place(self) -> None:
        """Raises Refused unless it is a regular file of ours or root's, 0600 or 0400, and see `must_stay`."""
        status = self._status()
        if not stat.S_ISREG(status.st_mode):
            raise self._refused("is not a regular file", f"put a plain file at {self.path}")
        if status.st_uid not in (os.geteuid(), 0):
            raise self._refused(
                f"belongs to user {status.st_uid}, neither to the user Sluice runs as nor to root",
                f"chown {os.geteuid()} {self.path}",
            )
        mode = stat.S_IMODE(status.st_mode)
        if mode not in (0o600, 0o400):
            found = f"has mode {mode:04o}, so others may {'write to it' if mode & 0o022 else 'read the secrets in it'}"
            found = found if mode & 0o077 else f"has mode {mode:04o}, which is neither 0600 nor 0400"
            raise self._refused(found, f"chmod 600 {self.path}")
        must_stay(self.path, self._refused)

    def names(self) -> set[str]:
        """The variables it sets to something. Raises Refused when it cannot be read."""
        return {name for name, value in self._values().items() if value.reveal()}

    def values(self) -> dict[str, Secret]:
        """For the launcher. Raises Refused when it cannot be read."""
        return self._values()

    def secrets(self) -> list[Secret]:
        """Every value that may be secret, for the redactor; a bare address is not. [] when it cannot be read."""
        try:
            return secrets_of(self._values())
        except Refused:
            return []

    def fingerprint(self, host_key: bytes) -> str:
        """See `fingerprint_of`."""
        return fingerprint_of(self._values(), host_key)

    def _status(self) -> os.stat_result:
        try:
            return self.path.lstat()
        except FileNotFoundError:
            raise self._refused("does not exist", "create it on the server with mode 0600, outside git") from None
        except OSError as error:
            raise self._refused(f"cannot be read: {error.strerror}", "correct the permissions of its folder") from error

    def _values(self) -> dict[str, Secret]:
        self._status()
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise self._refused(f"cannot be read: {error.strerror}", "correct its owner and permissions") from error
        if len(raw) > MAX_BYTES:
            raise self._refused(f"is larger than {MAX_BYTES} bytes", "check that it is the right file")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise self._refused("is not UTF-8 text", "write it anew as NAME=value lines") from None
        return parsed(text, self._refused)

    def _refused(self, found: str, next_step: str) -> Refused:
        return Refused(f"{self._called} {self.path} {found}.", next=next_step, file=str(self.path))


def parsed(text: str, refused: Callable[[str, str], Refused]) -> dict[str, Secret]:
    """The variables of NAME=value lines. Raises what `refused` makes of a sentence's end and of what to do next."""
    values = {}
    for number, whole in enumerate(text.split("\n"), 1):  # str.splitlines also ends one at U+2028, within a value
        line = whole.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        # The line itself may hold a secret, so the message names only its number.
        if not equals or not NAME.fullmatch(name) or "\0" in value:
            raise refused(f"line {number} is not NAME=value", f"correct line {number}")
        values[name] = Secret(unquoted(value))
    return values


def unquoted(value: str) -> str:
    """The value without one pair of quotes around it."""
    return value[1:-1] if len(value) >= 2 and value[0] in "'\"" and value[-1] == value[0] else value


def fingerprint_of(values: Mapping[str, Secret], host_key: bytes) -> str:
    """HMAC-SHA256 over names and values in a fixed order: equal means equal, and it tells nothing else."""
    digest = hmac.new(host_key, digestmod=hashlib.sha256)
    for name, value in sorted(values.items()):
        digest.update(f"{name}={len(value.reveal())}:{value.reveal()}\n".encode())
    return digest.hexdigest()


def must_stay(path: Path, refused: Callable[[str, str], Refused], *, in_git: bool = False) -> None:
    """Raises Refused where others could put something else in its place, or git sees it and `in_git` is False."""
    try:
        how, mend = exchangeable(path)
    except OSError as error:
        raise refused(f"cannot be reached: {error.strerror}", "correct its path") from None
    if how:
        raise refused(f"can be exchanged by others: {how}", mend)
    if not in_git and (tree := seen_by_git(path)):
        mend = "keep it outside every repository, or in a folder it ignores and tracks nothing of"
        raise refused(f"lies inside the git repository {tree}", mend)


def secrets_of(values: Mapping[str, Secret]) -> list[Secret]:
    """Every value that may be secret, for the redactor; a bare address is not. Beside it the members of a list."""
    return [value for value in with_members(values) if not is_bare_address(value.reveal())]
