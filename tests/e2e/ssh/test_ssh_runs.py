"""Runs on a server from a laptop, through a real sshd: seen to their end whatever becomes of the connection."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import psutil
import pytest

pytestmark = pytest.mark.e2e
ROLLOUT = ("rollout", "--env", "test", "--branch", "feature/x")
HASTY = "import sluice.cli.remote_run as r; r.RETURN_S = 1.0; import sys; from sluice.cli import main; sys.exit(main())"


def steps(out):
    """The finished steps, in the order they were shown."""
    return re.findall(r"^(?:ok|fail|broken|interrupt|give_up)\s+([a-z ]+?)\s+\d+\.\d s", out, re.MULTILINE)


def ended(process):
    """Exit code and output of a command that is under way."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def test_commands_are_done_there_and_shown_here(laptop, shop):
    """Rollout, status, log, smoke, check: the server's state, the laptop's tables, the run's exit codes."""
    code, out = laptop.sluice(*ROLLOUT)
    assert code == 0, out
    assert "rollout: done (exit 0)" in out
    assert "Ledger record 1" in out
    assert shop.served() == shop.git("rev-parse", "feature/x")
    for words, told in (
        (["status"], "feature/x"),
        (["log"], "done"),
        (["smoke"], "login"),
        (["log", "verify"], "holds"),
    ):
        code, out = laptop.sluice(*words, "--env", "test")
        assert code == 0, out
        assert told in out
    code, out = laptop.sluice("rollout", "--env", "test", "--branch", "feature/typo")
    assert code == 2, out
    assert "feature/typo" in out
    code, out = laptop.sluice("status", "--env", "test", "--json")
    assert json.loads(out)["branch"] == "feature/x"


def kill_session(laptop, _client):
    """Cut it at the server: sshd's process of this connection."""
    (session,) = laptop.sessions()
    session.kill()


def kill_client(_laptop, client):
    """Cut it at the laptop: the ssh program."""
    (ssh,) = [child for child in psutil.Process(client.pid).children() if child.name() == "ssh"]
    ssh.kill()


@pytest.mark.parametrize("cut", [kill_session, kill_client])
def test_a_connection_that_is_cut_costs_nothing(laptop, shop, cut):
    """The run goes on, the laptop comes back, shows every step once, and exits with the run's code."""
    laptop.close_gate()
    with laptop.start(*ROLLOUT) as client:
        run = laptop.at_gate()
        cut(laptop, client)
        laptop.open_gate()
        code, out = ended(client)
    assert code == 0, out
    assert "broke; the run goes on there" in out
    names = steps(out)
    assert names[:4] == ["planning", "gating", "building", "migrating"]
    assert len(names) == len(set(names)), out
    assert "watching" in names
    assert shop.served() == shop.git("rev-parse", "feature/x")
    code, again = laptop.sluice("follow", "--env", "test", "--run", run)
    assert code == 0, again
    assert steps(again) == names


def test_a_server_that_stays_away_does_not_stop_the_run(laptop, shop):
    """Exit code 8 and the next command; the run ends all the same, and can be read from its beginning later."""
    laptop.close_gate()
    with laptop.start(*ROLLOUT, code=HASTY) as client:
        laptop.at_gate()
        laptop.stop_sshd()
        code, out = ended(client)
    assert code == 8, out
    next_ = re.search(r"Next: sluice --host ssh://server (follow --env test --run \S+)", out)
    assert next_, out
    laptop.start_sshd()
    with laptop.start(*next_.group(1).split()) as follower:
        laptop.open_gate()
        code, out = ended(follower)
    assert code == 0, out
    assert steps(out)[0] == "planning"
    assert shop.served() == shop.git("rev-parse", "feature/x")


def test_two_laptops_see_one_run(laptop):
    """A second rollout is refused with who and what; a second person follows the first one live."""
    laptop.close_gate()
    with laptop.start(*ROLLOUT) as first:
        laptop.at_gate()
        code, out = laptop.sluice("rollout", "--env", "test", "--branch", "feature/y", host="unlisted")
        assert code == 6, out
        assert "ann@example.org" in out
        with laptop.start("follow", "--env", "test", host="unlisted") as second:
            laptop.open_gate()
            (code, mine), (other_code, theirs) = ended(first), ended(second)
    assert (code, other_code) == (0, 0), mine + theirs
    assert steps(mine) == steps(theirs)


def test_ctrl_c_on_the_laptop_undoes_on_the_server(laptop, shop):
    """The run is interrupted over a second connection and followed to its end; the old release goes on serving."""
    assert laptop.sluice("rollout", "--env", "test", "--branch", "feature/y")[0] == 0
    before = shop.served()
    laptop.close_gate()
    with laptop.start(*ROLLOUT) as client:
        laptop.at_gate()
        client.send_signal(signal.SIGINT)
        code, out = ended(client)
    assert code == 1, out
    assert "rollout: refused" in out
    assert shop.served() == before
    assert laptop.records()[-1]["reason"] == "interrupted"


def test_the_owner_is_who_the_key_says(laptop, shop):
    """A listed key is its principal, an unlisted one its fingerprint; --owner does not overrule a key."""
    code, out = laptop.sluice(*ROLLOUT, "--owner", "somebody else")
    assert code == 0, out
    assert "--owner somebody else was not taken" in out
    assert laptop.sluice("rollout", "--env", "test", "--branch", "feature/y", host="unlisted")[0] == 0
    command = ["ssh-keygen", "-l", "-f"]
    prints = {
        name: subprocess.run(
            [*command, f"{laptop.folder}/{name}.pub"], capture_output=True, text=True, check=True, timeout=30
        ).stdout.split()[1]
        for name in ("ann", "bob")
    }
    told = [(record["owner"], record["owner_source"]) for record in laptop.records()]
    assert told == [
        ("ann@example.org", f"ssh-key {prints['ann']}"),
        (f"{prints['bob']} (unlisted key)", f"ssh-key {prints['bob']}"),
    ]
    assert shop.sluice("rollback", "--env", "test", "--owner", "carl")[0] == 0
    assert laptop.records()[-1]["owner"] == "carl"


@pytest.mark.parametrize(
    ("host", "program", "words"),
    [
        ("changed", "sluice", ["REMOTE HOST IDENTIFICATION HAS CHANGED", "Nothing was changed."]),
        ("refused", "sluice", ["Permission denied", "Nothing was changed."]),
        ("server", "/nowhere/sluice", ["/nowhere/sluice", "install Sluice there"]),
    ],
)
def test_a_server_that_cannot_be_used_is_exit_code_2(laptop, shop, host, program, words):
    """Ssh's own words, what to do, and nothing was begun."""
    code, out = laptop.sluice(*ROLLOUT, host=host, SLUICE_REMOTE_COMMAND=program)
    assert code == 2, out
    assert [word for word in words if word not in out] == [], out
    assert not shop.paths.env_dir.exists()


def test_a_reader_that_stands_still_does_not_hold_a_rollout_up(laptop, shop):
    """Standard output is a pipe that is full and stays so; the run ends, and its words can be read elsewhere."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        while True:
            try:
                os.write(writer, bytes(1 << 12))
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
        command = [sys.executable, "-c", "import sys; from sluice.cli import main; sys.exit(main())", *ROLLOUT]
        environment = shop.environment() | {"SLUICE_REMOTE_COMMAND": ""}
        done = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 0, done.stderr
    code, out = laptop.sluice("follow", "--env", "test")
    assert code == 0, out
    assert "watching" in steps(out)


def test_a_terminal_that_closes_does_not_end_a_rollout(laptop, shop):
    """SIGHUP and a dead terminal under the spinner: the run goes on to its end."""
    master, slave = os.openpty()
    laptop.close_gate()
    # setsid -c: the terminal is the session's own, so its end is a hang-up.
    command = [
        "setsid",
        "-c",
        sys.executable,
        "-c",
        "import sys; from sluice.cli import main; sys.exit(main())",
        *ROLLOUT,
    ]
    environment = shop.environment() | {"TERM": "xterm"}
    with subprocess.Popen(command, env=environment, stdin=slave, stdout=slave, stderr=slave) as running:
        os.close(slave)
        laptop.at_gate()
        shown = os.read(master, 1 << 16)
        os.close(master)
        laptop.open_gate()
        assert running.wait(60) == 0
    assert b"gating" in shown
    assert shop.served() == shop.git("rev-parse", "feature/x")
    code, out = laptop.sluice("follow", "--env", "test")
    assert code == 0, out
