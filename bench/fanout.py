"""Durable fan-out beside its peers: deliveries per CPU-second of the server, messages stored and acked.

    .venv/bin/python bench/fanout.py [--quick] [--only boltorezka,node-batching] …

Every server has the same number of sockets in one room, and the same load: so many messages in flight, each stored
before it is acked, each delivered to every socket. All deliveries are verified (bench/load.py); one lost, doubled,
reordered or not stored is an error. What is divided by is the CPU time (user and system) of the server's process
alone: the load, and the PostgreSQL of the Node peers, are shown but not counted; our SQLite is inside our process.
The servers take turns, round after round, and medians are printed, so a noisy machine disturbs all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from postgres import Postgres, running_postgres
from servers import (
    HERE,
    BenchError,
    Load,
    Server,
    boltorezka,
    cpu_seconds,
    install_node_peers,
    node_peer,
    running_load,
    uvicorn_peer,
)

LABELS = {
    "boltorezka": "boltorezka (SQLite)",
    "node-per-message": "Node ws, send per message (PostgreSQL)",
    "node-batching": "Node ws, joined per tick (PostgreSQL)",
    "uvicorn": "uvicorn websockets-sansio (SQLite)",
}
OURS = "boltorezka"
# The bars of the project: at least this many times the peer.
BARS = {"node-per-message": 10.0, "node-batching": 3.0}
IN_FLIGHT = (1, 4, 64)
# Long enough that the interpreters' caches and compilers have seen the path.
WARM_UP_S = 0.3


@dataclass(frozen=True)
class Cell:
    """One server under one load, once."""

    server: str
    in_flight: int
    messages: int
    deliveries: int
    seconds: float
    server_user: float
    server_system: float
    database_cpu: float
    load_cpu: float
    p50_ms: float
    p99_ms: float

    @property
    def server_cpu(self) -> float:
        """User and system seconds of the server's process."""
        return self.server_user + self.server_system

    @property
    def rate(self) -> float:
        """Deliveries per CPU-second of the server."""
        return self.deliveries / self.server_cpu

    @property
    def rate_with_database(self) -> float:
        """Deliveries per CPU-second of the server and its database."""
        return self.deliveries / (self.server_cpu + self.database_cpu)


@dataclass
class Contender:
    """A server with its load, ready to be measured."""

    name: str
    server: Server
    load: Load
    messages: int = 0

    def measure(self, in_flight: int, seconds: float) -> Cell:
        """Warm up, then talk for a while; the clocks are read while nothing is in flight. Raises BenchError."""
        self.messages += self.load.ask(in_flight=in_flight, seconds=WARM_UP_S)["messages"]
        before = self._clocks()
        told = self.load.ask(in_flight=in_flight, seconds=seconds)
        user, system, database = (after - earlier for after, earlier in zip(self._clocks(), before, strict=True))
        self.messages += told["messages"]
        return Cell(
            self.name, in_flight, told["messages"], told["deliveries"], told["seconds"], user, system, database,
            told["load_cpu_seconds"], told["p50_ms"], told["p99_ms"],
        )  # fmt: skip

    def _clocks(self) -> tuple[float, float, float]:
        database = self.server.database_pid
        return *cpu_seconds(self.server.pid), 0.0 if database is None else sum(cpu_seconds(database))

    def finish(self) -> None:
        """Nothing may come after the end, and everything must be in the store. Raises BenchError."""
        top = self.load.ask(barrier=True)["seq"]
        stored = self.server.stored()
        if stored != (top, self.messages):
            raise BenchError(f"{self.messages} messages up to seq {top} were acked, stored are (last, count) {stored}")


@contextmanager
def contenders(names: Sequence[str], sockets: int, directory: Path) -> Iterator[tuple[list[Contender], dict[str, str]]]:
    """Start the servers and their loads; yields them with the versions of what they are made of."""
    versions = {"python": platform.python_version()}
    with ExitStack() as stack:
        starts: dict[str, Callable[[Path, int], AbstractContextManager[Server]]] = {
            "boltorezka": boltorezka,
            "uvicorn": uvicorn_peer,
        }
        if any(name.startswith("node-") for name in names):
            postgres = _postgres(stack, directory, versions)
            starts["node-per-message"] = partial(node_peer, "per_message.mjs", postgres)
            starts["node-batching"] = partial(node_peer, "batching.mjs", postgres)
        ready = []
        for name in names:
            server = stack.enter_context(starts[name](directory, sockets))
            try:
                load = stack.enter_context(running_load(server))
            except BenchError as error:
                raise BenchError(f"{name}: {error}\n{server.last_words()}") from error
            ready.append(Contender(name, server, load))
        yield ready, versions


def _postgres(stack: ExitStack, directory: Path, versions: dict[str, str]) -> Postgres:
    install_node_peers()
    for package in ("ws", "pg"):
        manifest = HERE / "node" / "node_modules" / package / "package.json"
        versions[package] = json.loads(manifest.read_bytes())["version"]
    node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
    versions["node"] = node.stdout.strip()
    postgres = stack.enter_context(running_postgres(directory / "pg"))
    versions["postgresql"] = postgres.version
    return postgres


def measure(ready: Sequence[Contender], rounds: int, seconds: float) -> list[Cell]:
    """Let the servers take turns; each round another one begins. Raises BenchError."""
    cells = []
    for turn in range(rounds):
        shift = turn % len(ready)
        for in_flight in IN_FLIGHT:
            for contender in (*ready[shift:], *ready[:shift]):
                _progress(f"round {turn + 1} of {rounds}: {contender.name}, {in_flight} in flight")
                try:
                    cells.append(contender.measure(in_flight, seconds))
                except BenchError as error:
                    words = contender.server.last_words()
                    raise BenchError(f"{contender.name}, {in_flight} in flight: {error}\n{words}") from error
    for contender in ready:
        try:
            contender.finish()
        except BenchError as error:
            raise BenchError(f"{contender.name}: {error}") from error
    _progress("")
    return cells


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def medians(cells: Sequence[Cell], of: Callable[[Cell], float]) -> dict[tuple[str, int], float]:
    """By server and messages in flight."""
    groups: dict[tuple[str, int], list[float]] = {}
    for cell in cells:
        groups.setdefault((cell.server, cell.in_flight), []).append(of(cell))
    return {key: statistics.median(values) for key, values in groups.items()}


def report(cells: Sequence[Cell], names: Sequence[str], sockets: int) -> Iterator[str]:
    """The tables, line by line."""
    rate = medians(cells, lambda cell: cell.rate)
    whole = medians(cells, lambda cell: cell.rate_with_database)
    yield f"Deliveries per CPU-second of the server; {sockets} sockets in one room, every message stored, then acked."
    yield from _table(names, lambda name, level: f"{rate[name, level]:,.0f}")
    peers = [name for name in names if name != OURS]
    if OURS in names and peers:
        yield ""
        yield "boltorezka as a multiple of"
        yield from _table(peers, lambda name, level: _multiple(rate[OURS, level] / rate[name, level], BARS.get(name)))
        stored_elsewhere = [name for name in peers if name.startswith("node-")]
        if stored_elsewhere:
            yield ""
            yield "the same with PostgreSQL's CPU counted for the peer"
            yield from _table(stored_elsewhere, lambda name, level: _multiple(rate[OURS, level] / whole[name, level]))
    tables: tuple[tuple[str, Callable[[Cell], float], str], ...] = (
        ("Server CPU, µs per message", lambda cell: cell.server_cpu / cell.messages * 1e6, ",.0f"),
        ("... of which in the kernel", lambda cell: cell.server_system / cell.messages * 1e6, ",.0f"),
        ("PostgreSQL CPU, µs per message (not counted)", lambda cell: cell.database_cpu / cell.messages * 1e6, ",.0f"),
        ("Messages per second of wall time", lambda cell: cell.messages / cell.seconds, ",.0f"),
        ("Send to everybody's receipt, median ms", lambda cell: cell.p50_ms, ",.1f"),
        ("CPU of the load, share of one core", lambda cell: cell.load_cpu / cell.seconds, ".0%"),
    )  # fmt: skip
    for title, of, form in tables:
        values = medians(cells, of)
        yield ""
        yield title
        yield from _table(names, lambda name, level, values=values, form=form: format(values[name, level], form))  # type: ignore[misc]


def _multiple(value: float, bar: float | None = None) -> str:
    if bar is None:
        return f"{value:.1f} x"
    return f"{value:.1f} x ({'>=' if value >= bar else 'below'} {bar:g})"


def _table(names: Sequence[str], cell: Callable[[str, int], str]) -> Iterator[str]:
    yield "  " + " " * 40 + "".join(f"{f'{level} in flight':>18}" for level in IN_FLIGHT)
    for name in names:
        yield f"  {LABELS[name]:<40}" + "".join(f"{cell(name, level):>18}" for level in IN_FLIGHT)


def save(cells: Sequence[Cell], versions: dict[str, str], arguments: argparse.Namespace) -> Path:
    """Everything that was measured, as JSON in bench/results."""
    now = datetime.now(UTC)
    record: dict[str, Any] = {
        "bench": "fanout",
        "at": now.isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0]},
        "versions": versions,
        "sockets": arguments.sockets,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "cells": [vars(cell) | {"deliveries_per_cpu_second": cell.rate} for cell in cells],
    }
    path = HERE / "results" / f"fanout-{now:%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def main() -> int:
    """Run the bench; exit code 1 when a server lost something or did not run."""
    arguments = _arguments()
    began = time.monotonic()
    # Whoever ends us means our servers too; a shell starts background jobs with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="fanout-") as name:
            directory = Path(name)
            # PostgreSQL does not run as root; the account that it runs as then has to pass.
            directory.chmod(0o711)
            with contenders(arguments.only, arguments.sockets, directory) as (ready, versions):
                cells = measure(ready, arguments.rounds, arguments.seconds)
    except (BenchError, RuntimeError) as error:
        _progress("")
        print(f"fanout: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _progress("")
        return 130
    for line in report(cells, arguments.only, arguments.sockets):
        print(line)
    path = save(cells, versions, arguments)
    made_of = ", ".join(f"{what} {version}" for what, version in versions.items())
    print(f"\n{made_of}; {arguments.rounds} rounds of {arguments.seconds:g} s, median; every delivery verified;")
    print(f"{time.monotonic() - began:.0f} s in all; all numbers in {path.relative_to(HERE.parent)}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Durable fan-out beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round: a look, not a measurement")
    parser.add_argument("--rounds", type=int, help="how often each server is measured (default 3)")
    parser.add_argument("--seconds", type=float, help="how long each time (default 2)")
    parser.add_argument("--sockets", type=int, default=200, help="in the room (default 200)")
    parser.add_argument("--only", type=_names, default=list(LABELS), help=f"some of {','.join(LABELS)}")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.seconds = arguments.seconds or (0.7 if arguments.quick else 2.0)
    if arguments.rounds < 1 or arguments.seconds <= 0 or arguments.sockets < max(IN_FLIGHT):
        parser.error(f"at least one round, some seconds and {max(IN_FLIGHT)} sockets are needed")
    return arguments


def _names(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(LABELS) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"must be some of {', '.join(LABELS)}, each once")
    return names


if __name__ == "__main__":
    sys.exit(main())
