"""What it costs to be several: CPU for a delivered message with 1, 2 and 4 of our processes on PostgreSQL and NATS.

    .venv/bin/python bench/processes.py [--quick] [--sockets 200]

The same number of sockets is spread over the processes, in turn, first all in one room, then in many; the load and its
checks are those of the fan-out bench, and a message said through one process must reach the sockets of all others
exactly once. CPU is the sum over the processes, that of the busiest one, and that of PostgreSQL and NATS. On a machine
with fewer cores than processes wall time says nothing about scale, so only CPU is compared: what a message costs in
all with N processes beside what it costs with one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import wire
from fanout import Ground, ground
from harness import Bench, BenchError, Options, Record, cpu_seconds, main, medians, progress, table, turns
from servers import Server, client, make_rooms, ours, since

PROCESSES = {"1": 1, "2": 2, "4": 4}
SCENES = ("one room", "many rooms")
ROOMS, QUICK_ROOMS = 10, 3
# In one room so many are in flight; in many, in all of them together about as many.
IN_FLIGHT = {"one room": 16, "many rooms": 2}
WARM_UP_S, QUICK_WARM_UP_S = 0.5, 0.1
TALK_S, QUICK_TALK_S = 2.0, 0.3


def run(options: Options, directory: Path) -> Record:
    """Measure every number of processes in both scenes. Raises BenchError."""
    cells: list[Record] = []
    with ExitStack() as stack:
        under = ground(("ours-postgres",), stack, directory)
        for sockets in options.sockets:
            for number, name in turns(options.only, options.rounds):
                progress(f"round {number + 1} of {options.rounds}: {name} processes, {sockets} sockets")
                cells += _run(under, directory, PROCESSES[name], sockets, options)
    return {"versions": under.versions, "cells": cells}


def _run(under: Ground, directory: Path, processes: int, sockets: int, options: Options) -> list[Record]:
    rooms = [f"room-{number}" for number in range(QUICK_ROOMS if options.quick else ROOMS)]
    with ours(
        directory, sockets, name="ours-postgres", postgres=under.postgres, nats=under.nats, processes=processes
    ) as server:
        try:
            make_rooms(server, rooms)
            scenes = dict(zip(SCENES, ([wire.ROOM], rooms), strict=True))
            about = {"processes": processes, "sockets": sockets}
            return [{**about, **_scene(server, scene, slugs, sockets, options)} for scene, slugs in scenes.items()]
        except BenchError as error:
            raise BenchError(f"{processes} processes: {error}\n{server.last_words()}") from error


def _scene(server: Server, scene: str, slugs: list[str], sockets: int, options: Options) -> Record:
    warm_up, talk = (QUICK_WARM_UP_S, QUICK_TALK_S) if options.quick else (WARM_UP_S, TALK_S)
    each = sockets // len(slugs)
    with client("load.py") as load:
        for number, slug in enumerate(slugs):
            load.ask(room=slug, doors=server.doors(each, number * each))
        load.ask(in_flight=IN_FLIGHT[scene], seconds=warm_up)
        before, alone = server.clocks(), [sum(cpu_seconds([pid])) for pid in server.pids]
        told = load.ask(in_flight=IN_FLIGHT[scene], seconds=talk)
        spent = since(before, server.clocks())
        busiest = max(sum(cpu_seconds([pid])) - earlier for pid, earlier in zip(server.pids, alone, strict=True))
        load.ask(barrier=True)
    return {"scene": scene, "rooms": len(slugs), **told, "cpu": spent, "busiest": busiest}


def lines(record: Record) -> Iterator[str]:
    """The tables."""
    cells = record["cells"]
    counts = sorted({cell["processes"] for cell in cells})
    head = ["", *(f"{count} process{'es' if count > 1 else ''}" for count in counts)]
    figures: tuple[tuple[str, Callable[[Record], float], str], ...] = (
        ("all processes, µs CPU per message", lambda cell: cell["cpu"]["server"] / cell["messages"] * 1e6, ",.0f"),
        ("all processes, µs CPU per delivery", lambda cell: cell["cpu"]["server"] / cell["deliveries"] * 1e6, ",.1f"),
        ("the busiest one, µs CPU per message", lambda cell: cell["busiest"] / cell["messages"] * 1e6, ",.0f"),
        ("PostgreSQL, µs CPU per message", lambda cell: cell["cpu"]["database"] / cell["messages"] * 1e6, ",.0f"),
        ("NATS, µs CPU per message", lambda cell: cell["cpu"]["bus"] / cell["messages"] * 1e6, ",.0f"),
        ("send to everybody's receipt, median ms", lambda cell: cell["delivery_ms"][0], ",.1f"),
    )
    for scene in SCENES:
        mine = [cell for cell in cells if cell["scene"] == scene]
        rows = []
        for title, of, form in figures:
            values = medians(mine, ("processes",), of)
            rows.append([title, *(format(values[count,], form) for count in counts)])
        whole = medians(mine, ("processes",), lambda cell: cell["cpu"]["server"] / cell["messages"])
        rows.append(["all processes, beside one", *(f"{whole[count,] / whole[counts[0],]:.2f} x" for count in counts)])
        yield from ("", f"== {mine[0]['sockets']} sockets in {scene} ({mine[0]['rooms']})", *table(head, rows))


BENCH = Bench(
    "processes", "One server as several processes.", run, lines, servers=tuple(PROCESSES),
    sockets=(200,), quick_sockets=(12,),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(BENCH))
