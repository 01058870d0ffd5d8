"""Memory of the server for an idle socket, with 1,000 and with 10,000 of them joined in one room.

    .venv/bin/python bench/memory.py [--quick] [--only ours,node-batching] [--sockets 1000,10000]

A server is started, a few sockets warm it up, then all come in and are left alone; what its process has grown by,
divided by their number, is printed as RSS (resident) and USS (its own pages alone). A few hundred people share the
sockets, each with many tabs. Memory of the kernel for the connections is in neither number. The Node peer is asked to
collect its garbage before each look (node --expose-gc), which nobody does in production: what remains is its floor.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from fanout import ground
from harness import Bar, Bench, BenchError, Options, Record, main, median, memory_bytes, progress, table, turns
from servers import Server, client

LABELS = {"ours": "Boltorezka, SQLite", "node-batching": "Node ws, PostgreSQL, joined per tick"}
# The promise: at most so many bytes for an idle socket, with this many of them.
BAR_BYTES, BAR_SOCKETS = 12 * 1024, 10_000
# Tabs share people: a room of ten thousand different people is another question (its list alone is a megabyte).
PEOPLE = 400
WARM_UP = 50
# Memory is looked at until it no longer moves by more than this share, or so long at most.
STILL, STILL_LOOKS, STILL_S = 0.005, 3, 15.0


def run(options: Options, directory: Path) -> Record:
    """Measure every server with every number of sockets. Raises BenchError."""
    cells = []
    with ExitStack() as stack:
        under = ground(options.only, stack, directory)
        if "node-batching" in options.only:
            under.starts["node-batching"] = partial(under.starts["node-batching"], arguments=("--expose-gc",))
        for sockets in options.sockets:
            for _, name in turns(options.only, 1 if options.quick else min(2, options.rounds)):
                progress(f"{name} with {sockets} idle sockets")
                with under.starts[name](directory, min(PEOPLE, sockets)) as server:
                    cells.append({"server": name, "sockets": sockets, **_grown(server, sockets, options.quick)})
    return {"versions": under.versions, "cells": cells}


def _grown(server: Server, sockets: int, quick: bool) -> Record:
    with client("holders.py") as warm_up:
        warm_up.ask(doors=server.doors(WARM_UP), room="general")
        before = _still(server, quick)
        before_cpu = server.clocks()
        with client("holders.py") as crowd:
            try:
                told = crowd.ask(doors=server.doors(sockets), room="general")
            except BenchError as error:
                raise BenchError(f"{server.name}: {error}\n{server.last_words()}") from error
            if told["sockets"] != sockets:
                raise BenchError(f"{sockets} sockets were asked for, {told['sockets']} came")
            after = _still(server, quick)
            joined = server.clocks()
            return {
                "rss_before": before[0],
                "rss_after": after[0],
                "uss_before": before[1],
                "uss_after": after[1],
                "join_cpu_seconds": sum(joined[name] - before_cpu[name] for name in ("user", "system")),
            }


def _still(server: Server, quick: bool) -> tuple[int, int]:
    """RSS and USS once they no longer move."""
    (pid,) = server.pids
    deadline = time.monotonic() + (1.0 if quick else STILL_S)
    looks = 0
    last = (0, 0)
    while looks < STILL_LOOKS and time.monotonic() < deadline:
        if server.name.startswith("node"):
            os.kill(pid, signal.SIGUSR2)
        time.sleep(0.1 if quick else 0.5)
        now = memory_bytes(pid)
        looks = looks + 1 if abs(now[1] - last[1]) <= STILL * now[1] else 0
        last = now
    return last


def per_socket(record: Record, server: str, sockets: int, kind: str) -> float:
    """Bytes for a socket, the median of the rounds."""
    return median(
        (cell[f"{kind}_after"] - cell[f"{kind}_before"]) / cell["sockets"]
        for cell in record["cells"]
        if cell["server"] == server and cell["sockets"] == sockets
    )


def lines(record: Record) -> Iterator[str]:
    """The table."""
    names = list(dict.fromkeys(cell["server"] for cell in record["cells"]))
    counts = sorted({cell["sockets"] for cell in record["cells"]})
    for kind, title in (("uss", "USS, KiB for an idle socket"), ("rss", "RSS, KiB for an idle socket")):
        rows = [[LABELS[n], *(f"{per_socket(record, n, c, kind) / 1024:,.1f}" for c in counts)] for n in names]
        yield from ("", title, *table(["", *(f"{count:,} sockets" for count in counts)], rows))
    rows = [[LABELS[n], *(f"{_whole(record, n, c) / 2**20:,.0f}" for c in counts)] for n in names]
    yield from ("", "the whole process with them, RSS in MiB", *table(["", *(f"{c:,} sockets" for c in counts)], rows))


def _whole(record: Record, server: str, sockets: int) -> float:
    cells = [cell for cell in record["cells"] if (cell["server"], cell["sockets"]) == (server, sockets)]
    return median(cell["rss_after"] for cell in cells)


def bars(record: Record) -> list[Bar]:
    """The project's promise about idle sockets, when it was measured."""
    if not any((cell["server"], cell["sockets"]) == ("ours", BAR_SOCKETS) for cell in record["cells"]):
        return []
    value = max(per_socket(record, "ours", BAR_SOCKETS, kind) for kind in ("uss", "rss"))
    return [Bar(f"memory of an idle socket, {BAR_SOCKETS:,} of them joined (RSS or USS)", BAR_BYTES / 1024,
                value / 1024, "KiB", False)]  # fmt: skip


BENCH = Bench(
    "memory", "Memory for an idle socket beside a peer.", run, lines, bars, tuple(LABELS),
    sockets=(1_000, BAR_SOCKETS), quick_sockets=(100,),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(BENCH))
