"""The screen cannot hold a run up: a stalled reader, a closed pipe, a terminal that is gone."""

from __future__ import annotations

import fcntl
import os

import msgspec
import pytest

from sluice.cli.outlet import Outlet, console
from sluice.cli.render import lost_words, screen
from sluice.cli.telling import Telling
from sluice.drive import Report
from sluice.hosts import transcript
from sluice.hosts.transcript import CUT, KEPT, Transcript, path_of, runs_in

STEPS = [Report("step", "now", "R", step="gating", status=status, text="gates") for status in ("started", "ok")]


@pytest.fixture
def pipe():
    """Both ends; whatever is still open at the end is closed."""
    reader, writer = os.pipe()
    ends = {"r": reader, "w": writer}
    yield ends
    for end in ends.values():
        os.close(end)


def read_until(descriptor, wanted):
    """What comes until the wanted words did."""
    got = b""
    while wanted not in got:
        more = os.read(descriptor, 1 << 16)
        assert more, got
        got += more
    return got


def test_a_reader_that_stands_still_costs_output_and_no_time(pipe):
    """Every write returns at once; when the reader reads again, it is told how much it lost."""
    os.write(pipe["w"], bytes(fcntl.fcntl(pipe["w"], fcntl.F_GETPIPE_SZ)))
    out = Outlet(pipe["w"], lambda lost: f"[{lost} lost]\n", bound=1 << 12)
    line = "x" * 1023 + "\n"
    for _ in range(200):
        assert out.write(line) == len(line)
    assert not out.finish(0.01)
    got = read_until(pipe["r"], b" lost]\n")
    kept = got.count(b"\n") - 1
    assert got.endswith(f"[{200 - kept} lost]\n".encode())
    out.write("after\n")
    assert out.finish()
    assert os.read(pipe["r"], 100) == b"after\n"


def test_a_reader_that_is_gone_is_not_missed(pipe):
    """After a broken pipe nothing is kept, nothing raised, and the end does not wait."""
    os.close(pipe.pop("r"))
    out = Outlet(pipe["w"], str)
    with screen(console(out), as_json=True) as shown:
        for report in STEPS * 100:
            shown(report)
    assert out.finish()


def test_a_terminal_that_closes_under_the_spinner_is_not_missed():
    """Rich's own thread and its leave-taking write into the outlet, not into the dead terminal."""
    master, slave = os.openpty()
    try:
        out = Outlet(slave, str)
        shown_on = console(out)
        assert shown_on.is_terminal
        with screen(shown_on, as_json=False) as shown:
            shown(STEPS[0])
            os.close(master)
            for report in STEPS * 100:
                shown(report)
        assert out.finish()
    finally:
        os.close(slave)


def test_the_lost_words_are_json_for_a_program():
    """A program reads a note like any other."""
    assert lost_words(as_json=True)(3).startswith('{"event":"note"')
    assert "3 pieces" in lost_words(as_json=False)(3)


# ---------------------------------------------------------------- the transcript


def lines_of(folder, run):
    """Its reports."""
    return [msgspec.json.decode(line, type=Report) for line in path_of(folder, run).read_bytes().splitlines()]


def test_a_run_is_kept_numbered_from_its_first_word_to_its_last(tmp_path):
    """What was said before the run held its environment is there too; nobody else can read it."""
    shown = []
    told = Telling(shown.append, tmp_path / "runs", "R", lambda: "now", "sluice rollout")
    told.note("before")
    assert not (tmp_path / "runs").exists()
    for report in STEPS:
        told(report)
    told.end(3, shown=False)
    kept = lines_of(tmp_path / "runs", "R")
    assert [report.event for report in kept] == ["opened", "note", "step", "step", "ended"]
    assert [report.n for report in kept] == [1, 2, 3, 4, 5]
    assert kept[1:-1] == shown
    assert kept[-1].data == {"exit_code": 3}
    assert kept[0].data["pid"] == os.getpid()
    assert path_of(tmp_path / "runs", "R").stat().st_mode & 0o777 == 0o600


def test_a_run_that_never_held_its_environment_leaves_no_file(tmp_path):
    """A refused second run is not the newest run."""
    told = Telling(lambda _report: None, tmp_path / "runs", "R", lambda: "now", "sluice rollout")
    told.note("before")
    told.end(6, shown=True)
    assert not (tmp_path / "runs").exists()


def test_a_disk_that_takes_nothing_costs_one_note(tmp_path):
    """The run goes on, and the screen says once that nothing is kept."""
    (tmp_path / "runs").write_text("in the way")
    shown = []
    told = Telling(shown.append, tmp_path / "runs", "R", lambda: "now", "sluice rollout")
    for report in STEPS * 2:
        told(report)
    told.end(0, shown=True)
    notes = [report.text for report in shown if report.event == "note"]
    assert len(notes) == 1
    assert "not kept for others" in notes[0]
    assert shown[-1].event == "ended"


def test_a_talkative_run_is_cut_and_says_so(tmp_path, monkeypatch):
    """Over the bound only steps and the end are written; the cut is said once."""
    monkeypatch.setattr(transcript, "MAX_BYTES", 2000)
    told = Telling(lambda _report: None, tmp_path, "R", lambda: "now", "sluice rollout")
    for number in range(100):
        told(Report("note", "now", "R", text=f"line {number}"))
    told(STEPS[1])
    told.end(0, shown=False)
    kept = lines_of(tmp_path, "R")
    assert [report.text for report in kept].count(CUT) == 1
    assert [report.event for report in kept[-3:]] == ["note", "step", "ended"]
    assert len(kept) < 50


def test_the_newest_transcripts_are_kept(tmp_path):
    """A new run removes the oldest files."""
    for number in range(KEPT + 5):
        Transcript(tmp_path, f"run-{number:03}").close()
    assert runs_in(tmp_path) == [f"run-{number:03}" for number in range(5, KEPT + 5)]
