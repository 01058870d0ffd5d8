"""How a run looks while it goes on: calm on a terminal, plain lines elsewhere, JSON objects for programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

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
    """One JSON object per event on stdout."""

    def __call__(self, report: Report) -> None:
        click.echo(msgspec.json.encode(report))

    def interrupted(self) -> None:
        """The step's own event tells it."""


class LineScreen:
    """Plain lines: one per finished step, and one for everything worth knowing in between."""

    def __init__(self, console: Console) -> None:
        """The console decides about colour."""
        self._console = console

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
            case "note":
                self._line(f"      [dim]{escape(report.text)}[/]")
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

    def _finding(self, finding: Finding) -> None:
        mark, colour = MARKS[finding.verdict]
        detail = f"  [dim]{escape(finding.detail)}[/]" if finding.detail else ""
        self._line(f"      [{colour}]{mark:5}[/] {escape(finding.name):16} {finding.ms:6} ms{detail}")


class LiveScreen(LineScreen):
    """On a terminal: a spinner with the elapsed time under the finished lines."""

    def __init__(self, console: Console, progress: Progress) -> None:
        """The progress is shown by `screen`, which also takes it away."""
        super().__init__(console)
        self._live = progress
        self._task: TaskID | None = None
        self._title = ""

    def __call__(self, report: Report) -> None:
        if report.event == "step" and report.status != "started" and self._task is not None:
            self._live.remove_task(self._task)
            self._task = None
        super().__call__(report)

    def _started(self, report: Report) -> None:
        if self._task is not None:
            self._live.remove_task(self._task)
        self._title = report.text
        self._task = self._live.add_task(escape(self._title), total=None)

    def _progress(self, text: str) -> None:
        if self._task is not None:
            self._live.update(self._task, description=f"{escape(self._title)} [dim]{escape(text[:80])}[/]")


def finished(report: Report) -> str:
    """The one line of a finished step."""
    good = report.status in GOOD
    mark = "[green]ok[/]   " if good else f"[red]{report.status:5}[/]"
    text = f"  {escape(report.text)}" if report.text else ""
    name = State(report.step).value.replace("_", " ")
    return f"{mark} {name:16} {report.ms / 1000:6.1f} s{text}"


@contextlib.contextmanager
def screen(console: Console, *, as_json: bool) -> Iterator[Screen]:
    """The right screen for where stdout goes. A terminal that goes away silences it and stops nothing."""
    if as_json:
        yield JsonScreen()
    elif not console.is_terminal:
        yield LineScreen(console)
    else:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, refresh_per_second=FRAMES_PER_S) as progress:
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
