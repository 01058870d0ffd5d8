"""Releases that go wrong at one step of a rollout and at no earlier one, as changes to a good one."""

from __future__ import annotations

import re
from pathlib import Path

from rooms_world import ROOT, Change

APP = "packages/boltorezka/src/boltorezka/app.py"
SQLITE = "packages/boltorezka/src/boltorezka/adapters/sqlite"
MIGRATION = f"{SQLITE}/migrations/versions/v9999_half.py"

# It leaves a transaction half done, while users write.
HALF_MIGRATION = '''"""Ends in the middle."""

from alembic import op

revision = "9999"
down_revision = "{head}"


def upgrade() -> None:
    op.execute("CREATE TABLE half (id INTEGER)")
    raise RuntimeError("in the middle of the migration")
'''

# What the demo's broken release does to some messages, done to all: no smoke test is lucky.
FORGETS_EVERYTHING = """

from boltorezka.rooms.feed import Feed

Feed.offer = lambda self, events: []
"""

# Right behind its own address, wrong behind the ingress.
WRONG_IN_PUBLIC = """

_application = http_application


def http_application(*parts):
    inner = _application(*parts)

    async def application(scope, receive, send):
        names = {name for name, _ in scope.get("headers", ())}
        if scope["type"] == "http" and scope["path"] == "/v1/auth/register" and b"x-forwarded-host" in names:
            await send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await inner(scope, receive, send)

    return application
"""

# As the demo's broken release, but only once there are many: no smoke test is that crowded, the watch is.
FORGETS_IN_A_CROWD = """

import itertools

from boltorezka.rooms.feed import Feed

_opened, _let_through, _numbers, _crowded = Realtime.opened, Feed.offer, itertools.count(1), []


def _counted(self, *arguments, **more):
    if self.sockets > 50:
        _crowded.append(True)
    return _opened(self, *arguments, **more)


def _forgetful(self, events):
    return [event for event in _let_through(self, events) if not _crowded or next(_numbers) % 7]


Realtime.opened, Feed.offer = _counted, _forgetful
"""


def note(text: str) -> Change:
    """A good release: nothing but a note."""
    return {"changes/note.md": lambda _: f"{text}\n"}


def does_not_build() -> Change:
    """The image cannot be built."""
    return {"deploy/Dockerfile": lambda text: f"{text.rstrip()}\nRUN exit 3\n"}


def does_not_migrate() -> Change:
    """Its migration fails half-way."""
    head = r'(?m)^_CODE_HEAD = "(\w+)"'
    newest = re.findall(head, Path(ROOT, SQLITE, "schema.py").read_text())[0]
    return {
        MIGRATION: lambda _: HALF_MIGRATION.format(head=newest),
        f"{SQLITE}/schema.py": lambda text: re.sub(head, '_CODE_HEAD = "9999"', text),
    }


def is_never_ready() -> Change:
    """It runs, and listens where nobody asks."""
    return {
        "deploy/compose.demo.yaml": lambda text: text.replace("--port=8080", "--port=8081"),
        "deploy/sluice.toml": lambda text: text.replace("ready_timeout_s = 30", "ready_timeout_s = 5"),
    }


def fails_in_private() -> Change:
    """It stores messages and delivers none."""
    return {APP: lambda text: text + FORGETS_EVERYTHING}


def fails_in_public() -> Change:
    """It is right until the ingress is in front of it."""
    return {APP: lambda text: text + WRONG_IN_PUBLIC}


def fails_in_the_watch() -> Change:
    """It is right until many people are there."""
    return {APP: lambda text: text + FORGETS_IN_A_CROWD}
