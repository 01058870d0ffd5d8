"""The servers that are measured, each started as its own process, and the client processes that drive them."""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

import httpx

import people
from harness import HERE, BenchError, Record, cpu_seconds
from postgres import Postgres

NODE = HERE / "node"
BOLTOREZKA = (sys.executable, "-m", "boltorezka.cli")

# Starting a process on a busy machine; one that takes longer is broken.
START_S = 30.0
STOP_S = 15.0
INSTALL_S = 300.0
# Longer than the clients' own patience, so that their words are heard.
ANSWER_S = 180.0

# The newest seq among the messages of `general`, and how many there are.
STORED = (
    "SELECT coalesce(max(seq), 0), count(*) FROM events"
    " WHERE kind = 'message' AND room_id = (SELECT id FROM rooms WHERE slug = 'general')"
)

# One person says in a second what people say in an hour: the limits for people are lifted where there are any.
LIFTED = {"CHAT_PER_SECOND": "100000", "FRAMES_PER_SECOND": "1000000", "TICKETS_PER_MINUTE": "1000000"}


@dataclass(frozen=True)
class Server:
    """A running server: its processes, those it leans on, and how to come in."""

    name: str
    pids: tuple[int, ...]
    ports: tuple[int, ...]
    tokens: list[str]
    stored: Callable[[], tuple[int, int]]
    logs: tuple[Path, ...]
    database_pid: int | None = None
    bus_pid: int | None = None
    metrics_token: str = ""
    version: Record = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Of the first process."""
        return f"http://127.0.0.1:{self.ports[0]}"

    def doors(self, count: int, first: int = 0) -> list[tuple[int, str]]:
        """Ways in: each process in turn, each person in turn."""
        numbers = range(first, first + count)
        return [(self.ports[n % len(self.ports)], self.tokens[n % len(self.tokens)]) for n in numbers]

    def clocks(self) -> dict[str, float]:
        """CPU seconds until now: of the server (user and system), its database and its bus."""
        user, system = cpu_seconds(self.pids)
        others = {"database": self.database_pid, "bus": self.bus_pid}
        return {
            "user": user,
            "system": system,
            **{name: sum(cpu_seconds([pid])) if pid is not None else 0.0 for name, pid in others.items()},
        }

    def metric(self, name: str) -> dict[str, float] | None:
        """The samples of a counter by their labels, summed over the processes; None when there is no such counter."""
        found: dict[str, float] = {}
        declared = False
        for port in self.ports:
            headers = {"authorization": f"Bearer {self.metrics_token}"} if self.metrics_token else {}
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers, timeout=START_S).text
            for line in text.splitlines():
                declared = declared or line.startswith(f"# TYPE {name} ")
                if line.startswith((f"{name}{{", f"{name} ")):
                    labels, value = line.rsplit(" ", 1)
                    found[labels.removeprefix(name)] = found.get(labels.removeprefix(name), 0.0) + float(value)
        return found if declared else None

    def last_words(self) -> str:
        """The end of what it logged, for whoever has to find out what went wrong."""
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in self.logs)


def since(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What the clocks counted in between, with `server` as the sum of its user and system time."""
    spent = {name: after[name] - before[name] for name in before}
    return {**spent, "server": spent["user"] + spent["system"]}


@contextmanager
def ours(
    directory: Path,
    crowd: int,
    *,
    name: str = "ours",
    postgres: Postgres | None = None,
    nats: tuple[str, int] | None = None,
    processes: int = 1,
) -> Iterator[Server]:
    """Our server as it is run: `boltorezka migrate`, then `boltorezka serve`, on SQLite or on PostgreSQL and NATS."""
    database = f"bench_{name.replace('-', '_')}_{secrets.token_hex(3)}"
    file = directory / f"{database}.sqlite3"
    if postgres is not None:
        postgres.create_database(database)
    metrics_token = secrets.token_urlsafe(32)
    with ExitStack() as stack:
        settings = {
            "DATABASE_URL": f"sqlite:///{file}" if postgres is None else postgres.url(database),
            "ENVIRONMENT": "test",
            "PUBLIC_ORIGIN": "http://127.0.0.1",
            "AUTH_SSO_BASE_URL": stack.enter_context(people.sso()),
            "JWT_SECRET": secrets.token_urlsafe(32),
            "METRICS_TOKEN": metrics_token,
            "SUPER_ADMIN_EMAIL": people.ADMIN_EMAIL,
            **({} if nats is None else {"NATS_URL": nats[0]}),
        }
        env = {f"BOLTOREZKA_{key}": value for key, value in settings.items()}
        env.update(_lifted())
        _run([*BOLTOREZKA, "migrate"], env)
        logs = tuple(directory / f"{database}-{number}.log" for number in range(processes))
        started = [stack.enter_context(_process([*BOLTOREZKA, "serve", "--port", "0"], env, log)) for log in logs]
        tokens = people.sign_in(f"http://127.0.0.1:{started[0][1]}", crowd)
        stored = _stored_in_sqlite(file) if postgres is None else _stored_in_postgres(postgres, database)
        yield Server(
            name, tuple(pid for pid, _ in started), tuple(port for _, port in started), tokens, stored, logs,
            None if postgres is None else postgres.pid, None if nats is None else nats[1], metrics_token,
        )  # fmt: skip


@contextmanager
def node(
    script: str,
    postgres: Postgres,
    directory: Path,
    crowd: int,
    *,
    arguments: Sequence[str] = (),
    seed: Callable[[Postgres, str], None] | None = None,
) -> Iterator[Server]:
    """One of the Node servers, on a database of its own; `arguments` are for Node itself, `seed` adds to its rows."""
    name = script.partition(".")[0]
    database = f"node_{name}_{secrets.token_hex(3)}"
    secret = secrets.token_urlsafe(32)
    env = {**postgres.create_database(database), "NODE_ENV": "production", "PEER_JWT_SECRET": secret}
    log = directory / f"{database}.log"
    with _process(["node", *arguments, str(NODE / script)], env, log) as (pid, port):
        postgres.ask(database, people.SEED.format(last=crowd - 1))
        if seed is not None:
            seed(postgres, database)
        tokens = people.minted(secret, crowd)
        stored = _stored_in_postgres(postgres, database)
        yield Server(f"node-{name.replace('_', '-')}", (pid,), (port,), tokens, stored, (log,), postgres.pid)


def make_rooms(server: Server, slugs: Sequence[str]) -> None:
    """Public rooms, made by the super admin over HTTP. Raises BenchError."""
    with httpx.Client(base_url=server.url, timeout=START_S) as client:
        for slug in slugs:
            headers = {"authorization": f"Bearer {server.tokens[0]}"}
            body = {"slug": slug, "title": f"Room {slug}", "is_public": True}
            answer = client.post("/v1/rooms", json=body, headers=headers)
            if answer.status_code != httpx.codes.CREATED:
                raise BenchError(f"room {slug} was not made: {answer.status_code} {answer.text}")


def install_node_peers() -> dict[str, str]:
    """`npm ci` what the Node peers need, once for each lock; answers the versions. Raises BenchError."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise BenchError("the Node peers need Node.js 20 or newer with npm; install it, or leave them out with --only")
    lock, mark = NODE / "package-lock.json", NODE / "node_modules" / ".ready"
    if not mark.exists() or mark.stat().st_mtime < lock.stat().st_mtime:
        print("installing the Node peers' packages (once)", file=sys.stderr)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            raise BenchError(f"npm ci took longer than {INSTALL_S:g} s in {NODE}") from None
        if done.returncode:
            raise BenchError(f"npm ci failed in {NODE}:\n{done.stderr.strip()}")
        mark.touch()
    node_version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
    manifests = {name: NODE / "node_modules" / name / "package.json" for name in ("ws", "pg", "fastify")}
    versions = {name: str(json.loads(path.read_bytes())["version"]) for name, path in manifests.items()}
    return {"node": node_version.stdout.strip(), **versions}


class Client:
    """A client process of the bench (see load.py): jobs go in as JSON lines, answers come out as JSON lines."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors

    @property
    def pid(self) -> int:
        """Of the client, which is never measured as part of a server."""
        return self._process.pid

    def ask(self, **job: Any) -> Record:
        """Have one job done. Raises BenchError with the client's own words when something was lost."""
        self.begin(**job)
        return self.answer()

    def begin(self, **job: Any) -> None:
        """Give a job, and do something else meanwhile. Raises BenchError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(self._last_words()) from None

    def answer(self) -> Record:
        """The answer to the oldest job that has none yet. Raises BenchError."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_S):
                raise BenchError(f"the load did not answer within {ANSWER_S:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(self._last_words())
        answer: Record = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._process.wait(STOP_S)
        self._errors.seek(0)
        return self._errors.read().strip() or "the load ended without a word"


@contextmanager
def client(script: str) -> Iterator[Client]:
    """Run one of the client processes until the end of the block."""
    pipe = subprocess.PIPE
    command = [sys.executable, str(HERE / script)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, env=_environ({}), stdin=pipe, stdout=pipe, stderr=errors, text=True) as process,
    ):
        try:
            yield Client(process, errors)
        finally:
            process.kill()


@cache
def _lifted() -> dict[str, str]:
    """Those limits that this version of the server has a setting for."""
    listed = subprocess.run(
        [*BOLTOREZKA, "check-config"], env=_environ({}), capture_output=True, text=True, timeout=START_S, check=False
    )
    known = {line.partition(" ")[0] for line in listed.stdout.splitlines()}
    lifted = {f"BOLTOREZKA_{name}": value for name, value in LIFTED.items()}
    return {name: value for name, value in lifted.items() if name in known}


def _stored_in_sqlite(database: Path) -> Callable[[], tuple[int, int]]:
    def stored() -> tuple[int, int]:
        db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        try:
            last_seq, count = db.execute(STORED).fetchone()
            return int(last_seq), int(count)
        finally:
            db.close()

    return stored


def _stored_in_postgres(postgres: Postgres, database: str) -> Callable[[], tuple[int, int]]:
    def stored() -> tuple[int, int]:
        last_seq, count = postgres.ask(database, STORED).split("|")
        return int(last_seq), int(count)

    return stored


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    """Ours without settings of somebody's own server or database; compiled code is kept, as on real servers."""
    foreign = ("BOLTOREZKA_", "PG", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPYCACHEPREFIX": str(HERE.parent / ".cache" / "bench"), **more}


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
