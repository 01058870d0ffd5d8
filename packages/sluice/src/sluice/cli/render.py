"""How a run looks while it goes on: calm on a terminal, plain lines elsewhere, JSON objects for programs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol

import msgspec
from rich.console import Console
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from sluice.cli.outlet import escape
from sluice.cli.watching import Changes, LiveProgress, Panel
from sluice.drive import Report
from sluice.engine import Event, State
from sluice.model.verdict import Finding, Verdict

MARKS = {
    Verdict.PASS: ("ok", "green"),
    Verdict.FAIL: ("FAIL", "red"),
    Verdict.ERROR: ("error", "yellow"),
    Verdict.INCONCLUSIVE: ("?", "yellow"),
    Verdict.SKIPPED: ("skip", "dim"),
    Verdict.WAIVED: ("waived", "yellow"),
}
GOOD = {Event.OK.value, Event.NONE.value}
FRAMES_PER_S = 8  # enough for a spinner to be seen alive, too few to flicker over a slow line


class Screen(Protocol):
    """Where the events of a run go."""

    def __call__(self, report: Report) -> None: ...

    def interrupted(self) -> None:
        """Somebody pressed Ctrl-C: say that it was heard."""
        ...


class JsonScreen:
    """One JSON object per event."""

    def __init__(self, file: IO[str]) -> None:
        """Each object goes there as one write."""
        self._file = file

    def __call__(self, report: Report) -> None:
        self._file.write(msgspec.json.encode(report).decode() + "\n")
        self._file.flush()

    def interrupted(self) -> None:
        """The step's own event tells it."""


class LineScreen:
    """Plain lines: one per finished step, and one for everything worth knowing in between."""

    def __init__(self, console: Console) -> None:
        """The console decides about colour."""
        self._console = console
        self._changes = Changes()

    def __call__(self, report: Report) -> None:
        match report.event:
            case "run":
                self._line(f"[bold]{escape(report.text)}[/] [dim]run {report.run}[/]")
            case "step" if report.status == "started":
                self._started(report)
            case "step" if report.status != Event.SKIP.value:
                self._line(finished(report))
            case "finding" if report.finding is not None:
                self._finding(report.finding)
            case "progress":
                self._progress(report.text)
            case "watch":
                self._watch(report)
            case "note":
                self._line(f"      [dim]{escape(report.text)}[/]")
            case "confirmation":
                for line in report.text.split("\n"):
                    self._line(escape(line))
            case _:
                pass

    def interrupted(self) -> None:
        self._line("[yellow]Stopping: what was begun is undone first (a kill is recovered by the next command).[/]")

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _started(self, report: Report) -> None:
        """A finished step is one line; its beginning is none."""

    def _progress(self, text: str) -> None:
        self._line(f"      [dim]{escape(text)}[/]")

    def _watch(self, report: Report) -> None:
        for line in self._changes.lines(report.data):
            self._line(line)

    def _finding(self, finding: Finding) -> None:
        self._line(found(finding))


class LiveScreen(LineScreen):
    """On a terminal: one line for a finished step, which names what passed in it, and a spinner under them.

    What is not a pass keeps its line, and so do the criteria of the watch, whose numbers are the news.
    """

    def __init__(self, console: Console, progress: LiveProgress) -> None:
        """The progress is shown by `screen`, which also takes it away."""
        super().__init__(console)
        self._live = progress
        self._task: TaskID | None = None
        self._title, self._step = "", ""
        self._passed: list[str] = []
        self._skipped: list[str] = []

    def __call__(self, report: Report) -> None:
        if report.event == "step" and report.status != "started" and self._task is not None:
            self._live.remove_task(self._task)
            self._task, self._live.below = None, None
        if report.event == "step" and report.status in GOOD and (self._passed or self._skipped):
            self._summed_up(report)
        else:
            super().__call__(report)

    def _started(self, report: Report) -> None:
        if self._task is not None:
            self._live.remove_task(self._task)
        self._title, self._step = report.text, report.step
        self._passed, self._skipped = [], []
        self._task = self._live.add_task(escape(self._title), total=None)

    def _watch(self, report: Report) -> None:
        self._progress(f"{report.data.get('left_s', 0):.0f} s left")
        self._live.below = Panel(report.data)

    def _progress(self, text: str) -> None:
        if self._task is not None:
            self._live.update(self._task, description=f"{escape(self._title)} [dim]{escape(text[:80])}[/]")

    def _finding(self, finding: Finding) -> None:
        watched = self._step == State.WATCHING.value
        if finding.verdict is Verdict.PASS and not watched:
            self._passed.append(finding.name)
            self._progress(f"{len(self._passed)} passed")
        elif finding.verdict is Verdict.SKIPPED and not watched:
            self._skipped.append(finding.name)
        elif finding.verdict in {Verdict.FAIL, Verdict.ERROR}:
            super()._finding(finding)
        else:
            self._console.print(found(finding), highlight=False, no_wrap=True, overflow="ellipsis")

    def _summed_up(self, report: Report) -> None:
        told = [escape(report.text)] if report.text else []
        if len(self._passed) > 1 or not told:
            told.append(f"[dim]{len(self._passed)} passed: {', '.join(map(escape, self._passed))}[/]")
        if self._skipped:
            told.append(f"[dim]{len(self._skipped)} skipped: {', '.join(map(escape, self._skipped))}[/]")
        line = Table.grid(padding=(0, 2))
        line.add_row(finished(report, text=""), "\n".join(told))
        self._console.print(line, highlight=False)
        self._passed, self._skipped = [], []


def finished(report: Report, text: str | None = None) -> str:
    """The one line of a finished step, with its own text or another."""
    good = report.status in GOOD
    mark = "[green]ok[/]   " if good else f"[red]{report.status:5}[/]"
    text = report.text if text is None else text
    name = report.step.replace("_", " ")
    return f"{mark} {name:16} {report.ms / 1000:6.1f} s" + (f"  {escape(text)}" if text else "")


def found(finding: Finding) -> str:
    """The one line of a finding."""
    mark, colour = MARKS[finding.verdict]
    detail = f"  [dim]{escape(finding.detail)}[/]" if finding.detail else ""
    dry = " [dim](dry run: recorded, no veto)[/]" if finding.dry_run else ""
    return f"      [{colour}]{mark:5}[/] {escape(finding.name):16} {finding.ms:6} ms{dry}{detail}"


def lost_words(as_json: bool) -> Callable[[int], str]:
    """The line for a reader who was too slow for a part of what was said."""

    def line(lost: int) -> str:
        text = f"{lost} pieces of output were lost here: their reader stood still; `sluice follow` has everything"
        return msgspec.json.encode(Report("note", "", text=text)).decode() + "\n" if as_json else f"\n{text}\n"

    return line


@contextlib.contextmanager
def screen(console: Console, *, as_json: bool) -> Iterator[Screen]:
    """The right screen for where stdout goes. A terminal that goes away silences it and stops nothing."""
    if as_json:
        yield JsonScreen(console.file)
    elif not console.is_terminal:
        yield LineScreen(console)
    else:
        columns = (SpinnerColumn(), TextColumn("    {task.description}"), TimeElapsedColumn())  # under the lines' names
        with LiveProgress(*columns, console=console, transient=True, refresh_per_second=FRAMES_PER_S) as progress:
            yield LiveScreen(console, progress)


class Unbroken:
    """A screen whose disappearance (a closed terminal, a broken pipe) does not disturb the run."""

    def __init__(self, inner: Screen) -> None:
        """Shows on `inner` as long as that is there."""
        self._inner: Screen | None = inner

    def __call__(self, report: Report) -> None:
        if self._inner is not None:
            try:
                self._inner(report)
            except OSError:
                self._inner = None

    def interrupted(self) -> None:
        if self._inner is not None:
            try:
                self._inner.interrupted()
            except OSError:
                self._inner = None
