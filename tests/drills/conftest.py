"""A whole world for drills: an origin, an environment `test`, a development SSO, and the real `sluice` command."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluice.testing.processes import command_lines
from sluice.testing.spelling import spellings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import demo_origin  # noqa: E402 - the demo's own origin, so that drills and demo agree

BIN = Path(sys.executable).parent
COMMAND_DEADLINE_S = 150
SENTINEL_SECRET = "sentinel+/Value=for&every sink " + "k9" * 12
SENTINEL_TOKEN = "sentinel-metrics-" + "q7" * 12
JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")
SPEC = demo_origin.SPEC
SHORT_CRITERIA = 'required_criteria = ["health", "ws-disconnects", "messages"]'
TICKET = re.compile(r"ticket=(?!\[redacted\])[A-Za-z0-9_%-]{8,}")


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()


def short_watch(spec: str) -> str:
    """sluice.toml with a watch of 3 s. What takes longer to be sure of is neither asked nor required: calls, rates."""
    for old, new in (
        (r"duration_s = \d+\n", "duration_s = 3\n"),
        (r"(?:calls|refusals|metrics_path|metrics_token) = .*\n", ""),
        (r"auth = \[\n(?:  .*\n)+\]\n", ""),
        (r'required_criteria = \["health", "ws-disconnects", "call-setup", "auth", "messages"\]', SHORT_CRITERIA),
    ):
        spec, changed = re.subn(f"(?m)^{old}", new, spec)
        assert changed, f"{SPEC} has no line like {old}"
    return spec


class World:
    """One machine with one service. Commands are run as a user would; everything they print is kept."""

    def __init__(self, folder: Path) -> None:
        """Write the origin and the configuration; `start` brings up the SSO."""
        self.folder = folder
        self.origin = folder / "origin.git"
        self.state = folder / "state"
        self.public_port, self.sso_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.public_port}"
        self.printed: list[str] = []
        self.processes: set[str] = set()
        demo_origin.refresh(ROOT, self.origin)
        self.spec = short_watch(demo_origin.policy(ROOT))
        self.main = demo_origin.with_file(self.origin, "refs/heads/main", SPEC, self.spec, "Short watch")
        demo_origin.set_branch(self.origin, "main", self.main)
        self.branch("feature/good", "changes/good.md", "A good change.\n")
        self.env_file = folder / "test.env"
        self.write_env_file()
        self.write_host()

    def write_env_file(self, **extra: str) -> None:
        """The server's variables, two of them sentinels."""
        values = {
            "BOLTOREZKA_ENVIRONMENT": "test",
            "BOLTOREZKA_DATABASE_URL": f"sqlite:///{self.folder}/test.sqlite3",
            "BOLTOREZKA_PUBLIC_ORIGIN": self.url,
            "BOLTOREZKA_AUTH_SSO_BASE_URL": f"http://127.0.0.1:{self.sso_port}",
            "BOLTOREZKA_JWT_SECRET": SENTINEL_SECRET,
            "BOLTOREZKA_METRICS_TOKEN": SENTINEL_TOKEN,
            # One socket of a drill says what a room full of people would.
            "BOLTOREZKA_CHAT_PER_SECOND": "100",
        } | extra
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        self.env_file.chmod(0o600)

    def write_host(self, *, expect_sso_host: str = "", repo: str = "", ports: tuple[int, int] = (18500, 18539)) -> None:
        """host.toml."""
        (self.folder / "host.toml").write_text(
            f'[service.boltorezka]\nrepo = "{repo or self.origin}"\npolicy_ref = "main"\ndemo = true\n\n'
            f'[service.boltorezka.env.test]\nruntime = "process"\npublic_url = "{self.url}"\n'
            f'expect_sso_host = "{expect_sso_host or f"127.0.0.1:{self.sso_port}"}"\nenv_file = "{self.env_file}"\n'
            f"ports = [{ports[0]}, {ports[1]}]\n\n"
            f'[service.boltorezka.env.prod]\nruntime = "process"\npublic_url = "http://127.0.0.1:9"\n'
            f'env_file = "{self.folder}/prod.env"\nports = [18540, 18549]\n',
        )

    def branch(self, name: str, path: str, content: str) -> str:
        """A branch one commit ahead of main that writes one file; returns its commit."""
        sha = demo_origin.with_file(self.origin, self.main, path, content, f"Change {path}")
        demo_origin.set_branch(self.origin, name, sha)
        return sha

    def watch_in_full(self) -> None:
        """From now on `main` has the service's own policy, five criteria and all."""
        whole = demo_origin.policy(ROOT)
        self.main = demo_origin.with_file(self.origin, self.main, SPEC, whole, "Watch as long as it takes")
        demo_origin.set_branch(self.origin, "main", self.main)

    @property
    def environment(self) -> dict[str, str]:
        """What the commands see."""
        return os.environ | {"SLUICE_STATE": str(self.state), "SLUICE_HOST_CONFIG": str(self.folder / "host.toml")}

    def start_sso(self) -> None:
        """The development SSO, waited for until it answers."""
        command = [str(BIN / "boltorezka"), "dev-sso", "--host", "127.0.0.1", "--port", str(self.sso_port)]
        self.sso = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        waiter = threading.Event()
        while time.monotonic() < deadline and self.sso.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.sso_port}/auth/current-user", timeout=2).close()
                return
            except OSError:
                waiter.wait(0.05)
        raise AssertionError("the development SSO did not start")

    def stop(self) -> None:
        """End everything this world started."""
        from sluice.runtimes.supervisor import SupervisorClient

        SupervisorClient(self.state / "supervisor").shutdown()
        self.sso.terminate()
        self.sso.wait(10)

    def run(
        self, *arguments: str, module: tuple[str, ...] = (), largest_file: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """One sluice command to its end; its output is kept, and the process list is looked at while it runs.

        `largest_file` bytes is a limit of the kernel's: a write beyond it fails, as on a full disk.
        """
        command = [str(BIN / "sluice"), *arguments] if not module else [sys.executable, "-m", *module, "--", *arguments]
        child = subprocess.Popen(
            command,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
        )
        if largest_file:
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        done = threading.Event()
        looker = threading.Thread(target=self._look_at_processes, args=(done,))
        looker.start()
        try:
            out, err = child.communicate(timeout=COMMAND_DEADLINE_S)
        finally:
            done.set()
            looker.join()
            if child.poll() is None:
                child.kill()
        self.printed += [out, err]
        return subprocess.CompletedProcess(command, child.returncode, out, err)

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """A sluice command that goes on while the drill does something else."""
        return subprocess.Popen(
            [str(BIN / "sluice"), *arguments],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
        )

    def _look_at_processes(self, done: threading.Event) -> None:
        while not done.wait(0.1):
            self.processes.update(command_lines())

    def rollout(self, branch: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Roll a branch out to test."""
        return self.run("rollout", "--env", "test", "--service", "boltorezka", "--branch", branch, *more)

    def killed_rollout(self, entry: str, branch: str) -> subprocess.CompletedProcess[str]:
        """A rollout whose process is SIGKILLed right after a journal entry."""
        arguments = ("rollout", "--env", "test", "--service", "boltorezka", "--branch", branch)
        done = self.run(*arguments, module=("sluice.testing", "kill-after", entry))
        assert done.returncode == -signal.SIGKILL, (entry, done.stdout, done.stderr)
        return done

    def version(self, url: str = "") -> dict[str, str]:
        """What serves now."""
        with urllib.request.urlopen(f"{url or self.url}/version", timeout=5) as reply:  # noqa: S310 - loopback
            answer: dict[str, str] = json.load(reply)
            return answer

    def slots_alive(self) -> list[str]:
        """Command lines of the slots that live now."""
        state = str(self.state)
        return [line for line in command_lines() if state in line and "boltorezka" in line and " serve " in line]

    def ledger(self) -> list[dict[str, object]]:
        """The records, oldest first."""
        path = self.state / "boltorezka/envs/test/ledger.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def sinks(self) -> Iterator[tuple[str, str]]:
        """Every place where a secret could have ended up, with its text."""
        yield from (("printed", text) for text in self.printed)
        yield from (("process list", line) for line in self.processes)
        for path in self.state.rglob("*"):
            parts = path.relative_to(self.state).parts
            if path.is_file() and not path.is_symlink() and "artifacts" not in parts and "repo.git" not in parts:
                yield str(path), path.read_bytes().decode(errors="replace")


@pytest.fixture(scope="session")
def served_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world where a good release of main's first feature serves; shared by the drills, which leave it serving."""
    world = World(tmp_path_factory.mktemp("drill"))
    world.start_sso()
    try:
        done = world.rollout("feature/good")
        assert done.returncode == 0, done.stdout + done.stderr
        yield world
    finally:
        world.stop()


@pytest.fixture(name="free_ports")
def _free_ports() -> Callable[[int], list[int]]:
    """For a drill with a world of its own."""
    return free_ports


@pytest.fixture(name="short_watch")
def _short_watch() -> Callable[[str], str]:
    """For a drill with a world of its own."""
    return short_watch


class Forms:
    """Looks for a value in every form it may come back in."""

    def __init__(self, value: str) -> None:
        """Derive the forms once."""
        self.samples = spellings(value)

    def __call__(self, text: str) -> bool:
        """Whether any form stands in the text."""
        return any(sample in text for sample in self.samples)


@pytest.fixture(scope="session")
def secret_patterns() -> dict[str, Callable[[str], bool]]:
    """What may stand in no sink: name -> whether a text holds it."""
    return {
        "jwt secret": Forms(SENTINEL_SECRET),
        "metrics token": Forms(SENTINEL_TOKEN),
        "token": lambda text: JWT.search(text) is not None,
        "ticket": lambda text: TICKET.search(text) is not None,
    }
