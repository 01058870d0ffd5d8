"""All benches, one after the other: their tables, then every promise of the project beside what was measured.

    .venv/bin/python bench/run.py [--quick] [--rounds 3] [--only fanout,storm]

This is `make bench`. A bench that fails is an error of the whole run, and its promises count as not met. All numbers
are written into one file, bench/results/all-*.json, from which bench/report.py makes the table of the documentation.
"""

from __future__ import annotations

import argparse
import sys
import time

import fanout
import history
import leaks
import memory
import processes
import rollout
import storm
from harness import Bench, BenchError, Record, bar_lines, interruptible, perform, progress, save, whole
from harness import quick as quick_look

BENCHES: dict[str, Bench] = {
    bench.name: bench
    for bench in (fanout.BENCH, memory.BENCH, storm.BENCH, history.BENCH, processes.BENCH, rollout.BENCH, leaks.BENCH)
}


def main() -> int:
    """Run them; exit code 1 when one did not run or, unless it was a quick look, a promise was not kept."""
    parser = argparse.ArgumentParser(description="All benches, one after the other.")
    parser.add_argument("--quick", action="store_true", help="one short round each: a look, not a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="how often each server is measured (default 3)")
    parser.add_argument("--only", type=_names, default=list(BENCHES), help=",".join(BENCHES))
    arguments = parser.parse_args()
    interruptible()
    began = time.monotonic()
    records, failures = [], []
    try:
        for name in arguments.only:
            print(f"\n=== {BENCHES[name].title}", flush=True)
            try:
                options = quick_look(BENCHES[name]) if arguments.quick else whole(BENCHES[name], arguments.rounds)
                records.append(perform(BENCHES[name], options))
            except (BenchError, RuntimeError) as error:
                progress("")
                failures.append(name)
                print(f"{name}: {error}", file=sys.stderr)
                continue
            for line in BENCHES[name].lines(records[-1]):
                print(line)
    except KeyboardInterrupt:
        progress("")
        return 130
    return _conclude(records, failures, began, quick=arguments.quick)


def _conclude(records: list[Record], failures: list[str], began: float, *, quick: bool) -> int:
    bars = [bar for record in records for bar in record["bars"]]
    for line in bar_lines(bars):
        print(line)
    missed = [bar for bar in bars if not bar["met"]]
    path = save("all", {"bench": "all", "benches": records, "bars": bars, "failed": failures})
    print(f"\n{len(bars) - len(missed)} of {len(bars)} bars met; {time.monotonic() - began:.0f} s; numbers in {path}")
    for name in failures:
        print(f"not measured: {name}")
    return 1 if failures or (missed and not quick) else 0


def _names(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(BENCHES):
        raise argparse.ArgumentTypeError(f"must be some of {', '.join(BENCHES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
