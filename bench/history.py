"""The history page of a room, 50 messages: requests per CPU-second of the server, beside Fastify and PostgreSQL.

    .venv/bin/python bench/history.py [--quick] [--only ours,fastify]

Keep-alive connections ask for the page one request after the other, as fast as they are answered, with the token of
one person; every answer is compared byte by byte with the first, and that one is read. Two pages are asked for: the
newest, which everybody who opens a room gets, and one further back, which we too read from the database. The database
is a process of its own for Fastify and part of ours with SQLite, so a second ratio counts it for everybody.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fanout import Ground, ground
from harness import Bench, BenchError, Options, Record, main, medians, progress, table, turns
from postgres import Postgres
from servers import Client, Server, client, node, since

LABELS = {
    "ours": "Boltorezka, SQLite",
    "ours-postgres": "Boltorezka, PostgreSQL and NATS",
    "fastify": "Fastify, fast-json-stringify, PostgreSQL",
}
PAGE = 50
PATHS = {"newest": f"/v1/rooms/general/messages?limit={PAGE}",
         "older": f"/v1/rooms/general/messages?limit={PAGE}&beforeSeq=201"}  # fmt: skip
MESSAGES = 400
PEOPLE = 8
CONNECTIONS = 8
WARM_UP_S, QUICK_WARM_UP_S = 1.0, 0.1
READ_S, QUICK_READ_S = 2.0, 0.3

# What people said in the peer's room: the same sentence as in ours, by as many people.
SAID = """
INSERT INTO events (room_id, seq, kind, id, user_id, user_name, text, request_id, idempotency_key, created_at)
  SELECT r.id, n, 'message', md5(n::text), 'user-' || n % {people}, 'Person ' || n % {people},
    'The release is out, the canary looks calm, and nobody noticed anything. Lunch at one? I booked the table.',
    'request-' || n, 'key-' || n, now() + n * interval '1 ms'
  FROM rooms r, generate_series(1, {messages}) n WHERE r.slug = 'general';
INSERT INTO members SELECT r.id, u.id, now() FROM rooms r, users u WHERE r.slug = 'general';
UPDATE rooms SET last_seq = {messages};
ANALYZE;
"""


def run(options: Options, directory: Path) -> Record:
    """Measure every server. Raises BenchError."""
    cells: list[Record] = []
    with ExitStack() as stack:
        needed = tuple("node-batching" if name == "fastify" else name for name in options.only)
        under = ground(needed, stack, directory)
        ready = {name: stack.enter_context(_ready(name, under, directory)) for name in options.only}
        for number, name in turns(options.only, options.rounds):
            for page in PATHS:
                progress(f"round {number + 1} of {options.rounds}: {name}, {page} page")
                cells.append(_measure(*ready[name], page, options.quick))
    return {"versions": under.versions, "cells": cells}


@contextmanager
def _ready(name: str, under: Ground, directory: Path) -> Iterator[tuple[str, Server, Client]]:
    with ExitStack() as stack:
        if name == "fastify":
            assert under.postgres is not None
            server = stack.enter_context(node("history.mjs", under.postgres, directory, PEOPLE, seed=_seed))
        else:
            server = stack.enter_context(under.starts[name](directory, PEOPLE))
            _talk(server)
        yield name, server, stack.enter_context(client("pages.py"))


def _seed(postgres: Postgres, database: str) -> None:
    postgres.ask(database, SAID.format(people=PEOPLE, messages=MESSAGES))


def _talk(server: Server) -> None:
    said = 0
    with client("load.py") as load:
        load.ask(room="general", doors=server.doors(PEOPLE))
        while said < MESSAGES:
            said += load.ask(in_flight=64, seconds=0.05)["messages"]


def _measure(name: str, server: Server, readers: Client, page: str, quick: bool) -> Record:
    job = {"door": server.doors(1)[0], "path": PATHS[page], "connections": CONNECTIONS, "messages": PAGE}
    try:
        readers.ask(**job, seconds=QUICK_WARM_UP_S if quick else WARM_UP_S)
        before = server.clocks()
        told = readers.ask(**job, seconds=QUICK_READ_S if quick else READ_S)
        spent = since(before, server.clocks())
    except BenchError as error:
        raise BenchError(f"{name}, {page} page: {error}\n{server.last_words()}") from error
    return {"server": name, "page": page, **told, "cpu": spent}


def lines(record: Record) -> Iterator[str]:
    """The tables."""
    cells = record["cells"]
    names = list(dict.fromkeys(cell["server"] for cell in cells))
    head = ["", *(f"{page} page" for page in PATHS)]

    def rows(of: Callable[[Record], float], form: str) -> list[list[str]]:
        values = medians(cells, ("server", "page"), of)
        return [[LABELS[name], *(format(values[name, page], form) for page in PATHS)] for name in names]

    alone: Callable[[Record], float] = lambda cell: cell["requests"] / cell["cpu"]["server"]  # noqa: E731
    whole: Callable[[Record], float] = lambda cell: cell["requests"] / (cell["cpu"]["server"] + cell["cpu"]["database"])  # noqa: E731
    yield from ("", "requests per CPU-second of the server", *table(head, rows(alone, ",.0f")))
    yield from ("", "... of the server and its database", *table(head, rows(whole, ",.0f")))
    for title, of in (("ours to Fastify", alone), ("... with its database counted", whole)):
        if "ours" in names and "fastify" in names:
            values = medians(cells, ("server", "page"), of)
            ratios = [f"{values['ours', page] / values['fastify', page]:.1f} x" for page in PATHS]
            yield from ("", *table(head, [[title, *ratios]]))
    yield from ("", "answer, median ms", *table(head, rows(lambda cell: cell["answer_ms"][0], ",.1f")))
    yield from ("", "KiB of an answer", *table(head, rows(lambda cell: cell["bytes"] / 1024, ",.1f")))


BENCH = Bench("history", "History pages beside Fastify and PostgreSQL.", run, lines, servers=tuple(LABELS))

if __name__ == "__main__":
    sys.exit(main(BENCH))
