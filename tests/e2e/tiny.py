"""A tiny world: a bare origin, a service of one file, host.toml and the `sluice` command, for either runtime."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from tiny_service import COMPOSE, DOCKERFILE, SERVER, SPEC
from workbench import wait_until

from sluice.cli import main as sluice_main
from sluice.hosts.releases import FileReleases
from sluice.hosts.state import StatePaths
from sluice.runtimes.client import SupervisorClient
from sluice.testing.processes import command_lines

T = TypeVar("T")
CLONE_NEWNET = 0x40000000  # of sched.h
BIN = Path(sys.executable).parent
COMMAND_S = 150  # a rollout takes seconds; a build or a busy machine takes longer
SOCKET = "/var/run/docker.sock"
SERVICE_LABEL = "dev.sluice.service"
COMPOSE_SERVICE, PROJECT = "com.docker.compose.service", "com.docker.compose.project"


def within(netns: str, ask: Callable[[], T]) -> T:
    """Call in a thread that has entered a network namespace; this process stays where it is."""

    def entered() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(netns).open() as file:
            if libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "the namespace cannot be entered")
        return ask()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(entered).result()


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    text: str


class TinyWorld:
    """One machine with one environment `test`. `stop` ends and removes everything."""

    def __init__(
        self,
        folder: Path,
        runtime: str,
        port: int,
        base: str = "",
        *,
        prefix: str = "tiny",
        docker: str = SOCKET,
        netns: str = "",
        watch_s: float = 1,
    ) -> None:
        """`port`: the public one; the nineteen after it are the slots'. `base`: the Python image, for `compose`.

        `docker`: the engine's socket. `netns`: the file of the network namespace all of it lives in.
        """
        self.folder, self.runtime, self.docker, self.port = folder, runtime, docker, port
        # Names on an engine are the whole machine's.
        self.service = f"{prefix}-{secrets.token_hex(2)}"
        self.url = f"http://127.0.0.1:{port}"
        self.origin, self.state = folder / "origin.git", folder / "state"
        self.watch_s, self.netns = watch_s, netns
        self.shas: dict[str, str] = {}
        self.host_file, self.env_file = folder / "host.toml", folder / "test.env"
        self._work = folder / "work"
        self._make_origin()
        self.env_file.write_text(f"BASE={base}\n")
        self.env_file.chmod(0o600)
        self.host_file.write_text(
            # Some of these worlds lie on a disk of a few megabytes, which is filled on purpose.
            f'[host]\ndocker = "{docker}"\nmin_free_mb = 0\n'
            f'[service.{self.service}]\nrepo = "{self.origin}"\npolicy_ref = "main"\n'
            f'[service.{self.service}.env.test]\nruntime = "{runtime}"\npublic_url = "{self.url}"\n'
            f'env_file = "{self.env_file}"\nports = [{port + 1}, {port + 19}]\n'
        )

    @property
    def paths(self) -> StatePaths:
        """Where its state lies."""
        return StatePaths(self.state, self.service, "test")

    @property
    def releases(self) -> FileReleases:
        """What it remembers."""
        return FileReleases(self.paths)

    # ------------------------------------------------------------ the origin

    def _git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=T", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=self._work, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def _make_origin(self) -> None:
        self._work.mkdir()
        self._git("init", "--quiet")
        # Worlds side by side share no layer either: one that ends would take away what another one builds upon.
        (self._work / "server.py").write_text(f"# {self.service}\n{SERVER}")
        (self._work / "Dockerfile").write_text(DOCKERFILE)
        (self._work / "compose.yaml").write_text(json.dumps(COMPOSE, indent=1))
        spec = SPEC.format(name=self.service, python=sys.executable, watch_s=self.watch_s)
        (self._work / "sluice.toml").write_text(spec)
        subprocess.run(["git", "init", "--quiet", "--bare", str(self.origin)], check=True)
        self._git("remote", "add", "origin", str(self.origin))
        self.branch("main")

    def branch(self, name: str, mode: str = "good", **files: str) -> str:
        """A branch one commit ahead of main whose service behaves so; its commit. Repeated, it is as it was."""
        if self._git("branch", "--list", "main"):
            self._git("checkout", "--quiet", "-B", name, "main")
        for path, content in {"mode": f"{mode}\n", "marker": f"{name}\n", **files}.items():
            (self._work / path).write_text(content)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", f"Work on {name}")
        self._git("push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{name}")
        self.shas[name] = self._git("rev-parse", "HEAD")
        return self.shas[name]

    def tree(self, sha: str) -> str:
        """The tree of a commit."""
        return self._git("rev-parse", f"{sha}^{{tree}}")

    # ------------------------------------------------------------ commands

    @property
    def environment(self) -> dict[str, str]:
        """What the commands see."""
        return os.environ | {"SLUICE_STATE": str(self.state), "SLUICE_HOST_CONFIG": str(self.host_file), "USER": "ann"}

    def _arguments(self, arguments: Sequence[str]) -> list[str]:
        verb, *rest = arguments
        named = ["log", "verify"] if verb == "verify" else [verb]
        return [*named, "--env", "test", "--service", self.service, *rest]

    def start(self, *arguments: str, drill: Sequence[str] = ()) -> subprocess.Popen[str]:
        """The real command in a process of its own; with `drill` it dies as `python -m sluice.testing` is told."""
        program = [sys.executable, "-m", "sluice.testing", *drill, "--"] if drill else [str(BIN / "sluice")]
        if self.netns:
            program = ["nsenter", f"--net={self.netns}", *program]
        return subprocess.Popen(
            [*program, *self._arguments(arguments)],
            env=self.environment,
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str, drill: Sequence[str] = ()) -> Done:
        """Run a command to its end."""
        with self.start(*arguments, drill=drill) as child:
            try:
                out, _ = child.communicate(timeout=COMMAND_S)
            finally:
                child.kill()
        return Done(child.returncode, out)

    def here(self, *arguments: str) -> Done:
        """A command that only reads or is over at once, in this process: half a second less each."""
        told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        with mock.patch.dict(os.environ, self.environment), contextlib.redirect_stdout(told):
            code = sluice_main(self._arguments(arguments))
        told.seek(0)
        return Done(code, told.read())

    def good(self, *arguments: str) -> Done:
        """Run a command that must end with 0."""
        done = self.run(*arguments)
        assert done.code == 0, f"{' '.join(arguments)} ended with {done.code}\n{done.text}"
        return done

    def rollout(self, branch: str, *more: str) -> Done:
        """Roll a branch out, whatever comes of it."""
        return self.run("rollout", "--branch", branch, *more)

    def killed(self, entry: str, *arguments: str) -> Done:
        """A command that SIGKILL ends right after this journal entry is on disk."""
        done = self.run(*arguments, drill=("kill-after", entry))
        assert done.code == -signal.SIGKILL, f"{arguments} was to die after {entry}: {done.code}\n{done.text}"
        return done

    def status(self) -> dict[str, Any]:
        """`sluice status --json`."""
        done = self.here("status", "--json")
        assert done.code == 0, done.text
        found: dict[str, Any] = json.loads(done.text)
        return found

    # ------------------------------------------------------------ what is there

    def ask(self, path: str) -> dict[str, Any]:
        """An answer through the public URL."""

        def answer() -> dict[str, Any]:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as reply:  # noqa: S310 - loopback
                found: dict[str, Any] = json.load(reply)
                return found

        return within(self.netns, answer) if self.netns else answer()

    def served(self) -> tuple[str, str]:
        """Commit and tree that answer at the public URL."""
        found = self.ask("/version")
        return found["sha"], found["tree"]

    def lines(self, name: str) -> list[str]:
        """What the service wrote down: `migrations` by commit, `twice` when two workers ran at a time."""
        return list(self.ask(f"/lines/{name}")["lines"])

    def docker_cli(self, *arguments: str) -> str:
        """A docker command on this world's engine, which must go well."""
        argv = ["docker", "-H", f"unix://{self.docker}", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        assert done.returncode == 0, f"{' '.join(argv)}\n{done.stderr}"
        return done.stdout

    def containers(self) -> list[dict[str, str]]:
        """Every container of the service, running or not: id, name, state, service, project."""
        labels = [f'{{{{.Label "{name}"}}}}' for name in (COMPOSE_SERVICE, PROJECT)]
        shown = "\t".join(["{{.ID}}", "{{.State}}", "{{.Names}}", *labels])
        found = self.docker_cli(
            "ps", "--all", "--no-trunc", "--filter", f"label={SERVICE_LABEL}={self.service}", "--format", shown
        )
        names = ("id", "state", "name", "service", "project")
        return [dict(zip(names, line.split("\t"), strict=True)) for line in found.splitlines()]

    def networks(self) -> list[str]:
        """Every network of the service by name."""
        found = self.docker_cli("network", "ls", "--filter", f"name={self.service}", "--format", "{{.Name}}")
        return sorted(found.split())

    def processes(self) -> list[str]:
        """Command lines of the slots that live now, of the runtime `process`."""
        return [line for line in command_lines() if str(self.state) in line and "server.py serve" in line]

    def stop(self) -> None:
        """End everything this world started; nothing of it stays on the engine."""
        if self.runtime == "process":
            SupervisorClient(self.paths.supervisor_dir).shutdown(grace_s=1)
            wait_until(lambda: not self.processes(), "the slots end", 20)
            return
        containers = [one["id"] for one in self.containers()]
        if containers:
            self.docker_cli("rm", "--force", "--volumes", *containers)
        if networks := self.networks():
            self.docker_cli("network", "rm", *networks)
        volumes = self.docker_cli("volume", "ls", "--quiet", "--filter", f"name={self.service}").split()
        if volumes:
            self.docker_cli("volume", "rm", "--force", *volumes)
        built = f"label=dev.sluice.built-for={self.service}"
        if tags := self.docker_cli("images", "--filter", built, "--format", "{{.Repository}}:{{.Tag}}").split():
            self.docker_cli("image", "rm", "--force", *tags)
