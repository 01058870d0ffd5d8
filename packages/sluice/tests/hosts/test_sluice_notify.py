"""Notifications by Apprise against a real server of our own: told, not told, and no address anywhere."""

from __future__ import annotations

import http.server
import json
import socket
import threading

import pytest

from sluice.hosts import notify
from sluice.hosts.notify import Notifier
from sluice.model.errors import Refused
from sluice.model.secret import Redactor
from sluice.runner import LocalRunner

KEY = "k" + "3y" * 12


class Inbox(http.server.ThreadingHTTPServer):
    """Keeps what it is posted; answers 500 under /bad."""

    def __init__(self):
        """Listens on a port of the kernel's choice."""
        super().__init__(("127.0.0.1", 0), Taking)
        self.got: list[tuple[str, dict[str, str]]] = []


class Taking(http.server.BaseHTTPRequestHandler):
    """One POST."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, body))
        self.send_response(500 if self.path.startswith("/bad") else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def inbox():
    """A server that takes messages, ended after."""
    server = Inbox()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def notifier(tmp_path):
    """Over a file that `write` fills."""
    made = Notifier(tmp_path / "addresses", LocalRunner(Redactor()))

    def write(*lines, mode=0o600):
        (tmp_path / "addresses").write_text("\n".join(lines) + "\n")
        (tmp_path / "addresses").chmod(mode)
        return made

    return write


async def test_everybody_in_the_file_is_told_title_and_body(notifier, inbox):
    """Comments and empty lines are nobody; the message comes as it was given."""
    at = f"json://127.0.0.1:{inbox.server_port}"
    assert await notifier("# the team", "", f"{at}/one/{KEY}", f"{at}/two/{KEY}")("shop: rolled back", "why") == []
    assert sorted(path for path, _ in inbox.got) == [f"/one/{KEY}", f"/two/{KEY}"]
    assert {(body["title"], body["message"], body["type"]) for _, body in inbox.got} == {
        ("shop: rolled back", "why", "failure")
    }


async def test_who_could_not_be_told_is_named_by_line_and_scheme_alone(notifier, inbox):
    """A refusal, a closed port and no address at all: each is one sentence without its key; the others are told."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        at = f"json://127.0.0.1:{inbox.server_port}"
        tell = notifier(
            f"{at}/bad/{KEY}", f"{at}/good/{KEY}", f"json://127.0.0.1:{closed.getsockname()[1]}/{KEY}", f"what {KEY}"
        )
        failed = await tell("title", "body")
    assert failed == [
        "Line 1 of addresses (json) did not take the message.",
        "Line 3 of addresses (json) did not take the message.",
        "Line 4 of addresses (not an address) did not take the message.",
    ]
    assert any(path == f"/good/{KEY}" for path, _ in inbox.got)


async def test_a_server_that_never_answers_costs_the_deadline_and_no_more(notifier, inbox, monkeypatch):
    """Whoever can be told is told; for the other the sender is ended."""
    monkeypatch.setattr(notify, "DEADLINE_S", 5.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tell = notifier(
            f"json://127.0.0.1:{silent.getsockname()[1]}/{KEY}?rto=600&cto=600",
            f"json://127.0.0.1:{inbox.server_port}/{KEY}",
        )
        failed = await tell("title", "body")
    assert failed == ["Line 1 of addresses (json) was not done within 5 s."]
    assert len(inbox.got) == 1


@pytest.mark.parametrize(
    ("lines", "mode", "says"),
    [
        (["json://x/"], 0o644, "chmod 600"),
        (["# nobody"], 0o600, "names nobody"),
        (["json://x/"] * 21, 0o600, "more than"),
    ],
)
async def test_a_file_that_is_not_right_tells_nobody_and_says_why(notifier, lines, mode, says):
    """It never raises: the run's outcome does not hang on it."""
    tell = notifier(*lines, mode=mode)
    try:
        tell.addresses()
        next_step = ""
    except Refused as error:
        next_step = error.next
    (sentence,) = await tell("title", "body")
    assert sentence.startswith("Nobody was told")
    assert says in sentence + next_step


async def test_a_missing_file_is_said(tmp_path):
    """What host.toml names and is not there."""
    (sentence,) = await Notifier(tmp_path / "none", LocalRunner(Redactor()))("title", "body")
    assert "cannot be read" in sentence


async def test_addresses_are_secrets_for_whoever_shows_output(notifier):
    """The redactor knows each address once the file was read."""
    tell = notifier(f"json://127.0.0.1:9/{KEY}")
    tell.addresses()
    assert KEY not in tell._runner.redactor(f"could not reach json://127.0.0.1:9/{KEY}")
