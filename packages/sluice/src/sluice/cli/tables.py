"""What people read at the end: findings, the ledger record, the log, the status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sluice.cli.render import MARKS
from sluice.drive import Result
from sluice.engine import State
from sluice.model.verdict import Finding

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
RECORD_KEYS_2 = ("smoke_result", "decision", "outcome", "reason", "owner", "owner_source", "plan", "started", "ended")
SHORTENED = {"tree", "artifact_key", "env_fingerprint", "plan", "previous", "hash"}


def findings_table(title: str, findings: Iterable[Finding]) -> Table:
    """One line per verdict, with its evidence."""
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    table.add_column("verdict")
    table.add_column("name", no_wrap=True)
    table.add_column("ms", justify="right")
    table.add_column("evidence", overflow="fold")
    for finding in findings:
        mark, colour = MARKS[finding.verdict]
        evidence = escape(finding.detail) + (f"\n-> {escape(finding.fix)}" if finding.fix else "")
        table.add_row(f"[{colour}]{mark}[/]", escape(finding.name), str(finding.ms), evidence)
    return table


def record_table(record: Mapping[str, Any]) -> Table:
    """The ledger record of a run."""
    table = Table(title=f"Ledger record {record['n']}", title_justify="left", title_style="bold", show_header=False)
    table.add_column("field", style="dim", no_wrap=True)
    table.add_column("value", overflow="fold")
    for key in (*RECORD_KEYS, *RECORD_KEYS_2, "previous", "hash"):
        value = str(record.get(key, ""))
        if value:
            table.add_row(key, escape(value[:16] if key in SHORTENED else value))
    return table


def print_result(console: Console, result: Result) -> None:
    """Gates, checks, criteria, the record, then the sentences that matter."""
    record = result.record
    if record:
        smoke = record.get("smoke", {})
        parts = [("Gates", record.get("gates")), ("Checks, private address", smoke.get("private"))]
        parts += [("Checks, public URL", smoke.get("public")), ("Criteria", record.get("watch"))]
        for title, findings in parts:
            if findings:
                console.print(findings_table(title, msgspec.convert(findings, list[Finding])))
        console.print(record_table(record))
    colour = "green" if result.outcome is State.DONE else "red"
    head = f"{result.kind}{' (recovered)' if result.recovered else ''}: {result.outcome.value.replace('_', ' ')}"
    console.print(f"[bold {colour}]{head}[/] (exit {result.exit_code})", highlight=False)
    for text in (result.what, result.world, f"Next: {result.next}" if result.next else ""):
        if text:
            console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)


def log_table(records: Iterable[Mapping[str, Any]]) -> Table:
    """The audit trail, one line per record."""
    table = Table("n", "ended", "type", "version", "commit", "smoke", "decision", "outcome", "owner", expand=False)
    for record in records:
        commit = str(record.get("commit", ""))[:12]
        keys = ("smoke_result", "decision", "outcome", "owner")
        first = [
            str(record["n"]),
            str(record.get("ended", ""))[:19],
            str(record["type"]),
            str(record.get("version", "")),
        ]
        table.add_row(*(escape(cell) for cell in (*first, commit, *(str(record.get(key, "")) for key in keys))))
    return table
