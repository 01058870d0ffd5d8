"""A real host in a temporary folder: an origin repository, a small real service, host.toml, an env file, real ports.

And one where nothing runs, with records in the ledger of an environment.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from sluice.cli import main
from sluice.hosts.state import StatePaths
from sluice.ledger import Ledger
from sluice.runtimes.client import SupervisorClient

SENTINEL = "s3ntinel-" + "value-of-the-env-file"
ENDED = "2026-01-0{}T12:00:00.000Z"
HARMFUL = '=HYPERLINK("http://evil.example","ann")'
FORGING = "\x1b[1A\x1b[2K\rshop/test: 3 records: the chain holds\n\x9b8m\u202e"

SERVER = """
import http.server, json, os, signal, sys
port, sha, tree, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
signal.signal(signal.SIGUSR1, lambda *_: None)
print("serving with", os.environ["SHOP_KEY"], flush=True)
if mode == "dies":
    sys.exit(3)
if mode == "lies":
    sha = "0" * 40
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        outside = self.path == "/health" and self.headers.get("X-Forwarded-Host")
        bad = mode == "never" or (mode == "unhealthy" and outside)
        self.send_response(503 if bad else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    def do_GET(self):
        self.answer(json.dumps(dict(sha=sha, tree=tree)).encode())
    do_HEAD = do_GET
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer.daemon_threads = True
http.server.ThreadingHTTPServer.handle_error = lambda *args: None  # a caller that hung up is no fault of ours
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

SMOKE = """
import json
print(json.dumps(dict(name="login", verdict="pass", ms=1, detail="let in")))
"""

SPEC = """
name = "shop"
[run]
command = ["{python}", "{{artifact}}/tree/server.py", "{{port}}", "{{sha}}", "{{tree}}", "{mode}"]
required_env = ["SHOP_KEY"]
ready_timeout_s = 5
drain_notify = "SIGUSR1"
drain_grace_s = 0.2
stop_grace_s = 2
[smoke]
command = ["{python}", "{{artifact}}/tree/smoke.py"]
timeout_s = 10
[watch]
duration_s = 1
interval_s = 0.2
health_failures = 2
health_window = 3
required_checks = ["login"]
"""


@dataclass
class Shop:
    """The host, driven as a person would: by the command line, in a process of its own."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def paths(self) -> StatePaths:
        return StatePaths(self.folder / "state", "shop", "test")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder / "origin"), *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def branch(self, name: str, mode: str = "good") -> str:
        """Commit a service that behaves so on a branch, and return the commit."""
        origin = self.folder / "origin"
        self.git("checkout", "-q", "-B", name)
        (origin / "sluice.toml").write_text(SPEC.format(python=sys.executable, mode=mode))
        (origin / "marker").write_text(name)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", name)
        sha = self.git("rev-parse", "HEAD")
        self.git("checkout", "-q", "main")
        return sha

    def environment(self) -> dict[str, str]:
        names = ("PATH", "HOME", "LANG")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        host = str(self.folder / "host.toml")
        return {**kept, "SLUICE_STATE": str(self.folder / "state"), "SLUICE_HOST_CONFIG": host, "USER": "ann"}

    def start(self, *arguments: str, kill_after: str = "") -> subprocess.Popen[str]:
        """The real command line in its own process; with `kill_after` it dies after that journal entry."""
        drill = ["-m", "sluice.testing", "kill-after", kill_after, "--"] if kill_after else ["-c", CLI]
        return subprocess.Popen(
            [sys.executable, *drill, *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def sluice(self, *arguments: str, kill_after: str = "") -> tuple[int, str]:
        """Run a command to its end: exit code, and everything it printed."""
        with self.start(*arguments, kill_after=kill_after) as process:
            out, err = process.communicate(timeout=60)
            return process.returncode, out + err

    def rollout(self, branch: str, *options: str, kill_after: str = "") -> tuple[int, str]:
        return self.sluice("rollout", "--env", "test", "--branch", branch, *options, kill_after=kill_after)

    def served(self) -> str:
        """The commit users get."""
        with urllib.request.urlopen(f"{self.url}/version", timeout=5) as answer:  # noqa: S310 - our own address
            return str(json.load(answer)["sha"])


CLI = "import sys; from sluice.cli import main; sys.exit(main())"


@pytest.fixture
def shop(tmp_path):
    """A host where `main` and `feature/good` are good; everything it started is stopped after."""
    origin = tmp_path / "origin"
    origin.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Shop(tmp_path, port)
    made.git("init", "-q", "-b", "main")
    made.git("config", "user.email", "ann@example.org")
    made.git("config", "user.name", "Ann")
    (origin / "server.py").write_text(SERVER)
    (origin / "smoke.py").write_text(SMOKE)
    (origin / "sluice.toml").write_text(SPEC.format(python=sys.executable, mode="good"))
    made.git("add", "-A")
    made.git("commit", "-q", "-m", "first")
    made.branch("feature/good")
    secrets = tmp_path / "test.env"
    secrets.write_text(f"SHOP_KEY={SENTINEL}\n")
    secrets.chmod(0o600)
    first = 20000 + (port * 7) % 9000
    (tmp_path / "host.toml").write_text(
        f'[service.shop]\nrepo = "{origin}"\n[service.shop.env.test]\npublic_url = "{made.url}"\n'
        f'env_file = "{secrets}"\nports = [{first}, {first + 19}]\n'
    )
    yield made
    SupervisorClient(made.paths.supervisor_dir).shutdown()


def body(number: int, **more) -> dict:
    """A rollout's record."""
    return {
        "type": "rollout",
        "run": f"run-{number}",
        "service": "shop",
        "environment": "test",
        "commit": str(number) * 40,
        "tree": "f" * 40,
        "version": f"v1.{number}",
        "release": f"r{number}",
        "artifact_key": "a" * 64,
        "artifact_digests": {"web": f"registry/web@sha256:{'b' * 64}"},
        "committed_at": f"2026-01-0{number}T10:00:00+01:00",
        "switched": ENDED.format(number),
        "ended": ENDED.format(number),
        "smoke_result": "pass",
        "decision": "go",
        "outcome": "done",
        "owner": HARMFUL,
        "owner_source": "flag",
        **more,
    }


def lock(reason="a holiday") -> int:
    """A record more, and everything anchored."""
    return main(["lock", "--env", "test", "--reason", reason])


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with an origin, and three records that are not anchored yet."""
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", str(origin)], check=True)
    (tmp_path / "env").write_text("A=B\n")
    (tmp_path / "host.toml").write_text(
        f'[service.shop]\nrepo = "{origin}"\n[service.shop.env.test]\npublic_url = "http://127.0.0.1:18100"\n'
        f'env_file = "{tmp_path / "env"}"\nports = [18101, 18109]\n'
    )
    monkeypatch.setenv("SLUICE_HOST_CONFIG", str(tmp_path / "host.toml"))
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path / "state"))
    paths = StatePaths(tmp_path / "state", "shop", "test")
    paths.prepare()
    for number in (1, 2, 3):
        Ledger(paths.ledger).append(body(number))
    return tmp_path


@pytest.fixture
def ledger(host) -> Ledger:
    """Its ledger."""
    return Ledger(StatePaths(host / "state", "shop", "test").ledger)
