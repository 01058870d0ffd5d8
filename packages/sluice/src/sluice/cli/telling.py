"""What a run says, numbered, to the screen and into its transcript; the same words for both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from sluice.drive import Report, Tell
from sluice.hosts.transcript import CUT, Transcript, this_process


class Telling:
    """A run's `tell`. The transcript begins with the first report of the run itself: then it holds the environment.

    A disk that does not take the transcript costs the run nothing; the screen says so once.
    """

    def __init__(self, show: Tell, folder: Path, run: str, now: Callable[[], str], what: str) -> None:
        """`what` is the command in words."""
        self._show, self._folder, self._run, self._now, self._what = show, folder, run, now, what
        self._written: Transcript | None = None
        self._waiting: list[Report] = []
        self._n = 1  # the first line of the transcript, which no screen shows
        self._over = False

    def __call__(self, report: Report) -> None:
        """Show it and keep it."""
        self._take(report, shown=True)

    def _take(self, report: Report, *, shown: bool) -> None:
        self._n += 1
        numbered = msgspec.structs.replace(report, n=self._n)
        if shown:
            self._show(numbered)
        self._waiting.append(numbered)
        if report.run and not self._over:
            self._keep()

    def note(self, text: str, *, shown: bool = True) -> None:
        """A sentence beside the steps. Not `shown`: for those who follow, where the screen is told in another way."""
        self._take(Report("note", self._now(), text=text), shown=shown)

    def end(self, exit_code: int, *, shown: bool) -> None:
        """The last report, for those who follow. `shown`: a caller far away wants it too, as a proof of the end."""
        self._n += 1
        last = Report("ended", self._now(), self._run, n=self._n, data={"exit_code": exit_code})
        if shown:
            self._show(last)
        if self._written is not None and not self._over:
            self._waiting.append(last)
            self._keep()
        if self._written is not None:
            self._written.close()

    def _keep(self) -> None:
        try:
            if self._written is None:
                self._written = Transcript(self._folder, self._run)
                process = msgspec.to_builtins(this_process())
                self._append(Report("opened", self._now(), self._run, text=self._what, n=1, data=process))
            for report in self._waiting:
                self._append(report)
            self._waiting = []
        except OSError as error:
            self._over = True
            self.note(f"what this run says is not kept for others to follow: {error.strerror}; the run goes on")

    def _append(self, report: Report) -> None:
        if self._written is not None:
            cut = msgspec.json.encode(Report("note", report.at, self._run, text=CUT, n=report.n))
            self._written.write(report.event, msgspec.json.encode(report), cut)
