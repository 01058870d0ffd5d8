"""What an older process may say that today's values do not: it is taught to the redactor before its log is quoted.

A service logs a password, and the password is changed: the log still has the old one. It is found where the process was
given it. Where it cannot be found, nothing of that log is quoted.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sluice.hosts.sources import ServerValues
from sluice.hosts.state import StatePaths
from sluice.model.errors import SluiceError
from sluice.model.release import Release
from sluice.model.secret import Redactor, Secret, with_members
from sluice.model.spec import HostEnvironment

BASE = frozenset({"PATH", "LANG", "HOME", "PYTHONDONTWRITEBYTECODE"})  # what the launcher gives to every service


def shown(host: HostEnvironment) -> set[str]:
    """What host.toml itself shows to everybody, although a server is told it in its env file too."""
    sso = host.expect_sso_host
    return {host.public_url.rstrip("/"), sso, f"http://{sso}", f"https://{sso}"}


class Past:
    """Of one environment: whether a log holds but values that the redactor knows, and teaches it those of before."""

    def __init__(self, known: ServerValues, paths: StatePaths, redactor: Redactor) -> None:
        """Touches nothing."""
        self._known = known
        self._paths = paths
        self._redactor = redactor

    def doubt(self) -> str:
        """Why no log may be quoted at all, in a half-sentence: a value of today is not known. "" when all are.

        Hides those of today, which may be others than when this command began.
        """
        self.learn(self._known.secrets())
        return self._known.unread().rstrip(".")

    def names(self) -> set[str]:
        """The variables of today's sources. Raises Refused when one cannot be read."""
        return set(self._known.values())

    def todays(self, release: Release) -> bool:
        """Whether the release was planned with the very values of today."""
        try:
            return self._known.fingerprint(self._paths.read_host_key()) == release.env_fingerprint
        except SluiceError:
            return False

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Hide these from now on."""
        self._redactor.learn(secrets)

    def learn_of(self, pid: int, settings: Iterable[str]) -> bool:
        """Hide what this process was started with, but the settings of its release. False when that cannot be had."""
        try:
            raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        except OSError:
            return False
        found = dict(entry.partition("=")[::2] for entry in raw.split("\0"))
        if "PATH" not in found:
            return False  # a service may write over its own environment, to change its title
        self.learn(with_members({n: Secret(value) for n, value in found.items() if n not in BASE.union(settings)}))
        return True
