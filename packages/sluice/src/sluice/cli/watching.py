"""How the watch looks while it goes on: a small table on a terminal, elsewhere a line when something changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import Progress
from rich.text import Text

from sluice.cli.outlet import escape

if TYPE_CHECKING:
    from sluice.criteria import Reading

STATES = {
    "good": ("ok", "green"),
    "bad": ("BAD", "red"),
    "waiting": ("...", "dim"),
    "unclear": ("?", "yellow"),
    "skipped": ("skip", "dim"),
}
ALARMING = {"bad", "unclear"}
WIDE, WIDTH = 120, 46  # columns of a terminal on which a value of that width and its limit are both seen in one line
NAME = 16  # the longest of the five, and a little


def readings(data: Mapping[str, Any]) -> list[Reading]:
    """The criteria of one `watch` event. Raises msgspec.ValidationError when it is none."""
    from sluice.criteria import Reading  # with all that watches: only a watch needs it

    return msgspec.convert(data.get("criteria", []), list[Reading])


class Panel:
    """One line per criterion: its value now and its limit; on a narrow terminal the limit has a line of its own."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        """Of one `watch` event. Raises msgspec.ValidationError when it is none."""
        self._readings = readings(data)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """See rich. What is longer than a line is cut at the terminal's edge."""
        wide = options.max_width >= WIDE
        for reading in self._readings:
            mark, colour = STATES.get(reading.state, ("?", "yellow"))
            name, limit = reading.name + (" (dry run)" if reading.dry_run else ""), f"limit: {reading.limit}"
            now = reading.now if len(reading.now) <= WIDTH or not (wide and reading.limit) else _cut(reading.now)
            line = _line("      ", (f"{mark:5}", colour), f" {name:{NAME}} {now:{WIDTH if wide else 0}}")
            if not reading.limit:
                yield line
            elif wide:
                yield line.append(f"  {limit}", "dim")
            else:
                yield from (line, _line(" " * 12, (limit, "dim")))


def _cut(now: str) -> str:
    return f"{now[: WIDTH - 1]}…"


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


class Changes:
    """What a log should say of the watch: what is judged, then only what turns bad, doubtful, or good again."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._states: dict[str, str] = {}

    def lines(self, data: Mapping[str, Any]) -> Iterator[str]:
        """The lines of one more event; most have none."""
        told = readings(data)
        if not self._states and told:
            names = ", ".join(reading.name for reading in told if reading.state != "skipped")
            yield f"      [dim]watching for {data.get('left_s', 0):g} s: {escape(names)}[/]"
        for reading in told:
            before, self._states[reading.name] = self._states.get(reading.name), reading.state
            if before != reading.state and {before, reading.state} & ALARMING:
                mark, colour = STATES.get(reading.state, ("?", "yellow"))
                text = f"{escape(reading.now)}, limit: {escape(reading.limit)}"
                yield f"      [{colour}]{mark:5}[/] {escape(reading.name):16} [dim]{text}[/]"


class LiveProgress(Progress):
    """rich's progress with the table of the watch under it."""

    below: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """See Progress."""
        yield from super().get_renderables()
        if self.below is not None:
            yield self.below
