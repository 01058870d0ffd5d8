"""The audit trail: whatever is done to it afterwards is named by the number of the first record it touched."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.journal import canonical
from sluice.ledger import Ledger, blamed_by, record_hash
from sluice.ledger import file as file_module
from sluice.model.errors import StateCorrupted, StepFailed


def filled(folder, count=5):
    """A ledger of some rollouts."""
    folder.mkdir(exist_ok=True)
    ledger = Ledger(folder / "ledger.jsonl")
    for number in range(1, count + 1):
        ledger.append({"type": "rollout", "run": f"run-{number}", "decision": "go", "owner": "ann"})
    return ledger


def head_of(ledger):
    """The note of the last record."""
    return ledger.path.with_name("ledger.head")


def lines_of(ledger):
    """The file as lines, newlines kept."""
    return ledger.path.read_bytes().splitlines(keepends=True)


def test_a_changed_record_is_named(tmp_path):
    """A record whose content no longer has its hash is named by its number."""
    ledger = filled(tmp_path)
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b'"run":"run-3"', b'"run":"run-8"'))
    assert "record 3 was changed" in ledger.verify().problem
    with pytest.raises(StateCorrupted, match="record 3"):
        ledger.append({"type": "rollout", "run": "run-6"})


def test_a_changed_record_with_a_new_hash_of_its_own_is_named(tmp_path):
    """Whoever recomputes one hash cannot sign it, and breaks the link to the next record."""
    ledger = filled(tmp_path)
    lines = lines_of(ledger)
    forged = json.loads(lines[1])
    forged["owner"] = "bob"
    forged["hash"] = record_hash(forged)
    lines[1] = canonical(forged) + b"\n"
    ledger.path.write_bytes(b"".join(lines))
    assert (ledger.verify().code, ledger.verify().number) == ("signature-invalid", 2)


def test_a_removed_record_is_named(tmp_path):
    """A hole in the numbers is a removed record."""
    ledger = filled(tmp_path)
    lines = lines_of(ledger)
    ledger.path.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert "record 3 was removed" in ledger.verify().problem


def test_an_inserted_record_is_named(tmp_path):
    """A record that came in later is named, whatever number it gives itself."""
    ledger = filled(tmp_path)
    lines = lines_of(ledger)
    ledger.path.write_bytes(b"".join([*lines[:2], lines[0], *lines[2:]]))
    assert ledger.verify().number == 3


def test_reordered_records_are_named(tmp_path):
    """Two records in each other's place are named as such."""
    ledger = filled(tmp_path)
    lines = lines_of(ledger)
    lines[2], lines[3] = lines[3], lines[2]
    ledger.path.write_bytes(b"".join(lines))
    assert "record 3 was reordered" in ledger.verify().problem


def test_records_cut_from_the_beginning_or_the_end_are_named(tmp_path):
    """The beginning is known by its number; the end by the journals of the runs that were recorded."""
    ledger = filled(tmp_path)
    lines = lines_of(ledger)
    ledger.path.write_bytes(b"".join(lines[1:]))
    assert "record 1 was cut" in ledger.verify().problem
    ledger.path.write_bytes(b"".join(lines[:3]))
    assert "record 4 was cut: 5 records were written here, 3 are left" in ledger.verify().problem
    head_of(ledger).unlink()
    bare = ledger.verify()
    assert (bare.ok, "ledger.head" in bare.notes[0]) == (True, True)  # what nothing remembers cannot be missed
    cut = ledger.verify({"run-1": [], "run-4": []})
    assert (cut.number, cut.ok) == (4, False)
    assert "run run-4 was recorded once" in cut.problem


def test_a_record_cut_from_within_a_run_is_named(tmp_path):
    """A journal remembers every record of its run, not the run alone: a waiver that is left hides no rollout."""
    ledger = filled(tmp_path, 1)
    marks = [ledger.append({"type": kind, "run": "run-2"}) for kind in ("waiver", "rollout", "recovery")]
    remembered = {"run-2": [(one["n"], one["hash"]) for one in marks]}
    lines = lines_of(ledger)
    head_of(ledger).unlink()
    for left in (3, 2):
        ledger.path.write_bytes(b"".join(lines[:left]))
        assert ledger.verify().ok
        found = ledger.verify(remembered)
        assert (found.code, found.number) == ("tail-cut", left + 1)
    ledger.append({"type": "rollout", "run": "run-2", "owner": "mallory"})
    head_of(ledger).unlink()
    found = ledger.verify(remembered)
    assert (found.code, found.number) == ("ledger-rewritten", 3)
    assert "the journal of run run-2 remembers another" in found.problem


def test_the_note_of_the_last_record_is_behind_after_a_crash_and_accuses_nobody(tmp_path):
    """A lock has no journal: the note alone remembers it. A note that is older than the ledger is no finding."""
    ledger = filled(tmp_path, 2)
    note = head_of(ledger).read_bytes()
    ledger.append({"type": "lock", "run": "run-3"})
    lines = lines_of(ledger)
    ledger.path.write_bytes(b"".join(lines[:2]))
    assert (ledger.verify().code, ledger.verify().number) == ("tail-cut", 3)
    ledger.path.write_bytes(b"".join(lines))
    head_of(ledger).write_bytes(note)
    assert (ledger.verify().ok, ledger.verify().notes) == (True, ())
    head_of(ledger).write_bytes(canonical({"n": 2, "hash": "0" * 64}))
    assert (ledger.verify().code, ledger.verify().number) == ("ledger-rewritten", 2)
    for unreadable in (b"", b"[]", b'{"n":{}}', b"\xff"):
        head_of(ledger).write_bytes(unreadable)
        assert (ledger.verify().ok, len(ledger.verify().notes)) == (True, 1)


def test_a_full_disk_costs_the_note_and_not_the_record(tmp_path, monkeypatch):
    """The record is on the disk by then: it counts, and the next one mends the note."""
    ledger = filled(tmp_path, 1)
    monkeypatch.setattr(file_module, "replace_file", full)
    assert ledger.append({"type": "lock", "run": "run-2"})["n"] == 2
    monkeypatch.undo()
    assert (ledger.verify().ok, ledger.verify().notes) == (True, ())
    ledger.append({"type": "unlock", "run": "run-3"})
    assert json.loads(head_of(ledger).read_bytes())["n"] == 3


def full(path, _content):
    """A disk without room."""
    raise StepFailed(f"{path} cannot be written: No space left on device.")


def test_a_whole_record_without_its_end_is_a_record(tmp_path):
    """Only the newline is missing: it is signed and chained, so it counts and is given its end."""
    ledger = filled(tmp_path, 2)
    ledger.append({"type": "lock", "run": "run-3", "locked": "why"})
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:-1])
    verdict = ledger.verify()
    assert (verdict.ok, verdict.records, "had no end" in verdict.notes[0]) == (True, 3, True)
    assert ledger.closed() is not None
    assert ledger.append({"type": "rollout", "run": "run-4"})["n"] == 4
    assert ledger.path.read_bytes().startswith(whole)
    assert not list(tmp_path.glob("*.torn-*"))
    forged = json.loads(lines_of(ledger)[-1])
    forged["owner"] = "mallory"
    forged["hash"] = record_hash(forged)
    ledger.path.write_bytes(whole + canonical(forged))
    assert ledger.verify().code == "signature-invalid"


@settings(max_examples=300, deadline=None)
@given(
    place=st.integers(min_value=0),
    byte=st.binary(min_size=1, max_size=1),
    how=st.sampled_from(["replace", "insert", "drop"]),
)
def test_no_change_of_any_byte_goes_unnoticed(three_records, place, byte, how):
    """One byte replaced, put in or taken out anywhere: a finding. Only the last newline, which says nothing: a note."""
    ledger, whole = three_records
    at = place % len(whole)
    rest = whole[at:] if how == "insert" else whole[at + 1 :]
    changed = whole[:at] + (b"" if how == "drop" else byte) + rest
    ledger.path.write_bytes(changed)
    verdict = ledger.verify({"run-1": [], "run-2": [], "run-3": []})
    assert (verdict.ok and not verdict.notes) is (changed == whole)
    assert verdict.ok is (changed in (whole, whole[:-1]))


@pytest.fixture(scope="module")
def three_records(tmp_path_factory):
    """A ledger and its bytes."""
    ledger = filled(tmp_path_factory.mktemp("ledger"), 3)
    return ledger, ledger.path.read_bytes()


def test_a_torn_last_line_is_set_aside_by_the_next_run(tmp_path):
    """Reading says it, appending repairs it and keeps the bytes, and the chain goes on."""
    ledger = filled(tmp_path, 4)
    note = head_of(ledger).read_bytes()
    ledger.append({"type": "rollout", "run": "run-5"})
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:-20])
    head_of(ledger).write_bytes(note)
    verdict = ledger.verify()
    assert verdict.ok
    assert (verdict.records, len(verdict.notes)) == (4, 1)
    assert ledger.path.read_bytes() == whole[:-20]
    assert ledger.append({"type": "rollout", "run": "run-5"})["n"] == 5
    assert "torn by a crash" in ledger.note
    assert ledger.verify().ok
    (kept,) = tmp_path.glob("*.torn-*")
    assert whole[:-20].endswith(kept.read_bytes())
    assert kept.stat().st_mode & 0o777 == 0o600
    assert [kept.name in note for note in ledger.verify().notes] == [True]


def test_what_was_set_aside_once_is_never_overwritten(tmp_path):
    """Torn twice at the same place, or somebody's link there: another name, and both are listed."""
    ledger = filled(tmp_path, 1)
    elsewhere = tmp_path / "elsewhere"
    size = ledger.path.stat().st_size + 4
    ledger.path.with_name(f"ledger.jsonl.torn-{size}").symlink_to(elsewhere)
    with ledger.path.open("ab") as file:
        file.write(b'{"n"')
    assert ledger.append({"type": "rollout", "run": "run-2"})["n"] == 2
    assert not elsewhere.exists()
    assert ledger.path.with_name(f"ledger.jsonl.torn-{size}-2").read_bytes() == b'{"n"'
    assert len(ledger.verify().notes) == 2


def test_a_torn_line_that_cannot_be_cut_off_is_a_sentence(tmp_path, monkeypatch):
    """An append-only file, say: the append fails as on a full disk, and nothing is recorded."""
    ledger = filled(tmp_path, 1)
    with ledger.path.open("ab") as file:
        file.write(b'{"n"')

    def refuse(_handle: int, _size: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(StepFailed, match="Operation not permitted"):
        ledger.append({"type": "rollout", "run": "run-2"})
    monkeypatch.undo()
    assert ledger.append({"type": "rollout", "run": "run-2"})["n"] == 2


def test_a_run_is_recorded_once(tmp_path):
    """Appending the same run again, as a recovery does, gives back the record that is there."""
    ledger = filled(tmp_path, 2)
    again = ledger.append({"type": "rollout", "run": "run-1", "decision": "refused"})
    assert (again["n"], again["decision"]) == (1, "go")
    assert len(ledger.records()) == 2
    assert ledger.append({"type": "recovery", "run": "run-1"})["n"] == 3


def test_every_kind_of_tampering_has_its_own_name(tmp_path):
    """Change, removal, insertion, reordering, a cut and a replaced record: each by its stable code and number."""
    whole = filled(tmp_path).path.read_bytes().splitlines(keepends=True)
    other = filled(tmp_path.joinpath("other"), 5).path.read_bytes().splitlines(keepends=True)
    one, two, three, four, five = whole
    drills = {
        ("record-changed", 2): [one, two.replace(b"ann", b"bob"), three, four, five],
        ("record-changed", 3): [one, two, three.replace(b":", b": ", 1), four, five],
        ("record-removed", 4): [one, two, three, five],
        ("record-removed", 1): [two, three, four, five],
        ("record-inserted", 3): [one, two, two, three, four, five],
        ("record-inserted", 5): [one, two, three, four, one, five],
        ("record-reordered", 2): [one, three, two, four, five],
        ("record-replaced", 4): [one, two, three, other[3], five],
        ("tail-cut", 4): [one, two, three],
        ("tail-cut", 1): [],
    }
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for (code, number), lines in drills.items():
        ledger.path.write_bytes(b"".join(lines))
        verdict = ledger.verify({f"run-{n}": [] for n in range(1, 6)})
        assert (verdict.code, verdict.number) == (code, number), verdict
        assert f"record {number}" in verdict.problem


def test_any_json_is_a_record_and_only_the_ledger_places_it(tmp_path):
    """Types to come are appended as they are, once per type and run; what the chain writes nobody else may say."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for kind in ("approval", "waiver", "override", "recovery", "promotion", "freeze"):
        body = {"type": kind, "run": "run-1", "nested": {10: ["a", None, 1.5], 9: "значение"}, "key": "SHA256:theirs"}
        assert ledger.append(body) == ledger.append(body) == ledger.records()[-1]
    assert len(ledger.records()) == 6
    assert ledger.verify().ok
    for own in ("n", "previous", "ledger_key", "hash", "signature"):
        with pytest.raises(ValueError, match=own):
            ledger.append({"type": "approval", "run": "run-2", own: "mine"})
    assert len(ledger.records()) == 6


def test_the_newest_word_about_a_release_decides():
    """A later success forgives, a later failure counts again; another env file or tree is another story."""

    def blames(*runs, tree="t", env_fingerprint="e"):
        return blamed_by(runs, tree=tree, env_fingerprint=env_fingerprint)

    body = {"type": "rollout", "tree": "t", "env_fingerprint": "e"}
    bad = {**body, "run": "bad", "bad_release": True, "decision": "rollback"}
    good = {**body, "run": "good", "bad_release": False, "decision": "go"}
    assert blames(bad) == "bad"
    assert blames(bad, good) == ""
    assert blames(good, bad) == "bad"
    assert blames(bad, {"type": "lock", "run": "x"}) == "bad"
    assert blames(bad, env_fingerprint="other") == ""
    assert blames(bad, tree="other") == ""
    assert blames() == ""


def test_a_ledger_of_another_environment_is_named_and_not_added_to(tmp_path):
    """Copied with its key it holds in itself: its records say whose they are."""
    body = {"type": "rollout", "run": "run-1", "service": "shop", "environment": "test"}
    ledger = filled(tmp_path, 0)
    ledger.append(body)
    assert ledger.verify(place=("shop", "test")).ok
    for place in (("shop", "prod"), ("bank", "test")):
        verdict = ledger.verify(place=place)
        assert (verdict.code, verdict.number) == ("record-elsewhere", 1)
    with pytest.raises(StateCorrupted, match="one of shop/test and none of shop/prod"):
        ledger.append({**body, "run": "run-2", "environment": "prod"})
    assert len(ledger.lines()) == 1


@pytest.mark.parametrize("put", ["mkdir", "fifo", "loop"])
def test_what_is_no_file_is_no_ledger(tmp_path, put):
    """A folder, a pipe, a link to itself: named at once, never waited for, and nothing is added."""
    ledger = filled(tmp_path, 1)
    ledger.path.unlink()
    make = {
        "mkdir": ledger.path.mkdir,
        "fifo": lambda: os.mkfifo(ledger.path),
        "loop": lambda: ledger.path.symlink_to(ledger.path),
    }
    make[put]()
    for use in (ledger.records, ledger.verify, lambda: ledger.append({"type": "lock", "run": "run-2"})):
        with pytest.raises(StateCorrupted, match="cannot be read as a ledger"):
            use()


def test_the_same_bytes_are_judged_once_and_others_anew(tmp_path, monkeypatch):
    """A run reads its ledger again and again; one letter more or less is another ledger."""
    ledger, asked = filled(tmp_path, 2), []
    original = file_module.judged
    monkeypatch.setattr(file_module, "_judgements", {})
    monkeypatch.setattr(file_module, "judged", lambda *given: asked.append(given) or original(*given))
    assert ledger.records() == Ledger(ledger.path).records()
    ledger.records().clear()
    assert len(ledger.records()) == 2
    assert len(asked) == 1
    ledger.append({"type": "rollout", "run": "run-3"})
    assert len(ledger.records()) == 3
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"run-2", b"run-4"))
    assert not ledger.verify().ok
    assert not ledger.verify().ok
    assert len(asked) == 3
