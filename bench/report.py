"""Write the tables of a measured run into docs/explanation/performance.md, between the two markers.

    .venv/bin/python bench/report.py [bench/results/all-….json …]

Without a file the newest run is taken. Of several, each bench's newest measurement counts, and the page says when each
was made. A quick run is refused: it is a look, not a measurement.
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
    yield "Medians of the rounds; each bench measures ours and its peers in the same run."
    yield from ("", "| promise | bar | measured | |", "|---|---:|---:|---|")
    for bar in run["bars"]:
        sign = "≥" if bar["at_least"] else "≤"
        unit = f" {bar['unit']}" if bar["unit"] else ""
        yield f"| {bar['what']} | {sign} {bar['bar']:g}{unit} | {bar['value']:,.1f}{unit} | {bar['verdict']} |"
    for record in run["benches"]:
        bench = BENCHES[record["bench"]]
        took = f"{record['rounds']} rounds, {record['took_s']:.0f} s, on {record['at'][:10]}."
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
    found = [Path(argument) for argument in sys.argv[1:]] or sorted(RESULTS.glob("all-*.json"))[-1:]
    if not found:
        print("report: there is no run of all benches; `make bench` makes one", file=sys.stderr)
        return 1
    runs: list[Record] = [json.loads(path.read_text()) for path in found]
    for path, run in zip(found, runs, strict=True):
        if run["failed"] or any(record["quick"] for record in run["benches"]):
            print(f"report: {path} is a quick run or one with failures: measure with `make bench`", file=sys.stderr)
            return 1
    PAGE.write_text(placed(PAGE.read_text(), merged(runs)))
    print(f"{PAGE.name} has the tables of {', '.join(path.name for path in found)}")
    return 0


def merged(runs: list[Record]) -> Record:
    """One run with each bench's newest measurement, in the order of BENCHES."""
    newest: dict[str, Record] = {}
    for record in sorted((record for run in runs for record in run["benches"]), key=lambda record: str(record["at"])):
        newest[record["bench"]] = record
    benches = [newest[name] for name in BENCHES if name in newest]
    return {"benches": benches, "bars": [bar for record in benches for bar in record["bars"]]}


if __name__ == "__main__":
    sys.exit(main())
