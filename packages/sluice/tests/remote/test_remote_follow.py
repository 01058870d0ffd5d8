"""Runs that go on in another process: seen from their beginning, interrupted, and nobody else hit."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys

import msgspec
import pytest

from sluice.cli.main import main
from sluice.drive import Report
from sluice.engine import State
from sluice.hosts.transcript import path_of, this_process
from sluice.journal import Journal
from sluice.lock import Holder
from sluice.model.secret import Redactor

FOLLOW = ["follow", "--env", "test"]
ENDED = Report("ended", "now", "R", n=9, data={"exit_code": 3})
DEAD = {"pid": 1, "start": "1", "boot": "another"}


def write(paths, run, *reports, process=None, text="rollout of shop"):
    """A transcript of that run."""
    opened = Report("opened", "now", run, n=1, data=process or msgspec.to_builtins(this_process()))
    first = Report("run", "now", run, n=2, text=text)
    paths.runs_dir.mkdir(exist_ok=True)
    lines = [msgspec.json.encode(report) for report in (opened, first, *reports)]
    path_of(paths.runs_dir, run).write_bytes(b"\n".join(lines) + b"\n")


@contextlib.contextmanager
def somebody(paths, holder_pid, *, holds=True):
    """The lock is held (by this test) and its info file says so much."""
    handle = os.open(paths.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX if holds else fcntl.LOCK_UN)
    paths.lock_info.write_bytes(msgspec.json.encode(Holder("ann", "rollout x", "now", holder_pid, "R")))
    try:
        yield
    finally:
        os.close(handle)


def test_the_newest_run_is_shown_from_its_beginning_with_its_exit_code(paths, capsys):
    """Another one by name; and only what came after a number, for one who comes back."""
    write(paths, "A", ENDED, text="the first")
    write(paths, "R", Report("note", "now", "R", n=3, text="half-way"), ENDED)
    assert main(FOLLOW) == 3
    assert "half-way" in capsys.readouterr().out
    assert main([*FOLLOW, "--run", "A"]) == 3
    assert "the first" in capsys.readouterr().out
    assert main([*FOLLOW, "--after", "2", "--json"]) == 3
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["note", "ended"]
    assert main(["--on-call", *FOLLOW, "--after", "9", "--json"]) == 3
    (hello,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (hello["event"], hello["run"]) == ("hello", "R")


def test_a_run_whose_tool_died_says_so_and_the_next_command(paths, capsys):
    """Whatever was said before is shown; what is to be done is one command."""
    write(paths, "R", process=DEAD)
    assert main(FOLLOW) == 5
    shown = capsys.readouterr()
    assert "rollout of shop" in shown.out
    assert "its tool died" in shown.err
    assert "sluice resume --env test" in shown.err


def test_a_dead_run_that_somebody_recovered_has_its_recovered_end(paths, capsys):
    """The journal knows how another command brought it to its end."""
    write(paths, "R", process=DEAD)
    journal = Journal(paths.journal_dir / "R.jsonl", Redactor(), lambda: "now")
    journal.begin(kind="rollout", owner="ann", owner_source="flag")
    journal.end(State.REFUSED, 1, [{"n": 1, "hash": "0" * 64}])
    assert main(FOLLOW) == 1
    assert "another command brought it to its end: refused" in capsys.readouterr().out


def test_a_run_is_followed_while_it_goes_on(paths):
    """Another process sees each report as it comes, and ends when the run does."""
    write(paths, "R")
    command = [sys.executable, "-c", "import sys; from sluice.cli import main; sys.exit(main())", *FOLLOW, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        seen = [json.loads(follower.stdout.readline())["event"] for _ in range(2)]
        with path_of(paths.runs_dir, "R").open("ab") as file:
            half = msgspec.json.encode(Report("note", "now", "R", n=3, text="half-way"))
            file.write(half[:20])
            file.flush()
            file.write(half[20:] + b"\n")
            file.flush()
            assert json.loads(follower.stdout.readline())["text"] == "half-way"
            file.write(msgspec.json.encode(ENDED) + b"\n")
        assert json.loads(follower.stdout.readline())["event"] == "ended"
        assert follower.wait(20) == 3
    assert seen == ["opened", "run"]


@pytest.mark.parametrize(("run", "code"), [("", 1), ("nonsense", 2), ("../../x", 2)])
def test_a_run_that_is_not_there_is_one_clear_message(paths, capsys, monkeypatch, run, code):
    """Nothing ran yet, or no such run."""
    monkeypatch.setattr("sluice.cli.following.APPEAR_S", 0.01)
    assert main([*FOLLOW, "--run", run]) == code
    assert "sluice" in capsys.readouterr().err


def test_interrupt_signals_the_holder_and_tells_who(paths, capsys):
    """SIGINT arrives at the process that holds the lock: here this one."""
    got = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: got.append(number))
    try:
        with somebody(paths, os.getpid()):
            assert main(["interrupt", "--env", "test", "--run", "other"]) == 1
            assert got == []
            assert main(["interrupt", "--env", "test", "--run", "R"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert got == [signal.SIGINT]
    assert "run R of ann was asked to end" in capsys.readouterr().out


def test_interrupt_hits_nobody_who_does_not_hold_the_lock(paths, capsys):
    """A file that names a stranger, a dead process, or a lock nobody holds: refused, no signal sent."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:
        with somebody(paths, stranger.pid):
            assert main(["interrupt", "--env", "test"]) == 1
        with somebody(paths, os.getpid(), holds=False):
            assert main(["interrupt", "--env", "test"]) == 1
        assert stranger.poll() is None
        stranger.communicate()
    assert stranger.returncode == 0
    with somebody(paths, stranger.pid):
        assert main(["interrupt", "--env", "test"]) == 1
    told = capsys.readouterr().err
    assert told.count("does not hold the lock") == 2
    assert "No run holds this environment" in told
