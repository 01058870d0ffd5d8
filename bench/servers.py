"""The servers that are measured, each started as its own process, and the load that drives one of them."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

from postgres import Postgres

HERE = Path(__file__).parent
NODE = HERE / "node"
PATH = "/v1/realtime/ws"

# Starting a process on a busy machine; one that takes longer is broken.
START_S = 30.0
STOP_S = 10.0
INSTALL_S = 300.0
# Longer than the load's own patience, so that its words are heard.
ANSWER_S = 90.0
# Sessions outlive the longest run.
SESSION_S = 3600

STORED = "SELECT last_seq, (SELECT count(*) FROM events WHERE room_id = rooms.id) FROM rooms WHERE slug = 'general'"


class BenchError(Exception):
    """The bench cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Server:
    """A running server: its process, the one of its database if that is another, and how to come in."""

    pid: int
    port: int
    paths: list[str]
    database_pid: int | None
    stored: Callable[[], tuple[int, int]]
    log: Path

    def last_words(self) -> str:
        """The end of what it logged, for whoever has to find out what went wrong."""
        return self.log.read_text(errors="replace")[-2000:]


def cpu_seconds(pid: int) -> tuple[float, float]:
    """User and system time of a process and of all its children, those that have ended included."""
    user = system = 0.0
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        user += times.user + times.children_user
        system += times.system + times.children_system
    return user, system


@contextmanager
def boltorezka(directory: Path, sockets: int) -> Iterator[Server]:
    """Our server as it is run: `boltorezka migrate`, then `boltorezka serve`; sockets of two signed-in accounts."""
    database = directory / "boltorezka.sqlite3"
    settings = {
        "DATABASE_URL": f"sqlite:///{database}",
        "ENVIRONMENT": "test",
        "PUBLIC_ORIGIN": "http://127.0.0.1",
        "AUTH_SSO_BASE_URL": "http://127.0.0.1",
        "JWT_SECRET": secrets.token_urlsafe(32),
        "METRICS_TOKEN": secrets.token_urlsafe(32),
    }
    env = {f"BOLTOREZKA_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "boltorezka.cli"]
    _run([*command, "migrate"], env)
    session = json.loads(_run([*command, "smoke-session", "--ttl", str(SESSION_S)], env))
    tokens = [str(user["token"]) for user in session["users"]]
    log = directory / "boltorezka.log"
    with _process([*command, "serve", "--port", "0"], env, log) as (pid, port):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=START_S) as client:
            tickets = [_ticket(client, tokens[number % len(tokens)]) for number in range(sockets)]
        paths = [f"{PATH}?ticket={ticket}" for ticket in tickets]
        yield Server(pid, port, paths, None, _stored_in_sqlite(database), log)


@contextmanager
def uvicorn_peer(directory: Path, sockets: int) -> Iterator[Server]:
    """Uvicorn's own WebSocket over our store."""
    database = directory / "uvicorn.sqlite3"
    env = {"BOLTOREZKA_DATABASE_URL": f"sqlite:///{database}"}
    _run([sys.executable, "-m", "boltorezka.cli", "migrate"], env)
    command = [sys.executable, str(HERE / "uvicorn_peer.py"), str(database)]
    log = directory / "uvicorn.log"
    with _process(command, {}, log) as (pid, port):
        yield Server(pid, port, _user_paths(sockets), None, _stored_in_sqlite(database), log)


@contextmanager
def node_peer(script: str, postgres: Postgres, directory: Path, sockets: int) -> Iterator[Server]:
    """One of the Node servers, on a database of its own."""
    name = script.partition(".")[0]
    env = {**postgres.create_database(name), "NODE_ENV": "production"}

    def stored() -> tuple[int, int]:
        last_seq, count = postgres.ask(name, STORED).split("|")
        return int(last_seq), int(count)

    log = directory / f"{name}.log"
    with _process(["node", str(NODE / script)], env, log) as (pid, port):
        yield Server(pid, port, _user_paths(sockets), postgres.pid, stored, log)


def install_node_peers() -> None:
    """`npm ci` what the Node peers need, once for each lock. Raises BenchError."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise BenchError("the Node peers need Node.js 20 or newer with npm; install it, or leave them out with --only")
    lock, mark = NODE / "package-lock.json", NODE / "node_modules" / ".ready"
    if mark.exists() and mark.stat().st_mtime >= lock.stat().st_mtime:
        return
    print("installing the Node peers' packages (once)", file=sys.stderr)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"npm ci took longer than {INSTALL_S:g} s in {NODE}") from None
    if done.returncode:
        raise BenchError(f"npm ci failed in {NODE}:\n{done.stderr.strip()}")
    mark.touch()


class Load:
    """The load on one server (see load.py): its sockets stay open until the end."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors

    def ask(self, **job: Any) -> dict[str, Any]:
        """Have one job done. Raises BenchError with the load's own words when something was lost."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(self._last_words()) from None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_S):
                raise BenchError(f"the load did not answer within {ANSWER_S:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._process.wait(STOP_S)
        self._errors.seek(0)
        return self._errors.read().strip() or "the load ended without a word"


@contextmanager
def running_load(server: Server) -> Iterator[Load]:
    """A load whose sockets are all in the room."""
    pipe = subprocess.PIPE
    command = [sys.executable, str(HERE / "load.py")]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True) as process,
    ):
        try:
            load = Load(process, errors)
            load.ask(port=server.port, paths=server.paths)
            yield load
        finally:
            process.kill()


def _user_paths(sockets: int) -> list[str]:
    return [f"{PATH}?user=user-{number}" for number in range(sockets)]


def _ticket(client: httpx.Client, token: str) -> str:
    answer = client.get("/v1/auth/ws-ticket", headers={"authorization": f"Bearer {token}"})
    if answer.status_code != httpx.codes.OK:
        raise BenchError(f"boltorezka gave no ticket: {answer.status_code} {answer.text}")
    return str(answer.json()["ticket"])


def _stored_in_sqlite(database: Path) -> Callable[[], tuple[int, int]]:
    def stored() -> tuple[int, int]:
        db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        try:
            last_seq, count = db.execute(STORED).fetchone()
            return int(last_seq), int(count)
        finally:
            db.close()

    return stored


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    """Ours without settings of somebody's own server or database."""
    foreign = ("BOLTOREZKA_", "PG")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(foreign)}, **more}


def _run(command: list[str], env: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            command, env=_environ(env), capture_output=True, text=True, timeout=START_S, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(command[1:])} took longer than {START_S:g} s") from None
    if done.returncode:
        raise BenchError(f"{' '.join(command[1:])} failed:\n{done.stderr.strip()}")
    return done.stdout


@contextmanager
def _process(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[tuple[int, int]]:
    """Run a server until the end of the block; yields its pid and the port that it logged."""
    with log.open("wb") as output, log.open("rb") as lines:
        process = subprocess.Popen(
            command, env=_environ(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )  # fmt: skip
        try:
            yield process.pid, _port(process, lines, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(process: subprocess.Popen[bytes], lines: IO[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        line = lines.readline()
        if line.startswith(b"{") and (record := json.loads(line)).get("event") == "listening":
            return int(record["port"])
        if not line:
            if process.poll() is not None:
                break
            time.sleep(0.02)
    raise BenchError(f"{log.stem} did not start:\n{log.read_text(errors='replace')[-2000:]}")
