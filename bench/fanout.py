"""Durable chat fan-out beside its peers: CPU per message, deliveries per CPU-second, times of acks and deliveries.

    .venv/bin/python bench/fanout.py [--quick] [--only ours,node-batching] [--sockets 20,200]

Every server has the same number of sockets in one room, one person each, and the same load: so many messages in
flight, each stored before it is acked, each delivered to every socket, its sender's too. All deliveries are verified
(load.py); one lost, doubled, reordered or not stored is an error. What is divided by is the CPU time (user and system)
of the server's processes; the database's is shown beside it, and a second ratio counts it for everybody. Our SQLite
is inside our process. The servers take turns, round after round, and medians are printed, so a noisy machine disturbs
all of them alike.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness import Bar, Bench, BenchError, Options, Record, main, medians, progress, table, turns
from postgres import Postgres, running_nats, running_postgres
from servers import Client, Server, client, install_node_peers, node, ours, since

LABELS = {
    "ours": "Boltorezka, SQLite",
    "ours-postgres": "Boltorezka, PostgreSQL and NATS",
    "node-per-message": "Node ws, PostgreSQL, a send per message",
    "node-batching": "Node ws, PostgreSQL, joined per tick",
}
OURS = ("ours", "ours-postgres")
# The promises of the project: at least this many times the peer, with 200 sockets in the room.
RATIOS = {"node-per-message": 10.0, "node-batching": 3.0}
RATIO_SOCKETS = 200
# One message stored, acked and told to 20 sockets, with 64 in flight: at most so many microseconds.
MESSAGE_US, MESSAGE_SOCKETS, MESSAGE_IN_FLIGHT = 150.0, 20, 64
IN_FLIGHT = (1, 4, 64)
# Long enough that the interpreters' caches and compilers have seen the path.
WARM_UP_S, QUICK_WARM_UP_S = 0.5, 0.1
TALK_S, QUICK_TALK_S = 2.0, 0.15
# Once for each server, with the most in flight: V8 compiles what has become hot in stages.
FIRST_WARM_UP_S = 3.0

Start = Callable[..., AbstractContextManager[Server]]


@dataclass(frozen=True)
class Ground:
    """How each server is started, what they stand on, and the versions of that."""

    starts: dict[str, Start]
    versions: Record
    postgres: Postgres | None = None
    nats: tuple[str, int] | None = None


class Contender:
    """A server with its load, ready to be measured."""

    def __init__(self, name: str, server: Server, load: Client, sockets: int) -> None:
        self._name, self.server, self._load, self._sockets = name, server, load, sockets
        self._messages = 0

    def warm_up(self, seconds: float) -> None:
        """Talk as busily as it will get, uncounted. Raises BenchError."""
        self._messages += self._load.ask(in_flight=max(IN_FLIGHT), seconds=seconds)["messages"]

    def measure(self, in_flight: int, *, quick: bool) -> Record:
        """Warm up, then talk for a while; the clocks are read while nothing is in flight. Raises BenchError."""
        warm_up, talk = (QUICK_WARM_UP_S, QUICK_TALK_S) if quick else (WARM_UP_S, TALK_S)
        self._messages += self._load.ask(in_flight=in_flight, seconds=warm_up)["messages"]
        before = self.server.clocks()
        told = self._load.ask(in_flight=in_flight, seconds=talk)
        spent = since(before, self.server.clocks())
        self._messages += told["messages"]
        return {"server": self._name, "sockets": self._sockets, "in_flight": in_flight, **told, "cpu": spent}

    def finish(self) -> None:
        """Nothing may come after the end, and everything must be in the store. Raises BenchError."""
        (top,) = self._load.ask(barrier=True)["seqs"]
        stored = self.server.stored()
        if stored != (top, self._messages):
            raise BenchError(f"{self._messages} messages up to seq {top} were acked, stored are (last, count) {stored}")


def ground(names: Sequence[str], stack: ExitStack, directory: Path) -> Ground:
    """Start what these servers need, until the end of the stack. Raises BenchError or RuntimeError."""
    starts: dict[str, Start] = {"ours": ours}
    versions: Record = {}
    postgres, nats = None, None
    if any(name != "ours" for name in names):
        postgres = stack.enter_context(running_postgres(directory / "pg"))
        versions["postgresql"] = postgres.version
        if any(name.startswith("node") for name in names):
            versions |= install_node_peers()
            starts["node-per-message"] = partial(node, "per_message.mjs", postgres)
            starts["node-batching"] = partial(node, "batching.mjs", postgres)
        if "ours-postgres" in names:
            url, pid, versions["nats"] = stack.enter_context(running_nats(directory))
            nats = (url, pid)
            starts["ours-postgres"] = partial(ours, name="ours-postgres", postgres=postgres, nats=nats)
    return Ground(starts, versions, postgres, nats)


def run(options: Options, directory: Path) -> Record:
    """Measure every server with every number of sockets. Raises BenchError."""
    cells: list[Record] = []
    with ExitStack() as stack:
        under = ground(options.only, stack, directory)
        for sockets in options.sockets:
            starts = {name: under.starts[name] for name in options.only}
            with _contenders(starts, sockets, directory, quick=options.quick) as ready:
                cells += _measure(ready, options, sockets)
    return {"versions": under.versions, "cells": cells}


@contextmanager
def _contenders(
    starts: dict[str, Start], sockets: int, directory: Path, *, quick: bool
) -> Iterator[dict[str, Contender]]:
    with ExitStack() as stack:
        ready = {}
        for name, start in starts.items():
            progress(f"{sockets} sockets: {name} starts")
            server = stack.enter_context(start(directory, sockets))
            load = stack.enter_context(client("load.py"))
            ready[name] = Contender(name, server, load, sockets)
            with _naming(ready[name]):
                load.ask(room="general", doors=server.doors(sockets))
                ready[name].warm_up(0.0 if quick else FIRST_WARM_UP_S)
        yield ready


def _measure(ready: dict[str, Contender], options: Options, sockets: int) -> list[Record]:
    cells = []
    for number, name in turns(tuple(ready), options.rounds):
        for in_flight in IN_FLIGHT:
            progress(f"{sockets} sockets, round {number + 1} of {options.rounds}: {name}, {in_flight} in flight")
            with _naming(ready[name]):
                cells.append(ready[name].measure(in_flight, quick=options.quick))
    for contender in ready.values():
        with _naming(contender):
            contender.finish()
    return cells


@contextmanager
def _naming(contender: Contender) -> Iterator[None]:
    try:
        yield
    except BenchError as error:
        raise BenchError(f"{contender.server.name}: {error}\n{contender.server.last_words()}") from error


def rates(cells: Sequence[Record], *, with_database: bool = False) -> dict[tuple[str, int, int], float]:
    """Deliveries per CPU-second by (server, sockets, in flight); medians of the rounds."""

    def rate(cell: Record) -> float:
        spent = cell["cpu"]["server"] + (cell["cpu"]["database"] + cell["cpu"]["bus"] if with_database else 0.0)
        return float(cell["deliveries"] / spent)

    return medians(cells, ("server", "sockets", "in_flight"), rate)


def lines(record: Record) -> Iterator[str]:
    """The tables, line by line."""
    cells = record["cells"]
    for sockets in sorted({cell["sockets"] for cell in cells}):
        yield from ("", f"== {sockets} sockets in one room")
        yield from _tables([cell for cell in cells if cell["sockets"] == sockets], sockets)


def _tables(cells: list[Record], sockets: int) -> Iterator[str]:
    names = list(dict.fromkeys(cell["server"] for cell in cells))
    rate, whole = rates(cells), rates(cells, with_database=True)
    title = "deliveries per CPU-second of the server"
    yield from _table(title, names, lambda name, level: f"{rate[name, sockets, level]:,.0f}")
    peers = [name for name in names if name in RATIOS]
    for mine in [name for name in OURS if name in names and peers]:
        for more, values in (("", rate), (", database and bus counted for everybody", whole)):
            yield from _table(f"{LABELS[mine]}, a multiple of{more}", peers, _ratio(values, mine, sockets))
    for title, of, form in FIGURES:
        yield from _table(title, names, _median(cells, of, form))
    for title, key in (("send to ack, ms", "ack_ms"), ("send to everybody's receipt, ms", "delivery_ms")):
        yield from _table(f"{title}: p50 / p95 / p99", names, _percentiles(cells, key), width=24)


Cell = Callable[[str, int], str]

FIGURES: tuple[tuple[str, Callable[[Record], float], str], ...] = (
    ("server CPU, µs per message", lambda cell: cell["cpu"]["server"] / cell["messages"] * 1e6, ",.0f"),
    ("... of which in the kernel", lambda cell: cell["cpu"]["system"] / cell["messages"] * 1e6, ",.0f"),
    ("database CPU, µs per message", lambda cell: cell["cpu"]["database"] / cell["messages"] * 1e6, ",.0f"),
    ("messages per second of wall time", lambda cell: cell["messages"] / cell["seconds"], ",.0f"),
    ("CPU of the load, share of one core", lambda cell: cell["load_cpu_seconds"] / cell["seconds"], ".0%"),
)


def _table(title: str, names: Sequence[str], cell: Cell, width: int = 0) -> Iterator[str]:
    head = ["", *(f"{f'{level} in flight':>{width}}" for level in IN_FLIGHT)]
    rows = [[LABELS[name], *(cell(name, level) for level in IN_FLIGHT)] for name in names]
    yield from ("", title, *table(head, rows))


def _ratio(values: dict[tuple[str, int, int], float], mine: str, sockets: int) -> Cell:
    return lambda name, level: f"{values[mine, sockets, level] / values[name, sockets, level]:.1f} x"


def _median(cells: Sequence[Record], of: Callable[[Record], float], form: str) -> Cell:
    values = medians(cells, ("server", "in_flight"), of)
    return lambda name, level: format(values[name, level], form)


def _percentiles(cells: Sequence[Record], key: str) -> Cell:
    p50, p95, p99 = (_median(cells, _nth(key, place), ".1f") for place in range(3))
    return lambda name, level: f"{p50(name, level)} / {p95(name, level)} / {p99(name, level)}"


def _nth(key: str, place: int) -> Callable[[Record], float]:
    return lambda cell: float(cell[key][place])


def bars(record: Record) -> list[Bar]:
    """The project's promises about fan-out."""
    cells = record["cells"]
    rate = rates(cells)
    found = []
    for peer, ratio in RATIOS.items():
        for level in IN_FLIGHT:
            mine, theirs = (rate.get((name, RATIO_SOCKETS, level)) for name in ("ours", peer))
            if mine is not None and theirs is not None:
                what = f"deliveries per CPU-second, {RATIO_SOCKETS} sockets, {level} in flight: ours to {peer}"
                found.append(Bar(what, ratio, mine / theirs, "x", True))
    cost = medians(
        cells, ("server", "sockets", "in_flight"), lambda cell: cell["cpu"]["server"] / cell["messages"] * 1e6
    ).get(("ours", MESSAGE_SOCKETS, MESSAGE_IN_FLIGHT))
    if cost is not None:
        what = f"CPU of a message stored, acked, told to {MESSAGE_SOCKETS} sockets; {MESSAGE_IN_FLIGHT} in flight"
        found.append(Bar(what, MESSAGE_US, cost, "µs", False))
    return found


BENCH = Bench(
    "fanout", "Durable fan-out beside its peers.", run, lines, bars, tuple(LABELS),
    sockets=(20, 200, 1000), quick_sockets=(20,),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(BENCH))
