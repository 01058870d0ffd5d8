"""What is smoked and what is expected of it: from the environment, never from the service's own words."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# What one run takes at most when nobody set a deadline: a person is waiting.
DEFAULT_DEADLINE_S = 60.0
# One answer of a service that is alive; a rollout's neighbours make machines slow.
ANSWER_DEADLINE_S = 10.0
# The public hosts of this project and the SSO hosts they must send people to.
KNOWN_HOSTS = Path("deploy/sso-hosts.json")


class UsageError(Exception):
    """The environment does not say what to smoke; the sentence names the variable."""


@dataclass(frozen=True)
class Person:
    """A smoke account with a session made for this run."""

    user_id: str
    token: str


@dataclass(frozen=True)
class Stranger:
    """A smoke account that is a member of no private room, with a second token that has expired."""

    person: Person
    expired_token: str


@dataclass(frozen=True)
class Target:
    """One service to smoke."""

    url: str
    public_url: str
    old_url: str
    expect_sso_host: str
    release: str
    deadline: float  # on the monotonic clock
    credentials: Path | None
    side: str = "new"  # which slot of a rollout: what runs on both at once must not meet in the database they share

    @property
    def return_url(self) -> str:
        """Where the SSO sends the person back: the public address, which the service must allow."""
        return f"{self.public_url}/"

    def remaining(self) -> float:
        """Seconds to the deadline, at least a blink, at most what one answer may take."""
        return max(0.05, min(ANSWER_DEADLINE_S, self.deadline - time.monotonic()))

    def people(self) -> tuple[list[Person], str]:
        """The smoke accounts and the canary room of the credentials file. Raises UsageError."""
        return _people(self._given("users")), str(self._given("canaryRoom"))

    def canary_people(self) -> list[Person]:
        """The other members of the canary room, for the watch. Raises UsageError."""
        return _people(self._given("canary"))

    def callers(self) -> tuple[list[Person], str]:
        """Two people for a call, and their room, which nobody else uses: each side has its own. Raises UsageError."""
        given = self._given("calls").get(self.side)
        if given is None:
            raise UsageError(f"the file that SLUICE_CREDENTIALS names has no calls of the side {self.side!r}")
        return _people(given["users"]), str(given["room"])

    def stranger(self) -> Stranger:
        """Who has no business in the canary room. Raises UsageError."""
        given = self._given("stranger")
        return Stranger(_people([given])[0], str(given["expiredToken"]))

    def _given(self, name: str) -> Any:
        if self.credentials is None:
            raise UsageError("SLUICE_CREDENTIALS names no file")
        content = json.loads(self.credentials.read_text())
        if name not in content:
            raise UsageError(f"the file that SLUICE_CREDENTIALS names has no {name!r}: another version made it")
        return content[name]


def _people(given: list[dict[str, Any]]) -> list[Person]:
    return [Person(str(user["userId"]), str(user["token"])) for user in given]


def from_environment() -> Target:
    """The target Sluice, or a person with SMOKE_API_URL, names. Raises UsageError."""
    variables = os.environ
    url = (variables.get("SLUICE_URL") or variables.get("SMOKE_API_URL", "")).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError("set SMOKE_API_URL (or SLUICE_URL) to the address of the service, http://… or https://…")
    public = variables.get("SLUICE_PUBLIC_URL", "").rstrip("/") or url
    expected = variables.get("SLUICE_EXPECT_SSO_HOST") or variables.get("SMOKE_EXPECT_SSO_HOST", "")
    if not expected and KNOWN_HOSTS.is_file():
        expected = json.loads(KNOWN_HOSTS.read_text()).get(urlsplit(public).netloc, "")
    credentials = variables.get("SLUICE_CREDENTIALS", "")
    return Target(
        url=url,
        public_url=public,
        old_url=variables.get("SLUICE_OLD_URL", "").rstrip("/"),
        expect_sso_host=expected,
        release=variables.get("SLUICE_RELEASE", ""),
        deadline=time.monotonic() + _seconds_left(variables.get("SLUICE_DEADLINE", "")),
        credentials=Path(credentials) if credentials else None,
        side=variables.get("SLUICE_SIDE") or "new",
    )


def _seconds_left(deadline: str) -> float:
    if not deadline:
        return DEFAULT_DEADLINE_S
    try:
        return float(deadline) - time.time()
    except ValueError:
        raise UsageError("SLUICE_DEADLINE must be seconds since the Unix epoch") from None
