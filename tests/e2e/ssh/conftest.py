"""A server and a laptop on one machine: a real sshd on a loopback port, keys made on the spot, a small real service."""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 60
SLUICE = Path(sys.executable).with_name("sluice")
CLI = "import sys; from sluice.cli import main; sys.exit(main())"

# Waits at the gate, if there is one, until the test opens it.
SMOKE = """
import json, os
gate = {gate!r}
if os.path.exists(gate):
    open(gate).read()
print(json.dumps(dict(name="login", verdict="pass", ms=1, detail="let in")))
"""

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
ExposeAuthInfo yes
SetEnv HOME={home} SLUICE_STATE={state} SLUICE_HOST_CONFIG={host}
"""

SSH = """
Host server
  IdentityFile {folder}/ann
Host unlisted
  IdentityFile {folder}/bob
Host refused
  IdentityFile {folder}/eve
Host changed
  IdentityFile {folder}/ann
  UserKnownHostsFile {folder}/known_hosts_changed
Host *
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentitiesOnly yes
  BatchMode yes
  GlobalKnownHostsFile none
  UserKnownHostsFile {folder}/known_hosts
"""


def _shop_world():
    """The small world of the command line's own drills."""
    path = ROOT / "packages/sluice/tests/cli/conftest.py"
    spec = importlib.util.spec_from_file_location("shop_world", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["shop_world"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


shop = _shop_world().shop


def wait_for(condition, what):
    """Look until it holds, at most WAIT_S; give what it gave."""
    end = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < end, what
        threading.Event().wait(0.02)
    return found


class Laptop:
    """Somebody's own machine, and the server behind ssh."""

    def __init__(self, folder, shop):
        """Nothing is started yet."""
        self.folder, self.shop, self.home = folder, shop, folder / "home"
        self.gate = folder / "gate"
        self.sshd = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def prepare(self):
        """Keys, configurations, and a branch that waits at the gate in its smoke."""
        (self.home / "srv/edge").mkdir(parents=True)
        keys = {name: self._key(name) for name in ("host_key", "ann", "bob", "eve", "other")}
        for name, key in (("known_hosts", "host_key"), ("known_hosts_changed", "other")):
            (self.folder / name).write_text(f"[127.0.0.1]:{self.port} {keys[key]}\n")
        (self.folder / "authorized_keys").write_text(f"{keys['ann']}\n{keys['bob']}\n")
        owners = self.folder / "owners"
        owners.write_text(f"ann@example.org {keys['ann']}\n")
        owners.chmod(0o644)
        host = self.shop.folder / "host.toml"
        host.write_text(host.read_text() + f'[host]\nowners = "{owners}"\n')
        names = {"folder": self.folder, "port": self.port, "user": getpass.getuser(), "home": self.home}
        names |= {"state": self.shop.folder / "state", "host": host}
        (self.folder / "sshd_config").write_text(SSHD.format(**names))
        (self.folder / "ssh_config").write_text(SSH.format(**names))
        program = self.folder / "bin/ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.folder}/ssh_config "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        origin = self.shop.folder / "origin"
        (origin / "smoke.py").write_text(SMOKE.format(gate=str(self.gate)))
        self.shop.git("commit", "-qam", "gate")
        self.shop.branch("feature/x")
        self.shop.branch("feature/y")

    def _key(self, name):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.folder / name)]
        subprocess.run(command, check=True, timeout=30)
        return (self.folder / f"{name}.pub").read_text().strip()

    def start_sshd(self):
        """Listen; returns when connections are taken."""
        if os.geteuid() == 0:  # only root's sshd wants its empty folder
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.folder / "sshd.log").open("ab") as log:
            command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self.sshd = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(self._answers, "sshd listens")

    def _answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop_sshd(self):
        """End the listener and every connection; what runs behind them stays."""
        sessions = self.sessions()
        self.sshd.kill()
        self.sshd.wait()
        for session in sessions:
            # One whose line ended by itself goes at any moment, also between the list and this.
            with contextlib.suppress(psutil.NoSuchProcess):
                session.kill()

    def sessions(self):
        """Sshd's own process of each connection."""
        return psutil.Process(self.sshd.pid).children()

    def environment(self):
        """The laptop knows nothing of the server but its address."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", "SLUICE_REMOTE_COMMAND": str(SLUICE)}

    def start(self, *words, host="server", code=CLI, **environment):
        """`sluice --host ssh://server WORDS…` in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", code, "--host", f"ssh://{host}", *words],
            env=self.environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def sluice(self, *words, **more):
        """Run it to its end: exit code, and everything it printed."""
        with self.start(*words, **more) as process:
            out, err = process.communicate(timeout=WAIT_S)
            return process.returncode, out + err

    def ssh(self, command, host="server"):
        """A plain ssh command, as in the runbook."""
        argv = [str(self.folder / "bin/ssh"), host, command]
        done = subprocess.run(argv, env=self.environment(), capture_output=True, text=True, check=False, timeout=WAIT_S)
        return done.returncode, done.stdout + done.stderr

    def close_gate(self):
        """The next smoke waits."""
        os.mkfifo(self.gate)

    def open_gate(self):
        """Let it pass; waits until it stands there."""
        with self.gate.open("w"):
            self.gate.unlink()

    def at_gate(self):
        """Wait until a run stands at the gate; gives its name."""

        def smoking():
            for path in self.shop.paths.runs_dir.glob("*.jsonl"):
                said = path.read_bytes()
                if b'"step":"smoking_private","status":"started"' in said and b'"event":"ended"' not in said:
                    return path.stem
            return ""

        return wait_for(smoking, "the smoke began")

    def records(self):
        """The ledger, oldest first."""
        code, out = self.shop.sluice("log", "--env", "test", "--json")
        assert code == 0, out
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def laptop(tmp_path_factory, shop):
    """A laptop whose ssh reaches the server; sshd and what hangs on it are stopped after."""
    made = Laptop(tmp_path_factory.mktemp("laptop"), shop)
    made.prepare()
    made.start_sshd()
    yield made
    if made.gate.exists():
        made.gate.unlink()
    if made.sshd.poll() is None:
        made.stop_sshd()
