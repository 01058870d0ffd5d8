"""What all benches share: clocks of other processes, medians, tables, bars, results on disk, and the command line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
RESULTS = HERE / "results"

Record = dict[str, Any]


class BenchError(Exception):
    """The bench cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Bar:
    """One promise of the project beside what was measured."""

    what: str
    bar: float
    value: float
    unit: str
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    @property
    def verdict(self) -> str:
        """`met` or `not met`, and by how much."""
        if self.bar == 0:
            return "met" if self.met else f"not met, {self.value:g} too many"
        factor = self.value / self.bar if self.at_least else self.bar / self.value if self.value else float("inf")
        return f"met, {factor:.1f} x of it" if self.met else f"not met, {factor:.2f} x of it"

    def as_record(self) -> Record:
        """For the results on disk."""
        return {**asdict(self), "met": self.met, "verdict": self.verdict}


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    quick: bool = False
    rounds: int = 3
    only: tuple[str, ...] = ()
    sockets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Bench:
    """One bench: `run` measures and answers a record of plain data, the rest only reads such a record."""

    name: str
    title: str
    run: Callable[[Options, Path], Record]
    lines: Callable[[Record], Iterator[str]]
    bars: Callable[[Record], list[Bar]] = field(default=lambda _record: [])
    servers: tuple[str, ...] = ()
    # How many sockets are measured, when nothing else is asked for.
    sockets: tuple[int, ...] = ()
    quick_sockets: tuple[int, ...] = ()


def cpu_seconds(pids: Iterable[int]) -> tuple[float, float]:
    """User and system time of these processes and of all their children, those that have ended included."""
    user = system = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            user += times.user + times.children_user
            system += times.system + times.children_system
    return user, system


def memory_bytes(pid: int) -> tuple[int, int]:
    """RSS and USS of a process and its children. USS is what would be free if it ended."""
    rss = uss = 0
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        info = each.memory_full_info()
        rss += info.rss
        uss += info.uss
    return rss, uss


def median(values: Iterable[float]) -> float:
    """Of at least one value."""
    return statistics.median(values)


def medians(cells: Sequence[Record], by: Sequence[str], of: Callable[[Record], float]) -> dict[tuple[Any, ...], float]:
    """The median of `of` over the cells that agree in `by`."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell[name] for name in by), []).append(of(cell))
    return {key: median(values) for key, values in groups.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Left column of names, right-aligned numbers."""
    widths = [40, *(max(14, len(name) + 2) for name in head[1:])]
    for row in (head, *rows):
        yield (
            "  "
            f"{row[0]:<{widths[0]}}"
            + "".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        )


def turns(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """(round, name): every round each takes its turn, and another one begins."""
    for number in range(rounds):
        shift = number % len(names)
        for name in (*names[shift:], *names[:shift]):
            yield number, name


def progress(text: str) -> None:
    """What is being done, for somebody who watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def raise_file_limit() -> int:
    """As many open files as this account may have; answers how many. Child processes inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def machine() -> Record:
    """Where it was measured, and how busy it was then."""
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def save(name: str, record: Record) -> Path:
    """Everything that was measured, as JSON in bench/results."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def perform(bench: Bench, options: Options) -> Record:
    """Run one bench in a directory of its own; answers its record. Raises BenchError."""
    began, at = time.monotonic(), datetime.now(UTC)
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        # PostgreSQL does not run as root; the account that it runs as then has to pass.
        directory.chmod(0o711)
        record = bench.run(options, directory)
    progress("")
    return {
        "bench": bench.name,
        "at": at.isoformat(timespec="seconds"),
        "quick": options.quick,
        "rounds": options.rounds,
        "machine": machine(),
        "took_s": round(time.monotonic() - began, 1),
        **record,
        "bars": [bar.as_record() for bar in bench.bars(record)],
    }


def bar_lines(bars: Iterable[Record]) -> Iterator[str]:
    """The bars as a table."""
    rows = [
        f"  {bar['what']:<74}{'>=' if bar['at_least'] else '<='} {bar['bar']:>6g} {bar['unit']:<4}"
        f"{bar['value']:>12,.1f}   {bar['verdict']}"
        for bar in bars
    ]
    if rows:
        yield from ("", "Bars", *rows)


def interruptible() -> None:
    """Whoever ends us means our servers too; a shell starts background jobs with SIGINT ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def main(bench: Bench) -> int:
    """The command line of one bench; exit code 1 when a server lost something or did not run."""
    options = _options(bench)
    interruptible()
    try:
        record = perform(bench, options)
    except (BenchError, RuntimeError) as error:
        progress("")
        print(f"{bench.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress("")
        return 130
    for line in (bench.title, *bench.lines(record), *bar_lines(record["bars"])):
        print(line)
    path = save(bench.name, record)
    made_of = ", ".join(f"{what} {version}" for what, version in record.get("versions", {}).items())
    print(f"\n{made_of}; {record['took_s']:g} s in all; all numbers in {path.relative_to(HERE.parent)}")
    return 0


def _options(bench: Bench) -> Options:
    parser = argparse.ArgumentParser(description=bench.title)
    parser.add_argument("--quick", action="store_true", help="one short round: a look, not a measurement")
    parser.add_argument("--rounds", type=int, help="how often each server is measured (default 3)")
    parser.add_argument("--only", type=_names(bench.servers), default=bench.servers, help=",".join(bench.servers))
    parser.add_argument("--sockets", type=_numbers, help=f"default {','.join(map(str, bench.sockets))}")
    arguments = parser.parse_args()
    sockets = arguments.sockets or (bench.quick_sockets if arguments.quick else bench.sockets)
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    if rounds < 1:
        parser.error("at least one round is needed")
    return Options(arguments.quick, rounds, arguments.only, sockets)


def quick(bench: Bench) -> Options:
    """What --quick means."""
    return Options(True, 1, bench.servers, bench.quick_sockets)


def whole(bench: Bench, rounds: int = 3) -> Options:
    """A measurement."""
    return Options(False, rounds, bench.servers, bench.sockets)


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if not set(names) <= set(known) or len(set(names)) < len(names):
            raise argparse.ArgumentTypeError(f"must be some of {', '.join(known)}, each once")
        return names

    return parse


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
