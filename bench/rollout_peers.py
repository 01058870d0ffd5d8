"""Three ways to replace the same service on one machine, and Docker's own commands for it, typed by hand.

`World` makes an origin with the service of bench/chat and an environment for each way; everything it makes on the
engine carries its name and is removed with it.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path

import psutil

from harness import HERE, BenchError, Record

CHAT = HERE / "chat"
BIN = Path(sys.executable).parent
COMPOSE = str(BIN / "docker-compose")
SERVICE_FILES = ("server.py", "smoke.py", "Dockerfile", "compose.yaml", "sluice.toml")
# What the image holds beside the service; the versions are those of the locked development set.
PACKAGES = (
    "anyio",
    "click",
    "h11",
    "httptools",
    "idna",
    "starlette",
    "typing-extensions",
    "uvicorn",
    "uvloop",
    "websockets",
)
# Of this machine: where each way is reached, and where Sluice's slots are.
PORTS = {"ours": 19000, "compose": 19001, "by-hand": 19002}
HAND_PORTS = (19003, 19004)
SLOTS = (19020, 19039)

COMMAND_S = 120.0  # a rollout whose last layer is built anew, on a busy machine
FIRST_S = 300.0  # the first one builds every layer
LOOK_S = 0.1  # between looks at the memory of a command; each costs some milliseconds
HEALTHY_S = 30.0
HEALTH_LOOK_S = 0.05

# Programs of Docker, by the first word of their command line; everything else below a command is the command's own.
DOCKER = {"docker", "docker-compose", "docker-buildx", "docker-buildx-plugin"}
MIB = 1 << 20


@dataclass
class Memory:
    """The largest sums of RSS that were seen, in bytes."""

    alone: int = 0  # the command itself
    tool: int = 0  # with its helpers, without Docker's programs and the service's own smoke
    everything: int = 0

    def add(self, alone: int, tool: int, everything: int) -> None:
        """One look."""
        self.alone, self.tool = max(self.alone, alone), max(self.tool, tool)
        self.everything = max(self.everything, everything)


@dataclass
class Ran:
    """A command that ended."""

    code: int
    text: str
    began: float  # Unix time
    seconds: float
    memory: Memory = field(default_factory=Memory)

    def must(self, code: int = 0) -> Ran:
        """Raises BenchError, with its last words, when it ended otherwise."""
        if self.code != code:
            raise BenchError(f"ended with {self.code} and not {code}:\n{self.text[-3000:]}")
        return self


def whose(command: Sequence[str], parent: Sequence[str]) -> str:
    """Whose memory a process below a command is: `tool`, `docker`, `service`, or nobody's while it is only forked."""
    if list(command) == list(parent) or not command:
        return ""
    if Path(command[0]).name in DOCKER:
        return "docker"
    return "service" if any(Path(part).name == "smoke.py" for part in command) else "tool"


def look(pid: int, memory: Memory) -> None:
    """Add up what the command and everything below it holds now."""
    try:
        root = psutil.Process(pid)
        below, line = root.children(recursive=True), root.cmdline()
        sums = {"tool": root.memory_info().rss, "docker": 0, "service": 0, "": 0}
    except psutil.NoSuchProcess:
        return
    alone = sums["tool"]
    for each in below:
        try:
            sums[whose(each.cmdline(), line)] += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    memory.add(alone, sums["tool"], sums["tool"] + sums["docker"] + sums["service"])


def run(argv: Sequence[str], around: Mapping[str, str], cwd: Path, deadline_s: float = COMMAND_S) -> Ran:
    """Run a command, and watch its memory. Raises BenchError at the deadline."""
    began, at, memory = time.monotonic(), time.time(), Memory()
    plain = {name: value for name, value in os.environ.items() if name in {"HOME", "LANG", "DOCKER_HOST", "USER"}}
    # Our own programs first: `docker-compose`, and a Python that has a WebSocket client.
    path = f"{BIN}:{os.environ.get('PATH', os.defpath)}"
    with subprocess.Popen(
        argv, env={**plain, "PATH": path, "DOCKER_BUILDKIT": "0", **around}, cwd=cwd, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_S):
                look(process.pid, memory)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            text, _ = process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise BenchError(f"{' '.join(argv)} took longer than {deadline_s:g} s") from None
        finally:
            ended.set()
            watcher.join()
    return Ran(process.returncode, text, at, time.monotonic() - began, memory)


def say(*argv: str, cwd: Path | None = None) -> str:
    """A short command that has to work. Raises BenchError."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def need_engine() -> str:
    """The engine's version. Raises BenchError when none answers."""
    try:
        return say("docker", "version", "--format", "{{.Server.Version}}")
    except (FileNotFoundError, BenchError) as error:
        raise BenchError(f"no container engine answers, and this bench starts none: {error}") from None


def _base() -> str:
    """An image with Python: $BENCH_PYTHON_BASE, else the tests' stand-in for the official one, made of this machine."""
    if given := os.environ.get("BENCH_PYTHON_BASE"):
        return given
    sys.path.append(str(HERE.parent / "tests" / "e2e"))
    name: str = importlib.import_module("images").make_python()
    return name


class World:
    """One origin, three environments. `close` removes everything."""

    def __init__(self, folder: Path) -> None:
        """Raises BenchError when there is no engine, or a port is taken."""
        self.engine = need_engine()
        for port in (*PORTS.values(), *HAND_PORTS):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    raise BenchError(f"somebody listens on port {port}, which this bench uses")
        self.name = f"bn-{secrets.token_hex(3)}"
        self.folder, self.origin, self.work = folder, folder / "origin.git", folder / "work"
        self.state = folder / "state"
        self.base = _base()
        self._hand_turn = 0
        self._make_origin()
        for way in ("compose", "by-hand", "hand"):
            say("git", "clone", "--quiet", str(self.origin), str(folder / way))
        self._write_host_file()

    def _make_origin(self) -> None:
        say("git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        say("git", "clone", "--quiet", str(self.origin), str(self.work))
        for name in SERVICE_FILES:
            text = (CHAT / name).read_text()
            (self.work / name).write_text(text.replace('"SERVICE"', f'"{self.name}"'))
        pins = "".join(f"{name}=={metadata.version(name)}\n" for name in PACKAGES)
        (self.work / "requirements.txt").write_text(pins)
        say("git", "checkout", "--quiet", "-B", "main", cwd=self.work)
        self._commit("The chat")
        say("git", "push", "--quiet", "origin", "main", cwd=self.work)

    def _commit(self, words: str) -> None:
        who = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
        say("git", "add", "--all", cwd=self.work)
        say("git", *who, "commit", "--quiet", "--message", words, cwd=self.work)

    def branch(self, number: int, fault: str = "") -> str:
        """A release of its own on a branch one commit ahead of main."""
        name = f"feature/release-{number}"
        say("git", "checkout", "--quiet", "-B", name, "main", cwd=self.work)
        file = self.work / "server.py"
        text = re.sub(r"(?m)^RELEASE = 0$", f"RELEASE = {number}", file.read_text())
        file.write_text(re.sub(r'(?m)^FAULT = ""$', f'FAULT = "{fault}"', text))
        self._commit(f"Release {number}")
        say("git", "push", "--quiet", "--force", "origin", name, cwd=self.work)
        return name

    # ------------------------------------------------------------ ours

    def _write_host_file(self) -> None:
        env = self.folder / "test.env"
        env.write_text(f"PYTHON_BASE={self.base}\n")
        env.chmod(0o600)
        (self.folder / "host.toml").write_text(
            f'[service.{self.name}]\nrepo = "{self.origin}"\n[service.{self.name}.env.test]\nruntime = "compose"\n'
            f'public_url = "http://127.0.0.1:{PORTS["ours"]}"\nenv_file = "{env}"\nports = [{SLOTS[0]}, {SLOTS[1]}]\n'
        )

    def sluice(self, verb: str, *more: str, deadline_s: float = COMMAND_S) -> Ran:
        """A command as somebody types it."""
        around = {"SLUICE_STATE": str(self.state), "SLUICE_HOST_CONFIG": str(self.folder / "host.toml")}
        argv = [str(BIN / "sluice"), verb, "--env", "test", "--service", self.name, *more]
        return run(argv, around, self.folder, deadline_s)

    def unlock(self) -> None:
        """A rollback locks the environment; somebody has looked."""
        self.sluice("unlock", "--reason", "measured").must()

    def journal(self) -> list[Record]:
        """The newest run's entries, `at` as Unix time."""
        newest = max((self.state / self.name / "envs/test/journal").glob("*.jsonl"))
        entries = [json.loads(line) for line in newest.read_text().splitlines()]
        return [{**entry, "at": datetime.fromisoformat(entry["at"]).timestamp()} for entry in entries]

    def ingress_bytes(self) -> int:
        """RSS of the ingress, which stays and belongs to none of the commands."""
        name = f"sluice-{self.name}-test-ingress"
        return psutil.Process(int(say("docker", "inspect", "-f", "{{.State.Pid}}", name))).memory_info().rss

    # ------------------------------------------------------------ the peers

    def compose(self, ref: str, deadline_s: float = COMMAND_S) -> Ran:
        """What most people type: check out, and have Compose make it so."""
        argv = ["sh", "-ec", UP_AGAIN, "up-again", ref, COMPOSE, f"{self.name}-compose"]
        around = {"PUBLISH": str(PORTS["compose"]), "IMAGE": f"{self.name}-compose", "PYTHON_BASE": self.base}
        return run(argv, around, self.folder / "compose", deadline_s)

    def by_hand(self, *words: str, deadline_s: float = COMMAND_S) -> Ran:
        """The runbook as a script."""
        around = {
            "CHECKOUT": str(self.folder / "by-hand"), "PROJECT": f"{self.name}-script", "PYTHON": sys.executable,
            "PUBLISH": str(PORTS["by-hand"]), "LOG": str(self.folder / "release.log"), "COMPOSE": COMPOSE,
            "PYTHON_BASE": self.base,
        }  # fmt: skip
        return run([str(CHAT / "by_hand.sh"), *words], around, self.folder, deadline_s)

    def docker_alone(self, ref: str) -> dict[str, float]:
        """Docker's own commands for a new slot beside an old one, and nothing else: seconds of each."""
        turn, self._hand_turn = self._hand_turn, self._hand_turn + 1
        project, port, folder = f"{self.name}-hand{turn}", HAND_PORTS[turn % 2], self.folder / "hand"
        say("git", "fetch", "--quiet", "origin", cwd=folder)
        say("git", "checkout", "--quiet", "--detach", ref, cwd=folder)
        around = {"PUBLISH": str(port), "IMAGE": f"{self.name}-hand", "TAG": str(turn), "PYTHON_BASE": self.base}
        compose, took = [COMPOSE, "--project-name", project], {}

        def timed(what: str, *argv: str, deadline_s: float = COMMAND_S) -> None:
            took[what] = run(argv, around, folder, deadline_s).must().seconds

        network = f"{self.name}-hand"
        if turn == 0:
            say("docker", "network", "create", network)
        timed("build", *compose, "build", "--quiet", deadline_s=FIRST_S)
        timed("create", *compose, "up", "--no-start", "--no-build")
        timed("connect", "docker", "network", "connect", network, f"{project}-chat-1")
        timed("start", *compose, "up", "--detach", "--no-build", "--no-recreate")
        took["healthy"] = self._healthy(port)
        if turn:
            old = f"{self.name}-hand{turn - 1}-chat-1"
            timed("stop", "docker", "stop", "--time", "5", old)
            timed("remove", "docker", "rm", old)
            timed("network", "docker", "network", "rm", f"{self.name}-hand{turn - 1}_default")
        return took

    def _healthy(self, port: int) -> float:
        began = time.monotonic()
        while time.monotonic() - began < HEALTHY_S:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    return time.monotonic() - began
            except OSError:
                time.sleep(HEALTH_LOOK_S)
        raise BenchError(f"port {port} does not answer within {HEALTHY_S:g} s")

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Nothing of this world stays on the engine but layers that later builds take from."""
        ours = _projects(self.name)
        for label in (f"dev.sluice.service={self.name}", *(f"com.docker.compose.project={name}" for name in ours)):
            for kind, listing, removal in (
                ("container", ("ls", "--all", "--quiet"), ("rm", "--force", "--volumes")),
                ("network", ("ls", "--quiet"), ("rm",)),
                ("volume", ("ls", "--quiet"), ("rm", "--force")),
            ):
                found = say("docker", kind, *listing, "--filter", f"label={label}").split()
                if found:
                    say("docker", kind, *removal, *found)
        network = f"{self.name}-hand"
        if say("docker", "network", "ls", "--quiet", "--filter", f"name={network}$"):
            say("docker", "network", "rm", network)
        named = say("docker", "images", "--format", "{{.Repository}}:{{.Tag}}").split()
        mine = [tag for tag in named if tag.startswith((f"{self.name}-", f"sluice/{self.name}-"))]
        # Whose tag went to a newer one. What has a name goes first: it may be built on these.
        if mine:
            say("docker", "image", "rm", *mine)
        lost = ("--filter", "dangling=true", "--filter", f"label=dev.sluice.bench={self.name}")
        nameless = say("docker", "images", "--quiet", *lost).split()
        if nameless:
            say("docker", "image", "rm", *nameless)
        shutil.rmtree(self.state, ignore_errors=True)


def _projects(name: str) -> set[str]:
    """The Compose projects of a world, by what their networks and volumes say."""
    listed = '{{.Label "com.docker.compose.project"}}'
    found = {
        project
        for kind in ("container", "network", "volume")
        for project in say(
            "docker", kind, "ls", *(["--all"] if kind == "container" else []), "--format", listed
        ).split()
    }
    return {project for project in found if project.startswith(f"{name}-")}


UP_AGAIN = """
git fetch --quiet origin
git checkout --quiet --detach "$1"
RELEASE_SHA=$(git rev-parse HEAD) "$2" --project-name "$3" up --detach --build --force-recreate
"""
