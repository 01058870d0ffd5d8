"""A run on a server seen from a laptop: through lost connections, to its end or until one leaves it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import msgspec
import pytest

from sluice.cli.main import main
from sluice.drive import Report

HELLO = {"event": "hello", "at": "now", "run": "R", "text": "0.1.0"}
ROLLOUT = ["--host", "ssh://srv", "rollout", "--env", "test", "--branch", "feature/x"]


def said(number, event, **more):
    """One report of run R, as the server writes it."""
    return json.loads(msgspec.json.encode(Report(event, "now", "R", n=number, **more)))


STARTED = said(2, "run", text="rollout of shop in test")
NOTE = said(3, "note", text="half-way")
RESULT = said(
    4,
    "result",
    data={"run": "R", "kind": "rollout", "outcome": "done", "exit_code": 0, "what": "", "world": "W", "next": ""},
)
ENDED = said(5, "ended", data={"exit_code": 0})


def test_a_run_is_shown_as_if_it_were_here(fake_ssh, capsys):
    """The server waits for `go`; its reports become the same lines; the exit code is the run's."""
    fake_ssh.plays({"says": [HELLO, STARTED, NOTE, RESULT, ENDED], "wants_go": True})
    assert main(ROLLOUT) == 0
    shown = capsys.readouterr().out
    assert [shown.count(words) for words in ("rollout of shop", "half-way", "rollout: done")] == [1, 1, 1]
    assert fake_ssh.heard() == "go\n"
    (call,) = fake_ssh.calls()
    assert call[-1] == "sluice --on-call rollout --env test --branch feature/x --json"


def test_a_broken_connection_is_come_back_to_without_repeating_a_line(fake_ssh, capsys):
    """Two breaks and a try that fails; then it goes on after the last report that was shown."""
    fake_ssh.plays(
        {"says": [HELLO, STARTED], "wants_go": True, "code": 255},
        {"code": 255, "err": "ssh: connect to host srv port 22: No route to host"},
        {"says": [HELLO, STARTED, NOTE], "code": 255},
        {"says": [HELLO, RESULT, {**ENDED, "data": {"exit_code": 3}}], "code": 3},
    )
    assert main(ROLLOUT) == 3
    shown = capsys.readouterr()
    assert [shown.out.count(words) for words in ("rollout of shop", "half-way", "rollout: done")] == [1, 1, 1]
    assert shown.out.count("broke; the run goes on there") == 2
    assert "No route" not in shown.err
    calls = fake_ssh.calls()
    assert [call[-1].partition("--after ")[2] for call in calls] == ["", "2 --json", "2 --json", "3 --json"]
    assert calls[1][-1] == "sluice --on-call follow --env test --run R --after 2 --json"


def test_a_last_word_that_was_lost_is_asked_for(fake_ssh):
    """A connection that ended well without the run's end is not the end."""
    fake_ssh.plays(
        {"says": [HELLO, STARTED], "wants_go": True, "code": 0},
        {"says": [HELLO, RESULT, {**ENDED, "data": {"exit_code": 4}}], "code": 4},
    )
    assert main(ROLLOUT) == 4


def test_a_server_that_does_not_come_back_is_exit_code_8(fake_ssh, capsys, monkeypatch):
    """The run goes on there, and the next command to type follows it."""
    monkeypatch.setattr("sluice.cli.remote_run.RETURN_S", 0.5)
    monkeypatch.setattr("sluice.cli.remote_run.PAUSES_S", (0.05,))
    fake_ssh.plays({"says": [HELLO, STARTED], "wants_go": True, "code": 255}, {"code": 255})
    assert main(ROLLOUT) == 8
    told = capsys.readouterr().err
    assert "The run goes on there." in told
    assert "sluice --host ssh://srv follow --env test --run R" in told


def test_a_run_that_never_began_is_said_so(fake_ssh, capsys):
    """The connection broke between hello and go: the server knows no such run."""
    error = {"event": "error", "code": "Usage", "what": "no run", "world": "", "next": "", "exit_code": 2}
    fake_ssh.plays({"says": [HELLO], "code": 255}, {"says": [error], "code": 2})
    assert main(ROLLOUT) == 8
    assert "never said a word there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (
            {"code": 255, "err": "Host key verification failed."},
            ["Host key verification failed.", "ssh says why above"],
        ),
        ({"code": 127, "err": "sh: sluice: not found"}, ["there is no `sluice`", "SLUICE_REMOTE_COMMAND"]),
    ],
)
@pytest.mark.parametrize(
    "command",
    [["rollout", "--branch", "x"], ["follow"], ["status"], ["unlock", "--reason", "y"]],
    ids=lambda one: one[0],
)
def test_a_server_that_is_not_reached_or_has_no_sluice_is_exit_code_2(fake_ssh, capfd, turn, words, command):
    """Ssh's own words are shown, then what that means; only after `unlock` it may be unknown what was done."""
    fake_ssh.plays(turn)
    assert main(["--host", "ssh://srv", command[0], "--env", "test", *command[1:]]) == 2
    told = capfd.readouterr().err
    assert [word for word in words if word not in told] == []
    unknown = command[0] == "unlock" and turn["code"] == 255
    assert ("not known" if unknown else "Nothing was changed.") in told


def test_an_error_of_the_server_is_shown_once_with_its_code(fake_ssh, capsys):
    """Another run holds the environment there: exit code 6 and the same three sentences."""
    error = {"event": "error", "code": "Locked", "what": "bob holds it", "world": "As it was.", "next": "wait"}
    fake_ssh.plays({"says": [HELLO, error], "wants_go": True, "code": 6})
    assert main(ROLLOUT) == 6
    assert capsys.readouterr().err == "Locked: bob holds it\n  As it was.\n  Next: wait\n"


def test_another_version_is_said_and_no_obstacle(fake_ssh, capsys):
    """A newer server's unknown report is shown as it is."""
    newer = {"event": "weather", "at": "now", "n": "seven"}
    fake_ssh.plays({"says": [{**HELLO, "text": "9.9"}, newer, RESULT, ENDED], "wants_go": True})
    assert main(ROLLOUT) == 0
    shown = capsys.readouterr().out
    assert "the server's is 9.9" in shown
    assert "weather" in shown


def test_json_is_passed_on_as_objects(fake_ssh, capsys):
    """A program sees the run's reports, and notes about the connection."""
    fake_ssh.plays(
        {"says": [HELLO, STARTED], "wants_go": True, "code": 255},
        {"says": [HELLO, RESULT, ENDED]},
    )
    assert main([*ROLLOUT, "--json"]) == 0
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["run", "note", "note", "result"]


def test_mistakes_are_answered_here(fake_ssh, capsys):
    """A word that makes no sense costs no connection; --help neither."""
    fake_ssh.plays({"code": 0})
    assert main(["--host", "ssh://srv", "rollout", "--env", "test"]) == 2
    assert "--branch" in capsys.readouterr().err
    assert main(["--host", "ssh://srv", "rollout", "--help"]) == 0
    assert main(["--host", "srv", "status", "--env", "test"]) == 2
    assert not (fake_ssh.folder / "calls").exists()


def test_tables_are_drawn_here_from_the_servers_json(fake_ssh, capsys, monkeypatch):
    """status, check and log; the exit code is the server's. $SLUICE_HOST does as --host."""
    monkeypatch.setenv("SLUICE_HOST", "ssh://srv")
    fake_ssh.plays(
        {"says": [{"service": "shop", "serving": "v1", "lock": ""}]},
        {"says": [{"event": "finding", "finding": {"name": "contains-main", "verdict": "fail", "ms": 1}}], "code": 1},
        {"says": [{"n": 1, "type": "rollout", "outcome": "done", "owner": "ann"}]},
        {"says": [{"event": "error", "code": "Config", "what": "bad", "world": "W", "next": "N"}], "code": 2},
    )
    assert main(["status", "--env", "test"]) == 0
    assert "serving        v1" in capsys.readouterr().out
    assert main(["check", "--env", "test", "--branch", "x"]) == 1
    assert "contains-main" in capsys.readouterr().out
    assert main(["log", "--env", "test"]) == 0
    assert "ann" in capsys.readouterr().out
    assert main(["status", "--env", "test"]) == 2
    assert capsys.readouterr().err.startswith("Config: bad")
    assert {call[-1].rpartition(" ")[2] for call in fake_ssh.calls()} == {"--json"}


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_the_results_file_is_written_here(fake_ssh, capsys, tmp_path, as_json):
    """The server is asked for its findings alone; what it said is shown as ever, and an error leaves no file."""
    finding = {"event": "finding", "finding": {"name": "login", "verdict": "fail", "detail": "403"}}
    fake_ssh.plays({"says": [finding], "code": 1})
    file = tmp_path / "junit.xml"
    words = ["--host", "ssh://srv", "smoke", "--env", "test", "--junit", str(file), *as_json]
    assert main(words) == 1
    assert '<failure message="403"' in file.read_text()
    assert "login" in capsys.readouterr().out
    assert fake_ssh.calls()[0][-1] == "sluice smoke --env test --json"
    file.unlink()
    fake_ssh.plays({"says": [{"event": "error", "code": "Refused", "what": "no", "world": "", "next": ""}], "code": 1})
    assert main(words) == 1
    assert not file.exists()


def test_what_has_no_table_is_passed_through(fake_ssh, capfd):
    """Log verify and config check: as the server prints them; no command is done here instead."""
    fake_ssh.plays({"says": ["3 records: the chain holds"], "code": 5})
    assert main(["--host", "ssh://srv", "log", "verify", "--env", "test"]) == 5
    assert capfd.readouterr().out == "3 records: the chain holds\n"
    assert main(["--host", "ssh://srv", "--host-config", "/h.toml", "config", "check"]) == 5
    assert fake_ssh.calls()[-1][-1] == "sluice --host-config /h.toml config check"


def interrupt_when(condition):
    """SIGINT to this process as soon as that holds."""

    def wait():
        end = time.monotonic() + 20
        while not condition() and time.monotonic() < end:
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_ctrl_c_interrupts_there_and_a_second_one_leaves(fake_ssh, capsys):
    """The first asks over a second connection and goes on showing; the second ends with exit code 8."""
    fake_ssh.plays({"says": [HELLO, STARTED], "wants_go": True, "stays": True}, {"code": 0})
    calls = fake_ssh.folder / "calls"
    first = interrupt_when(fake_ssh.heard)
    second = interrupt_when(lambda: calls.exists() and len(fake_ssh.calls()) == 2)
    assert main(ROLLOUT) == 8
    first.join()
    second.join()
    assert fake_ssh.calls()[1][-1] == "sluice interrupt --env test --run R --json"
    assert "asked to stop and ends there" in capsys.readouterr().err


def test_ctrl_c_before_the_run_began_changes_nothing(fake_ssh, capsys):
    """No go was given: the server gives up by itself, and this side says so."""
    fake_ssh.plays({"says": [], "stays": True})
    thread = interrupt_when((fake_ssh.folder / "calls").exists)
    assert main(ROLLOUT) == 1
    thread.join()
    assert "Interrupted before the run began." in capsys.readouterr().err
    assert fake_ssh.heard() == ""
