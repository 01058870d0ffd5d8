"""`sluice freeze` by the real command line: it stops rollouts with its reason, no rollback, and works over ssh."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys

import pytest

from sluice.cli import main

pytestmark = pytest.mark.drill

UNTIL = f"{dt.datetime.now(dt.UTC) + dt.timedelta(days=2):%Y-%m-%dT%H:%M}"


def said(result, code, *words):
    """The command ended so and printed these words."""
    assert (result[0], [word for word in words if word not in result[1]]) == (code, []), result[1]


def freeze(shop, *words):
    """The command about test."""
    return shop.sluice("freeze", "--env", "test", *words)


def test_a_freeze_stops_rollouts_and_no_rollback(shop):
    """Frozen, refused with who and why, waived, rolled back all the same, lifted, and open again."""
    assert shop.rollout("main")[0] == 0
    said(freeze(shop), 0, "test is not frozen")
    said(freeze(shop, "--until", UNTIL, "--reason", "Black Friday", "--owner", "olga"), 0, "frozen until", "olga")
    said(freeze(shop), 0, f"until {UNTIL}:00Z: Black Friday (olga")
    said(shop.sluice("status", "--env", "test"), 0, "frozen", "Black Friday (olga")
    said(shop.rollout("feature/good"), 1, "Frozen by olga", "Black Friday", "--lift")
    waived = shop.rollout("feature/good", "--waive", "freeze=users cannot log in")
    said(waived, 0, "Waived for what serves: freeze", "users cannot log in")
    said(shop.sluice("rollback", "--env", "test"), 0, "rollback: done")
    said(shop.sluice("unlock", "--env", "test", "--reason", "looked"), 0)
    said(shop.rollout("main"), 1, "Frozen by olga")
    said(freeze(shop, "--lift", "--reason", "sold out"), 0, "unfrozen", "sold out")
    said(shop.rollout("feature/good"), 0)
    records = [json.loads(line) for line in shop.sluice("log", "--env", "test", "--json")[1].splitlines()]
    assert [one["type"] for one in records if "freeze" in one["type"]] == ["freeze", "unfreeze"]
    said(shop.sluice("log", "verify", "--env", "test"), 0, "the chain holds")


@pytest.fixture
def here(shop, monkeypatch, capsys):
    """The command in this process: exit code and what it printed."""
    for name, value in shop.environment().items():
        monkeypatch.setenv(name, value)

    def run(*words):
        code = main(["freeze", "--env", "test", *words])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--until", UNTIL, "--lift", "--reason", "x"), "freeze until a time, or lift it?"),
        (("--reason", "x"), "freeze until when?"),
        (("--until", "tomorrow", "--reason", "x"), "is no time"),
        (("--until", "2020-01-01", "--reason", "x"), "2020-01-01T00:00:00Z is over"),
        (("--until", UNTIL), "needs a reason"),
        (("--lift",), "needs a reason"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(shop, here, words, says):
    """Exit code 2, and nothing is recorded."""
    said(here(*words), 2, says)
    assert not shop.paths.ledger.exists()


def test_json_says_what_is_frozen(here):
    """For programs: the record when it is made, the freezes that hold afterwards."""
    made = json.loads(here("--until", UNTIL, "--reason", "holidays", "--json")[1].splitlines()[0])
    assert (made["event"], made["record"]["until"]) == ("freeze", f"{UNTIL}:00Z")
    shown = json.loads(here("--json")[1])
    assert [one["reason"] for one in shown["frozen"]] == ["holidays"]


def test_it_is_done_on_the_server(shop, tmp_path):
    """With --host the words go over as they are, and its output comes back."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(0o755)
    cli = f"{sys.executable} -c 'import sys; from sluice.cli import main; sys.exit(main())'"
    path = f"{program.parent}:{os.environ['PATH']}"
    laptop = {**shop.environment(), "PATH": path, "SLUICE_REMOTE_COMMAND": cli}

    def there(*words):
        argv = [sys.executable, "-c", "import sys; from sluice.cli import main; sys.exit(main())"]
        command = [*argv, "--host", "ssh://server", "freeze", "--env", "test", *words]
        done = subprocess.run(command, env=laptop, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    said(there("--until", UNTIL, "--reason", "it's Friday"), 0, "frozen until")
    said(there(), 0, "it's Friday")
    said(freeze(shop), 0, "it's Friday")
    said(there("--lift", "--reason", "over"), 0, "unfrozen")
    said(there("--until", "never", "--reason", "x"), 2, "is no time")
