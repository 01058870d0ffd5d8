"""`sluice log` as a release manager and an auditor use it: exit codes, names, and files that harm nobody."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sluice.cli import main
from sluice.cli.tables import log_table
from sluice.hosts.state import StatePaths
from sluice.journal import canonical
from sluice.ledger import Ledger, record_hash

ENDED = "2026-01-0{}T12:00:00.000Z"
HARMFUL = '=HYPERLINK("http://evil.example","ann")'


def body(number: int, **more) -> dict:
    """A rollout's record."""
    return {
        "type": "rollout",
        "run": f"run-{number}",
        "service": "shop",
        "environment": "test",
        "commit": str(number) * 40,
        "tree": "f" * 40,
        "version": f"v1.{number}",
        "release": f"r{number}",
        "artifact_key": "a" * 64,
        "artifact_digests": {"web": f"registry/web@sha256:{'b' * 64}"},
        "committed_at": f"2026-01-0{number}T10:00:00+01:00",
        "switched": ENDED.format(number),
        "ended": ENDED.format(number),
        "smoke_result": "pass",
        "decision": "go",
        "outcome": "done",
        "owner": HARMFUL,
        "owner_source": "flag",
        **more,
    }


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with an origin, and three records that are not anchored yet."""
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", str(origin)], check=True)
    (tmp_path / "env").write_text("A=B\n")
    (tmp_path / "host.toml").write_text(
        f'[service.shop]\nrepo = "{origin}"\n[service.shop.env.test]\npublic_url = "http://127.0.0.1:18100"\n'
        f'env_file = "{tmp_path / "env"}"\nports = [18101, 18109]\n'
    )
    monkeypatch.setenv("SLUICE_HOST_CONFIG", str(tmp_path / "host.toml"))
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path / "state"))
    paths = StatePaths(tmp_path / "state", "shop", "test")
    paths.prepare()
    for number in (1, 2, 3):
        Ledger(paths.ledger).append(body(number))
    return tmp_path


@pytest.fixture
def ledger(host) -> Ledger:
    """Its ledger."""
    return Ledger(StatePaths(host / "state", "shop", "test").ledger)


def lock(reason="a holiday") -> int:
    """A record more, and everything anchored."""
    return main(["lock", "--env", "test", "--reason", reason])


def verified(capsys, *options) -> tuple[int, dict]:
    """Exit code and verdict."""
    capsys.readouterr()
    code = main(["log", "verify", "--env", "test", "--json", *options])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("host")
def test_what_is_not_anchored_is_counted_and_the_next_record_catches_up(capsys):
    """No problem and no exit code: a note with the number; after one more record everything is on the origin."""
    code, told = verified(capsys)
    assert (code, told["ok"], told["anchored"]) == (0, True, 0)
    assert told["notes"] == ["tail not anchored: 3 of 3 records are not known to be on the origin"]
    assert lock() == 0
    code, told = verified(capsys)
    assert (code, told["records"], told["anchored"]) == (0, 4, 4)
    assert told["notes"] == ["anchored: all 4 records are on the origin"]
    assert main(["log", "verify", "--env", "test"]) == 0
    assert "4 records: the chain holds, and every record is signed by SHA256:" in capsys.readouterr().out


def test_an_origin_out_of_reach_is_a_note_and_no_failure_of_the_command(host, capsys):
    """The record is written, the note says why it is not anchored, verify says how many."""
    (host / "origin.git").rename(host / "away.git")
    assert lock() == 0
    assert "The ledger's tail is not anchored at" in capsys.readouterr().err
    code, told = verified(capsys)
    assert (code, told["anchored"]) == (0, 0)
    assert "4 of 4 records" in told["notes"][0]
    assert "origin.git" in told["notes"][0]
    code, told = verified(capsys, "--offline")
    assert (code, "--offline" in told["notes"][0]) == (0, True)


FORGING = "\x1b[1A\x1b[2K\rshop/test: 3 records: the chain holds\n\x9b8m\u202e"


@pytest.mark.parametrize(
    "change", [{"ledger_key": FORGING}, {"n": FORGING}, {"n": 9, "ledger_key": FORGING}, {"previous": FORGING}]
)
def test_a_record_cannot_forge_its_own_verdict(ledger, capsys, change):
    """What somebody wrote into a record moves no cursor and makes no line, in words and in JSON."""
    *lines, last = ledger.lines()
    record = {**json.loads(last), **change}
    record["hash"] = record_hash(record)
    ledger.path.write_bytes(b"".join(line + b"\n" for line in [*lines, canonical(record)]))
    assert main(["log", "verify", "--env", "test"]) == 5
    out = capsys.readouterr().out
    assert "chain holds" not in out
    assert all(letter.isprintable() for letter in out.replace("\n", ""))
    assert verified(capsys)[1]["problem"].isprintable()
    assert main(["log", "--env", "test"]) == 5
    assert capsys.readouterr().err.replace("\n", "").isprintable()


def test_what_the_origin_says_is_one_line_of_text(host, capsys):
    """A hook of the origin writes to the operator's terminal through the note; words arrive, nothing else."""
    hook = host / "origin.git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nprintf '\\033[1A\\033[2Kall is well\\r' >&2\nexit 1\n")
    hook.chmod(0o755)
    assert lock() == 0
    said = capsys.readouterr().err
    assert "all is well" in said
    assert said.replace("\n", "").isprintable()


def test_a_table_shows_what_people_wrote_and_does_nothing_else(ledger, capsys):
    """A record that is properly signed may say anything too: in the trail and in full."""
    ledger.append(body(4, owner=f"ann{FORGING}", reason=FORGING, outcome=FORGING))
    for options in ([], ["--run", "run-4"]):
        assert main(["log", "--env", "test", *options]) == 0
        shown = capsys.readouterr().out
        assert "ann" in shown
        assert shown.replace("\n", "").isprintable()


def test_every_tampering_ends_with_five_and_a_name(host, ledger, capsys):
    """Changed here, cut here, rewritten on the origin: code, number and sentence, in words and in JSON."""
    assert lock() == 0
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole.replace(b"v1.2", b"v9.9"))
    code, told = verified(capsys)
    assert (code, told["ok"], told["code"], told["number"]) == (5, False, "record-changed", 2)
    true = f"git --git-dir {host / 'state' / 'shop' / 'repo.git'} log -p --reverse refs/sluice/anchored/shop/test"
    assert told["next"].endswith(f"the true records: {true}")
    shown = subprocess.run(true.split(), check=True, capture_output=True, text=True).stdout
    assert '"version":"v1.2"' in shown
    assert [one["code"] for one in told["problems"]] == ["record-changed", "ledger-rewritten"]
    assert main(["log", "--env", "test"]) == 5
    assert main(["log", "verify", "--env", "test"]) == 5
    out = capsys.readouterr().out
    assert "record-changed: record 2 was changed" in out
    assert out.startswith("shop/test: 4 records\n")
    assert f"  Next: {told['next']}\n" in out
    ledger.path.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    code, told = verified(capsys)
    assert (code, told["code"], told["number"]) == (5, "tail-cut", 4)
    code, told = verified(capsys, "--offline")
    assert (code, told["code"]) == (5, "tail-cut")
    ledger.path.write_bytes(whole)
    subprocess.run(
        ["git", "-C", str(host / "origin.git"), "update-ref", "-d", "refs/sluice/ledger/shop/test"], check=True
    )
    code, told = verified(capsys)
    assert (code, told["code"], told["number"]) == (5, "anchor-cut", 1)
    assert "put back by: git" in told["next"]
    assert "refs/sluice/anchored/shop/test:refs/sluice/ledger/shop/test" in told["next"]
    assert verified(capsys, "--offline")[0] == 0


def test_an_auditor_verifies_in_a_clone_alone(host, capsys, monkeypatch):
    """No state, no host.toml: the clone and its origin are enough; a clone without a ledger is a usage error."""
    assert lock() == 0
    clone = host / "clone"
    subprocess.run(["git", "clone", "-q", str(host / "origin.git"), str(clone)], check=True, capture_output=True)
    shutil.rmtree(host / "state")
    monkeypatch.delenv("SLUICE_HOST_CONFIG")
    capsys.readouterr()
    assert main(["log", "verify", "--clone", str(clone), "--offline"]) == 2
    capsys.readouterr()
    assert main(["log", "verify", "--clone", str(clone)]) == 0
    first = capsys.readouterr().out
    assert "shop/test: 4 records: the chain holds" in first
    # On the first look the clone has only the origin's word.
    for words in ("proven: the 4 records", "not proven", "that the key is the server's own", "from now on"):
        assert words in first
    assert "not known to be on the origin" not in first
    assert main(["log", "verify", "--clone", str(clone)]) == 0
    again = capsys.readouterr().out
    assert "the 4 records that this clone saw before stand unchanged on the origin, 0 are new" in again
    assert "not proven" not in again
    assert main(["log", "verify", "--clone", str(clone), "--offline"]) == 0
    assert "4 records as this clone has them; the origin was not asked" in capsys.readouterr().out
    assert main(["log", "verify", "--clone", str(clone), "--env", "prod"]) == 2
    environment = {**os.environ, "GIT_AUTHOR_NAME": "M", "GIT_AUTHOR_EMAIL": "m@example.org"}
    environment |= {"GIT_COMMITTER_NAME": "M", "GIT_COMMITTER_EMAIL": "m@example.org"}
    tree = "refs/sluice/ledger/shop/test^{tree}"
    made = subprocess.run(
        ["git", "-C", str(host / "origin.git"), "commit-tree", tree, "-m", "another"],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout.strip()
    subprocess.run(
        ["git", "-C", str(host / "origin.git"), "update-ref", "refs/sluice/ledger/shop/test", made], check=True
    )
    assert main(["log", "verify", "--clone", str(clone)]) == 5
    out = capsys.readouterr().out
    assert "anchor-rewritten" in out
    assert "Next: keep this clone as it is, and compare" in out
    assert "sluice log verify --env test --service shop" in out


def test_a_ledger_that_was_never_anchored_is_in_a_backup_at_best(host, ledger, capsys):
    """Without a copy on the origin nothing else is named: exit code 5, and what to do all the same."""
    (host / "origin.git").rename(host / "away.git")
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"v1.2", b"v9.9"))
    code, told = verified(capsys, "--offline")
    assert (code, "nothing was anchored: the true one is in a backup" in told["next"]) == (5, True)


def test_one_record_is_no_records(host, capsys):
    """Counts read as words do."""
    shutil.rmtree(host / "state")
    paths = StatePaths(host / "state", "shop", "test")
    paths.prepare()
    Ledger(paths.ledger).append(body(1))
    assert main(["log", "verify", "--env", "test", "--offline"]) == 0
    out = capsys.readouterr().out
    assert "shop/test: 1 record: the chain holds" in out
    assert "1 of 1 record is not known to be on the origin" in out


@pytest.mark.usefixtures("host")
def test_neither_env_nor_clone_is_a_usage_error(capsys):
    """Exit code 2 with the option's name."""
    assert main(["log", "verify"]) == 2
    told = capsys.readouterr().err
    assert "Missing option '--env'" in told
    assert "--clone" in told
    assert "Next: sluice log verify --env test (here: test)" in told


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("command", [["log"], ["log", "--json"], ["log", "export", "--format", "csv"]])
def test_a_run_that_is_not_there_is_a_usage_error(capsys, command):
    """Exit code 2, and the newest run there is: an empty answer would look like a run that left nothing."""
    assert main([*command, "--env", "test", "--run", "nope"]) == 2
    told = "".join(capsys.readouterr())
    assert "there is no run 'nope' in test; newest: run-3." in told
    assert "sluice log --env test" in told


RUN = "20261130T121602.123456-ab12"


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


def test_a_ledger_copied_from_another_environment_is_no_ledger_of_this_one(host, ledger, capsys):
    """With its key and all: verify names it, and nothing is added to it."""
    config = (host / "host.toml").read_text()
    (host / "host.toml").write_text(config.replace("shop", "bank"))
    shutil.copytree(host / "state" / "shop", host / "state" / "bank")
    code, told = verified(capsys)
    assert (code, told["code"], told["number"]) == (5, "record-elsewhere", 1)
    copied = StatePaths(host / "state", "bank", "test").ledger
    assert lock() == 5
    assert copied.read_bytes() == ledger.path.read_bytes()


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


def test_a_damaged_journal_hides_nothing_else(host, ledger, capsys):
    """It is named, and ledger and anchor are judged all the same."""
    assert lock() == 0
    journal = StatePaths(host / "state", "shop", "test").journal_dir / "run-9.jsonl"
    journal.write_text("garbled\n")
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"v1.2", b"v9.9"))
    code, told = verified(capsys)
    assert code == 5
    assert [one["code"] for one in told["problems"]] == ["record-changed", "journal-damaged", "ledger-rewritten"]
    assert "run-9.jsonl" in told["problems"][1]["sentence"]
