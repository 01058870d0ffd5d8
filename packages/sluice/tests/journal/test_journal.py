"""The journal: on disk before it is told, torn lines repaired openly, every other damage refused."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import disk
from sluice.engine import Event, State
from sluice.journal import Journal, read, read_all, resume_of
from sluice.model.errors import StateCorrupted, StepFailed
from sluice.model.secret import Redactor, Secret

SECRET = "sentinel-secret-value"


def written(folder, after_write=None):
    """A journal with four entries."""
    journal = Journal(folder / "run-1.jsonl", Redactor([Secret(SECRET)]), lambda: "now", after_write)
    journal.begin(kind="rollout", owner="ann")
    journal.intent(State.PLANNING, {"plan_hash": ""})
    journal.observed(State.PLANNING, Event.OK, {"plan": 1}, {"reason": f"because {SECRET}"})
    journal.intent(State.GATING, {})
    return journal


def test_a_journal_reads_back_as_it_was_written(tmp_path):
    """Entries keep their order, their facts and where the run stands."""
    written(tmp_path)
    record = read(tmp_path / "run-1.jsonl", repair=False)
    assert [entry.name for entry in record.entries] == [
        "begin",
        "intent:planning",
        "observed:planning",
        "intent:gating",
    ]
    assert record.state is State.GATING
    assert not record.ended
    assert record.entries[2].facts == {"plan": 1}


def test_evidence_is_redacted(tmp_path):
    """A secret in a note never reaches the file."""
    journal = written(tmp_path)
    assert SECRET.encode() not in journal.path.read_bytes()


def test_an_entry_is_announced_only_after_it_is_on_disk(tmp_path):
    """Whoever is told of an entry finds it in the file."""
    path, seen = tmp_path / "run-1.jsonl", []
    written(tmp_path, lambda name: seen.append((name, path.read_bytes().count(b"\n"))))
    assert seen == [("begin", 1), ("intent:planning", 2), ("observed:planning", 3), ("intent:gating", 4)]


def test_what_could_not_be_written_says_which_environment_to_resume(tmp_path):
    """The command is whole, on a host with several services too; outside of a state folder it names none."""
    path = tmp_path / "state" / "shop" / "envs" / "prod" / "journal" / "run-1.jsonl"
    with pytest.raises(StepFailed) as failed:
        Journal(path, Redactor([]), lambda: "now").begin(kind="rollout")
    assert failed.value.next == "make room on the disk, then: sluice resume --env prod --service shop"
    assert resume_of(tmp_path / "ledger.jsonl") == "sluice resume"


@settings(max_examples=40)
@given(cut=st.integers(min_value=1))
def test_a_torn_last_line_is_set_aside_and_said(tmp_path_factory, cut):
    """Cut anywhere inside the last line, the entries before it stand and the torn bytes are kept."""
    folder = tmp_path_factory.mktemp("torn")
    path = written(folder).path
    raw = path.read_bytes()
    last = raw[:-1].rfind(b"\n") + 1
    end = last + 1 + cut % (len(raw) - last - 1)
    path.write_bytes(raw[:end])
    assert len(read(path, repair=False).entries) == 3
    assert path.read_bytes() == raw[:end]
    record = read(path, repair=True)
    assert "torn by a crash" in record.note
    assert path.read_bytes() == raw[:last]
    (aside,) = folder.glob("*.torn-*")
    assert aside.read_bytes() == raw[last:end]


@settings(max_examples=60)
@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_any_other_damage_is_refused_and_nothing_overwritten(tmp_path_factory, place, bit):
    """One flipped bit anywhere but in the last newline is noticed, and the file stays as it is."""
    path = written(tmp_path_factory.mktemp("damage")).path
    raw = bytearray(path.read_bytes())
    place %= len(raw) - 1
    raw[place] ^= 1 << bit
    path.write_bytes(raw)
    with pytest.raises(StateCorrupted) as error:
        read(path, repair=False)
    assert str(path) in error.value.what
    assert path.read_bytes() == bytes(raw)


def test_a_removed_entry_is_noticed(tmp_path):
    """Entries are numbered: one taken out of the middle is damage."""
    path = written(tmp_path).path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(StateCorrupted, match="line 2"):
        read(path, repair=True)


def test_entries_that_are_no_walk_of_the_engine_are_refused(tmp_path):
    """A journal whose observations do not follow from each other is not believed."""
    journal = Journal(tmp_path / "run-1.jsonl", Redactor(), lambda: "now")
    journal.begin(kind="rollout")
    journal.observed(State.WATCHING, Event.OK, {}, {})
    with pytest.raises(StateCorrupted, match="not a run of this engine"):
        read_all(tmp_path, repair=True)


def test_a_crash_before_the_first_entry_is_no_run(tmp_path):
    """A file whose only line is torn announced nothing, so there is nothing to recover."""
    (tmp_path / "run-1.jsonl").write_bytes(b'{"n":1,"en')
    assert read_all(tmp_path, repair=True) == []


def test_a_full_disk_is_a_clear_error_and_leaves_no_half_line(tmp_path, monkeypatch):
    """When the disk takes only a part of an entry, the file is as it was and the error says what to do."""
    path = written(tmp_path).path
    before = path.read_bytes()

    def half(handle, data):
        os.write(handle, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write_all", half)
    journal = Journal(path, Redactor(), lambda: "now", written=4)
    with pytest.raises(StepFailed, match="No space left") as error:
        journal.observed(State.GATING, Event.OK, {}, {})
    assert "make room" in error.value.next
    assert path.read_bytes() == before


def test_a_journal_is_private(tmp_path):
    """Only its owner may read a journal."""
    assert written(tmp_path).path.stat().st_mode & 0o777 == 0o600
