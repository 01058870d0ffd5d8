"""A reconnect storm: everybody in a room is cut at once and comes back with a position while messages are being sent.

    .venv/bin/python bench/storm.py [--quick] [--only ours,node-batching] [--sockets 1000]

What is timed is, for each socket, from the cut until it has everything again: a new ticket over HTTP, a new socket, a
join with the position it had, and the answer to that. CPU is that of the server from the cut until the last one is
back; how often the log was read from the database is what the server itself counts. A few sockets are never cut and
send on a schedule all the while. At the end every socket must have every message once: 0 lost and 0 doubled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from fanout import Start, ground
from harness import Bar, Bench, BenchError, Options, Record, main, medians, progress, table, turns
from servers import Client, Server, client, since

LABELS = {
    "ours": "Boltorezka, SQLite",
    "ours-postgres": "Boltorezka, PostgreSQL and NATS",
    "node-batching": "Node ws, PostgreSQL, resume from it",
}
# Where each server counts its reads of the log.
COUNTERS = {"ours": "boltorezka_log_reads_total", "node": "peer_log_reads_total"}
# A delta carries 300 events: at this rate everybody has half a minute to come back.
TALKERS, MESSAGES_PER_S = 4, 10


def run(options: Options, directory: Path) -> Record:
    """Let every server weather its storms. Raises BenchError."""
    cells: list[Record] = []
    with ExitStack() as stack:
        under = ground(options.only, stack, directory)
        for sockets in options.sockets:
            for number, name in turns(options.only, options.rounds):
                progress(f"{name}: {sockets} sockets, storm {number + 1} of {options.rounds}")
                cells.append({"server": name, "sockets": sockets, **_storm(under.starts[name], directory, sockets)})
    return {"versions": under.versions, "cells": cells}


def _storm(start: Start, directory: Path, sockets: int) -> Record:
    with start(directory, sockets + TALKERS) as server, client("holders.py") as crowd:
        try:
            return _weather(server, crowd, sockets)
        except BenchError as error:
            raise BenchError(f"{server.name}: {error}\n{server.last_words()}") from error


def _weather(server: Server, crowd: Client, sockets: int) -> Record:
    crowd.ask(doors=server.doors(sockets + TALKERS), room="general")
    crowd.ask(talk={"sockets": TALKERS, "per_s": MESSAGES_PER_S})
    reads, before = _log_reads(server), server.clocks()
    told = crowd.ask(cut=sockets)
    spent = since(before, server.clocks())
    again = _log_reads(server)
    settled = crowd.ask(settle=True)
    if settled["lost"] or settled["doubled"]:
        raise BenchError(f"{settled['lost']} lost, {settled['doubled']} doubled after {sockets} cuts")
    last_seq, _ = server.stored()
    if last_seq != settled["top"]:
        raise BenchError(f"the newest message acked is {settled['top']}, the newest stored {last_seq}")
    counted = None if reads is None or again is None else again - reads
    return {**told, **settled, "cpu": spent, "log_reads": counted}


def _log_reads(server: Server) -> float | None:
    """None when this version does not count them."""
    counted = server.metric(COUNTERS["node" if server.name.startswith("node") else "ours"])
    if counted is None:
        return None
    # History pages are not part of a resume.
    return sum(value for labels, value in counted.items() if "page" not in labels)


def lines(record: Record) -> Iterator[str]:
    """The table."""
    cells = record["cells"]
    for sockets in sorted({cell["sockets"] for cell in cells}):
        group = [cell for cell in cells if cell["sockets"] == sockets]
        names = list(dict.fromkeys(cell["server"] for cell in group))

        def shown(name: str, of: Callable[[Record], float], form: str, group: list[Record] = group) -> str:
            mine = [cell for cell in group if cell["server"] == name]
            if any(of(cell) is None for cell in mine):
                return "not counted"
            return format(medians(mine, ("server",), of)[name,], form)

        rows = [
            [
                LABELS[name],
                *(shown(name, lambda cell, i=i: cell["back_ms"][i], ",.0f") for i in (0, 1, 3)),  # type: ignore[misc]
                shown(name, lambda cell: cell["cpu"]["server"], ".2f"),
                shown(name, lambda cell: cell["cpu"]["database"], ".2f"),
                shown(name, lambda cell: cell["log_reads"], ",.0f"),
                shown(name, lambda cell: cell["replayed"], ",.0f"),
            ]
            for name in names
        ]
        yield from ("", f"== {sockets} sockets cut at once, {MESSAGES_PER_S} messages a second")
        head = ["", "back p50 ms", "p95 ms", "max ms", "server CPU s", "database CPU s", "log reads", "replayed"]
        yield from table(head, rows)
    lost, doubled = (sum(cell[what] for cell in cells) for what in ("lost", "doubled"))
    yield f"  {sum(cell['sockets'] for cell in cells):,} cuts in all: {lost} messages lost, {doubled} doubled"


def bars(record: Record) -> list[Bar]:
    """No message may be lost or doubled."""
    mine = [cell for cell in record["cells"] if cell["server"].startswith("ours")]
    cuts = sum(cell["sockets"] for cell in mine)
    return [
        Bar(f"messages {what} over {cuts:,} cuts in storms", 0, sum(cell[what] for cell in mine), "", False)
        for what in ("lost", "doubled")
        if mine
    ]


BENCH = Bench(
    "storm", "A reconnect storm beside a peer.", run, lines, bars, tuple(LABELS), sockets=(1000,), quick_sockets=(50,)
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
