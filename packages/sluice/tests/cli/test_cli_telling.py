"""What a run says: to the screen, into its transcript, and what only one of the two needs."""

from __future__ import annotations

from pathlib import Path

from sluice.cli.telling import Telling
from sluice.drive import Report


def test_what_the_command_ends_with_is_kept_and_not_shown_twice(tmp_path: Path):
    """The error stands on the terminal once; whoever follows the run reads it in the transcript."""
    shown: list[Report] = []
    telling = Telling(shown.append, tmp_path, "run-1", lambda: "now", "rollout")
    telling(Report("run", "now", "run-1", text="rollout of shop"))
    telling.note("the environment is locked", shown=False)
    telling.note("the disk is slow")
    telling.end(6, shown=False)
    assert [report.text for report in shown] == ["rollout of shop", "the disk is slow"]
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert kept.count("the environment is locked") == 1
    assert [report.n for report in shown] == [2, 4]
