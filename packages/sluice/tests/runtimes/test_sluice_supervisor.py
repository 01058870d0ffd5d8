"""The supervisor with real processes: it is killed, they are killed, and nothing runs twice or is forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.hosts.state import StatePaths
from sluice.hosts.system import process_start, session_members
from sluice.model.errors import Refused, StateCorrupted
from sluice.runtimes.client import SupervisorClient
from sluice.runtimes.units import Row, Table, UnitSpec

SLEEPER = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"
PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
DEADLINE_S = 20


def spec(paths: StatePaths, code: str, name: str = "a", **more) -> UnitSpec:
    """A unit that runs a snippet."""
    return UnitSpec((sys.executable, "-c", code), str(paths.logs_dir / f"{name}.log"), **more)


def until(condition: Callable[[], bool]) -> None:
    """Look at another process's state again and again: it has no way to call us."""
    end, never = time.monotonic() + DEADLINE_S, threading.Event()
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        never.wait(0.01)


def log_has(paths: StatePaths, word: str, name: str = "a") -> Callable[[], bool]:
    """Whether the unit's log holds a word."""
    log = paths.logs_dir / f"{name}.log"
    return lambda: log.exists() and word in log.read_text()


def supervisor_pid(folder: Path) -> int:
    """The process that listens in this folder, found by its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"sluice.runtimes.supervisor" in words and str(folder).encode() in words:
                return int(entry.name)
    raise AssertionError("no supervisor")


def kill_supervisor(folder: Path) -> None:
    """SIGKILL, and wait for the death."""
    pid = supervisor_pid(folder)
    os.kill(pid, signal.SIGKILL)
    until(lambda: process_start(pid) is None)


def test_damaged_table_is_refused_and_left_as_it_is(tmp_path):
    """A damaged table is named and never overwritten."""
    path = tmp_path / "units.json"
    path.write_text("{")
    with pytest.raises(StateCorrupted, match=r"units\.json"):
        Table(path)
    assert path.read_text() == "{"


def test_supervisor_does_not_start_on_a_damaged_table(paths):
    """The client learns why the supervisor cannot start."""
    table = paths.supervisor_dir / "units.json"
    table.write_text("{")
    with pytest.raises(Refused, match="damaged"):
        SupervisorClient(paths.supervisor_dir).status()
    table.unlink()


def test_start_with_a_full_disk_leaves_nothing_running(tmp_path, monkeypatch):
    """When the table cannot be written, the write is refused whole and the old table stays."""
    table = Table(tmp_path / "units.json")
    table.save()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    table.rows["a"] = Row(UnitSpec(("true",), "log"))
    with pytest.raises(Refused, match="No space left"):
        table.save()
    monkeypatch.undo()
    assert Table(tmp_path / "units.json").rows == {}
    assert [p.name for p in tmp_path.iterdir()] == ["units.json"]


def test_a_service_outlives_a_killed_supervisor_and_is_adopted_once(paths, supervisor):
    """After kill -9 of the supervisor the very same process is watched again, and no second one starts."""
    supervisor.start("a", spec(paths, SLEEPER))
    until(log_has(paths, "up"))
    before = supervisor.status()["a"].pid
    kill_supervisor(paths.supervisor_dir)
    assert process_start(before) is not None
    supervisor.start("a", spec(paths, SLEEPER))
    after = supervisor.status()["a"]
    assert (after.pid, after.restarts, after.running) == (before, 0, True)
    assert session_members(before) == [before]
    supervisor.stop("a", 5)
    assert process_start(before) is None


def test_a_service_killed_with_its_supervisor_is_started_again(paths, supervisor):
    """What should run and does not is started by the next supervisor."""
    supervisor.start("a", spec(paths, SLEEPER))
    until(log_has(paths, "up"))
    before = supervisor.status()["a"].pid
    kill_supervisor(paths.supervisor_dir)
    os.kill(before, signal.SIGKILL)
    until(lambda: supervisor.status()["a"].running)
    assert supervisor.status()["a"].pid != before


def test_a_killed_service_is_restarted_and_counted(paths, supervisor):
    """Kill -9 of a service shows as not running, then as restarted."""
    supervisor.start("a", spec(paths, SLEEPER))
    before = supervisor.status()["a"].pid
    os.kill(before, signal.SIGKILL)
    until(lambda: not supervisor.status()["a"].running)
    until(lambda: supervisor.status()["a"].running)
    assert supervisor.status()["a"].restarts == 1


def test_a_unit_that_is_started_again_has_a_log_of_its_own_life(paths, supervisor):
    """What an earlier life wrote is set aside for a new start; a restart after a crash goes on in the same log."""
    talks = "import os, signal; print('life', os.environ['LIFE'], flush=True); signal.pause()"
    log = paths.logs_dir / "a.log"
    supervisor.start("a", spec(paths, talks, settings={"LIFE": "one"}))
    until(log_has(paths, "life one"))
    os.kill(supervisor.status()["a"].pid, signal.SIGKILL)
    until(lambda: log.read_text() == "life one\n" * 2)
    supervisor.stop("a", 1)
    log.with_name("a.log.1").write_text("the older part of that life\n")
    supervisor.start("a", spec(paths, talks, settings={"LIFE": "two"}))
    until(log_has(paths, "life two"))
    assert log.read_text() == "life two\n"
    assert not log.with_name("a.log.1").exists(), "it would say that the new log was cut"
    assert log.with_name("a.log.before").read_text() == "life one\n" * 2


def test_stop_ends_the_whole_session_even_a_stubborn_one(paths, supervisor):
    """A child that the service left behind, and one that ignores SIGTERM, are gone after stop."""
    supervisor.start("a", spec(paths, PARENT + STUBBORN))
    until(log_has(paths, "up"))
    leader = supervisor.status()["a"].pid
    assert len(session_members(leader)) == 2
    supervisor.stop("a", 0.1)
    assert session_members(leader) == []
    supervisor.stop("a", 0.1)
    supervisor.stop("never-there", 0.1)


def test_start_of_a_running_unit_with_another_definition_is_refused(paths, supervisor):
    """One unit name never means two things."""
    supervisor.start("a", spec(paths, SLEEPER))
    with pytest.raises(Refused, match="defined otherwise"):
        supervisor.start("a", spec(paths, STUBBORN))


def test_signal_reaches_the_service_and_unknown_units_are_told_apart(paths, supervisor):
    """The drain notice arrives; signalling nobody says so."""
    code = (
        "import signal; signal.signal(signal.SIGUSR1, lambda *_: print('drain', flush=True)); print('up', flush=True)"
    )
    supervisor.start("a", spec(paths, code + "\nwhile True: signal.pause()"))
    until(log_has(paths, "up"))
    assert supervisor.signal("a", signal.SIGUSR1)
    until(log_has(paths, "drain"))
    assert not supervisor.signal("b", signal.SIGUSR1)


def test_shutdown_ends_what_a_killed_supervisor_left(paths, supervisor):
    """Nothing runs after shutdown, although nobody was watching it."""
    supervisor.start("a", spec(paths, SLEEPER))
    pid = supervisor.status()["a"].pid
    kill_supervisor(paths.supervisor_dir)
    supervisor.shutdown(grace_s=2)
    assert process_start(pid) is None
    with pytest.raises(AssertionError, match="no supervisor"):
        supervisor_pid(paths.supervisor_dir)


def test_two_commands_at_once_share_one_supervisor(paths, supervisor):
    """Starting it twice at the same moment gives one process and two good answers."""
    code = "import pathlib, sys; from sluice.runtimes.client import SupervisorClient as C; "
    code += "C(pathlib.Path(sys.argv[1]))._ask({'do': 'status'})"
    both = [subprocess.Popen([sys.executable, "-c", code, str(paths.supervisor_dir)]) for _ in range(2)]
    assert [child.wait(DEADLINE_S) for child in both] == [0, 0]
    only = supervisor_pid(paths.supervisor_dir)
    kill_supervisor(paths.supervisor_dir)
    with pytest.raises(AssertionError, match="no supervisor"):
        supervisor_pid(paths.supervisor_dir)
    assert process_start(only) is None


def test_deep_state_folder_and_secrets_of_the_env_file(tmp_path):
    """A socket path beyond the kernel's limit works; a value reaches the service and no argument list or table."""
    folder = tmp_path / ("d" * 60) / ("e" * 60) / "supervisor"
    folder.mkdir(parents=True)
    env_file, log = tmp_path / "e.env", tmp_path / "a.log"
    env_file.write_text("SENTINEL=sentinel-77aa\nOVER=file\n")
    env_file.chmod(0o600)
    client = SupervisorClient(folder)
    code = "import os, signal; print(os.environ['SENTINEL'], os.environ['OVER'], flush=True); signal.pause()"
    try:
        client.start(
            "a", UnitSpec((sys.executable, "-c", code), str(log), settings={"OVER": "set"}, env_file=str(env_file))
        )
        until(lambda: "sentinel-77aa set" in log.read_text())
        assert b"sentinel" not in Path(f"/proc/{client.status()['a'].pid}/cmdline").read_bytes()
        assert all(b"sentinel" not in p.read_bytes() for p in folder.iterdir() if p.is_file())
        assert log.stat().st_mode & 0o777 == 0o600
    finally:
        client.shutdown(grace_s=1)


def test_env_file_that_became_readable_stops_the_service_from_starting(paths, supervisor, tmp_path):
    """The launcher checks the mode again and says so in the unit's log."""
    env_file = tmp_path / "e.env"
    env_file.write_text("A=1\n")
    env_file.chmod(0o644)
    supervisor.start("a", spec(paths, SLEEPER, env_file=str(env_file)))
    until(log_has(paths, "mode 0644"))
    until(lambda: not supervisor.status()["a"].running)
