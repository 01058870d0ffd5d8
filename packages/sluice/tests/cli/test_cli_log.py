"""`sluice log` as a release manager uses it: what is shown, exported and counted, and texts that harm nobody."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sluice.cli import main
from sluice.cli.tables import log_table

from .conftest import FORGING, HARMFUL, body, lock

RUN = "20261130T121602.123456-ab12"


def test_a_table_shows_what_people_wrote_and_does_nothing_else(ledger, capsys):
    """A record that is properly signed may say anything too: in the trail and in full."""
    ledger.append(body(4, owner=f"ann{FORGING}", reason=FORGING, outcome=FORGING))
    for options in ([], ["--run", "run-4"]):
        assert main(["log", "--env", "test", *options]) == 0
        shown = capsys.readouterr().out
        assert "ann" in shown
        assert shown.replace("\n", "").isprintable()


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("command", [["log"], ["log", "--json"], ["log", "export", "--format", "csv"]])
def test_a_run_that_is_not_there_is_a_usage_error(capsys, command):
    """Exit code 2, and the newest run there is: an empty answer would look like a run that left nothing."""
    assert main([*command, "--env", "test", "--run", "nope"]) == 2
    told = "".join(capsys.readouterr())
    assert "there is no run 'nope' in test; newest: run-3." in told
    assert "sluice log --env test" in told


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_log_shows_which_run_and_what_it_was_about(width):
    """On any terminal: every run's id whole, who signed what, and why something was refused; no line is too long."""
    records = [
        {"n": 1, **body(1, run=RUN, type="promotion", owner="root@vm", refusal="FeatureBranch", outcome="refused")},
        {"n": 2, **body(2, run=RUN, type="sign-off", owner="root@vm", principal="bob", item="told", outcome="signed")},
        {"n": 3, **body(3, run=RUN, type="unlock", owner="a" * 40, reason="it " * 40, outcome="unlocked")},
        {"n": 4, **body(4, run=RUN, type="freeze", owner="root@vm", outcome="frozen until 2026-12-31", reason="rest")},
    ]
    out = Console(file=io.StringIO(), width=width)
    out.print(log_table(records, width))
    lines = out.file.getvalue().splitlines()
    assert [len(line) for line in lines if len(line) > width] == []
    assert sum(RUN in line for line in lines) == 4
    told = "".join(line[lines[0].index("what") :].strip() for line in lines)
    for words in ("FeatureBranch", "bob: told", "until 2026-12-31: rest"):
        assert words.replace(" ", "") in told.replace(" ", "")


@pytest.mark.usefixtures("host")
def test_a_csv_runs_nothing_in_a_spreadsheet(capsys):
    """A cell that would be a formula is text; the runbook's fields are all there."""
    assert main(["log", "export", "--env", "test", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["owner"] for row in rows] == [f"'{HARMFUL}"] * 3
    assert rows[0]["commit"] == "1" * 40
    wanted = "commit environment version smoke_result decision owner owner_source tree hash".split()  # noqa: SIM905
    assert all(rows[0][name] for name in wanted)


@pytest.mark.usefixtures("host")
def test_a_period_or_a_run_is_chosen(capsys):
    """From a day on, before a time, one run; what is no time is a usage error."""
    chosen = {
        ("--since", "2026-01-02"): ["2", "3"],
        ("--until", "2026-01-02T12:00:00Z"): ["1"],
        ("--since", "2026-01-02", "--until", "2026-01-03"): ["2"],
        ("--run", "run-3"): ["3"],
    }
    for options, numbers in chosen.items():
        assert main(["log", "export", "--env", "test", "--format", "csv", *options]) == 0
        assert [row["n"] for row in csv.DictReader(capsys.readouterr().out.splitlines())] == numbers
    assert main(["log", "export", "--env", "test", "--format", "csv", "--since", "yesterday"]) == 2
    assert "--since 'yesterday' is no time" in capsys.readouterr().err


@pytest.mark.usefixtures("host")
def test_statements_name_what_was_released(capsys):
    """In-toto Statement v1: commit, tree and artifact digests are the subjects, the record is the predicate."""
    assert main(["log", "export", "--env", "test", "--format", "in-toto", "--run", "run-1"]) == 0
    statement = json.loads(capsys.readouterr().out)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:sluice:ledger-record:v1"
    assert {one["name"]: one["digest"] for one in statement["subject"]} == {
        "shop/test/source": {"gitCommit": "1" * 40, "gitTree": "f" * 40},
        "shop/test/artifact": {"sluiceArtifactKey": "a" * 64},
        "shop/test/image/web": {"sha256": "b" * 64},
    }
    assert statement["predicate"]["n"] == 1
    assert statement["predicate"]["signature"]


@pytest.mark.usefixtures("host")
def test_markdown_is_a_table_that_says_nothing_else(capsys):
    """One row a record; an owner who writes Markdown or HTML is shown as he wrote it."""
    assert main(["log", "export", "--env", "test", "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == 2 + 3
    assert "=HYPERLINK\\(" in lines[4]


@pytest.mark.usefixtures("host")
def test_metrics_come_from_the_ledger_alone(capsys):
    """The four numbers, in JSON and for people, and what they lack."""
    assert main(["log", "metrics", "--env", "test", "--since", "2026-01-01", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["deployments"], told["changes"], told["failed"], told["failure_rate"]) == (3, 3, 0, 0)
    assert told["lead_time"] == {"of": 3, "read": 3, "median_s": 10800, "p90_s": 10800}
    assert main(["log", "metrics", "--env", "test"]) == 0
    out = capsys.readouterr().out
    assert "lead time              median 3.0 h" in out
    assert "0% (0 of 3" in out


@pytest.mark.parametrize("option", ["--reason", "--owner"])
def test_an_argument_that_is_no_text_begins_nothing(ledger, capsys, option):
    """A byte that is no UTF-8 cannot be recorded: a usage error, before anything."""
    before = ledger.path.read_bytes()
    assert main(["lock", "--env", "test", "--reason", "why", option, "x\udcff"]) == 2
    said = capsys.readouterr().err
    assert "no UTF-8 text" in said
    assert "x\\udcff" in said
    assert ledger.path.read_bytes() == before


def test_a_user_whose_name_is_no_text_is_recorded_all_the_same(ledger, monkeypatch):
    """The environment may hold any bytes; they cannot stop a lock."""
    monkeypatch.setenv("USER", "an\udcffn")
    assert lock() == 0
    assert ledger.records()[-1]["owner"].startswith("an\ufffdn@")


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_time_outside_the_calendar_is_no_time(ledger, until):
    """Its hour in UTC is no hour at all."""
    before = ledger.path.read_bytes()
    assert main(["freeze", "--env", "test", "--until", until, "--reason", "why"]) == 2
    assert main(["log", "export", "--env", "test", "--format", "csv", "--until", until]) == 2
    assert ledger.path.read_bytes() == before


@pytest.mark.usefixtures("host")
def test_an_export_that_finds_no_room_is_refused():
    """Half a file is none: exit 1 and a sentence, no internal error and no success."""
    command = [sys.executable, "-c", "from sluice.cli.main import command; command()", "log", "export"]
    with Path("/dev/full").open("w") as out:
        done = subprocess.run(
            [*command, "--env", "test", "--format", "csv"], check=False, stdout=out, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, "could not be written: No space left" in done.stderr) == (1, True)
