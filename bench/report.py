"""Write the tables of a measured run into docs/explanation/performance.md, between the two markers.

    .venv/bin/python bench/report.py [bench/results/all-….json]

Without a file the newest run of all benches is taken. A quick run is refused: it is a look, not a measurement.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import RESULTS, Record
from run import BENCHES

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
BEGIN = "<!-- measured: bench/report.py writes what follows -->"
END = "<!-- end of measured -->"


def tables(run: Record) -> Iterator[str]:
    """The page's part about one run, line by line."""
    first = run["benches"][0]
    versions = {name: version for record in run["benches"] for name, version in record["versions"].items()}
    machine = first["machine"]
    made_of = ", ".join(f"{name} {version}" for name, version in {"python": machine["python"], **versions}.items())
    yield f"Measured {first['at'][:10]} on {machine['cpus']} cores, Linux {machine['kernel']}; {made_of}."
    yield "Medians of the rounds; peers and Boltorezka in the same run."
    yield from ("", "| promise | bar | measured | |", "|---|---:|---:|---|")
    for bar in run["bars"]:
        sign = "≥" if bar["at_least"] else "≤"
        unit = f" {bar['unit']}" if bar["unit"] else ""
        yield f"| {bar['what']} | {sign} {bar['bar']:g}{unit} | {bar['value']:,.1f}{unit} | {bar['verdict']} |"
    for record in run["benches"]:
        bench = BENCHES[record["bench"]]
        took = f"{record['rounds']} rounds, {record['took_s']:.0f} s."
        yield from (
            "",
            f"### {bench.title}",
            "",
            took,
            "",
            "```text",
        )
        yield from (line.rstrip() for line in bench.lines(record))
        yield "```"


def placed(page: str, run: Record) -> str:
    """The page with the tables of this run. Raises ValueError when the page has lost its markers."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs a line {BEGIN!r} and after it a line {END!r}")
    return "\n".join([head + BEGIN, "", *tables(run), "", END + tail])


def main() -> int:
    """Exit code 1 when there is nothing to report."""
    found = [Path(argument) for argument in sys.argv[1:2]] or sorted(RESULTS.glob("all-*.json"))[-1:]
    if not found:
        print("report: there is no run of all benches; `make bench` makes one", file=sys.stderr)
        return 1
    run: Record = json.loads(found[0].read_text())
    if run["failed"] or any(record["quick"] for record in run["benches"]):
        print(f"report: {found[0]} is a quick run or one with failures: measure with `make bench`", file=sys.stderr)
        return 1
    PAGE.write_text(placed(PAGE.read_text(), run))
    print(f"{PAGE.name} has the tables of {found[0].name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
