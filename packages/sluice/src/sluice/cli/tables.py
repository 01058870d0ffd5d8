"""What people read at the end: findings, the ledger record, the log, the status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from sluice.cli.outlet import escape
from sluice.cli.render import MARKS
from sluice.drive import Result
from sluice.engine import State
from sluice.gates.waivers import sentence
from sluice.ledger.export import what_of
from sluice.model.text import plain
from sluice.model.verdict import Finding, Verdict, worst

RECORD_KEYS = (
    "n",
    "type",
    "environment",
    "version",
    "commit",
    "tree",
    "artifact_key",
    "env_fingerprint",
    "migration_head",
)
RECORD_KEYS_2 = (
    *("item", "principal", "signed_with", "expires"),
    *(
        "smoke_result",
        "decision",
        "outcome",
        "refusal",
        "reason",
        "override",
        "locked",
        "until",
        "overridden",
        "died_in",
    ),
    *("owner", "owner_source", "plan", "started", "ended"),
)
# Column of the log -> the narrowest terminal that has room for it. `log --run` has everything.
LOG_COLUMNS = {
    "n": 0,
    "run": 0,
    "type": 0,
    "version": 110,
    "commit": 140,
    "smoke": 140,
    "decision": 110,
    "outcome": 0,
    "owner": 0,
    "what": 0,
}
VERSION_WIDTH = 24  # a tag and what `git describe` adds to it
SHORTENED = {"tree", "artifact_key", "env_fingerprint", "plan", "previous", "hash"}


def _bare(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2, 0, 0)
    )


def findings_table(title: str, findings: Iterable[Finding]) -> Table:
    """One line per verdict, with its evidence."""
    table = _bare(title)
    # So wide that tables under each other line up.
    table.add_column("verdict", no_wrap=True, min_width=5)
    table.add_column("name", no_wrap=True, min_width=16)
    table.add_column("ms", justify="right", no_wrap=True, min_width=8)
    table.add_column("evidence", overflow="fold", style="dim")
    for finding in findings:
        mark, colour = MARKS[finding.verdict]
        evidence = escape(finding.detail) + (f"\n-> {escape(finding.fix)}" if finding.fix else "")
        table.add_row(
            f"[{colour}]{mark}[/]",
            escape(finding.name) + (" (dry run)" if finding.dry_run else ""),
            f"{finding.ms} ms",
            evidence,
        )
    return table


def groups_of(record: Mapping[str, Any]) -> list[tuple[str, list[Finding]]]:
    """What was judged in a run, by its ledger record, in the order of the steps; of another kind of record nothing."""
    smoke = record.get("smoke") or {}
    groups = (
        ("gates", record.get("gates")),
        ("private checks", smoke.get("private")),
        ("public checks", smoke.get("public")),
        ("criteria", record.get("watch")),
    )
    return [(name, msgspec.convert(findings, list[Finding])) for name, findings in groups if findings]


def record_table(record: Mapping[str, Any]) -> Table:
    """The ledger record of a run."""
    table = _bare(f"Ledger record {record['n']}")
    table.add_column("field", style="dim", no_wrap=True)
    table.add_column("value", overflow="fold")
    for key in (*RECORD_KEYS, *RECORD_KEYS_2, "previous", "hash"):
        value = str(record.get(key, ""))
        if value:
            table.add_row(key, escape(value[:16] if key in SHORTENED else value))
    for waiver in record.get("waived_in_test") or ():
        table.add_row("waived in test", escape(sentence(waiver)))
    return table


def print_record(console: Console, record: Mapping[str, Any]) -> None:
    """A ledger record in full: everything that was judged, with its evidence, and the record itself."""
    for title, findings in groups_of(record):
        console.print(findings_table(title.capitalize(), findings), "")
    console.print(record_table(record))


def print_result(console: Console, result: Result) -> None:
    """How a run ended, in few lines: what was good was told while it went on, and is in the ledger."""
    record = result.record or {}
    groups = groups_of(record)
    judged = [one for _, findings in groups for one in findings if not one.dry_run]
    decisive = [one for one in judged if one.verdict is worst(judged)]
    # Of one alone the sentence under the outcome says everything.
    if worst(judged) is not Verdict.PASS and (len(decisive) > 1 or any(one.fix for one in decisive)):
        console.print("", findings_table("What did not pass", decisive))
    colour = "green" if result.outcome is State.DONE else "red"
    head = f"{result.kind}{' (recovered)' if result.recovered else ''}: {result.outcome.value.replace('_', ' ')}"
    refusal = f", {escape(str(record['refusal']))}" if record.get("refusal") else ""
    console.print(f"\n[bold {colour}]{head}[/] (exit {result.exit_code}{refusal})", highlight=False)
    counts = "; ".join(f"{name}: {counted(findings)}" for name, findings in groups)
    for text in (result.what, result.world, f"Next: {result.next}" if result.next else ""):
        if text:
            console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)
    for waiver in result.waivers:
        console.print(f"  [yellow]Waived for what serves:[/] {escape(waiver)}", highlight=False, soft_wrap=True)
    if counts:
        console.print(f"  [dim]{counts}[/]", highlight=False, soft_wrap=True)
    if record:
        where = f"--env {record['environment']} --service {record['service']} --run {record['run']}"
        told = f"Ledger record {record['n']}; in full: sluice log {where}"
        console.print(f"  [dim]{escape(told)}[/]", highlight=False, soft_wrap=True)


def counted(findings: Iterable[Finding]) -> str:
    """How many of each verdict, as `21 ok, 3 skip`, whichever came first; dry runs are not among them."""
    counts = Counter(MARKS[finding.verdict][0] for finding in findings if not finding.dry_run)
    marks = dict.fromkeys(mark for mark, _ in MARKS.values())
    return ", ".join(f"{counts[mark]} {mark}" for mark in marks if counts[mark]) or "dry runs only"


def status_text(found: Mapping[str, Any]) -> str:
    """One line per fact; `-` where there is nothing to say."""
    words = {True: "yes", False: "no", None: "-", "": "-"}
    lines = (
        f"{key.replace('_', ' '):14} {', '.join(value) or '-' if isinstance(value, list) else words.get(value, value)}"
        for key, value in found.items()
    )
    return "\n".join(map(plain, lines))


def log_table(records: Iterable[Mapping[str, Any]], width: int) -> Table:
    """The audit trail, one line per record, on a terminal so wide. The run's id is always whole: it is there to copy.

    It begins with the time when the run began, so no other time is shown.
    """
    columns = [name for name, least in LOG_COLUMNS.items() if width >= least]
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(
            name,
            no_wrap=name not in {"owner", "what"},
            overflow="ellipsis" if name == "version" else "fold",
            max_width=VERSION_WIDTH if name == "version" else None,
            justify="right" if name == "n" else "left",
        )
    for record in records:
        outcome, _, more = str(record.get("outcome", "")).partition(" ")  # `frozen until …`: the rest has room in what
        told = what_of(record)
        # A waiver's reason names its gate already.
        what = told if told.startswith(more) else ": ".join(part for part in (more, told) if part)
        shown = {**record, "commit": str(record.get("commit", ""))[:12], "smoke": record.get("smoke_result", "")}
        shown |= {"outcome": outcome, "what": what}
        table.add_row(*(escape(str(shown.get(name, ""))) for name in columns))
    return table
