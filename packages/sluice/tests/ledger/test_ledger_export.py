"""What leaves the ledger: nothing that a spreadsheet runs, a page renders or a verifier takes for something else."""

from __future__ import annotations

import csv
import io
import json

import pytest

from sluice.ledger import Ledger, record_hash
from sluice.ledger.export import COLUMNS, PREDICATE_TYPE, as_csv, as_in_toto, as_markdown, chosen, statement, what_of
from sluice.model.errors import UsageError
from sluice.model.text import plain

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1+1", "-"]
HARMLESS = ["v1.2-3-gabc", "a=b", "", "SHA256:abc", "2026-01-01T00:00:00Z", 'say "hi", twice']


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text):
    """Whatever a spreadsheet would run gets an apostrophe, in whatever column it stands."""
    (row,) = list(csv.reader(io.StringIO(as_csv([{"owner": text, "n": -1}]), newline="")))[1:]
    assert row[COLUMNS.index("owner")] == f"'{plain(text)}"
    assert row[COLUMNS.index("n")] == "-1"


@pytest.mark.parametrize(("text", "cell"), [("a;=1+1", "a;'=1+1"), ("a; @SUM(A1);-1", "a;' @SUM(A1);'-1")])
def test_a_formula_behind_a_semicolon_is_text(text, cell):
    """A spreadsheet that separates cells by semicolons begins a cell behind each, whatever is quoted."""
    (row,) = list(csv.reader(io.StringIO(as_csv([{"reason": text}]), newline="")))[1:]
    assert row[COLUMNS.index("reason")] == cell


@pytest.mark.parametrize("letter", ["\x1b", "\x9b", "\u202e", "\u2028", "\0", "\udcff"])
def test_a_file_for_people_has_printable_letters_alone(letter):
    """No escape sequence of a terminal, no turned direction, no line that is none of ours."""
    records = [{"n": 1, "owner": f"ann{letter}[2K", "run": "r", "reason": f"why{letter}"}]
    for text in (as_csv(records), as_markdown(records)):
        assert letter not in text
        assert text.encode()


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_formula_stays_as_it_is(text):
    """Quotes, commas and signs within a text survive the way there and back."""
    (row,) = list(csv.reader(io.StringIO(as_csv([{"owner": text}]), newline="")))[1:]
    assert row[COLUMNS.index("owner")] == text


def test_markdown_shows_what_was_written():
    """Cells cannot end, links cannot be made, and a line break is a blank."""
    text = "| <script> [x](http://e) `c` *b*\nnext"
    page = as_markdown([{"n": 1, "owner": text, "run": "r", "reason": text}])
    assert "<script>" not in page.replace("\\<script\\>", "")
    assert page.count("\\| \\<script\\> \\[x\\]\\(http://e\\) \\`c\\` \\*b\\* next") == 3
    assert len([line for line in page.splitlines() if line.startswith("| ")]) == 3


HOSTILE = "| [x](http://e) =1"


@pytest.mark.parametrize("key", ["principal", "item", "refusal", "signed_with", "expires"])
def test_who_signed_and_why_not_leaves_the_ledger_as_text(key):
    """Principal, item and refusal are in the Markdown and in the CSV; neither ends a cell, makes a link or runs."""
    page = as_markdown([{"n": 1, "run": "r", key: HOSTILE}])
    assert f"{key}: \\| \\[x\\]\\(http://e\\) =1" in page
    assert len([line for line in page.splitlines() if line.startswith("| ")]) == 3
    (row,) = list(csv.reader(io.StringIO(as_csv([{key: f"={HOSTILE}"}]), newline="")))[1:]
    assert row[COLUMNS.index(key)] == f"'={HOSTILE}"


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"principal": "colleague", "item": "told", "outcome": "signed"}, "colleague: told"),
        ({"principal": "colleague", "item": ""}, "colleague"),
        ({"item": "told", "refusal": "SignatureForeign", "reason": "long"}, "told, SignatureForeign"),
        ({"refusal": "FeatureBranch", "reason": "long"}, "FeatureBranch"),
        ({"reason": "one\n two"}, "one two"),
        ({"reason": "a" * 61}, "a" * 60 + "…"),
        ({"outcome": "done"}, ""),
    ],
)
def test_a_record_is_told_in_few_words(record, what):
    """Who signed what and why not; else the beginning of the reason, in one line; nothing where nothing is to say."""
    assert what_of(record) == what


def test_a_record_without_a_release_is_a_statement_about_itself():
    """Statement v1 needs a subject: of a lock it is the ledger's record, by its hash."""
    record = {"n": 4, "type": "lock", "service": "shop", "environment": "test", "hash": "c" * 64}
    made = statement(record)
    assert made["subject"] == [{"name": "shop/test/ledger/4", "digest": {"sha256": "c" * 64}}]
    assert (made["predicateType"], made["predicate"]) == (PREDICATE_TYPE, record)


def test_every_digest_of_an_artifact_is_a_subject_and_nothing_else_is():
    """Images by SHA-256, the others by what they are of; what is no digest is left to the predicate."""
    digests = {"api": f"r.example/api@sha256:{'1' * 64}", "db": f"sha256:{'2' * 64}", "compose.test": "3" * 64}
    digests |= {"compose.input.api": "5" * 64, "content:own": "6" * 64}
    record = {"n": 1, "service": "s", "environment": "test", "commit": "4" * 40, "artifact_key": "7" * 64}
    record["artifact_digests"] = {**digests, "odd": "latest"}
    named = {one["name"]: one["digest"] for one in statement(record)["subject"]}
    assert named == {
        "s/test/source": {"gitCommit": "4" * 40},
        "s/test/artifact": {"sluiceArtifactKey": "7" * 64},
        "s/test/image/api": {"sha256": "1" * 64},
        "s/test/image/db": {"sha256": "2" * 64},
        "s/test/compose/test": {"sluiceCompose": "3" * 64},
        "s/test/compose/input.api": {"sluiceCompose": "5" * 64},
        "s/test/content/own": {"sluiceContent": "6" * 64},
    }


@pytest.mark.parametrize("name", ["source", "artifact", "ledger/1"])
def test_a_service_of_any_name_takes_no_other_subjects_place(name):
    """An image is one by its name: commit and artifact stay what they are."""
    record = {"n": 1, "service": "s", "environment": "test", "commit": "4" * 40, "artifact_key": "7" * 64}
    record["artifact_digests"] = {name: f"sha256:{'9' * 64}"}
    named = {one["name"]: one["digest"] for one in statement(record)["subject"]}
    assert named["s/test/source"] == {"gitCommit": "4" * 40}
    assert named["s/test/artifact"] == {"sluiceArtifactKey": "7" * 64}
    assert named[f"s/test/image/{name}"] == {"sha256": "9" * 64}


def test_a_predicate_can_be_verified_like_the_record_itself(tmp_path):
    """Nothing is left out or spelt anew: the hash in the exported record is its own."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    record = ledger.append({"type": "rollout", "run": "r", "commit": "4" * 40, "reason": "потому что"})
    (line,) = as_in_toto([record]).splitlines()
    exported = json.loads(line)["predicate"]
    assert exported == record
    assert record_hash(exported) == exported["hash"]


def test_a_record_without_a_time_is_in_no_period():
    """It is not guessed into one; without a period it is there."""
    records = [{"n": 1}, {"n": 2, "ended": "2026-01-02T00:00:00.000Z"}]
    assert [one["n"] for one in chosen(records)] == [1, 2]
    assert [one["n"] for one in chosen(records, since="2026-01-01")] == [2]
    assert [one["n"] for one in chosen(records, until="2026-01-02T03:00:00+03:00")] == []
    with pytest.raises(UsageError, match="--until"):
        chosen(records, until="soon")
