"""`sluice log verify` as an auditor uses it: exit codes and names of what was tampered with, anchors, and clones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from sluice.cli import main
from sluice.hosts.state import StatePaths
from sluice.journal import canonical
from sluice.ledger import Ledger, record_hash

from .conftest import FORGING, body, lock


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


@pytest.mark.usefixtures("host")
def test_what_was_seen_on_the_origin_is_anchored_though_it_is_not_asked_now(capsys):
    """Nothing is told of a tail that is none: `0 of 4 records`."""
    assert lock() == 0
    code, told = verified(capsys, "--offline")
    assert (code, told["anchored"]) == (0, 4)
    assert told["notes"] == [
        "anchored: all 4 records are on the origin, as it was seen last (the origin was not asked (--offline))"
    ]


def test_a_rewritten_ledger_is_not_counted_as_a_tail(ledger, capsys):
    """Which record was rewritten is said; how many stand after it is no number of records that wait."""
    assert lock() == 0
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"v1.2", b"v9.9", 1))
    code, told = verified(capsys)
    assert (code, told["notes"]) == (5, [])


def test_a_ledger_that_does_not_hold_is_verified_and_not_moved_away(ledger, capsys):
    """Whatever reads it says so: a ledger that is missing does not open the environment either."""
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"v1.2", b"v9.9", 1))
    for command in (["log", "--env", "test"], ["log", "metrics", "--env", "test"]):
        assert main(command) == 5
        said = capsys.readouterr().err
        assert "Next: sluice log verify --env test --service shop" in said
        assert "move it away" not in said


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
