"""Sentinels from every source of secrets, looked for in every sink of the real command line."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from sluice.runtimes.client import SupervisorClient
from sluice.testing.processes import command_lines
from sluice.testing.spelling import spellings

pytestmark = pytest.mark.drill

SENTINELS = {
    name: f"s3ntinel-{name}" + "+/of a source " + "q7" * 8 for name in ("file", "sops", "age", "command", "folder")
}


def program(path: Path, line: str) -> Path:
    """A program of the operator's that prints one variable."""
    path.write_text(f"#!/bin/sh\necho '{line}'\n")
    path.chmod(0o700)
    return path


@pytest.fixture
def sourced(shop, monkeypatch):
    """The shop with a value from each source; its server prints them all into its log, as careless servers do."""
    origin, etc, tools = shop.folder / "origin", shop.folder / "etc", shop.folder / "bin"
    etc.mkdir(mode=0o700)
    tools.mkdir(mode=0o700)
    for name in ("sops", "age"):
        program(tools / name, f"{name.upper()}_KEY={SENTINELS[name]}")
        (etc / f"secrets.{name}").write_text("encrypted\n")
    command = program(tools / "vault", f"COMMAND_KEY={SENTINELS['command']}")
    (etc / "files").mkdir(mode=0o700)
    (etc / "files" / "FOLDER_KEY").write_text(f"{SENTINELS['folder']}\n")
    (shop.folder / "test.env").write_text(f"SHOP_KEY={SENTINELS['file']}\n")
    with (shop.folder / "host.toml").open("a") as host:
        host.write(
            f'sops_file = "{etc}/secrets.sops"\nage_file = "{etc}/secrets.age"\n'
            f'secret_command = ["{command}"]\nsecret_files = "{etc}/files"\n'
        )
    server = (origin / "server.py").read_text()
    everything = 'sorted(v for k, v in os.environ.items() if k.endswith("_KEY"))'
    (origin / "server.py").write_text(server.replace('os.environ["SHOP_KEY"]', everything))
    shop.git("commit", "-q", "-a", "-m", "print everything")
    for branch, mode in (("feature/good", "good"), ("feature/dies", "dies")):
        shop.branch(branch, mode)
    monkeypatch.setenv("PATH", f"{tools}:{subprocess.os.environ['PATH']}")
    return shop


class Watcher(threading.Thread):
    """Every command line of this machine, looked at until told to stop."""

    def __init__(self) -> None:
        """Not started yet."""
        super().__init__(daemon=True)
        self.over, self.seen = threading.Event(), set()

    def run(self) -> None:
        """Ends soon after `over` is set."""
        while not self.over.wait(0.1):
            self.seen.update(command_lines())


def test_no_value_of_any_source_reaches_a_sink(sourced):
    """A good rollout, one that dies while printing all it knows, and every reading command: nothing leaks anywhere."""
    watcher = Watcher()
    watcher.start()
    said = {}
    for arguments in (
        ("check", "--env", "test", "--branch", "feature/good"),
        ("rollout", "--env", "test", "--branch", "feature/good", "--owner", "ann"),
        ("rollout", "--env", "test", "--branch", "feature/dies", "--owner", "ann", "--json"),
        ("status", "--env", "test", "--json"),
        ("log", "--env", "test", "--json"),
    ):
        said[arguments[0] + str(len(arguments))] = sourced.sluice(*arguments)
    watcher.over.set()
    watcher.join()
    good, dies = (said[name] for name in said if name.startswith("rollout"))
    assert good[0] == 0, good[1]
    assert dies[0] != 0
    assert "[redacted]" in dies[1], "the dying server's last words were to be shown, without the values"
    log = next((sourced.paths.root / "shop").rglob("*.log"))
    assert all(value in log.read_text() for value in SENTINELS.values()), "the values did reach the service"
    sinks = {name: text for name, (_, text) in said.items()} | {"process list": "\n".join(watcher.seen)}
    state = sourced.folder / "state"
    kept = {
        path for path in state.rglob("*") if path.is_file() and path.suffix != ".log" and "repo.git" not in f"{path}"
    }
    assert {"ledger.jsonl"} <= {path.name for path in kept}
    sinks |= {str(path): path.read_bytes().decode(errors="replace") for path in kept}
    leaks = [
        (sink, name)
        for sink, text in sinks.items()
        for name, value in SENTINELS.items()
        if any(form in text for form in spellings(value))
    ]
    assert leaks == []


def wait_until(condition):
    """Look at another process's log again and again, at most twenty seconds: it has no way to call us."""
    end, never = time.monotonic() + 20, threading.Event()
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        never.wait(0.01)


def leaks(text):
    """Which values, old or new, are in a text."""
    return [name for name, value in SENTINELS.items() if any(form in text for form in spellings(value))]


def test_an_old_value_in_a_log_is_not_quoted_after_it_was_changed(sourced):
    """While the process lives, its values are hidden; where a source is away or the process is dead, nothing is shown.

    Neither the quick check nor a rollback quotes the value, nor does the ledger keep it.
    """
    origin = sourced.folder / "origin"
    shouts = 'signal.signal(signal.SIGHUP, lambda *_: print("CRITICAL: cannot log in with", *secret, flush=True))\n'
    secret = 'secret = sorted(v for k, v in os.environ.items() if k.endswith("_KEY"))\n'
    server = (origin / "server.py").read_text()
    (origin / "server.py").write_text(f"import os, signal\n{secret}{shouts}{server}")
    sourced.git("commit", "-q", "-a", "-m", "shout")
    sourced.branch("feature/shouts")
    code, out = sourced.rollout("feature/shouts", "--owner", "ann")
    assert code == 0, out
    (log,) = sourced.paths.logs_dir.glob("shop-test-*.log")
    subprocess.os.kill(SupervisorClient(sourced.paths.supervisor_dir).status()[log.stem].pid, signal.SIGHUP)
    wait_until(lambda: "CRITICAL" in log.read_text())

    program(sourced.folder / "bin" / "vault", "COMMAND_KEY=n3w-value-of-the-vault")
    (sourced.folder / "test.env").write_text("SHOP_KEY=n3w-value-of-the-file\n")
    code, out = sourced.sluice("quick-check", "--env", "test", "--json")
    assert code == 1, out
    assert "cannot log in with [redacted]" in out
    assert leaks(out) == []
    (sourced.folder / "bin" / "vault").write_text("#!/bin/sh\nexit 4\n")
    code, out = sourced.sluice("quick-check", "--env", "test", "--json")
    assert "shop: 1 not shown: secret_command" in out
    assert str(log) in out
    assert leaks(out) == []
    program(sourced.folder / "bin" / "vault", "COMMAND_KEY=n3w-value-of-the-vault")
    sourced.branch("feature/next")
    code, out = sourced.rollout("feature/next", "--owner", "ann")
    assert code == 0, out
    code, out = sourced.sluice("rollback", "--env", "test", "--owner", "ann")
    assert leaks(out) == []
    state = sourced.folder / "state" / "shop" / "envs" / "test"
    kept = [path for path in state.rglob("*") if path.is_file() and ".log" not in path.name]
    assert [str(path) for path in kept if leaks(path.read_bytes().decode(errors="replace"))] == []


def test_a_source_that_is_away_stops_the_rollout_before_anything_is_touched(sourced):
    """The gate says which command ended how; nothing of what it printed is shown."""
    program(sourced.folder / "bin" / "vault", f"COMMAND_KEY={SENTINELS['command']}'; exit 4; echo '")
    code, out = sourced.rollout("feature/good", "--owner", "ann")
    assert code == 1, out
    assert "ended with exit code 4" in out
    assert not [value for value in SENTINELS.values() if value in out]
